"""JSON, CSV, base64, URLs, digests and named UUIDs."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Mapping

from builder.engine.bake.values import Unfit, Value, from_plain, plain, text


def _jsonencode(value: Value) -> Value:
    made = json.dumps(plain(value), separators=(",", ":"), ensure_ascii=False)
    return made.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _jsondecode(value: Value) -> Value:
    try:
        return from_plain(json.loads(text(value)))
    except (json.JSONDecodeError, RecursionError) as err:
        raise Unfit(f"invalid JSON: {err}") from None


def _csvdecode(value: Value) -> Value:
    import csv
    import io

    rows = [row for row in csv.reader(io.StringIO(text(value), newline=""), strict=True) if row]
    if not rows:
        raise Unfit("missing header line")
    header = rows[0]
    if len(set(header)) < len(header):
        raise Unfit("duplicate column name")
    for at, row in enumerate(rows[1:], 2):
        if len(row) != len(header):
            raise Unfit(f"record on line {at}: wrong number of fields")
    return tuple(dict(zip(header, row, strict=True)) for row in rows[1:])


def _base64encode(value: Value) -> Value:
    return base64.b64encode(text(value).encode()).decode("ascii")


def _base64decode(value: Value) -> Value:
    try:
        data = base64.b64decode(text(value), validate=True)
    except (binascii.Error, ValueError):
        raise Unfit("failed to decode base64 data") from None
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Unfit("the result of decoding the provided string is not valid UTF-8") from None


def _urlencode(value: Value) -> Value:
    from urllib.parse import quote_plus

    return quote_plus(text(value), safe="")


def _hexdigest(name: str) -> Callable[[Value], Value]:
    return lambda value: hashlib.new(name, text(value).encode(), usedforsecurity=False).hexdigest()


def _uuidv5(namespace: Value, name: Value) -> Value:
    import uuid

    known = {
        "dns": uuid.NAMESPACE_DNS,
        "url": uuid.NAMESPACE_URL,
        "oid": uuid.NAMESPACE_OID,
        "x500": uuid.NAMESPACE_X500,
    }
    try:
        space = known.get(text(namespace)) or uuid.UUID(text(namespace))
    except ValueError:
        raise Unfit(f'"{text(namespace)}" is no UUID and none of {", ".join(known)}') from None
    return str(uuid.uuid5(space, text(name)))


def _refused(name: str, why: str) -> Callable[..., Value]:
    def refuse(*arguments: Value) -> Value:
        raise Unfit(f"{name} is not supported: {why}")

    return refuse


FUNCTIONS: Mapping[str, Callable[..., Value]] = {
    "base64decode": _base64decode,
    "base64encode": _base64encode,
    "bcrypt": _refused("bcrypt", "its result is different each time, so nothing built from it could be cached"),
    "csvdecode": _csvdecode,
    "jsondecode": _jsondecode,
    "jsonencode": _jsonencode,
    "md5": _hexdigest("md5"),
    "rsadecrypt": _refused("rsadecrypt", "a private key has no place in a bake file; give the build a secret"),
    "sha1": _hexdigest("sha1"),
    "sha256": _hexdigest("sha256"),
    "sha512": _hexdigest("sha512"),
    "urlencode": _urlencode,
    "uuidv5": _uuidv5,
}
