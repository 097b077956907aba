"""Regular expressions: the files' are RE2's; what both dialects have in common is taken as it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from builder.engine.bake.values import Unfit, Value, text

_CLASSES = {
    "[:alnum:]": "0-9A-Za-z",
    "[:alpha:]": "A-Za-z",
    "[:digit:]": "0-9",
    "[:lower:]": "a-z",
    "[:space:]": r"\s",
    "[:upper:]": "A-Z",
    "[:word:]": r"\w",
    "[:xdigit:]": "0-9A-Fa-f",
    "[:punct:]": r"!-/:-@\[-`{-~",
}
_TEMPLATE = re.compile(r"\$(?:\$|\{(\w+)\}|(\w+))")


def _compiled(pattern: Value) -> re.Pattern[str]:
    written = text(pattern)
    for name, letters in _CLASSES.items():
        written = written.replace(name, letters)
    # RE2's \z is Python's \Z; RE2 has no \Z
    written = written.replace(r"\z", r"\Z")
    try:
        return re.compile(written, re.ASCII)
    except re.error as err:
        raise Unfit(f"invalid regexp pattern: {err}") from None


def _found(match: re.Match[str]) -> Value:
    named = match.groupdict()
    if named:
        return dict(named)
    return tuple(match.groups()) if match.re.groups else match[0]


def _regex(pattern: Value, value: Value) -> Value:
    match = _compiled(pattern).search(text(value))
    if match is None:
        raise Unfit("pattern did not match any part of the given string")
    return _found(match)


def _regexall(pattern: Value, value: Value) -> Value:
    return tuple(map(_found, _compiled(pattern).finditer(text(value))))


def _regex_replace(value: Value, pattern: Value, replacement: Value) -> Value:
    template = text(replacement)

    def expand(match: re.Match[str]) -> str:
        def group(reference: re.Match[str]) -> str:
            name = reference[1] or reference[2]
            if name is None:
                return "$"
            try:
                return match[int(name) if name.isdecimal() else name] or ""
            except IndexError:
                return ""

        return _TEMPLATE.sub(group, template)

    return _compiled(pattern).sub(expand, text(value))


FUNCTIONS: Mapping[str, Callable[..., Value]] = {
    "regex": _regex,
    "regex_replace": _regex_replace,
    "regexall": _regexall,
}
