"""Semantic versions against constraints such as `>= 1.2, < 2`, `~1.4`, `^1.2.3 || 3.x`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from builder.engine.bake.values import Unfit, Value, text

_VERSION = re.compile(r"[vV]?(\d+)(?:\.(\d+|[xX*]))?(?:\.(\d+|[xX*]))?(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?")
_COMPARED = re.compile(r"\s*(=|!=|>=|=>|<=|=<|>|<|~>|~|\^|)\s*([^\s,<>=!~^]+)[\s,]*")


class _Version(NamedTuple):
    """Compares as semver.org says: a version before a release is less than it, its marks by number or by letters."""

    numbers: tuple[int, ...]
    released: bool
    marks: tuple[tuple[bool, int, str], ...]


def _version(written: str) -> tuple[_Version, int]:
    """A version, and how many of its three numbers were given."""
    match = _VERSION.fullmatch(written)
    if match is None:
        raise Unfit(f'"{written}" is not a semantic version')
    given = [int(one) for one in match.groups()[:3] if one is not None and one.isdecimal()]
    marks = tuple(
        (False, int(one), "") if one.isdecimal() else (True, 0, one) for one in (match[4] or "").split(".") if one
    )
    return _Version((*given, 0, 0, 0)[:3], match[4] is None, marks), len(given)


def _semvercmp(version: Value, constraint: Value) -> Value:
    mine, _ = _version(text(version))
    # all are read, also after one that fits: what is wrong is said
    fitting = [_fits(mine, each) for each in text(constraint).split("||")]
    return any(fitting)


def _fits(mine: _Version, constraint: str) -> bool:
    """Whether all comparisons in *constraint* hold."""
    at, fits, end = 0, True, len(constraint.rstrip())
    if not end:
        raise Unfit("the version constraint is empty")
    while at < end:
        match = _COMPARED.match(constraint, at)
        if match is None:
            raise Unfit(f'"{constraint.strip()}" is not a version constraint')
        at = match.end()
        fits = _holds(match[1] or "=", mine, match[2]) and fits
    return fits


def _holds(operator: str, mine: _Version, written: str) -> bool:
    if written in ("x", "X", "*"):
        return mine.released
    other, given = _version(written)
    if not mine.released and other.released:
        return False  # who does not name one does not want a version before a release
    same = mine == other if given == 3 else mine.numbers[:given] == other.numbers[:given]
    match operator:
        case "=":
            return same
        case "!=":
            return not same
        case ">":
            return mine > other and not same
        case "<=" | "=<":
            return mine < other or same
        case "<":
            return mine < other
        case ">=" | "=>":
            return mine >= other
        case "~" | "~>":
            kept = min(given, 2)
        case _:
            # ^: nothing may change up to the first number that is not 0
            kept = next((at for at, one in enumerate(other.numbers[:given], 1) if one), given)
    return mine >= other and mine.numbers[:kept] == other.numbers[:kept]


FUNCTIONS: Mapping[str, Callable[..., Value]] = {"semvercmp": _semvercmp}
