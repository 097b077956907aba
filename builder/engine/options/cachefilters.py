"""Filters of the build cache: of `prune` and `du`, and of the policies in a daemon.json.

A text is `KEY=VALUE`, also with `==`, `!=` and `~=` (a regular expression), as buildx has them. Texts with the same key
mean either, as do several with commas in one text; those with different keys, and each `!=`, must all hold.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from builder.engine.options.units import parse_duration
from builder.errors import InvalidInput

if TYPE_CHECKING:
    from builder.store.cacheitems import CacheItem, Select

KEYS = ("until", "unused-for", "id", "type", "description", "inuse", "shared", "private", "mutable", "immutable")
_FORM = re.compile(r"([^=!~]+)(!=|~=|==?)(.*)", re.DOTALL)
_TRUTHS = {**dict.fromkeys(("", "1", "t", "true"), True), **dict.fromkeys(("0", "f", "false"), False)}
_FACTS: dict[str, Callable[[CacheItem], bool]] = {
    "inuse": lambda item: item.in_use,
    "shared": lambda item: item.shared,
    "private": lambda item: not item.shared,
    "mutable": lambda item: item.mutable,
    "immutable": lambda item: not item.mutable,
}


def parse(texts: Sequence[str], *, now: int) -> Select | None:
    """All of them as one question about a cache item; None without any. `now` in ns since the epoch.

    Raises InvalidInput.
    """
    wanted: dict[str, list[Select]] = {}
    for text in (part for each in texts for part in _parts(each)):
        match = _FORM.fullmatch(text + "=" * (text.lower() in _FACTS))
        if match is None:
            raise InvalidInput("invalid argument: bad format of filter (expected name=value)")
        key = match[1].strip().lower()
        if key not in KEYS:
            raise InvalidInput(f"invalid filter '{key}'", hint="known: " + ", ".join(KEYS))
        together = text if match[2] == "!=" else key
        wanted.setdefault(together, []).append(_question(key, match[2], match[3].strip(), now))
    if not wanted:
        return None
    return lambda item: all(any(ask(item) for ask in asked) for asked in wanted.values())


def _parts(text: str) -> list[str]:
    """Several filters with commas between them; a comma before what is none belongs to a value."""
    found: list[str] = []
    for part in text.split(","):
        if found and not _FORM.fullmatch(part) and part.strip().lower() not in _FACTS:
            found[-1] += "," + part
        else:
            found.append(part)
    return [part.strip() for part in found]


def _question(key: str, operator: str, value: str, now: int) -> Select:
    if key in ("until", "unused-for"):
        latest = now - parse_duration(value)
        return lambda item: item.last_used <= latest
    if key in _FACTS:
        if value.lower() not in _TRUTHS:
            raise InvalidInput(f"invalid filter '{key}={value}'")
        fact, truth = _FACTS[key], _TRUTHS[value.lower()] is (operator != "!=")
        return lambda item: fact(item) is truth
    fits = _compared(key, operator, value)
    texts: dict[str, Callable[[CacheItem], str]] = {
        "id": lambda item: item.id,
        "type": lambda item: item.kind.value,
        "description": lambda item: item.text,
    }
    return lambda item: fits(texts[key](item))


def _compared(key: str, operator: str, value: str) -> Callable[[str], bool]:
    if operator == "~=":
        try:
            pattern = re.compile(value)
        except re.error as err:
            raise InvalidInput(f"invalid filter '{key}~={value}': {err}") from err
        return lambda text: pattern.search(text) is not None
    if operator == "!=":
        return lambda text: text != value
    if operator == "==" or key == "type":
        return lambda text: text == value
    if key == "id":
        return lambda text: text.startswith(value)
    return lambda text: value in text
