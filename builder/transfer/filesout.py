"""The files of an image outside of any image: in a directory (`-o DIR`), or as one tar (`-o -`).

The directory may be there already and be anybody's: it is written through descriptors that never follow a symlink, so
nothing outside of it is touched. Files belong to whoever builds, as buildx does it; modes, times, links and the
attributes of users are kept. What is in the way of a file is replaced, but a directory never is.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import InvalidInput, OutputInTheWay
from builder.store import changesets, tarheaders
from builder.store.layerwalk import walk
from runtime.linux.files import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, linkat_fd, openat2
from runtime.rootfs import open_rootfs
from runtime.spec import Rootfs

if TYPE_CHECKING:
    from builder.store import Store
    from builder.store.changesets import Sink
    from builder.store.layerwalk import Found
    from builder.store.snapshots import LayerID

_BENEATH = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 20
_NEW_DIRECTORY = 0o700
"""Of a destination that is made, as buildx makes it."""


Files = Sequence[tuple[str, "Sequence[LayerID]"]]
"""For each platform a name ("" for its files not to be in a directory of their own) and its layers, bottom first."""


Document = tuple[str, str, bytes]
"""A file that is no layer's: the name of its platform as in `Files`, its own name, its bytes."""


def write_tar(store: Store, files: Files, sink: Sink, *, more: Sequence[Document] = ()) -> int:
    """The merged files of each platform as one tar, owners kept, and `more`; returns its bytes.

    Raises InvalidInput, OSError.
    """
    _check_apart(store, files)
    size = 0
    for name, layers in files:
        below = name.encode() + b"/" if name else b""
        if below:
            head = tarheaders.header(below, tarheaders.DIRECTORY, 0o755, (0, 0), 0, 0)
            size += len(head)
            sink(head)
        with _merged(store, layers) as root:
            size += changesets.write(root, sink, overlay=False, contents=False, below=below, last=False).size
    for directory, own, data in more:
        path = f"{directory}/{own}" if directory else own
        head = tarheaders.header(path.encode(), tarheaders.FILE, 0o644, (0, 0), len(data), 0)
        entry = head + data + tarheaders.padding(len(data))
        size += len(entry)
        sink(entry)
    sink(tarheaders.END)
    return size + len(tarheaders.END)


def write_directory(store: Store, files: Files, dest: Path, *, more: Sequence[Document] = ()) -> int:
    """The merged files of each platform in the directory `dest`, made if need be, and `more`; returns how many entries
    of layers there are.

    Raises OutputInTheWay, InvalidInput, OSError.
    """
    _check_apart(store, files)
    count = 0
    dest.mkdir(_NEW_DIRECTORY, parents=True, exist_ok=True)
    for name, layers in files:
        with ExitStack() as undo:
            top = os.open(dest, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            undo.callback(os.close, top)
            if name:
                top = _directory(top, name)
                undo.callback(os.close, top)
            root = undo.enter_context(_merged(store, layers))
            count += _Tree(top, dest / name).fill(walk(root, overlay=False))
            for directory, own, data in more:
                if directory == name:
                    _put(top, own, data, dest / name / own)
    return count


def _put(top: int, name: str, data: bytes, shown: Path) -> None:
    """A file in the directory `top`, in place of anything but a directory."""
    with suppress(FileNotFoundError):
        if stat.S_ISDIR(os.stat(name, dir_fd=top, follow_symlinks=False).st_mode):
            raise OutputInTheWay(shown)
        os.unlink(name, dir_fd=top)
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=top)
    with open(fd, "wb") as file:
        file.write(data)


