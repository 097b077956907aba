"""Texts that others wrote, before they reach a terminal: an escape sequence in one could move, hide or forge lines."""

from __future__ import annotations

_DIRECTIONS = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
"""Letters without a width that change in which direction, and so in which order, others are shown."""
_CODES = (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *_DIRECTIONS)
_NOTATION = {code: f"\\u{code:04x}" for code in _CODES if chr(code) not in "\t\n"}


def harmless(text: str) -> str:
    """`text` with its control characters, but for tabs and new lines, written as JSON writes them: \\u001b.

    In a JSON document they only stand in strings, so that it means the same afterwards.
    """
    return text.translate(_NOTATION)


def in_line(text: str) -> str:
    """`text` as a part of one line: also its tabs and new lines are written out, and bytes that are no UTF-8."""
    shown = harmless(text).replace("\n", "\\n").replace("\t", "\\t")
    return shown if shown.isascii() else shown.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
