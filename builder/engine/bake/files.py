"""Which bake file is what, and all of them together as one Config. Pure: it is given the texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from builder.engine.bake import compose, definition, hcl, jsonfile
from builder.errors import BakeError
from runtime.values import dataclass

if TYPE_CHECKING:
    from builder.engine.bake import syntax
    from builder.engine.bake.definition import Ambient, Config

DEFAULTS = (
    "compose.yaml",
    "compose.yml",
    "docker-compose.yml",
    "docker-compose.yaml",
    "docker-bake.json",
    "docker-bake.hcl",
    "docker-bake.override.json",
    "docker-bake.override.hcl",
)
"""What is read when nothing is named: all that exist, in this order."""


@dataclass(frozen=True, slots=True)
class BakeFile:
    """A file as it was read; `name` as the user gave it, "-" for stdin."""

    name: str
    text: str


def config(files: Sequence[BakeFile], ambient: Ambient, env: Mapping[str, str]) -> Config:
    """All that *files* define: compose files first, the others on top. *env* is for compose. Raises BakeError."""
    documents: list[compose.Document] = []
    bodies: list[syntax.Body] = []
    for file in files:
        name = file.name.lower()
        if name.endswith((".yml", ".yaml")):
            documents.append(compose.load(file.text, name=file.name))
        elif name.endswith(".json"):
            bodies.append(jsonfile.parse(file.text, name=file.name))
        elif name.endswith(".hcl"):
            bodies.append(hcl.parse(file.text, name=file.name))
        else:
            _guessed(file, documents, bodies)
    base = compose.define(documents, env) if documents else definition.Config()
    return definition.define(bodies, ambient, base) if bodies else base


def _guessed(file: BakeFile, documents: list[compose.Document], bodies: list[syntax.Body]) -> None:
    """A file without a telling name: JSON by its first letter, HCL if it reads as such, compose otherwise."""
    if file.text.lstrip("\ufeff \t\r\n").startswith("{"):
        bodies.append(jsonfile.parse(file.text, name=file.name))
        return
    try:
        bodies.append(hcl.parse(file.text, name=file.name))
    except BakeError as err:
        try:
            document = compose.load(file.text, name=file.name)
        except BakeError:
            raise err from None
        if not document.content.get("services"):
            raise
        documents.append(document)
