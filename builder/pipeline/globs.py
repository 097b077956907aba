"""Wildcards of COPY and ADD sources: the rules of Go's ``path/filepath.Match``, component by component.

``*`` and ``?`` never match a slash, ``[...]`` is a set with ranges and ``^`` for its complement, a backslash quotes.
This is not the language of .dockerignore (``parser.ignorefile``), which knows ``**``.
"""

from __future__ import annotations

import re
from functools import lru_cache


class BadPattern(ValueError):
    """*pattern* cannot be read: an open bracket, an empty set, a backslash at the end."""

    def __init__(self, pattern: str) -> None:
        super().__init__(f'syntax error in pattern "{pattern}"')
        self.pattern = pattern


def has_wildcards(text: str) -> bool:
    """Whether *text* has an unquoted ``*``, ``?`` or ``[``."""
    position = 0
    while position < len(text):
        if text[position] == "\\":
            position += 1
        elif text[position] in "*?[":
            return True
        position += 1
    return False


def split_wildcards(path: str) -> tuple[str, str]:
    """*path* as (leading components without wildcards, the rest); the rest is "" when there are none."""
    parts = path.split("/")
    for index, part in enumerate(parts):
        if has_wildcards(part):
            return "/".join(parts[:index]), "/".join(parts[index:])
    return path, ""


def match(pattern: str, name: str) -> bool:
    """Whether the whole of *name* matches. Raises BadPattern."""
    return compiled(pattern).fullmatch(name) is not None


@lru_cache(maxsize=256)
def compiled(pattern: str) -> re.Pattern[str]:
    """*pattern* as a regular expression for ``fullmatch``. Raises BadPattern."""
    out: list[str] = []
    position = 0
    while position < len(pattern):
        char = pattern[position]
        position += 1
        if char == "*":
            # A run of stars is one star: two adjacent repeats would make the matcher quadratic and worse.
            if not out or out[-1] != "[^/]*":
                out.append("[^/]*")
        elif char == "?":
            out.append("[^/]")
        elif char == "[":
            text, position = _set(pattern, position)
            out.append(text)
        elif char == "\\":
            if position == len(pattern):
                raise BadPattern(pattern)
            out.append(re.escape(pattern[position]))
            position += 1
        else:
            out.append(re.escape(char))
    return re.compile("".join(out), re.DOTALL)


def _set(pattern: str, position: int) -> tuple[str, int]:
    """The bracket expression whose inside starts at *position*, and where it ends."""
    negated = pattern[position : position + 1] == "^"
    if negated:
        position += 1
    ranges: list[str] = []
    while True:
        if position >= len(pattern):
            raise BadPattern(pattern)
        if pattern[position] == "]" and ranges:
            break
        low, position = _set_char(pattern, position)
        high = low
        if pattern[position : position + 1] == "-":
            high, position = _set_char(pattern, position + 1)
        # As in Go, a range that runs backwards is no error: it is empty.
        ranges.append(f"{re.escape(low)}-{re.escape(high)}" if low <= high else "")
    inside = "".join(ranges)
    if not inside:
        # An empty set in a regular expression has to be spelled out: nothing, or any character.
        return ("[^/]" if negated else "(?!)"), position + 1
    # Go's set may match a slash only when it names one; names that we match have none inside of a component.
    return (f"[^{inside}]" if negated else f"[{inside}]"), position + 1


def _set_char(pattern: str, position: int) -> tuple[str, int]:
    """One end of a range at *position*, and the position behind it."""
    if position >= len(pattern) or pattern[position] in "-]":
        raise BadPattern(pattern)
    if pattern[position] == "\\":
        position += 1
    if position + 1 >= len(pattern):
        raise BadPattern(pattern)
    return pattern[position], position + 1
