"""Writing container logs, without imports that cost: a supervisor starts with every container.

The format and the reading side are in ``runtime.logs``. A record here is (stream, bytes, time in ns since the epoch).
"""

from __future__ import annotations

import os
import time

FILE_NAME = "container-json.log"

# Docker cuts longer lines into records of this size without a new line at the end.
_LONGEST = 16 << 10
# As Go's encoder writes them: short forms of four, numbers for control characters, HTML's three and two line breaks.
_ESCAPES: dict[int, str] = {
    **{number: f"\\u{number:04x}" for number in (*range(0x20), *map(ord, "<>&"), 0x2028, 0x2029)},
    **dict.fromkeys(range(0xDC80, 0xDD00), "\\ufffd"),
    ord('"'): '\\"',
    ord("\\"): "\\\\",
    ord("\n"): "\\n",
    ord("\r"): "\\r",
}

Record = tuple[str, bytes, int]


class Splitter:
    """Cuts one stream into records as Docker's copier does: at new lines, and every 16 KiB of a longer line."""

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._rest = b""

    def feed(self, data: bytes, time_ns: int) -> list[Record]:
        """The records that *data* completes."""
        data = self._rest + data if self._rest else data
        records = []
        at = 0
        while True:
            end = data.find(b"\n", at, at + _LONGEST) + 1
            if not end:
                if len(data) - at < _LONGEST:
                    break
                end = at + _LONGEST
            records.append((self._stream, data[at:end], time_ns))
            at = end
        self._rest = data[at:]
        return records

    def finish(self, time_ns: int) -> list[Record]:
        """What is left when the stream has ended."""
        rest, self._rest = self._rest, b""
        return [(self._stream, rest, time_ns)] if rest else []


class Writer:
    """Appends records to a log file. One writer per file: the supervisor. Rotates at *size* bytes (0: never), keeping
    *files* files with the current one."""

    def __init__(self, path: str, *, size: int = 0, files: int = 1) -> None:
        self._path = path
        self._limit, self._files = size, files
        self._file = self._open()
        self._size = os.fstat(self._file).st_size

    def write(self, records: list[Record]) -> None:
        """Write records, in one call where no rotation is due. Raises OSError (ENOSPC)."""
        pending: list[bytes] = []
        for record in records:
            if self._limit and self._size >= self._limit:
                self._flush(pending)
                pending = []
                self._rotate()
            line = encode(record)
            self._size += len(line)
            pending.append(line)
        self._flush(pending)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _flush(self, lines: list[bytes]) -> None:
        data = memoryview(b"".join(lines))
        while data:
            data = data[os.write(self._file, data) :]

    def _rotate(self) -> None:
        os.close(self._file)
        for number in range(self._files - 1, 0, -1):
            older = self._path if number == 1 else f"{self._path}.{number - 1}"
            if os.path.exists(older):
                os.rename(older, f"{self._path}.{number}")
        if self._files < 2:
            os.truncate(self._path, 0)
        self._file = self._open()
        self._size = 0

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


def encode(record: Record) -> bytes:
    """A record as its line in the file."""
    stream, data, time_ns = record
    text = data.decode("utf-8", "surrogateescape").translate(_ESCAPES)
    return f'{{"log":"{text}","stream":"{stream}","time":"{rfc3339nano(time_ns)}"}}\n'.encode()


def rfc3339nano(time_ns: int) -> str:
    """``2026-01-02T03:04:05.000000001Z``: trailing zeros dropped as Go's RFC3339Nano does."""
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    fraction = f".{nanoseconds:09d}".rstrip("0") if nanoseconds else ""
    return f"{text}{fraction}Z"
