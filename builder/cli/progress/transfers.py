"""How pulls and pushes look: docker's lines on a pipe, its bars on a terminal."""

from __future__ import annotations

from typing import IO

from builder.cli.harmless import harmless
from builder.cli.units import size
from builder.transfer.registry.progress import Message
from runtime.values import replace

_BAR = 50
_WIDE = 110
"""Columns from which there is room for a bar."""


class TransferView:
    """Called with every message. On a pipe only lines are written, bars are not."""

    def __init__(self, stream: IO[str], *, columns: int = 0) -> None:
        """`columns` of the terminal; 0: it is none."""
        self._stream = stream
        self._columns = columns
        self._rows: dict[str, int] = {}

    def __call__(self, message: Message) -> None:
        """Show it; its words may be a registry's."""
        message = replace(message, status=harmless(message.status), id=harmless(message.id))
        if not self._columns:
            if not message.total:
                self._stream.write(f"{message.id}: {message.status}\n" if message.id else f"{message.status}\n")
                self._stream.flush()
            return
        self._stream.write(self._drawn(message))
        self._stream.flush()

    def _drawn(self, message: Message) -> str:
        if not message.id:
            self._rows.clear()
            return f"{message.status}\n"
        text = f"{message.id}: {message.status} {bar(message, self._columns)}".rstrip()[: self._columns]
        if message.id not in self._rows:
            self._rows[message.id] = len(self._rows)
            return f"{text}\n"
        up = len(self._rows) - self._rows[message.id]
        return f"\x1b[{up}A\r\x1b[2K{text}\r\x1b[{up}B"


def bar(message: Message, columns: int) -> str:
    """`[====>    ]  1.2MB/3.4MB`, without the bar where it has no room; "" for a line."""
    if not message.total:
        return ""
    numbers = f"{size(message.current, digits=4):>8}/{size(message.total, digits=4)}"
    if columns <= _WIDE:
        return numbers
    filled = message.current * _BAR // message.total
    drawn = "=" * filled + (">" if filled < _BAR else "")
    return f"[{drawn:{_BAR}}] {numbers}"


def open_view(stream: IO[str], *, terminal: bool) -> TransferView:
    """The view for a stream."""
    columns = 0
    if terminal:
        import shutil

        columns = shutil.get_terminal_size().columns
    return TransferView(stream, columns=columns)
