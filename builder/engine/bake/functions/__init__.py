"""The standard library of bake files: plain functions of values, by name. Pure; `ambient` is given clock and chance.

`numbers`, `strings`, `formats` (format and its verbs), `patterns` (regular expressions), `collections`, `encodings`
(JSON, CSV, base64, digests), `addresses` (CIDR), `times`, `versions`. A function raises `values.Unfit` with the reason.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TypeVar

from builder.engine.bake.functions import (
    addresses,
    collections,
    encodings,
    formats,
    numbers,
    patterns,
    strings,
    times,
    versions,
)
from builder.engine.bake.functions.collections import element_at
from builder.engine.bake.functions.numbers import OPERATORS
from builder.engine.bake.values import Unfit, Value

__all__ = ["OPERATORS", "STANDARD", "T", "check_arity", "element_at"]

T = TypeVar("T")

STANDARD: Mapping[str, Callable[..., Value]] = {
    **numbers.FUNCTIONS,
    **strings.FUNCTIONS,
    **formats.FUNCTIONS,
    **patterns.FUNCTIONS,
    **collections.FUNCTIONS,
    **encodings.FUNCTIONS,
    **addresses.FUNCTIONS,
    **times.FUNCTIONS,
    **versions.FUNCTIONS,
}
"""What every file may call; `try`, `can` and `convert` are the evaluator's, `timestamp` and its like `ambient`'s."""


def check_arity(function: Callable[..., Value], name: str, count: int) -> None:
    """Raises Unfit when *function* does not take *count* arguments."""
    wanted = inspect.signature(function).parameters.values()
    if any(one.kind is one.VAR_POSITIONAL for one in wanted):
        most = None
    else:
        most = len(wanted)
    least = sum(one.default is one.empty and one.kind is not one.VAR_POSITIONAL for one in wanted)
    if count < least or (most is not None and count > most):
        bound = least if count < least or most is None else most
        some = "" if most == least else "at least " if count < least else "at most "
        raise Unfit(f"{name} takes {some}{bound} argument{'s' * (bound != 1)}, not {count}")
