"""The entries of a directory tree in canonical tar order, as changesets need them.

Depth first, each directory before its contents, names sorted as bytes. Only two descriptors are open at a time besides
the file that is being looked at, so a tree may be deeper than the limits of open files and of path lengths.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Generator
from pathlib import Path
from typing import NamedTuple

from builder.store import tarheaders

WHITEOUT_PREFIX = b".wh."
OPAQUE_MARKER = b".wh..wh..opq"

_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")
_WHITEOUT = ("trusted.overlay.whiteout", "user.overlay.whiteout")
_KINDS = {
    stat.S_IFREG: tarheaders.FILE,
    stat.S_IFDIR: tarheaders.DIRECTORY,
    stat.S_IFLNK: tarheaders.SYMLINK,
    stat.S_IFCHR: tarheaders.CHARACTER,
    stat.S_IFBLK: tarheaders.BLOCK_DEVICE,
    stat.S_IFIFO: tarheaders.FIFO,
}
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# NONBLOCK: should the name be a FIFO by now, opening must not wait for a writer.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Found(NamedTuple):
    """One entry. Whiteouts and opaque markers are empty files here, named as in the tar."""

    path: bytes
    """Relative to the root; a directory's ends with a slash."""
    kind: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    """Whole seconds."""
    link: bytes
    device: tuple[int, int]
    xattrs: list[tuple[bytes, bytes]]
    fd: int
    """An open descriptor of a file with content, valid until the next entry is asked for; else -1."""
    status: os.stat_result


def walk(root: Path | int, *, overlay: bool = True) -> Generator[Found, None, None]:
    """The entries below *root* (a path, or the descriptor of a directory, which stays open).

    With *overlay*, *root* is an overlay upper directory: whiteouts (a character device 0:0, or an empty file with
    overlay's whiteout xattr) and opaque directories become the ``.wh.`` entries of the image specification. Files that
    are
    *named* like such entries are left out, since whoever unpacks the tar would take them for deletions.

    The root itself is an entry ("./") only if it is not the plain directory that every root starts as (0755,
    root:root).

    Raises: OSError.
    """
    fd = os.open(root, _DIRECTORY) if isinstance(root, Path) else os.open(".", _DIRECTORY, dir_fd=root)
    links: dict[tuple[int, int], bytes] = {}
    try:
        status = os.fstat(fd)
        xattrs, opaque, _ = _xattrs(fd)
        if stat.S_IMODE(status.st_mode) != 0o755 or status.st_uid or status.st_gid or xattrs:
            yield _found(b"./", tarheaders.DIRECTORY, status, xattrs=xattrs)
        if overlay and opaque:
            yield _marker(OPAQUE_MARKER, status)
        stack = [(b"", iter(_names(fd)))]
        while stack:
            prefix, names = stack[-1]
            name = next(names, None)
            if name is None:
                stack.pop()
                if stack:
                    # By "..", not by a descriptor kept open: depth must not cost descriptors.
                    parent = os.open("..", _DIRECTORY, dir_fd=fd)
                    os.close(fd)
                    fd = parent
                continue
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            path = prefix + name
            if overlay and name.startswith(WHITEOUT_PREFIX):
                continue
            kind = _KINDS.get(status.st_mode & 0o170000)
            if kind is None:
                continue  # A socket: nobody could connect to it after unpacking.
            if kind == tarheaders.DIRECTORY:
                child = os.open(name, _DIRECTORY, dir_fd=fd)
                os.close(fd)
                fd = child
                xattrs, opaque, _ = _xattrs(fd)
                yield _found(path + b"/", kind, status, xattrs=xattrs)
                if overlay and opaque:
                    yield _marker(path + b"/" + OPAQUE_MARKER, status)
                stack.append((path + b"/", iter(_names(fd))))
                continue
            if overlay and kind == tarheaders.CHARACTER and status.st_rdev == 0:
                yield _marker(prefix + WHITEOUT_PREFIX + name, status)
                continue
            if status.st_nlink > 1:
                first = links.setdefault((status.st_dev, status.st_ino), path)
                if first is not path:
                    yield _found(path, tarheaders.HARD_LINK, status, link=first)
                    continue
            if kind == tarheaders.FILE:
                file = os.open(name, _FILE, dir_fd=fd)
                try:
                    xattrs, _, whiteout = _xattrs(file)
                    if overlay and whiteout and not status.st_size:
                        yield _marker(prefix + WHITEOUT_PREFIX + name, status)
                    else:
                        yield _found(path, kind, status, xattrs=xattrs, fd=file)
                finally:
                    os.close(file)
            elif kind == tarheaders.SYMLINK:
                yield _found(path, kind, status, link=os.fsencode(os.readlink(name, dir_fd=fd)))
            else:
                yield _found(path, kind, status)
    finally:
        os.close(fd)


def keep_xattr(name: str) -> bool:
    """Whether an extended attribute belongs into a layer: file capabilities and the user's own, never overlay's."""
    return name == "security.capability" or (name.startswith("user.") and not name.startswith("user.overlay."))


def _names(fd: int) -> list[bytes]:
    return sorted(map(os.fsencode, os.listdir(fd)))


def _xattrs(fd: int) -> tuple[list[tuple[bytes, bytes]], bool, bool]:
    """(attributes that belong to the layer, sorted; opaque; whiteout)."""
    try:
        names = os.listxattr(fd)
    except OSError:
        return [], False, False  # A file system without attributes.
    if not names:
        return [], False, False
    kept = sorted((os.fsencode(name), os.getxattr(fd, name)) for name in names if keep_xattr(name))
    # "x" as a value does not mean opaque: it marks a directory that has whiteouts in the form of attributes.
    opaque = any(name in names and os.getxattr(fd, name) == b"y" for name in _OPAQUE)
    return kept, opaque, any(name in names for name in _WHITEOUT)


def _found(
    path: bytes,
    kind: bytes,
    status: os.stat_result,
    *,
    link: bytes = b"",
    xattrs: list[tuple[bytes, bytes]] | None = None,
    fd: int = -1,
) -> Found:
    device = (0, 0)
    if kind in (tarheaders.CHARACTER, tarheaders.BLOCK_DEVICE):
        device = (os.major(status.st_rdev), os.minor(status.st_rdev))
    return Found(
        path,
        kind,
        status.st_mode & 0o7777,
        status.st_uid,
        status.st_gid,
        status.st_size if fd >= 0 else 0,
        status.st_mtime_ns // 1_000_000_000,
        link,
        device,
        xattrs or [],
        fd,
        status,
    )


def _marker(path: bytes, status: os.stat_result) -> Found:
    """A whiteout: an empty file without owner, mode or time, so that deleting the same name always looks the same."""
    return Found(path, tarheaders.FILE, 0, 0, 0, 0, 0, b"", (0, 0), [], -1, status)
