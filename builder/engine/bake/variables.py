"""What the environment says about variables, and how --list shows them."""

from __future__ import annotations

from collections.abc import Mapping

from builder.engine.bake import types
from builder.engine.bake import values as v
from builder.engine.bake.functions import STANDARD
from builder.engine.options.units import BOOLEANS


def typed(kind: types.Type, given: str | None, document: str | None) -> v.Value:
    """What the environment says, before it is converted: JSON, or for lists values between commas."""
    if document is not None:
        return STANDARD["jsondecode"](document)
    assert given is not None
    if kind.primitive or kind.name == "any":
        return given
    if kind.name in ("list", "set", "tuple"):
        import csv

        return tuple(next(csv.reader([given]), ()))
    raise v.Unfit(f"a value of type {kind} is given as JSON, in the variable with _JSON at its name's end")


def like(value: v.Value, given: str) -> v.Value:
    """*given* as the type of the default *value*."""
    if isinstance(value, bool):
        if given in BOOLEANS:
            return BOOLEANS[given]
        raise v.Unfit(f'"{given}" is not a bool')
    if isinstance(value, int | float):
        return v.number(given)
    if value is None or isinstance(value, str):
        return given
    raise v.Unfit(f"a {v.kind(value)} cannot be given so; declare its type")


def listed(value: v.Value) -> str:
    if isinstance(value, tuple | Mapping):
        return v.text(STANDARD["jsonencode"](value))
    return v.text(value)
