"""One regular file, read once: digested, copied, or both by the same read. The inner loop of COPY.

A file that changes while it is read is read again, and is an error if it keeps changing: a digest must never stand for
other bytes than those that were copied. Runs in the build's own process for few files and in ``copyworker`` for many,
so it imports next to nothing.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterable
from hashlib import sha256
from threading import Thread
from typing import NamedTuple, TypeAlias

StatKey: TypeAlias = "tuple[int, int, int, int, int]"
"""(device, inode, size in bytes, mtime in ns, ctime in ns)."""

CHUNK = 1 << 20
THREADED = 8 << 20
"""From this size on, two threads share one file: one digests, one copies (both without the GIL)."""
ATTEMPTS = 3

GRAIN = 100_000_000
"""ns. A file younger than this may change again without a visible change of its times: its digest is not remembered."""
COARSE_GRAIN = 2_000_000_000
"""ns. The same where times are whole seconds (FAT, some network file systems)."""

_SOURCE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_TARGET = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

Xattrs: TypeAlias = "tuple[tuple[str, bytes], ...]"


class Changed(Exception):
    """A file did not hold still. Whoever knows its path makes a ContextError of it."""


class Facts(NamedTuple):
    """What was found out about a file by reading it."""

    digest: bytes | None
    status: tuple[int, int, int, int, int, int, int, int]
    """(mode, uid, gid, size, mtime ns, ctime ns, inode, device) as it was while the file was read."""
    racy: bool
    """So young that the digest must not be remembered."""
    xattrs: Xattrs


class Goal(NamedTuple):
    """Where to copy to, and with which permissions and owner (-1: whatever the kernel gives)."""

    directory: int
    name: str
    mode: int
    uid: int
    gid: int


def transfer(directory: int, name: str, goal: Goal | None, *, expected: StatKey | None = None, digest: bool) -> Facts:
    """Read the file *name*; copy it to *goal* if given (a new file; times and xattrs are kept); *digest* it if wanted.

    *expected*: an earlier read of the file, which must still be true (for a copy of what was digested before).
    Raises: Changed, OSError. Nothing is left at *goal* then.
    """
    for _ in range(ATTEMPTS):
        now = time.time_ns()
        source = os.open(name, _SOURCE, dir_fd=directory)
        try:
            before = os.fstat(source)
            if not stat.S_ISREG(before.st_mode):
                raise Changed
            if expected is not None and key_of(before, expected[0]) != expected:
                raise Changed
            xattrs = kept_xattrs(source)
            value = _read(source, before, goal, xattrs, digest=digest)
            after = os.fstat(source)
            if value is not _UNSTABLE and key_of(after, after.st_dev) == key_of(before, after.st_dev):
                return Facts(value or None, _fields(before), is_racy(before.st_ctime_ns, now), xattrs)
        finally:
            os.close(source)
        if goal is not None:
            os.unlink(goal.name, dir_fd=goal.directory)
        if expected is not None:
            break
    raise Changed


def key_of(status: os.stat_result, device: int) -> StatKey:
    """The stat key of a file; *device* as the caller knows it (an overlay's device number is not stable)."""
    return device, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def is_racy(ctime: int, now: int) -> bool:
    """Whether a file with this change time may still change unseen, its times staying equal; git's rule. All in ns.

    Every write moves the change time, so that one alone counts. A time in the future is as bad as a fresh one.
    """
    grain = COARSE_GRAIN if ctime % 1_000_000_000 == 0 else GRAIN
    return ctime > now - grain


def kept_xattrs(source: int | str) -> Xattrs:
    """The extended attributes that belong to a file's content: capabilities and the user's, never overlay's own."""
    try:
        names = os.listxattr(source)
        return tuple((name, os.getxattr(source, name)) for name in sorted(names) if is_kept(name)) if names else ()
    except OSError as err:
        if err.errno in (errno.ENOTSUP, errno.ENODATA, errno.EPERM, errno.EACCES):
            return ()
        raise


def is_kept(name: str) -> bool:
    """Whether the extended attribute *name* is copied."""
    return name == "security.capability" or (name.startswith("user.") and not name.startswith("user.overlay."))


def set_xattrs(target: int | str, xattrs: Xattrs) -> None:
    """Set *xattrs* where the file system has such a thing."""
    for name, value in xattrs:
        try:
            os.setxattr(target, name, value)
        except OSError as err:
            if err.errno not in (errno.ENOTSUP, errno.EPERM):
                raise


def set_owner(target: int, uid: int, gid: int) -> None:
    """chown; an id that this user namespace does not map stays what it is (a build as a plain user with one id)."""
    try:
        os.chown(target, uid, gid)
    except OSError as err:
        if err.errno != errno.EINVAL:
            raise


_UNSTABLE = b"unstable"


def _read(source: int, status: os.stat_result, goal: Goal | None, xattrs: Xattrs, *, digest: bool) -> bytes:
    """The digest (b"" without *digest*), or _UNSTABLE when the size was not what *status* says."""
    size = status.st_size
    small = size <= CHUNK
    data = os.read(source, size + 1) if small else b""
    if small and len(data) < size:
        data += b"".join(iter(lambda: os.read(source, CHUNK), b""))
    if goal is None:
        return (_checked(data, size) if small else _digest(source, size)) if digest else b""
    target = os.open(goal.name, _TARGET, goal.mode & 0o777, dir_fd=goal.directory)
    try:
        if small:
            result = _checked(data, size) if digest else (b"" if len(data) == size else _UNSTABLE)
            if data and not _all_zero(status, data, target):
                _write(target, data)
        else:
            result = _copy_big(source, target, status, digest=digest)
        if goal.uid >= 0:
            set_owner(target, goal.uid, goal.gid)
        # After chown, which takes setuid bits away; and open() may have lost bits to the process's umask.
        if goal.mode & 0o7000 or goal.uid >= 0 or stat.S_IMODE(os.fstat(target).st_mode) != goal.mode:
            os.fchmod(target, goal.mode)
        if xattrs:
            set_xattrs(target, xattrs)
        os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))
        return result
    except BaseException:
        os.unlink(goal.name, dir_fd=goal.directory)
        raise
    finally:
        os.close(target)


