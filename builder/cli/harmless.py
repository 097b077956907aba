"""Texts that others wrote, before they reach a terminal: an escape sequence in one could move, hide or forge lines."""

from __future__ import annotations

_NOTATION = {code: f"\\u{code:04x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\t\n"}


def harmless(text: str) -> str:
    """`text` with its control characters, but for tabs and new lines, written as JSON writes them: \\u001b.

    In a JSON document they only stand in strings, so that it means the same afterwards.
    """
    return text.translate(_NOTATION)
