"""Files of the host and of the user that say how things are to be done: where they are, and where in them a fault is.

daemon.json is docker's; the first of ~/.config/{lamina,docker}/daemon.json and /etc/{lamina,docker}/daemon.json counts.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    """The first of these files that there is, for us."""
    return next((path for path in paths if os.path.isfile(path)), None)


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


def toml(path: Path) -> dict[str, Any]:
    """The TOML document in a file. Raises InvalidInput."""
    import tomllib

    text = read(path).decode("utf-8", "replace")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as err:
        reason, _, where = str(err).rpartition(" (at ")
        line, column = text.count("\n") + 1, len(text) - text.rfind("\n")
        if (found := re.fullmatch(r"line (\d+), column (\d+)\)", where)) is not None:
            line, column = int(found[1]), int(found[2])
        raise _placed(path, text, line, column, f"not TOML: {reason}") from err


def toml_error(path: Path, key: str, reason: str, *, after: str = "") -> InvalidInput:
    """What is wrong with `key` in a TOML file; the first line with it, behind the text `after`, is shown."""
    text = read(path).decode("utf-8", "replace")
    start = max(text.find(after), 0)
    offset = text.find(key, start)
    offset = start if offset < 0 else offset
    line = text.count("\n", 0, offset) + 1
    return _placed(path, text, line, offset - text.rfind("\n", 0, offset), f"{key}: {reason}")


def _placed(path: Path, text: str, line: int, column: int, reason: str) -> InvalidInput:
    from parser.redact import hidden

    err = InvalidInput(f"{path}:{line}:{column}: {hidden(reason)}")
    err.excerpt = _citation(path, text, line, column)
    return err


def _citation(path: Path, text: str, line: int, column: int) -> str:
    from parser.source import Position, Source, Span

    place = Position(line, column)
    return Source.of(text, name=str(path)).citation(Span(place, place), column=True)


def _locate(err: InvalidDocument, path: Path, text: str) -> None:
    cause = err.__cause__
    syntax = cause if isinstance(cause, json.JSONDecodeError) else None
    offset = syntax.pos if syntax is not None else _offset(text, err.where)
    if offset is None:
        return
    line, column = text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)
    reason = f"not JSON: {syntax.msg}" if syntax is not None else f"{err.where}: {err.reason}"
    err.message = f"{path}:{line}:{column}: {reason}"
    err.excerpt = _citation(path, text, line, column)


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
