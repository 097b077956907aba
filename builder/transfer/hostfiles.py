"""Files of the host and of the user that say how things are to be done: where they are, and where in them a fault is.

daemon.json is docker's; the first of ~/.config/{lamina,docker}/daemon.json and /etc/{lamina,docker}/daemon.json counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import InvalidDocument, InvalidInput

if TYPE_CHECKING:
    from builder.oci.documents import Object

_FILE_MAX = 1 << 20
_SPACE = re.compile(r"[ \t\n\r]*")
_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")


def home(environment: Mapping[str, str]) -> Path:
    """The user's home directory."""
    return Path(environment.get("HOME") or "/root")


def config_home(environment: Mapping[str, str]) -> Path:
    """~/.config, or where the user has it."""
    return Path(environment.get("XDG_CONFIG_HOME") or home(environment) / ".config")


def first(*paths: Path) -> Path | None:
    """The first of these files that there is."""
    return next((path for path in paths if path.is_file()), None)


def daemon_json(environment: Mapping[str, str], etc: Path = Path("/etc")) -> Path | None:
    """The daemon.json that counts."""
    mine = config_home(environment)
    places = (mine / "lamina", mine / "docker", etc / "lamina", etc / "docker")
    return first(*(place / "daemon.json" for place in places))


def read(path: Path) -> bytes:
    """A file of settings. Raises InvalidInput."""
    try:
        with open(path, "rb") as file:
            data = file.read(_FILE_MAX + 1)
    except OSError as err:
        raise InvalidInput(f"cannot read {path}: {err.strerror}") from err
    if len(data) > _FILE_MAX:
        raise InvalidInput(f"{path} is larger than {_FILE_MAX} bytes")
    return data


@contextmanager
def document(path: Path) -> Iterator[Object]:
    """The JSON object in a file; what is wrong with it, also when that is found out in the block, has line and column.

    Raises InvalidInput (it cannot be read), InvalidDocument.
    """
    from builder.oci import documents

    data = read(path)
    try:
        yield documents.load(data, str(path))
    except InvalidDocument as err:
        _locate(err, path, data.decode("utf-8", "replace"))
        raise


def _locate(err: InvalidDocument, path: Path, text: str) -> None:
    from parser.source import Position, Source, Span

    cause = err.__cause__
    offset = cause.pos if isinstance(cause, json.JSONDecodeError) else _offset(text, err.where)
    if offset is None:
        return
    line = text.count("\n", 0, offset) + 1
    place = Position(line, offset - text.rfind("\n", 0, offset))
    reason = f"not JSON: {cause.msg}" if isinstance(cause, json.JSONDecodeError) else f"{err.where}: {err.reason}"
    err.message = f"{path}:{place.line}:{place.column}: {reason}"
    err.excerpt = Source.of(text, name=str(path)).citation(Span(place, place), column=True)


def _offset(text: str, where: str) -> int | None:
    """Where the value begins that `where` names ("builder.gc.policy[1].all"); None when it is not there."""
    decoder = json.JSONDecoder()
    at = _skip(text, 0)
    try:
        for key, number in _STEP.findall(where):
            opened, at = text[at], _skip(text, at + 1)
            if opened != ("{" if key else "["):
                return None
            for count in range(len(text)):
                if text[at] in "}]":
                    return None
                found: object = count
                if key:
                    found, at = decoder.raw_decode(text, at)
                    at = _skip(text, _skip(text, at) + 1)  # the colon
                if found == (key or int(number)):
                    break
                _, at = decoder.raw_decode(text, at)
                at = _skip(text, at)
                if text[at] == ",":
                    at = _skip(text, at + 1)
    except (IndexError, ValueError):
        return None
    return at


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    assert match is not None
    return match.end()
