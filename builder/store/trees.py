"""Directory trees of layers: remove, copy, and put several layers into one, with everything that overlay means.

A layer is an overlay upper directory: a character device 0:0 (or an empty file with the xattr overlay.whiteout) hides a
name of the layers below, a directory with the xattr overlay.opaque hides everything below it. Nothing here follows a
symlink, and the trees that are read are never changed.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_PREFIXES = ("trusted.overlay.", "user.overlay.")
_CHUNK = 1 << 26
_LONG = 1000
"""Paths from this many bytes on are cut: PATH_MAX is near, and the kernel walks over all of it each time."""


def remove(path: str | os.PathLike[str]) -> None:
    """Remove a tree, or a file, or nothing; directories without permissions are opened up first.

    What somebody else removes at the same time is fine.
    """
    path = os.fspath(path)
    try:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.unlink(path)
            return
        entries = _scan(path)
    except FileNotFoundError:
        return
    waiting = [(path, entries)]
    # Depth first without recursion: layers may be thousands of levels deep.
    while waiting:
        directory, entries = waiting[-1]
        if not entries:
            _gone(os.rmdir, directory)
            waiting.pop()
            continue
        name, is_directory = entries.pop()
        child = f"{directory}/{name}"
        if not is_directory:
            _gone(os.unlink, child)
            continue
        if len(os.fsencode(child)) > _LONG:
            # Deeper names would be longer than the kernel takes: what is here becomes a child of the tree's root.
            name = f".{os.urandom(8).hex()}"
            try:
                os.rename(child, f"{path}/{name}")
            except FileNotFoundError:
                continue
            waiting[0][1].append((name, True))
            continue
        try:
            waiting.append((child, _scan(child)))
        except FileNotFoundError:
            continue


def size(path: str | os.PathLike[str]) -> int:
    """Bytes of the regular files in a tree (or of a file), hard links counted once; 0 when there is none."""
    path = os.fspath(path)
    try:
        top = os.lstat(path)
    except FileNotFoundError:
        return 0
    if not stat.S_ISDIR(top.st_mode):
        return top.st_size
    total, seen, waiting = 0, set(), [path]
    cut: list[int] = []
    try:
        while waiting:
            here = waiting.pop()
            try:
                if len(os.fsencode(here)) > _LONG:
                    cut.append(os.open(here, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC))
                    here = f"/proc/self/fd/{cut[-1]}"
                with os.scandir(here) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(entry.path)
                        elif entry.is_file(follow_symlinks=False):
                            status = entry.stat(follow_symlinks=False)
                            if status.st_nlink == 1 or status.st_ino not in seen:
                                seen.add(status.st_ino)
                                total += status.st_size
            except FileNotFoundError:
                continue  # it has gone meanwhile
    finally:
        for fd in cut:
            os.close(fd)
    return total


def _gone(remove_it: Callable[[str], None], path: str) -> None:
    try:
        remove_it(path)
    except FileNotFoundError:
        pass


def copy(source: str | os.PathLike[str], target: str | os.PathLike[str], *, latest_mtime: int | None = None) -> None:
    """Copy the layer `source` into the existing directory `target`, overlay's marks included.

    Later modification times than `latest_mtime` (ns) become that. Raises OSError.
    """
    _Merge(os.fspath(target), keep_marks=True, latest_mtime=latest_mtime).add(os.fspath(source))


def stack(layers: list[str], target: str | os.PathLike[str]) -> None:
    """Make one layer of `layers` (bottom first) in the existing empty directory `target`: on top of anything it shows
    what they show there together, so what they hide stays hidden. Raises OSError.
    """
    stacked = _Merge(os.fspath(target), keep_marks=True)
    for layer in layers:
        stacked.add(layer)


def merge(layers: list[str], target: str | os.PathLike[str]) -> None:
    """Put `layers` (bottom first) on top of each other into the existing empty directory `target`. Raises OSError.

    Nothing is below the result, so it has no whiteouts and no opaque directories. File contents are copied (shared by
    reflink where the file system can): a hard link into a layer would change the link count that containers see.
    """
    merged = _Merge(os.fspath(target), keep_marks=False)
    for layer in layers:
        merged.add(layer)


def is_whiteout(path: str, status: os.stat_result) -> bool:
    """Whether this entry of a layer hides a name: a character device 0:0, or an empty file marked by xattr."""
    if stat.S_ISCHR(status.st_mode):
        return status.st_rdev == 0
    if stat.S_ISREG(status.st_mode) and status.st_size == 0:
        return _mark(path, "whiteout") is not None
    return False


def is_opaque(path: str) -> bool:
    """Whether this directory of a layer hides everything below it."""
    return _mark(path, "opaque") == b"y"


class _Merge:
    """Adds layers to one target directory; links between files of one layer stay links."""

    def __init__(self, target: str, *, keep_marks: bool, latest_mtime: int | None = None) -> None:
        self._target = target
        self._keep_marks = keep_marks
        self._latest_mtime = latest_mtime
        self._links: dict[tuple[int, int], str] = {}
        self._open: list[int] = []

    def add(self, source: str) -> None:
        self._links.clear()
        try:
            self._add(source)
        finally:
            for descriptor in self._open:
                os.close(descriptor)
            self._open.clear()

    def _add(self, source: str) -> None:
        times = [(source, self._target, os.lstat(source))]
        waiting = [(source, self._target)]
        while waiting:
            here, there = map(self._short, waiting.pop())
            with os.scandir(here) as entries:
                names = sorted(entry.name for entry in entries)
            for name in names:
                origin, made = f"{here}/{name}", f"{there}/{name}"
                status = os.lstat(origin)
                if self._entry(origin, made, status):
                    waiting.append((origin, made))
                    times.append((origin, made, status))
        # Last, deepest first: making a child changes its directory's times and may need its permissions.
        for origin, made, status in reversed(times):
            self._attributes(origin, made, status)

    def _short(self, path: str) -> str:
        """A name for this directory that leaves room below it: its descriptor's when it is too long itself."""
        if len(path) <= _LONG // 4 or len(os.fsencode(path)) <= _LONG:
            return path
        self._open.append(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC))
        return f"/proc/self/fd/{self._open[-1]}"

    def _entry(self, origin: str, made: str, status: os.stat_result) -> bool:
        """Put one entry in place; True for a directory whose entries are to follow."""
        mode = status.st_mode
        if not self._keep_marks and is_whiteout(origin, status):
            remove(made)
            return False
        if stat.S_ISDIR(mode):
            if is_opaque(origin):
                remove(made)
            if not _is_directory(made):
                replaced = os.path.lexists(made)
                remove(made)
                os.mkdir(made, 0o700)
                if replaced and self._keep_marks:
                    # Where a layer has a file, or a whiteout, nothing below it shows through a directory on top.
                    _make_opaque(made)
            return True
        remove(made)
        first = self._links.get((status.st_dev, status.st_ino)) if status.st_nlink > 1 else None
        if first is not None:
            os.link(first, made, follow_symlinks=False)
            return False
        if stat.S_ISREG(mode):
            _contents(origin, made)
        elif stat.S_ISLNK(mode):
            os.symlink(os.readlink(origin), made)
        else:
            os.mknod(made, mode, status.st_rdev)
        self._attributes(origin, made, status)
        if status.st_nlink > 1:
            self._links[(status.st_dev, status.st_ino)] = made
        return False

    def _attributes(self, origin: str, made: str, status: os.stat_result) -> None:
        _attributes(origin, made, status, keep_marks=self._keep_marks)
        mtime = status.st_mtime_ns if self._latest_mtime is None else min(status.st_mtime_ns, self._latest_mtime)
        os.utime(made, ns=(status.st_atime_ns, mtime), follow_symlinks=False)


