"""Strict reading of the JSON documents of images: bounded, unambiguous, typed.

Everything from outside goes through `load` and then through an `Object`, which hands out typed fields and complains
with the path in the document (`config.Env[2]`). Refused, because two readers could understand them differently or
because they are made to hurt: duplicate keys, a known key in another case (Go's reader would take it for the known
one), NaN and infinities, lone surrogates, a byte order mark, nesting deeper than DEPTH, more than `limit` bytes,
more than VALUES values.

`dump` writes what we make ourselves: compact, UTF-8, key order as given.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from builder.errors import InvalidDocument

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

LIMIT = 8 << 20
"""Bytes of one document. Docker takes 4 MiB of manifest; a config of 1,000 layers has some hundred KiB."""

DEPTH = 64
VALUES = 2_000_000
"""About how many values a document may have: each takes up to a hundred times the bytes that it is written in."""
WORD = 128
"""Letters of an operating system's name and the like."""
INT64 = 1 << 63


def load(data: bytes, what: str, *, limit: int = LIMIT) -> Object:
    """The document in `data`, whose root must be an object. `what` names it in errors ("image config").

    Raises InvalidDocument.
    """
    document = _read(data, what, limit)
    if not isinstance(document, dict):
        raise InvalidDocument(what, "must be a JSON object")
    return Object(document, what)


def load_list(data: bytes, what: str, *, limit: int = LIMIT) -> tuple[Object, ...]:
    """As `load` for a document whose root is a list of objects (docker's manifest.json). Raises InvalidDocument."""
    document = _read(data, what, limit)
    if not isinstance(document, list):
        raise InvalidDocument(what, "must be a JSON list")
    found = []
    for at, item in enumerate(document):
        if not isinstance(item, dict):
            raise InvalidDocument(what, "must be a JSON object", where=f"[{at}]")
        found.append(Object(item, what, f"[{at}]"))
    return tuple(found)


def _read(data: bytes, what: str, limit: int) -> Json:
    """Any document within the bounds of this module."""
    if len(data) > limit:
        raise InvalidDocument(what, f"has {len(data)} bytes, more than the {limit} that we read")
    if sum(map(data.count, (b",", b"[", b"{"))) > VALUES:
        raise InvalidDocument(what, f"has more than {VALUES} values")
    try:
        document = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=lambda pairs: _unique(pairs, what),
            parse_constant=lambda name: _refuse_constant(name, what),
            parse_float=lambda text: _finite(text, what),
        )
    except UnicodeDecodeError as err:
        raise InvalidDocument(what, f"is not UTF-8 (byte {err.start})") from err
    except RecursionError as err:
        raise InvalidDocument(what, f"is nested deeper than {DEPTH}") from err
    except ValueError as err:
        raise InvalidDocument(what, f"is not JSON: {err}") from err
    _check(document, what)
    checked: Json = document
    return checked