def _directory(top: int, name: str) -> int:
    """The directory `name` in `top`, made if need be, in place of anything else that is there."""
    with suppress(FileNotFoundError):
        if not stat.S_ISDIR(os.stat(name, dir_fd=top, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=top)
    with suppress(FileExistsError):
        os.mkdir(name, 0o755, dir_fd=top)
    return os.open(name, _DIRECTORY, dir_fd=top)


def _check_apart(store: Store, files: Files) -> None:
    """Files of several platforms in one place must not have the same names. Raises InvalidInput, in BuildKit's words.

    Directories may: they are merged.
    """
    together = [layers for name, layers in files if not name]
    seen: set[bytes] = set()
    for layers in together if len(together) > 1 else ():
        with _merged(store, layers) as root:
            own = {found.path for found in walk(root, overlay=False) if found.kind != tarheaders.DIRECTORY}
        twice = min(own & seen, default=None)
        if twice is not None:
            raise InvalidInput(
                f"cannot overwrite {os.fsdecode(twice)} of another platform when split option is disabled",
                hint="leave out platform-split=false: each platform gets a directory of its own",
            )
        seen |= own


@contextmanager
def _merged(store: Store, layers: Sequence[LayerID]) -> Iterator[int]:
    root = open_rootfs(Rootfs(tuple(map(str, store.snapshots.lowers(layers))), readonly=True))
    try:
        yield root
    finally:
        os.close(root)


class _Tree:
    """The destination while it is filled: the descriptors from its top down to where the walk is."""

    def __init__(self, top: int, shown: Path) -> None:
        self._top = top
        self._shown = shown
        self._open: list[tuple[bytes, int, Found]] = []

    def fill(self, entries: Iterator[Found]) -> int:
        """Write `entries` (each directory before what is in it)."""
        count = 0
        try:
            for found in entries:
                if found.path != b"./":
                    self._leave(found.path)
                    self._entry(found)
                    count += 1
            self._leave(b"")
        finally:
            for _, fd, _ in self._open:
                os.close(fd)
        return count

    def _leave(self, path: bytes) -> None:
        """Close the directories that `path` is not in; now that they are full they get their modes and times."""
        while self._open and not path.startswith(self._open[-1][0]):
            _, fd, found = self._open[-1]
            _finish(fd, found)
            self._open.pop()
            os.close(fd)

    def _entry(self, found: Found) -> None:
        here = self._open[-1][1] if self._open else self._top
        name = found.path.rstrip(b"/").rsplit(b"/", 1)[-1]
        if found.kind == tarheaders.DIRECTORY:
            self._clear(here, name, found, directory=True)
            try:
                os.mkdir(name, 0o700, dir_fd=here)
            except FileExistsError:
                pass
            fd = os.open(name, _DIRECTORY, dir_fd=here)
            # A directory that was there may be closed even to its owner.
            os.fchmod(fd, stat.S_IMODE(os.fstat(fd).st_mode) | 0o700)
            self._open.append((found.path, fd, found))
            return
        self._clear(here, name, found, directory=False)
        if found.kind == tarheaders.HARD_LINK:
            first = openat2(self._top, found.link, os.O_PATH, resolve=_BENEATH)
            try:
                linkat_fd(first, here, name)
            finally:
                os.close(first)
        elif found.kind == tarheaders.SYMLINK:
            os.symlink(found.link, name, dir_fd=here)
            os.utime(name, ns=_times(found), dir_fd=here, follow_symlinks=False)
        elif found.kind == tarheaders.FILE:
            fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=here)
            try:
                if found.size:
                    _copy(found, fd)
                _finish(fd, found)
            finally:
                os.close(fd)
        else:
            _special(here, name, found)

    def _clear(self, here: int, name: bytes, found: Found, *, directory: bool) -> None:
        """Make room for an entry. Nobody asked us to remove a directory of theirs."""
        try:
            status = os.stat(name, dir_fd=here, follow_symlinks=False)
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(status.st_mode):
            os.unlink(name, dir_fd=here)
        elif not directory:
            raise OutputInTheWay(self._shown / os.fsdecode(found.path))


def _copy(found: Found, target: int) -> None:
    start = 0
    while start < found.size:
        try:
            start = os.lseek(found.fd, start, os.SEEK_DATA)
        except OSError as err:
            if err.errno != errno.ENXIO:
                raise
            break
        end = os.lseek(found.fd, start, os.SEEK_HOLE)
        os.lseek(found.fd, start, os.SEEK_SET)
        os.lseek(target, start, os.SEEK_SET)
        while start < end:
            data = os.read(found.fd, min(end - start, _CHUNK))
            if not data:
                raise OSError(errno.EIO, "file became shorter while it was copied", os.fsdecode(found.path))
            start += len(data)
            while data:
                data = data[os.write(target, data) :]
    os.ftruncate(target, found.size)


def _special(here: int, name: bytes, found: Found) -> None:
    """A FIFO, or a device where we may make one: a plain user gets none, as from tar."""
    try:
        os.mknod(name, found.status.st_mode, found.status.st_rdev, dir_fd=here)
    except PermissionError:
        return
    os.chmod(name, found.mode, dir_fd=here, follow_symlinks=True)
    os.utime(name, ns=_times(found), dir_fd=here, follow_symlinks=False)


def _finish(fd: int, found: Found) -> None:
    for key, value in found.xattrs:
        try:
            os.setxattr(fd, key, value)
        except OSError as err:
            # Capabilities are root's to give, and not every file system keeps attributes.
            if err.errno not in {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSPC, errno.E2BIG}:
                raise
    os.fchmod(fd, found.mode)
    os.utime(fd, ns=_times(found))


def _times(found: Found) -> tuple[int, int]:
    return found.status.st_atime_ns, found.status.st_mtime_ns