def _contents(origin: str, made: str) -> None:
    source = os.open(origin, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        target = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _copy_data(source, target, os.fstat(source).st_size)
        finally:
            os.close(target)
    finally:
        os.close(source)


def _copy_data(source: int, target: int, size: int) -> None:
    """Copy data only, so that holes stay holes."""
    os.truncate(target, size)
    start = 0
    while start < size:
        try:
            start = os.lseek(source, start, os.SEEK_DATA)
        except OSError as err:
            if err.errno == errno.ENXIO:
                return
            raise
        end = os.lseek(source, start, os.SEEK_HOLE)
        while start < end:
            done = os.copy_file_range(source, target, min(end - start, _CHUNK), start, start)
            if done == 0:
                raise OSError(errno.EIO, "file became shorter while it was copied")
            start += done


def _attributes(origin: str, made: str, status: os.stat_result, *, keep_marks: bool) -> None:
    os.chown(made, status.st_uid, status.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(made, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(origin, follow_symlinks=False):
        if name.startswith(_PREFIXES) and not keep_marks:
            continue
        value = os.getxattr(origin, name, follow_symlinks=False)
        if name.endswith(".overlay.opaque") and value != b"y" and is_opaque(made):
            continue  # a lower layer of a stack has said more
        try:
            os.setxattr(made, name, value, follow_symlinks=False)
        except OSError as err:
            # security.selinux and its like belong to the host; only what a layer can hold must arrive.
            if not name.startswith("security.") or name == "security.capability":
                raise
            if err.errno not in {errno.EPERM, errno.EOPNOTSUPP}:
                raise


def _mark(path: str, name: str) -> bytes | None:
    for prefix in _PREFIXES:
        try:
            return os.getxattr(path, prefix + name, follow_symlinks=False)
        except OSError as err:
            if err.errno not in {errno.ENODATA, errno.EOPNOTSUPP, errno.EPERM}:
                raise
    return None


def _make_opaque(path: str) -> None:
    for prefix in _PREFIXES:
        try:
            os.setxattr(path, prefix + "opaque", b"y", follow_symlinks=False)
        except OSError as err:
            if err.errno not in {errno.EPERM, errno.EOPNOTSUPP}:
                raise
        else:
            return
    raise OSError(errno.EOPNOTSUPP, "this file system cannot mark a directory as opaque", path)


def _is_directory(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def _scan(path: str) -> list[tuple[str, bool]]:
    try:
        with os.scandir(path) as entries:
            return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    except PermissionError:
        os.chmod(path, 0o700)
        with os.scandir(path) as entries:
            return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
