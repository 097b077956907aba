"""Functions and operators on numbers and bools."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from builder.engine.bake.values import Unfit, Value, boolean, equal, integer, number, text, whole

Number = int | float


def _divide(left: Number, right: Number) -> Number:
    if right == 0:
        raise Unfit("division by zero")
    if isinstance(left, int) and isinstance(right, int) and left % right == 0:
        return left // right
    return whole(left / right)


def _modulo(left: Number, right: Number) -> Number:
    """The remainder with the sign of the dividend."""
    if right == 0:
        raise Unfit("division by zero")
    rest = abs(left) % abs(right)
    return whole(-rest if left < 0 else rest)


def _multiply(left: Number, right: Number) -> Number:
    return whole(left * right)


OPERATORS: Mapping[str, Callable[[Number, Number], Value]] = {
    "+": lambda left, right: whole(left + right),
    "-": lambda left, right: whole(left - right),
    "*": _multiply,
    "/": _divide,
    "%": _modulo,
    "<": lambda left, right: left < right,
    ">": lambda left, right: left > right,
    "<=": lambda left, right: left <= right,
    ">=": lambda left, right: left >= right,
}
"""The operators that take two numbers."""


def _of(operator: str) -> Callable[[Value, Value], Value]:
    act = OPERATORS[operator]
    return lambda left, right: act(number(left), number(right))


def _log(value: Value, base: Value) -> Value:
    try:
        return whole(math.log(number(value)) / math.log(number(base)))
    except (ValueError, ZeroDivisionError):
        raise Unfit(f"there is no logarithm of {text(value)} to the base {text(base)}") from None


def _pow(value: Value, power: Value) -> Value:
    base, exponent = number(value), number(power)
    if isinstance(base, int) and isinstance(exponent, int) and abs(base) > 1 and exponent > 4096:
        raise Unfit("the result is too large")
    try:
        found = base**exponent
    except (OverflowError, ZeroDivisionError) as err:
        raise Unfit(str(err)) from None
    if isinstance(found, complex):
        raise Unfit("the result is not a real number")
    return whole(found)


def _parseint(value: Value, base: Value) -> Value:
    radix = integer(base)
    written = text(value)
    if not 2 <= radix <= 62:
        raise Unfit(f"the base must be between 2 and 62, not {radix}")
    digits = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"[:radix]
    body = written.lstrip("+-") if len(written) - len(written.lstrip("+-")) <= 1 else ""
    body = body.lower() if radix <= 36 else body
    found = 0
    for letter in body:
        if letter not in digits:
            break
        found = found * radix + digits.index(letter)
    else:
        if body:
            return -found if written.startswith("-") else found
    raise Unfit(f'cannot parse "{written}" as a base {radix} integer')


def _max(first: Value, *others: Value) -> Value:
    return max(map(number, (first, *others)))


def _min(first: Value, *others: Value) -> Value:
    return min(map(number, (first, *others)))


def _signum(value: Value) -> Value:
    found = number(value)
    return (found > 0) - (found < 0)


def _absolute(value: Value) -> Value:
    return abs(number(value))


def _ceil(value: Value) -> Value:
    return math.ceil(number(value))


def _floor(value: Value) -> Value:
    return math.floor(number(value))


def _int(value: Value) -> Value:
    return math.trunc(number(value))


def _negate(value: Value) -> Value:
    return -number(value)


def _not(value: Value) -> Value:
    return not boolean(value)


def _and(left: Value, right: Value) -> Value:
    return boolean(left) and boolean(right)


def _or(left: Value, right: Value) -> Value:
    return boolean(left) or boolean(right)


def _equal(left: Value, right: Value) -> Value:
    return equal(left, right)


def _notequal(left: Value, right: Value) -> Value:
    return not equal(left, right)


FUNCTIONS: Mapping[str, Callable[..., Value]] = {
    "absolute": _absolute,
    "add": _of("+"),
    "and": _and,
    "ceil": _ceil,
    "divide": _of("/"),
    "equal": _equal,
    "floor": _floor,
    "greaterthan": _of(">"),
    "greaterthanorequalto": _of(">="),
    "int": _int,
    "lessthan": _of("<"),
    "lessthanorequalto": _of("<="),
    "log": _log,
    "max": _max,
    "min": _min,
    "modulo": _of("%"),
    "multiply": _of("*"),
    "negate": _negate,
    "not": _not,
    "notequal": _notequal,
    "or": _or,
    "parseint": _parseint,
    "pow": _pow,
    "signum": _signum,
    "subtract": _of("-"),
}
