"""Container logs in Docker's json-file format: reading with tail, since, until, follow. Writing: `runtime.logwriter`.

One line per record: ``{"log":"text\\n","stream":"stdout","time":"2026-01-02T03:04:05.123456789Z"}``, byte for byte what
Docker writes. Rotated files are ``path.1`` (newest) to ``path.N``. The writer never deletes what it has not rotated.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from os import PathLike

from runtime.errors import ContainerError
from runtime.values import dataclass

_BLOCK = 1 << 16
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgt]?)(?:i?b)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Record:
    """One line of output, its new line included if it has one. ``time_ns`` in nanoseconds since the epoch."""

    stream: str
    data: bytes
    time_ns: int


@dataclass(frozen=True, slots=True)
class Query:
    """Which records. ``tail`` < 0: all; ``since``/``until`` in ns since the epoch, 0: no bound."""

    tail: int = -1
    since: int = 0
    until: int = 0
    stdout: bool = True
    stderr: bool = True


@dataclass(frozen=True, slots=True)
class Limits:
    """Rotation: at *size* bytes (0: never), keeping *files* files with the current one."""

    size: int = 0
    files: int = 1

    @classmethod
    def parse(cls, options: Sequence[tuple[str, str]]) -> Limits:
        """From docker's options ``max-size`` and ``max-file``. Raises ContainerError for what it does not know."""
        given = dict(options)
        size, files = given.pop("max-size", ""), given.pop("max-file", "")
        for name in ("mode", "max-buffer-size", "compress", "labels", "labels-regex", "env", "env-regex", "tag"):
            given.pop(name, None)
        if given:
            raise ContainerError(
                f"unknown log opt '{min(given)}' for json-file log driver", hint="max-size and max-file work"
            )
        if files and (not files.isdigit() or int(files) < 1):
            raise ContainerError(f"max-file cannot be less than 1: {files}")
        match = _SIZE.fullmatch(size) if size else None
        if size and match is None:
            raise ContainerError(f"invalid max-size: {size}", hint="write it like 10m")
        number = int(float(match[1]) * 1024 ** " kmgt".index(match[2].lower() or " ")) if match else 0
        return cls(number, int(files or 1))


