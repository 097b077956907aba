"""Places inside a root file system: found, or made, without ever leaving it.

Init and ``rootfs`` use it for mount points and working directories. Everything is done on directory descriptors, one
component at a time where something has to be made, so that neither the image's symlinks nor a second container that
renames things in a shared volume can lead outside (CVE-2021-30465, CVE-2024-45310).
"""

from __future__ import annotations

import errno
import os
from stat import S_ISREG

from runtime.linux.files import PROC_SUPER_MAGIC, RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, fs_type, openat2

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_LINKS = 40


class Made:
    """What ``locate`` made: ``(path in the root, device, inode, is directory)``, outermost first."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, int, int, bool]] = []

    def add(self, path: str, fd: int, *, directory: bool) -> None:
        """Remember the object that *fd* stands for."""
        status = os.fstat(fd)
        self.entries.append((path, status.st_dev, status.st_ino, directory))


def find(root: int, path: str, flags: int = os.O_PATH, *, magic_links: bool = False) -> int:
    """Open *path* as a process whose root is *root* would. Raises OSError (ENOENT, ELOOP, ENOTDIR, ...)."""
    return openat2(root, path, flags, 0, RESOLVE_IN_ROOT | (0 if magic_links else RESOLVE_NO_MAGICLINKS))


def read(root: int, path: str, most: int) -> str:
    """The text of the file *path* in *root*, which decides what the path is: nothing but a plain file is waited for or
    read, and no more than *most* bytes. Raises OSError (EINVAL: not a plain file of at most *most* bytes)."""
    fd = find(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        status = os.fstat(fd)
        if not S_ISREG(status.st_mode) or status.st_size > most:
            raise OSError(errno.EINVAL, f"not a plain file of at most {most} bytes", path)
        return os.read(fd, status.st_size).decode("utf-8", "surrogateescape")
    finally:
        os.close(fd)


def locate(root: int, path: str, *, directory: bool, made: Made | None = None) -> int:
    """As ``find``, but what is missing is made: directories (0755), and a last empty file when not *directory*.

    A dangling symlink gets its target made, inside the root. Raises OSError.
    """
    try:
        return find(root, path)
    except OSError as err:
        if err.errno not in (errno.ENOENT, errno.EXDEV):
            raise
    return _Walk(root, made).run(path, directory=directory)


class _Walk:
    """The walk keeps a stack of open directories, so that ".." never asks the kernel where up is."""

    def __init__(self, root: int, made: Made | None) -> None:
        self.made = made
        self.stack: list[tuple[str, int]] = [("", os.dup(root))]

    def run(self, path: str, *, directory: bool) -> int:
        try:
            return self._walk(path, directory=directory)
        finally:
            for _, fd in self.stack:
                os.close(fd)

    def _walk(self, path: str, *, directory: bool) -> int:
        todo = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        links = 0
        while todo:
            name = todo.pop()
            if name == "..":
                if len(self.stack) > 1:
                    os.close(self.stack.pop()[1])
                continue
            parent = self.stack[-1][1]
            try:
                target = os.readlink(name, dir_fd=parent)
            except OSError as err:
                if err.errno not in (errno.EINVAL, errno.ENOENT):
                    raise
                fd = self._enter(parent, name, directory=directory or bool(todo))
                if not todo and not directory:
                    return fd
                self.stack.append((f"{self.stack[-1][0]}/{name}", fd))
                continue
            links += 1
            if fs_type(parent) == PROC_SUPER_MAGIC:
                # A magic link's text is not where it leads; nothing is made behind one.
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            if target.startswith("/"):
                while len(self.stack) > 1:
                    os.close(self.stack.pop()[1])
            todo.extend(part for part in reversed(target.split("/")) if part not in ("", "."))
        return os.dup(self.stack[-1][1])

    def _enter(self, parent: int, name: str, *, directory: bool) -> int:
        path = f"{self.stack[-1][0]}/{name}"
        flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
        new = False
        if directory:
            try:
                os.mkdir(name, 0o755, dir_fd=parent)
                new = True
            except FileExistsError:
                pass
            fd = os.open(name, flags | os.O_DIRECTORY, dir_fd=parent)
        else:
            try:
                os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=parent))
                new = True
            except FileExistsError:
                pass
            fd = os.open(name, flags, dir_fd=parent)
        if new and self.made is not None:
            self.made.add(path, fd, directory=directory)
        return fd


def remove_made(upper: int, entries: list[tuple[str, int, int, bool]]) -> None:
    """Remove from the upper directory what ``locate`` made there, unless the container filled or replaced it.

    Only empty directories and empty files that are still in their place go; no symlink is followed, whatever the
    container did to the parents meanwhile (CVE-2024-23652). The times of the parents are put back.
    """
    for path, _, inode, directory in reversed(entries):
        head, _, name = path.strip("/").rpartition("/")
        try:
            parent = _plain(upper, head)
        except OSError:
            continue
        try:
            before = os.fstat(parent)
            status = os.lstat(name, dir_fd=parent)
            if status.st_ino != inode:
                continue
            if directory:
                os.rmdir(name, dir_fd=parent)
            elif status.st_size == 0:
                os.unlink(name, dir_fd=parent)
            os.utime(parent, ns=(before.st_atime_ns, before.st_mtime_ns))
        except OSError:
            continue  # not empty, or gone: then it is the container's own by now
        finally:
            os.close(parent)


def _plain(root: int, path: str) -> int:
    fd = os.dup(root)
    for name in path.split("/"):
        if name:
            try:
                below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            finally:
                os.close(fd)
            fd = below
    return fd


def each(root: int, pattern: str, use: Callable[[str], None]) -> None:
    """Call *use* for every path that *pattern* stands for: "*" in one component is any run of characters."""
    head, star, tail = pattern.partition("*")
    if not star:
        use(pattern)
        return
    directory, _, prefix = head.rpartition("/")
    suffix, _, rest = tail.partition("/")
    try:
        fd = find(root, directory or "/", os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return
    try:
        names = os.listdir(fd)
    finally:
        os.close(fd)
    for name in sorted(names):
        if name.startswith(prefix) and name.endswith(suffix) and len(name) >= len(prefix) + len(suffix):
            each(root, f"{directory}/{name}/{rest}" if rest else f"{directory}/{name}", use)