def _checked(data: bytes, size: int) -> bytes:
    return sha256(data).digest() if len(data) == size else _UNSTABLE


def _all_zero(status: os.stat_result, data: bytes, target: int) -> bool:
    """A small file without any block stays one: a hole."""
    if status.st_blocks or any(data):
        return False
    os.ftruncate(target, len(data))
    return True


def _digest(source: int, size: int) -> bytes:
    hasher = sha256()
    buffer = bytearray(CHUNK)
    view = memoryview(buffer)
    offset = 0
    while got := os.preadv(source, [buffer], offset):
        hasher.update(view[:got])
        offset += got
        if offset > size:
            break
    return hasher.digest() if offset == size else _UNSTABLE


def _copy_big(source: int, target: int, status: os.stat_result, *, digest: bool) -> bytes:
    """Copy with the kernel's own means while the same pages are digested."""
    if not digest:
        return b"" if _copy(source, target, status) else _UNSTABLE
    if status.st_size < THREADED:
        whole = _copy(source, target, status)
        return _digest(source, status.st_size) if whole else _UNSTABLE
    outcome: list[bytes | OSError] = []

    def digesting() -> None:
        try:
            outcome.append(_digest(source, status.st_size))
        except OSError as err:
            outcome.append(err)

    thread = Thread(target=digesting, name="digest")
    thread.start()
    try:
        whole = _copy(source, target, status)
    finally:
        thread.join()
    (result,) = outcome
    if isinstance(result, OSError):
        raise result
    return result if whole else _UNSTABLE


def _copy(source: int, target: int, status: os.stat_result) -> bool:
    """Copy the contents, holes as holes; False when the file ended early."""
    size = status.st_size
    extents = _extents(source, size) if status.st_blocks * 512 < size else ((0, size),)
    whole = all(_copy_extent(source, target, start, end) for start, end in extents)
    os.ftruncate(target, size)
    return whole


def _extents(source: int, size: int) -> Iterable[tuple[int, int]]:
    """The (start, end) of the parts of a sparse file that have data."""
    end = 0
    while end < size:
        try:
            start = os.lseek(source, end, os.SEEK_DATA)
            end = min(os.lseek(source, start, os.SEEK_HOLE), size)
        except OSError as err:
            if err.errno == errno.ENXIO:
                return
            raise
        if start < size:
            yield start, end


def _copy_extent(source: int, target: int, start: int, end: int) -> bool:
    by_kernel = True
    while start < end:
        if by_kernel:
            try:
                # 64 MiB at a time: long enough to cost nothing, short enough for Ctrl-C. A reflink where there is one.
                got = os.copy_file_range(source, target, min(end - start, 64 * CHUNK), start, start)
            except OSError as err:
                if err.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
                    raise
                by_kernel = False
                continue
        else:
            data = os.pread(source, min(end - start, CHUNK), start)
            got = len(data)
            _write(target, data, start)
        if not got:
            return False
        start += got
    return True


def _write(target: int, data: bytes, offset: int = 0) -> None:
    view = memoryview(data)
    while view:
        done = os.pwrite(target, view, offset)
        view = view[done:]
        offset += done


def _fields(status: os.stat_result) -> tuple[int, int, int, int, int, int, int, int]:
    return (
        status.st_mode,
        status.st_uid,
        status.st_gid,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_ino,
        status.st_dev,
    )
