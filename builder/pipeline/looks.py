"""What the scans of a build looked at in its context, and whether it is all as it was then.

A scan notes each directory that it lists, each file that it takes by name, each directory that it passes on the way and
each ignore file that holds or is missing. When all of these have the same identity again (device, inode, type and mode,
size, times; of a directory the names in it, too), the same scans would find the same: nothing need be matched, resolved
or read to know it. A file that was left out (.dockerignore) is noted by its name alone and may change as it likes.

Stricter than the scans themselves, which forgive what comes to the same content (a file that was only touched). Who
finds a difference here looks again in the ordinary way. Loads nothing that takes time: see `unchanged`.
"""

from __future__ import annotations

import marshal
import os
import stat

try:
    # OpenSSL's is faster, and takes 2 ms to load.
    from _sha256 import sha256  # type: ignore[import-not-found]
except ImportError:
    from hashlib import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

PASSED, TAKEN, LISTED = 0, 1, 2
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

Look = tuple[int, str, tuple[str, ...], "Any"]
"""(PASSED, TAKEN or LISTED; the path from the context's top, or an absolute one; names left out; what was seen)."""


class Looks:
    """The notes of one build's scans. Give it the time (unix ns) before the first of them."""

    __slots__ = ("_blind", "_newest", "_noted", "now")

    def __init__(self, now: int) -> None:
        self.now = now
        self._noted: dict[tuple[int, str, tuple[str, ...]], Any] = {}
        self._newest = 0
        self._blind = False

    def give_up(self) -> None:
        """Something was looked at that cannot be noted: a path through a symlink."""
        self._blind = True

    def passed(self, path: str, status: os.stat_result) -> None:
        """A directory on the way to something."""
        self._note(PASSED, path, (), _way(status))

    def taken(self, path: str, status: os.stat_result | None) -> None:
        """A file that was asked for by its name; None when it is not there."""
        if status is not None:
            self._age(status.st_ctime_ns)
        self._note(TAKEN, path, (), _seen(status))

    def listed(self, path: str, status: os.stat_result, left_out: Iterable[str], rows: list[tuple[Any, ...]]) -> None:
        """A directory. *rows*: `row` of what was not left out."""
        self._age(status.st_ctime_ns)
        self._note(LISTED, path, tuple(sorted(left_out)), _digest(status, rows))

    def aged(self, ctime: int) -> None:
        """A change time of something listed, unix ns."""
        self._age(ctime)

    def result(self, is_racy: Callable[[int, int], bool]) -> list[Look] | None:
        """Everything noted, the ways first; None when the same looks could hide a change.

        *is_racy*: whether something with this change time may change at this time without a trace.
        """
        if self._blind or is_racy(self._newest, self.now):
            return None
        return [(*key, self._noted[key]) for key in sorted(self._noted)]

    def _age(self, ctime: int) -> None:
        self._newest = max(self._newest, ctime)

    def _note(self, kind: int, path: str, left_out: tuple[str, ...], seen: object) -> None:
        # Two scans that saw different things had a change between them.
        if self._noted.setdefault((kind, path, left_out), seen) != seen:
            self._blind = True


def digest(data: bytes) -> bytes:
    """sha256, without OpenSSL."""
    return bytes(sha256(data).digest())


def row(name: str, mode: int, size: int, mtime: int, ctime: int, inode: int, device: int) -> tuple[Any, ...]:
    """What is noted of one name in a directory. Of a directory in it no more than that it is that one: who looks into
    it notes it by itself."""
    if stat.S_ISDIR(mode):
        return name, mode, inode, device
    return name, mode, size, mtime, ctime, inode, device


def hold(top: int, looks: Sequence[Look]) -> bool:
    """Whether everything below the open directory *top* is as it was noted."""
    try:
        return all(_look(top, kind, path, left_out) == seen for kind, path, left_out, seen in looks)
    except OSError:
        return False


def _look(top: int, kind: int, path: str, left_out: tuple[str, ...]) -> object:
    if kind == LISTED:
        return _list(top, path, left_out)
    try:
        status = os.stat(path, dir_fd=top, follow_symlinks=False)
    except FileNotFoundError:
        return _seen(None)
    return _way(status) if kind == PASSED else _seen(status)


def _list(top: int, path: str, left_out: tuple[str, ...]) -> bytes:
    hidden = frozenset(left_out)
    rows: list[tuple[Any, ...]] = []
    fd = os.open(path, _DIRECTORY, dir_fd=top)
    try:
        status = os.fstat(fd)
        with os.scandir(fd) as found:
            for one in found:
                if one.name not in hidden:
                    s = one.stat(follow_symlinks=False)
                    rows.append(row(one.name, s.st_mode, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino, s.st_dev))
    finally:
        os.close(fd)
    return _digest(status, rows)


def _way(status: os.stat_result) -> tuple[int, ...]:
    return status.st_mode, status.st_ino, status.st_dev


def _seen(status: os.stat_result | None) -> tuple[int, ...]:
    if status is None:
        return ()
    return (*_way(status), status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _digest(status: os.stat_result, rows: list[tuple[Any, ...]]) -> bytes:
    rows.sort()
    # Version 2 of marshal writes equal values as equal bytes.
    return digest(marshal.dumps((_seen(status), rows), 2))
