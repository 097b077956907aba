"""A target as the command line of `build` that says the same: so whatever `build` can do, a target can."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from builder.engine.bake.resolve import LINK
from builder.engine.bake.target import Target, entry_text
from builder.errors import BakeError

CWD = "cwd://"
"""What stands before a path that is meant below the user's directory, also when the definition is remote."""

_REMOTE = re.compile(r"(?:https?://|git://|ssh://|git@|github\.com/)")
_ENTRIES = {
    "attest": "attest",
    "cache-from": "cache-from",
    "cache-to": "cache-to",
    "output": "output",
    "secret": "secret",
    "ssh": "ssh",
}
_TEXTS = {
    "annotations": "annotation",
    "entitlements": "allow",
    "no-cache-filter": "no-cache-filter",
    "platforms": "platform",
    "tags": "tag",
    "ulimits": "ulimit",
}
_MAPS = {"args": "build-arg", "labels": "label", "extra-hosts": "add-host"}
_TEXT = {"target": "target", "network": "network", "shm-size": "shm-size", "call": "call"}


def is_remote(text: str) -> bool:
    """Whether a context is somewhere else."""
    return _REMOTE.match(text) is not None


def _path(text: str, here: Path) -> str:
    """A local path: below the definition's directory, or with CWD before it below *here*."""
    if text.startswith(CWD):
        return str(here / text.removeprefix(CWD))
    return text


def cleaned(target: Target, *, remote: bool) -> Target:
    """*target* with its context as docker shows and uses it; in a *remote* definition CWD is kept, since it counts.

    Raises BakeError for what a target cannot have."""
    context = target.text("context")
    if "-" in (context, target.text("dockerfile")):
        what = "context" if context == "-" else "dockerfile"
        raise BakeError(f"target {target.name}: {what} from stdin not allowed in bake")
    if is_remote(context):
        return target
    lead = CWD if remote and context.startswith(CWD) else ""
    return target.with_({"context": lead + posixpath.normpath(context.removeprefix(CWD))})


def options(target: Target, *, here: Path) -> tuple[str, ...]:
    """Options and argument for `build`; an inline Dockerfile is expected on its stdin, links are left out.

    *here* is the user's directory; what is not below it by name is relative to the definition's."""
    return (*_options(target, here), "--", _path(target.text("context"), here))


def links(target: Target) -> dict[str, str]:
    """Named contexts that are other targets: context → target."""
    return {name: value.removeprefix(LINK) for name, value in target.map("contexts").items() if value.startswith(LINK)}


def _options(target: Target, here: Path) -> Iterator[str]:
    yield from _dockerfile(target, here)
    for name, option in _MAPS.items():
        for key, value in target.map(name).items():
            yield from (f"--{option}", f"{key}={value}")
    for name, value in target.map("contexts").items():
        if not value.startswith(LINK):
            yield from ("--build-context", f"{name}={_path(value, here)}")
    for name, option in _TEXTS.items():
        if not (target.linked and name == "tags"):
            for text in target.texts(name):
                yield from (f"--{option}", text)
    for name, option in _ENTRIES.items():
        entries = target.entries(name)
        if name == "attest":  # the last of a type counts, where `build` would not know which one is meant
            entries = tuple({str(entry["type"]): entry for entry in entries}.values())
        for entry in entries:
            yield from (f"--{option}", entry_text(name, entry))
    for name, option in _TEXT.items():
        if target.text(name):
            yield from (f"--{option}", target.text(name))
    for option in ("pull", "no-cache"):
        if target.flag(option):
            yield f"--{option}"


def _dockerfile(target: Target, here: Path) -> Iterator[str]:
    """-f is below the context here, where for `build` it is below the working directory."""
    name, context = target.text("dockerfile"), target.text("context")
    if target.text("dockerfile-inline"):
        yield from ("--file", "-")
    elif name.startswith(CWD):
        yield from ("--file", _path(name, here))
    elif name != "Dockerfile":
        there = is_remote(context) or is_remote(name)
        yield from ("--file", name if there else posixpath.join(_path(context, here), name))
