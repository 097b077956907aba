"""Frozen dataclasses to plain JSON values and back, by their type hints: how containers are kept in the store.

Covers what the engine's values are made of: str, int, bool, float, StrEnum, optional ones, tuples, dataclasses.  A
field that is absent gets its default, one that is unknown is passed over: rows of a neighbouring version can be read.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from enum import Enum
from typing import Any, TypeVar

from builder.errors import StoreCorrupt
from runtime.values import fields, is_dataclass

T = TypeVar("T")


def to_plain(value: object) -> Any:
    """`value` as dicts, lists and scalars."""
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    return value


def from_plain(kind: type[T], value: object) -> T:
    """A `kind` from what `to_plain` gave.  Raises StoreCorrupt when it does not fit."""
    try:
        return typing.cast("T", _decode(kind, value))
    except (TypeError, ValueError, KeyError) as err:
        raise StoreCorrupt(f"a stored {kind.__name__} cannot be read: {err}", hint="run lamina fsck --repair") from err


def _decode(kind: Any, value: Any) -> Any:
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _decode(next(each for each in typing.get_args(kind) if each is not type(None)), value)
    if origin is tuple:
        kinds = typing.get_args(kind)
        if not isinstance(value, list | tuple):
            raise TypeError(f"{value!r} is not a list")
        if len(kinds) == 2 and kinds[1] is Ellipsis:
            return tuple(_decode(kinds[0], each) for each in value)
        return tuple(_decode(each, item) for each, item in zip(kinds, value, strict=True))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    if isinstance(kind, type) and is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise TypeError(f"{value!r} is not an object")
        hints = typing.get_type_hints(kind)
        return kind(
            **{
                field.name: _decode(hints[field.name], value[field.name])
                for field in fields(kind)
                if field.name in value
            }
        )
    if kind is float and isinstance(value, int):
        return float(value)
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is not a {kind.__name__}")
    return value
