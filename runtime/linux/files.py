"""File calls on directory descriptors: path resolution that cannot leave a root, exchanges, copies, syncs.

Paths may be ``str`` (surrogateescape, as in ``os``) or ``bytes``. Every descriptor returned is close-on-exec.
"""

from __future__ import annotations

import ctypes
import errno
import os

from runtime.linux.libc import BLOCKING, LIBC, OPENAT2, check, declared, failed, number, syscall

# linux/openat2.h
RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10
RESOLVE_CACHED = 0x20

# linux/fs.h
RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
RENAME_WHITEOUT = 4

# linux/magic.h
PROC_SUPER_MAGIC = 0x9FA0
SYSFS_MAGIC = 0x62656572
TMPFS_MAGIC = 0x01021994
OVERLAYFS_SUPER_MAGIC = 0x794C7630
CGROUP2_SUPER_MAGIC = 0x63677270

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_SYMLINK_FOLLOW = 0x400

_RACE_TRIES = 100
_FICLONE = 0x40049409  # linux/fs.h _IOW(0x94, 9, int)
_GETFLAGS, _SETFLAGS = 0x80086601, 0x40086602  # linux/fs.h FS_IOC_GETFLAGS, FS_IOC_SETFLAGS (an int, in spite of it)
_SYNC_FILE_RANGE_WRITE = 2  # linux/fs.h
_TOPDIR = 0x00020000  # linux/fs.h FS_TOPDIR_FL


_openat2_call = declared(ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


class _FileHandle(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_uint), ("type", ctypes.c_int), ("handle", ctypes.c_ubyte * 128)]


def openat2(dirfd: int, path: str | bytes, flags: int, mode: int = 0, resolve: int = RESOLVE_IN_ROOT) -> int:
    """Open *path* below *dirfd*. The default treats *dirfd* as "/": "..", absolute paths and symlinks stay inside.

    *mode* counts only with O_CREAT or O_TMPFILE (the kernel refuses it otherwise, so it is left out then).
    Raises OSError: EXDEV for a path that leaves under RESOLVE_BENEATH, ELOOP for a link under RESOLVE_NO_SYMLINKS,
    EAGAIN when ".." raced with renames (anywhere on the machine) a hundred times.
    """
    if not flags & (os.O_CREAT | os.O_TMPFILE & ~os.O_DIRECTORY):
        mode = 0
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    # With RESOLVE_CACHED the same error means something else: it would have to block.
    tries = _RACE_TRIES if resolve & (RESOLVE_IN_ROOT | RESOLVE_BENEATH) and not resolve & RESOLVE_CACHED else 1
    name = os.fsencode(path)
    while True:
        tries -= 1
        fd = _openat2_call(OPENAT2, dirfd, name, ctypes.byref(how), ctypes.sizeof(how))
        if fd >= 0:
            return fd
        if not tries or ctypes.get_errno() != errno.EAGAIN:
            raise failed("openat2", os.fsdecode(path))


def renameat2(src_dirfd: int, src: str | bytes, dst_dirfd: int, dst: str | bytes, flags: int = 0) -> None:
    """Rename, with RENAME_NOREPLACE, RENAME_EXCHANGE or RENAME_WHITEOUT."""
    syscall(
        "renameat2",
        number("renameat2"),
        src_dirfd,
        ctypes.c_char_p(os.fsencode(src)),
        dst_dirfd,
        ctypes.c_char_p(os.fsencode(dst)),
        flags,
        path=os.fsdecode(dst),
    )


def linkat_fd(fd: int, dirfd: int, name: str | bytes) -> None:
    """Give the open file *fd* (O_TMPFILE or O_PATH) a name. Needs /proc when the caller lacks CAP_DAC_READ_SEARCH."""
    check(
        LIBC.linkat(fd, ctypes.c_char_p(b""), dirfd, ctypes.c_char_p(os.fsencode(name)), AT_EMPTY_PATH),
        "linkat",
        os.fsdecode(name),
    )


def ficlone(source: int, destination: int) -> None:
    """Share the whole content of *source* with *destination* (reflink). Raises OSError(EOPNOTSUPP, EXDEV, EINVAL)."""
    check(LIBC.ioctl(destination, ctypes.c_ulong(_FICLONE), source), "ioctl FICLONE")


def spread_directories(fd: int) -> None:
    """Have ext4 place each directory made in the directory *fd* in another part of the disk (``chattr +T``).

    Raises OSError(ENOTTY, EOPNOTSUPP) on other file systems.
    """
    flags = ctypes.c_int()
    check(LIBC.ioctl(fd, ctypes.c_ulong(_GETFLAGS), ctypes.byref(flags)), "ioctl FS_IOC_GETFLAGS")
    flags.value |= _TOPDIR
    check(LIBC.ioctl(fd, ctypes.c_ulong(_SETFLAGS), ctypes.byref(flags)), "ioctl FS_IOC_SETFLAGS")


def syncfs(fd: int) -> None:
    """Write back everything of the file system that *fd* is on. Other threads run meanwhile."""
    check(BLOCKING.syncfs(fd), "syncfs")


def start_writing_back(fd: int) -> None:
    """Have the kernel begin to bring what was written to the file *fd* to the disk; nothing of it is waited for."""
    start, all_of_it = ctypes.c_int64(0), ctypes.c_int64(0)
    check(BLOCKING.sync_file_range(fd, start, all_of_it, _SYNC_FILE_RANGE_WRITE), "sync_file_range")


def name_to_handle_at(dirfd: int, path: str | bytes, flags: int = 0) -> tuple[int, bytes, int]:
    """(handle type, handle bytes, mount id): identifies an inode even across renames while it exists."""
    handle = _FileHandle(bytes=128)
    mount_id = ctypes.c_int()
    check(
        LIBC.name_to_handle_at(
            dirfd, ctypes.c_char_p(os.fsencode(path)), ctypes.byref(handle), ctypes.byref(mount_id), flags
        ),
        "name_to_handle_at",
        os.fsdecode(path),
    )
    return handle.type, bytes(handle.handle[: handle.bytes]), mount_id.value


def fs_type(fd: int) -> int:
    """The magic number of the file system that *fd* is on (statfs.f_type)."""
    buffer = (ctypes.c_long * 32)()
    check(LIBC.fstatfs(fd, ctypes.byref(buffer)), "fstatfs")
    return int(buffer[0]) & 0xFFFFFFFF
