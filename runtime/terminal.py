"""The user's own terminal while it is connected to a container's: raw mode, its size, and the keys that detach."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from collections.abc import Iterator
from contextlib import contextmanager

from runtime.errors import SpecInvalid

DETACH_KEYS = "ctrl-p,ctrl-q"
_CTRL = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31, **{chr(96 + number): number for number in range(1, 27)}}


def size(fd: int) -> tuple[int, int]:
    """(rows, columns) of a terminal. Raises OSError when *fd* is none."""
    rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, b"\0" * 8))
    return rows, columns


def resize(fd: int, rows: int, columns: int) -> None:
    """Set a terminal's size; its foreground processes get SIGWINCH."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


@contextmanager
def raw(fd: int) -> Iterator[None]:
    """Every key goes through unchanged while this lasts; the former mode is put back."""
    before = termios.tcgetattr(fd)
    mode = termios.tcgetattr(fd)
    mode[0] &= ~(termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP | termios.INLCR | termios.IGNCR
                 | termios.ICRNL | termios.IXON)  # fmt: skip
    mode[1] &= ~termios.OPOST
    mode[2] = mode[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    mode[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    termios.tcsetattr(fd, termios.TCSANOW, mode)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSANOW, before)


def parse_keys(text: str) -> bytes:
    """Docker's notation for keys: "ctrl-p,ctrl-q", "a,b"; the bytes that the keys send. Raises SpecInvalid."""
    keys = bytearray()
    for part in text.split(","):
        if part.startswith("ctrl-") and part[5:].lower() in _CTRL:
            keys.append(_CTRL[part[5:].lower()])
        elif len(part) == 1 and part.isascii():
            keys += part.encode()
        else:
            raise SpecInvalid(f'invalid detach keys "{text}"', hint="a letter or ctrl-LETTER, separated by commas")
    return bytes(keys)


class DetachFilter:
    """Watches what is typed for the detach keys. *detached* is True once all of them came in a row."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._seen = 0
        self.detached = False

    def feed(self, data: bytes) -> bytes:
        """What of *data* goes to the container: keys of a sequence that may be complete soon are held back."""
        out = bytearray()
        for byte in data:
            if self._keys and byte == self._keys[self._seen]:
                self._seen += 1
                if self._seen == len(self._keys):
                    self.detached = True
                    return bytes(out)
                continue
            out += self._keys[: self._seen]
            self._seen = 0
            if self._keys and byte == self._keys[0]:
                self._seen = 1
            else:
                out.append(byte)
        return bytes(out)


def copy(source: int, destination: int, limit: int = 1 << 16) -> bool:
    """Move what is there from one descriptor to the other; False at the end (EIO is a closed terminal's end)."""
    try:
        data = os.read(source, limit)
    except OSError:
        return False
    while data:
        data = data[os.write(destination, data) :]
        if not data:
            return True
    return False
