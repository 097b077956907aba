"""Container logs in Docker's json-file format: writing with rotation, reading with tail, since, until, follow.

One line per record: ``{"log":"text\\n","stream":"stdout","time":"2026-01-02T03:04:05.123456789Z"}``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike


@dataclass(frozen=True, slots=True)
class Record:
    """One line of output. ``time_ns`` in nanoseconds since the epoch; ``partial``: no new line at its end."""

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


def read(path: str | PathLike[str], query: Query = Query()) -> Iterator[Record]:
    """The records that are there now, oldest first, over all rotated files."""
    raise NotImplementedError


def follow(path: str | PathLike[str], query: Query, *, alive: str | PathLike[str]) -> Iterator[Record]:
    """Like `read`, then waits for more until the container's supervisor (lock file *alive*) has ended."""
    raise NotImplementedError


def rfc3339nano(time_ns: int) -> str:
    """``2026-01-02T03:04:05.000000001Z``: trailing zeros dropped as Go's RFC3339Nano does."""
    raise NotImplementedError
