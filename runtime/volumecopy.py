"""Copying a directory tree with everything that belongs to its files, through descriptors: no path is followed."""

from __future__ import annotations

import errno
import os
import stat

# What the overlay needs for itself is not the file's.
_OVERLAY = ("trusted.overlay.", "user.overlay.")
_CHUNK = 1 << 30


def copy_tree(source: int, target: str) -> None:
    """Copy what the directory *source* (a descriptor) holds into the existing directory *target*, which also takes
    its owner, mode, times and xattrs. Hard links within the tree stay hard links. Raises OSError."""
    into = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    start = os.open(f"/proc/self/fd/{source}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _directory(start, into, "", into, {})
    finally:
        os.close(start)
        os.close(into)


def _directory(source: int, target: int, path: str, top: int, links: dict[tuple[int, int], str]) -> None:
    for name in os.listdir(source):
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        below = f"{path}/{name}" if path else name
        if stat.S_ISDIR(status.st_mode):
            os.mkdir(name, 0o700, dir_fd=target)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            inner = os.open(name, flags, dir_fd=source)
            try:
                made = os.open(name, flags, dir_fd=target)
                try:
                    _directory(inner, made, below, top, links)
                finally:
                    os.close(made)
            finally:
                os.close(inner)
            continue
        first = links.setdefault((status.st_dev, status.st_ino), below) if status.st_nlink > 1 else below
        if first != below:
            os.link(first, name, src_dir_fd=top, dst_dir_fd=target, follow_symlinks=False)
            continue
        _entry(source, target, name, status)
    _attributes(f"/proc/self/fd/{source}", f"/proc/self/fd/{target}", os.fstat(source), follow=True)


def _entry(source: int, target: int, name: str, status: os.stat_result) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFREG:
        _file(source, target, name)
    elif kind == stat.S_IFLNK:
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
    elif kind == stat.S_IFSOCK:
        return  # nobody listens in a copy
    else:
        os.mknod(name, kind | 0o600, status.st_rdev, dir_fd=target)
    _attributes(f"/proc/self/fd/{source}/{name}", f"/proc/self/fd/{target}/{name}", status, follow=False)


def _file(source: int, target: int, name: str) -> None:
    read = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
    try:
        write = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target)
        try:
            while _copy(read, write):
                pass
        finally:
            os.close(write)
    finally:
        os.close(read)


def _copy(read: int, write: int) -> int:
    try:
        return os.copy_file_range(read, write, _CHUNK)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
    return os.sendfile(write, read, None, _CHUNK)


def _attributes(source: str, target: str, status: os.stat_result, *, follow: bool) -> None:
    # In this order: a change of owner clears set-user-ID and capabilities, and every change sets times.
    os.chown(target, status.st_uid, status.st_gid, follow_symlinks=follow)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(target, stat.S_IMODE(status.st_mode))
    try:
        names = os.listxattr(source, follow_symlinks=follow)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        names = []
    for name in names:
        if name.startswith(_OVERLAY):
            continue
        try:
            os.setxattr(target, name, os.getxattr(source, name, follow_symlinks=follow), follow_symlinks=follow)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EPERM):
                raise  # the volume's file system, or a plain user, cannot keep it: docker leaves it out, too
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=follow)
