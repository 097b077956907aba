"""Bytes of running steps as lines: what all views share."""

from __future__ import annotations

from collections import deque

_KEEP = 200  # lines of each step that a failure may show


class Lines:
    """Cuts a step's output into lines, decodes them, and remembers the last ones."""

    __slots__ = ("_kept", "_open", "started")

    def __init__(self, started: float) -> None:
        self.started = started
        self._open: dict[int, bytes] = {}
        self._kept: deque[str] = deque(maxlen=_KEEP)

    def take(self, stream: int, data: bytes, time: float) -> list[str]:
        """The lines that `data` completes, each as `0.142 text`."""
        *whole, rest = (self._open.pop(stream, b"") + data).split(b"\n")
        # a line without end must not fill the memory: it is shown in pieces
        if len(rest) > 65536:
            whole, rest = [*whole, rest], b""
        if rest:
            self._open[stream] = rest
        return self._number(whole, time)

    def finish(self, time: float) -> list[str]:
        """What is left without a new line at its end."""
        rest, self._open = [self._open[stream] for stream in sorted(self._open)], {}
        return self._number(rest, time)

    def tail(self) -> list[str]:
        """The remembered lines."""
        return list(self._kept)

    def _number(self, lines: list[bytes], time: float) -> list[str]:
        since = max(time - self.started, 0.0)
        numbered = [f"{since:.3f} {clean(line)}" for line in lines]
        self._kept.extend(numbered)
        return numbered


def clean(line: bytes) -> str:
    """A line of a container's output, harmless for a log: what a carriage return overwrote is gone, bytes that are not
    UTF-8 are replaced.  Colours stay."""
    return line.rstrip(b"\r").rpartition(b"\r")[2].decode("utf-8", "replace")


def without_controls(text: str) -> str:
    """`text` for a view that counts columns: escape sequences and control characters taken out, tabs as blanks."""
    out, rest = [], text
    while rest:
        before, escape, rest = rest.partition("\x1b")
        out.append(
            "".join(letter if letter >= " " and letter != "\x7f" else " " * (letter == "\t") for letter in before)
        )
        if escape and rest[:1] == "[":
            at = 1
            while at < len(rest) and not "@" <= rest[at] <= "~":
                at += 1
            rest = rest[at + 1 :]
        elif escape:
            rest = rest[1:]
    return "".join(out)
