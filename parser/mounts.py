"""The options of `RUN --mount`: comma-separated, quoted as in CSV."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from parser.errors import DockerfileError, did_you_mean
from parser.syntax import quote

__all__ = ["RunMount", "check_early", "mount_source", "parse_mount"]

_TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")
_SHARING = ("shared", "private", "locked")
_NAMES = {
    "type": "type",
    "from": "from",
    "source": "source",
    "src": "source",
    "target": "target",
    "dst": "target",
    "destination": "target",
    "readonly": "readonly",
    "ro": "readonly",
    "readwrite": "readwrite",
    "rw": "readwrite",
    "id": "id",
    "sharing": "sharing",
    "required": "required",
    "size": "size",
    "mode": "mode",
    "uid": "uid",
    "gid": "gid",
    "env": "env",
}
_BOOLEANS = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?) ?([kmgtp]?)(i?b)?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


@dataclass(frozen=True, slots=True)
class RunMount:
    """One mount of a RUN. `type` is bind, cache, tmpfs, secret or ssh; "" and None mean not given.

    `size` in bytes (tmpfs), 0 for no limit; `mode`, `uid`, `gid` only for cache, secret and ssh; `sharing` is
    "", shared, private or locked; `env` is the variable that a secret goes into.
    """

    type: str = "bind"
    target: str = ""
    source: str = ""
    from_: str = ""
    id: str = ""
    readonly: bool = True
    sharing: str = ""
    required: bool = False
    size: int = 0
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    env: str | None = None


def check_early(raw: str) -> None:
    """What can be refused before variables have values. Raises DockerfileError without a span."""
    for field in _fields(raw):
        key, _, value = field.partition("=")
        if key.lower() == "from" and re.search(r"\$.", value):
            raise DockerfileError("'from' doesn't support variable expansion, define alias stage instead", word=field)


def mount_source(raw: str) -> str:
    """The value of from= in one `--mount`, "" without one: wanted before variables have values, for what a stage needs.

    Raises DockerfileError without a span."""
    if "from=" not in raw.lower():
        return ""
    check_early(raw)
    for field in _fields(raw):
        name, _, value = field.partition("=")
        if name.lower() == "from":
            return value
    return ""


def parse_mount(raw: str, expand: Callable[[str], str]) -> RunMount:
    """Read one `--mount` value; `expand` is applied to each option's value. Raises DockerfileError without a span."""
    mount = RunMount()
    readonly: bool | None = None
    for field in _fields(raw):
        written, equals, value = field.partition("=")
        key = written.lower()
        if not equals:
            if key not in ("readonly", "ro", "readwrite", "rw", "required"):
                raise DockerfileError(f"invalid field '{field}' must be a key=value pair", word=field)
            value = "true"
        else:
            value = expand(value)
        name = _NAMES.get(key)
        if name is None:
            raise DockerfileError(f"unexpected key '{key}' in '{field}'", hint=did_you_mean(key, _NAMES), word=field)
        if name in ("readonly", "readwrite"):
            readonly = _boolean(key, value) == (name == "readonly")
            continue
        mount = _set(mount, key, name, value)
    if readonly is None:
        readonly = mount.type not in ("cache", "tmpfs")
    mount = replace(mount, readonly=readonly)
    _check(mount)
    return mount


def _set(mount: RunMount, key: str, name: str, value: str) -> RunMount:
    changed: dict[str, Any] = {}
    match name:
        case "type":
            if value.lower() not in _TYPES:
                raise DockerfileError(
                    f"unsupported mount type {quote(value)}",
                    hint=did_you_mean(value, _TYPES) or f"there are {', '.join(_TYPES)}",
                    word=value,
                )
            changed["type"] = value.lower()
        case "from":
            changed["from_"] = value
        case "source" | "target" | "id" | "env":
            changed[name] = value
        case "sharing":
            if value.lower() not in _SHARING:
                raise DockerfileError(
                    f"unsupported sharing value {quote(value)}",
                    hint=did_you_mean(value, _SHARING) or f"there are {', '.join(_SHARING)}",
                    word=value,
                )
            changed["sharing"] = value.lower()
        case "required":
            if mount.type not in ("secret", "ssh"):
                raise DockerfileError(f"unexpected key '{key}' for mount type '{mount.type}'", word=key)
            changed["required"] = _boolean(key, value)
        case "size":
            if mount.type != "tmpfs":
                raise DockerfileError(f"unexpected key '{key}' for mount type '{mount.type}'", word=key)
            changed["size"] = _bytes(key, value)
        case _:
            changed[name] = _number(name, value)
    return replace(mount, **changed)


def _check(mount: RunMount) -> None:
    if mount.type not in ("secret", "ssh", "cache"):
        for name in ("mode", "uid", "gid"):
            if getattr(mount, name) is not None:
                raise DockerfileError(f'{name} not allowed for "{mount.type}" type mounts')
    if mount.type == "secret":
        if mount.from_:
            raise DockerfileError("secret mount should not have a from")
        if mount.sharing:
            raise DockerfileError("secret mount should not define sharing")
        if not (mount.source or mount.target or mount.id):
            raise DockerfileError("invalid secret mount. one of source, target required")
        if mount.source and mount.id:
            raise DockerfileError("both source and id can't be set")
    elif mount.sharing and mount.type != "cache":
        raise DockerfileError(f"invalid cache sharing set for {mount.type} mount")


def _fields(raw: str) -> list[str]:
    """The fields of one CSV record, by RFC 4180 as Go reads it."""
    if '"' not in raw:
        return raw.split(",") if raw else []
    fields: list[str] = []
    position = 0
    while True:
        if raw.startswith('"', position):
            out = []
            while True:
                end = raw.find('"', position + 1)
                if end < 0:
                    raise DockerfileError('extraneous or missing " in quoted-field', word=raw)
                out.append(raw[position + 1 : end])
                position = end + 1
                if not raw.startswith('"', position):
                    break
                out.append('"')
            fields.append("".join(out))
            if position < len(raw) and raw[position] != ",":
                raise DockerfileError('extraneous or missing " in quoted-field', word=raw)
        else:
            end = raw.find(",", position)
            end = len(raw) if end < 0 else end
            field = raw[position:end]
            if '"' in field:
                raise DockerfileError('bare " in non-quoted-field', word=field)
            fields.append(field)
            position = end
        if position >= len(raw):
            return fields
        position += 1


def _boolean(key: str, value: str) -> bool:
    # Go takes "true", "True" and "TRUE", not "tRuE".
    found = _BOOLEANS.get(value.lower()) if value in (value.lower(), value.upper(), value.capitalize()) else None
    if found is None:
        raise DockerfileError(f"invalid value for {key}: {value}", word=value)
    return found


def _number(name: str, value: str) -> int:
    base = 8 if name == "mode" else 10
    if re.fullmatch(r"[0-7]{1,20}" if base == 8 else r"[0-9]{1,20}", value) is None or int(value, base) >= 2**32:
        raise DockerfileError(f"invalid value {value} for {name}", word=value)
    return int(value, base)


def _bytes(key: str, value: str) -> int:
    match = _SIZE.fullmatch(value)
    if match is None:
        raise DockerfileError(f"invalid value for {key}: {value}", hint="write it like 64m", word=value)
    return int(float(match[1]) * 1024 ** _POWERS[match[2].lower()])