def dump(document: Mapping[str, object]) -> bytes:
    """`document` as compact UTF-8 JSON; the same value always gives the same bytes."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


class Object:
    """One JSON object whose fields are taken by name and type; what nobody took is `rest()`.

    A field that is null counts as absent, as it does for Go's reader.
    """

    __slots__ = ("_fields", "_taken", "what", "where")

    def __init__(self, fields: dict[str, Json], what: str, where: str = "") -> None:
        self._fields = fields
        self._taken: set[str] = set()
        self.what = what
        self.where = where

    def __contains__(self, key: str) -> bool:
        return self._fields.get(key) is not None

    def fail(self, key: str, reason: str, *, hint: str | None = None) -> NoReturn:
        """Raise InvalidDocument about field `key` of this object."""
        err = InvalidDocument(self.what, reason, where=self._path(key))
        err.hint = hint
        raise err

    def string(self, key: str) -> str | None:
        """A string, or None when absent."""
        value = self._take(key)
        if value is not None and not isinstance(value, str):
            self.fail(key, f"must be a string, not {_kind(value)}")
        return value

    def required(self, key: str) -> str:
        """A string that must be there and not be empty."""
        value = self.string(key)
        if not value:
            self.fail(key, "is missing")
        return value

    def word(self, key: str, *, needed: bool = False) -> str:
        """A short string that is shown in lines and tables, "" when absent: nothing in it moves the rest of them."""
        value = self.required(key) if needed else self.string(key) or ""
        if len(value) > WORD or not value.isprintable():
            self.fail(key, f"must be at most {WORD} letters, without control characters")
        return value

    def boolean(self, key: str) -> bool:
        """A boolean, false when absent."""
        value = self._take(key)
        if value is not None and not isinstance(value, bool):
            self.fail(key, f"must be true or false, not {_kind(value)}")
        return bool(value)

    def integer(self, key: str, *, default: int | None = None, low: int = -INT64, high: int = INT64 - 1) -> int:
        """A whole number between `low` and `high`; missing is an error unless there is a default."""
        value = self._take(key)
        if value is None:
            if default is None:
                self.fail(key, "is missing")
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            self.fail(key, f"must be a whole number, not {_kind(value)}")
        if not low <= value <= high:
            self.fail(key, f"{value} is not between {low} and {high}")
        return value

    def strings(self, key: str) -> tuple[str, ...] | None:
        """A list of strings, or None when absent."""
        value = self._list(key)
        if value is None:
            return None
        for position, item in enumerate(value):
            if not isinstance(item, str):
                self.fail(f"{key}[{position}]", f"must be a string, not {_kind(item)}")
        return tuple(str(item) for item in value)

    def string_map(self, key: str) -> dict[str, str]:
        """An object of strings (labels, annotations), empty when absent."""
        value = self._dict(key)
        for name, item in value.items():
            if not isinstance(item, str):
                self.fail(f"{key}.{name}", f"must be a string, not {_kind(item)}")
        return {name: str(item) for name, item in value.items()}

    def string_set(self, key: str) -> tuple[str, ...]:
        """The keys of a "set" in Go's form: `{"80/tcp": {}}`, empty when absent."""
        value = self._dict(key)
        for name, item in value.items():
            if item is not None and not isinstance(item, dict):
                self.fail(f"{key}.{name}", f"must be an object, not {_kind(item)}")
        return tuple(value)

    def object(self, key: str) -> Object | None:
        """A nested object, or None when absent."""
        value = self._take(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.fail(key, f"must be an object, not {_kind(value)}")
        return Object(value, self.what, self._path(key))

    def objects(self, key: str) -> tuple[Object, ...]:
        """A list of objects, empty when absent."""
        found: list[Object] = []
        for position, item in enumerate(self._list(key) or ()):
            if not isinstance(item, dict):
                self.fail(f"{key}[{position}]", f"must be an object, not {_kind(item)}")
            found.append(Object(item, self.what, f"{self._path(key)}[{position}]"))
        return tuple(found)

    def rest(self) -> dict[str, Json]:
        """The fields that nobody took: kept by the values, so that a foreign document loses nothing.

        Raises InvalidDocument if one of them differs from a taken field only in case.
        """
        known = {key.lower() for key in self._taken}
        unknown = {key: value for key, value in self._fields.items() if key not in self._taken}
        for key in unknown:
            if key.lower() in known:
                self.fail(key, "differs only in case from a field that has a meaning")
        return unknown

    def _path(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key

    def _take(self, key: str) -> Json:
        self._taken.add(key)
        return self._fields.get(key)

    def _list(self, key: str) -> list[Json] | None:
        value = self._take(key)
        if value is not None and not isinstance(value, list):
            self.fail(key, f"must be a list, not {_kind(value)}")
        return value

    def _dict(self, key: str) -> dict[str, Json]:
        value = self._take(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.fail(key, f"must be an object, not {_kind(value)}")
        return value


def _unique(pairs: list[tuple[str, Json]], what: str) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise InvalidDocument(what, f"key {twice[:100]!r} occurs twice in one object")
    return found


def _refuse_constant(name: str, what: str) -> NoReturn:
    raise InvalidDocument(what, f"{name} is not a JSON number")


def _finite(text: str, what: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise InvalidDocument(what, f"number {text[:40]} is too large")
    return number


def _check(document: Json, what: str) -> None:
    """Refuse deep nesting and text that cannot be written as UTF-8 again (lone surrogates from \\ud800)."""
    waiting: list[tuple[Json, int]] = [(document, 1)]
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, str):
            if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
                raise InvalidDocument(what, "has a string with half of a surrogate pair")
            continue
        if not isinstance(value, list | dict):
            continue
        if depth > DEPTH:
            raise InvalidDocument(what, f"is nested deeper than {DEPTH}")
        waiting.extend((child, depth + 1) for child in _children(value))


def _children(value: list[Json] | dict[str, Json]) -> Iterator[Json]:
    if isinstance(value, list):
        yield from value
    else:
        yield from value
        yield from value.values()


def _kind(value: Json) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    return {str: "a string", list: "a list", dict: "an object"}[type(value)]