def decode(line: bytes) -> Record | None:
    """The record of a line; None for one that is torn (the disk was full, the machine stopped)."""
    try:
        item = json.loads(line)
        return Record(item["stream"], item["log"].encode(), parse_time(item["time"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def read(path: str | PathLike[str], query: Query = Query()) -> Iterator[Record]:
    """The records that are there now, oldest first, over all rotated files. A missing log has none."""
    for line in _last_lines(_files(os.fspath(path)), query.tail):
        record = decode(line)
        if record is None or not _selected(record, query):
            continue
        if query.until and record.time_ns > query.until:
            return
        yield record


def follow(
    path: str | PathLike[str], query: Query, *, running: Callable[[], bool], supervisor: int | None = None
) -> Iterator[Record]:
    """Like `read`, then waits for more until *running* is false.

    *running* is asked after each change in the log's directory, where the state file lies too. *supervisor* is a pidfd
    that ends the wait when the writer was killed.
    """
    import select

    from runtime.linux import inotify

    name = os.fspath(path)
    watch = inotify.init()
    try:
        mask = inotify.IN_MODIFY | inotify.IN_CREATE | inotify.IN_MOVED_TO | inotify.IN_CLOSE_WRITE
        inotify.add_watch(watch, os.path.dirname(name) or ".", mask)
        with _Follower(name, query) as follower:
            while True:
                # Asked before the last look, so that nothing written before the end is missed.
                going = running()
                yield from follower.take()
                if not going or follower.passed:
                    return
                ready, _, _ = select.select([watch] + ([supervisor] if supervisor is not None else []), [], [])
                for _ in inotify.events(watch):
                    pass
                if supervisor in ready:
                    yield from follower.take()
                    return
    finally:
        os.close(watch)


class _Follower:
    """The open current file, its unread rest, and the change to the next file when it was rotated."""

    def __init__(self, path: str, query: Query) -> None:
        self._path = path
        self._query = query
        self._file: int | None = None
        self._rest = b""
        self._first = True
        self.passed = False

    def __enter__(self) -> _Follower:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._file is not None:
            os.close(self._file)

    def take(self) -> Iterator[Record]:
        """What is new."""
        if self._first:
            # The current file is opened first: lines that come while the older ones are read are not lost.
            self._open()
            self._first = False
            end = os.fstat(self._file).st_size if self._file is not None else 0
            older = [name for name in _files(self._path) if name != self._path]
            yield from self._select(_last_lines(older, self._query.tail, current=self._head(end)))
        while True:
            yield from self._select(self._lines())
            if not self._changed():
                return

    def _head(self, end: int) -> bytes:
        if self._file is None:
            return b""
        data = os.pread(self._file, end, 0) if self._query.tail != 0 else b""
        whole = data.rfind(b"\n") + 1
        if self._query.tail == 0:
            whole = end
        os.lseek(self._file, whole, os.SEEK_SET)
        return data[:whole]

    def _lines(self) -> Iterator[bytes]:
        while self._file is not None:
            data = os.read(self._file, _BLOCK)
            if not data:
                return
            *lines, self._rest = (self._rest + data).split(b"\n")
            yield from lines

    def _select(self, lines: Iterator[bytes]) -> Iterator[Record]:
        for line in lines:
            record = decode(line)
            if record is None:
                continue
            if self._query.until and record.time_ns > self._query.until:
                self.passed = True
                return
            if _selected(record, self._query):
                yield record

    def _changed(self) -> bool:
        """Go to the next file when the one that is open was rotated away or cut."""
        try:
            now = os.stat(self._path)
        except FileNotFoundError:
            return False
        if self._file is not None:
            mine = os.fstat(self._file)
            if (mine.st_dev, mine.st_ino) == (now.st_dev, now.st_ino):
                if mine.st_size < os.lseek(self._file, 0, os.SEEK_CUR):
                    os.lseek(self._file, 0, os.SEEK_SET)
                    self._rest = b""
                    return True
                return False
            os.close(self._file)
        self._rest = b""
        self._open()
        return self._file is not None

    def _open(self) -> None:
        try:
            self._file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            self._file = None


def parse_time(text: str) -> int:
    """RFC 3339 with up to nine digits and ``Z`` or an offset → ns since the epoch. Raises ValueError."""
    import calendar
    import time

    match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(?:Z|([+-])(\d\d):(\d\d))", text)
    if match is None:
        raise ValueError(f"not a time of RFC 3339: {text}")
    seconds = calendar.timegm(time.strptime(match[1], "%Y-%m-%dT%H:%M:%S"))
    if match[3]:
        offset = int(match[4]) * 3600 + int(match[5]) * 60
        seconds -= offset if match[3] == "+" else -offset
    return seconds * 1_000_000_000 + int((match[2] or "0").ljust(9, "0"))


def _selected(record: Record, query: Query) -> bool:
    if not (query.stdout if record.stream == "stdout" else query.stderr):
        return False
    return not query.since or record.time_ns >= query.since


def _files(path: str) -> list[str]:
    """The current file and its rotated ones that exist, oldest first."""
    names = [path]
    while os.path.exists(f"{path}.{len(names)}"):
        names.append(f"{path}.{len(names)}")
    return [name for name in reversed(names) if os.path.exists(name)]


def _last_lines(files: Sequence[str], count: int, *, current: bytes = b"") -> Iterator[bytes]:
    """The last *count* whole lines (all when negative) of *files* and then of *current*."""
    tail = current.split(b"\n")[:-1] if current else []
    if count < 0:
        for name in files:
            with open(name, "rb") as file:
                for line in file:
                    if line.endswith(b"\n"):
                        yield line[:-1]
        yield from tail
        return
    if count == 0:
        return
    kept = tail[-count:]
    for name in reversed(files):
        if len(kept) >= count:
            break
        kept = _end_of(name, count - len(kept)) + kept
    yield from kept


def _end_of(name: str, count: int) -> list[bytes]:
    with open(name, "rb") as file:
        at = file.seek(0, os.SEEK_END)
        data = b""
        # One more new line than lines: the one before the first line that is wanted.
        while at > 0 and data.count(b"\n") <= count:
            step = min(_BLOCK, at)
            at -= step
            file.seek(at)
            data = file.read(step) + data
    lines = data.split(b"\n")[:-1]
    return lines[-count:] if at == 0 or len(lines) > count else lines[1:]
