"""Values of bake files and how they convert: null, bool, number, string, list (a tuple), map (a Mapping).

Sets are lists whose elements are sorted and distinct. Numbers are ints wherever they are whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TypeAlias

Value: TypeAlias = "bool | int | float | str | tuple[Value, ...] | Mapping[str, Value] | None"


class Unfit(ValueError):
    """A value cannot be what it would have to be; the text says why. Whoever knows the place adds it."""


def kind(value: Value) -> str:
    """The name of the value's type for messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "list" if isinstance(value, tuple) else "map"


def whole(number: int | float) -> int | float:
    """*number*, as an int where it is one. Raises Unfit for what is no number any more."""
    if isinstance(number, float):
        if not math.isfinite(number):
            raise Unfit("the result is not a finite number")
        if number.is_integer():
            return int(number)
    return number


def text(value: Value) -> str:
    """*value* as a string; numbers and bools convert."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        shown = repr(value)
        return shown if "e" not in shown else _plain(shown)
    raise Unfit(f"a string is required, not {kind(value)}")


def _plain(shown: str) -> str:
    """A number without an exponent."""
    from decimal import Decimal

    return format(Decimal(shown), "f")


def number(value: Value) -> int | float:
    """*value* as a number; strings that spell one convert."""
    if isinstance(value, bool) or value is None:
        raise Unfit(f"a number is required, not {kind(value)}")
    if isinstance(value, int | float):
        return value
    if isinstance(value, str):
        try:
            if "_" in value or value != value.strip():
                raise ValueError
            return int(value) if value.lstrip("+-").isdecimal() else whole(float(value))
        except ValueError:
            raise Unfit(f'a number is required, not "{value}"') from None
    raise Unfit(f"a number is required, not {kind(value)}")


def integer(value: Value) -> int:
    """*value* as a whole number."""
    found = number(value)
    if isinstance(found, float):
        raise Unfit(f"a whole number is required, not {text(found)}")
    return found


def boolean(value: Value) -> bool:
    """*value* as a bool; "true" and "false" (and 1, 0 as text) convert."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value in ("true", "1", "false", "0"):
        return value in ("true", "1")
    raise Unfit(f"a bool is required, not {kind(value)}")


def sequence(value: Value) -> tuple[Value, ...]:
    """*value* as a list."""
    if isinstance(value, tuple):
        return value
    raise Unfit(f"a list is required, not {kind(value)}")


def mapping(value: Value) -> Mapping[str, Value]:
    """*value* as a map."""
    if isinstance(value, Mapping):
        return value
    raise Unfit(f"a map is required, not {kind(value)}")


def texts(value: Value) -> tuple[str, ...]:
    """*value* as a list of strings."""
    return tuple(text(one) for one in sequence(value))


def equal(left: Value, right: Value) -> bool:
    """Whether both are the same value of the same type: 1 is neither "1" nor true."""
    if kind(left) != kind(right):
        return False
    if isinstance(left, tuple) and isinstance(right, tuple):
        return len(left) == len(right) and all(map(equal, left, right))
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
    return left == right


def distinct(found: Iterable[Value]) -> tuple[Value, ...]:
    """*found* without what is there already, in its order."""
    seen: set[str] = set()
    made = []
    for one in found:
        mark = fingerprint(one)
        if mark not in seen:
            seen.add(mark)
            made.append(one)
    return tuple(made)


def as_set(found: Iterable[Value]) -> tuple[Value, ...]:
    """*found* as a set: numbers by size, strings by their letters, other things in any lasting order."""
    once = list(distinct(found))
    if all(isinstance(one, int | float) and not isinstance(one, bool) for one in once):
        return tuple(sorted(once, key=number))
    return tuple(sorted(once, key=lambda one: one if isinstance(one, str) else fingerprint(one)))


def fingerprint(value: Value) -> str:
    """A text that only equal values share."""
    if isinstance(value, tuple):
        return "[" + ",".join(map(fingerprint, value)) + "]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key!r}:{fingerprint(value[key])}" for key in sorted(value)) + "}"
    return f"{kind(value)[0]}{value!r}"


def unified(left: Value, right: Value) -> Value:
    """*left* as the type that a conditional with the results *left* and *right* has. Raises Unfit where it has none."""
    mine, other = kind(left), kind(right)
    if mine == other or "null" in (mine, other):
        return left
    if {mine, other} in ({"string", "number"}, {"string", "bool"}):
        return text(left)
    raise Unfit(f"the results of a condition must have one type, not {mine} and {other}")


def plain(value: Value) -> object:
    """*value* for the json module."""
    if isinstance(value, tuple):
        return [plain(one) for one in value]
    if isinstance(value, Mapping):
        return {key: plain(value[key]) for key in sorted(value)}
    return value


def from_plain(value: object) -> Value:
    """What the json module read, as a value."""
    if isinstance(value, list):
        return tuple(map(from_plain, value))
    if isinstance(value, dict):
        return {str(key): from_plain(one) for key, one in value.items()}
    if isinstance(value, float):
        return whole(value)
    assert value is None or isinstance(value, bool | int | str)
    return value
