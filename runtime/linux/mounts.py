"""The mount API of linux/mount.h: file system contexts, detached mounts, attributes, pivot_root, and mount(2).

Every descriptor returned is close-on-exec. A mount descriptor that was never attached is unmounted when it is closed.
"""

from __future__ import annotations

import ctypes
import os

from runtime.linux import libc
from runtime.linux.libc import LIBC, check, declared, failed, number, syscall

# linux/mount.h
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

OPEN_TREE_CLONE = 1
AT_RECURSIVE = 0x8000
AT_EMPTY_PATH = 0x1000
AT_SYMLINK_NOFOLLOW = 0x100
AT_FDCWD = -100

MOVE_MOUNT_F_EMPTY_PATH = 0x04
MOVE_MOUNT_T_EMPTY_PATH = 0x40

MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NOSUID = 0x02
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOEXEC = 0x08
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_ATIME_MASK = 0x70
MOUNT_ATTR_IDMAP = 0x00100000
MOUNT_ATTR_NOSYMFOLLOW = 0x00200000

_FSOPEN_CLOEXEC = 1
_FSMOUNT_CLOEXEC = 1
_FSCONFIG_SET_FLAG = 0
_FSCONFIG_SET_STRING = 1
_FSCONFIG_SET_FD = 5
_FSCONFIG_CMD_CREATE = 6


_fsconfig_call = declared(ctypes.c_int, ctypes.c_uint, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int)
_open_tree_call = declared(ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
_move_mount_call = declared(ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
_mount_setattr_call = declared(ctypes.c_int, ctypes.c_char_p, ctypes.c_uint, ctypes.c_void_p, ctypes.c_size_t)


class _MountAttr(ctypes.Structure):
    _fields_ = [
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    ]


def fsopen(filesystem: str) -> int:
    """A context in which a file system of this type is configured. Raises OSError(ENODEV) for an unknown type."""
    return syscall("fsopen", libc.FSOPEN, ctypes.c_char_p(filesystem.encode()), _FSOPEN_CLOEXEC, path=filesystem)


def fsconfig_string(context: int, key: str, value: str | bytes) -> None:
    """Set a parameter with a value of at most 255 bytes."""
    _fsconfig(context, _FSCONFIG_SET_STRING, key, os.fsencode(value), 0)


def fsconfig_flag(context: int, key: str) -> None:
    """Set a parameter without a value."""
    _fsconfig(context, _FSCONFIG_SET_FLAG, key, None, 0)


def fsconfig_fd(context: int, key: str, fd: int) -> None:
    """Set a parameter to an open file (overlay layers: since 6.13)."""
    _fsconfig(context, _FSCONFIG_SET_FD, key, None, fd)


def fsconfig_create(context: int) -> None:
    """Make the super block. The OSError's text ends with what the kernel wrote about the failure, if anything."""
    _fsconfig(context, _FSCONFIG_CMD_CREATE, None, None, 0)


def _fsconfig(context: int, command: int, key: str | None, value: bytes | None, aux: int) -> None:
    name = None if key is None else key.encode()
    if _fsconfig_call(libc.FSCONFIG, context, command, name, value, aux) < 0:
        err = failed("fsconfig", key)
        said = fs_messages(context)
        raise OSError(err.errno, f"{err.strerror} ({said})", key) if said else err


def fs_messages(context: int) -> str:
    """What the kernel logged in this context, in one line."""
    lines = []
    while True:
        try:
            lines.append(os.read(context, 4096).decode(errors="replace").strip())
        except OSError:  # ENODATA: the log is empty
            return "; ".join(lines)


def fsmount(context: int, attributes: int = 0) -> int:
    """A detached mount of the context's file system: usable as a directory, gone when closed unless attached."""
    return syscall("fsmount", libc.FSMOUNT, context, _FSMOUNT_CLOEXEC, attributes)


def open_tree(dirfd: int, path: str | bytes, flags: int) -> int:
    """With OPEN_TREE_CLONE a detached bind mount of *path* (with AT_RECURSIVE also of what is mounted below)."""
    return check(
        _open_tree_call(libc.OPEN_TREE, dirfd, os.fsencode(path), flags | os.O_CLOEXEC), "open_tree", os.fsdecode(path)
    )


def move_mount(mount: int, target: int, name: str = "") -> None:
    """Attach the detached *mount* on the directory or file that the descriptor *target* (O_PATH) is, or on *name* in
    it, which must not end in a symlink."""
    flags = MOVE_MOUNT_F_EMPTY_PATH | (0 if name else MOVE_MOUNT_T_EMPTY_PATH)
    check(_move_mount_call(libc.MOVE_MOUNT, mount, b"", target, os.fsencode(name), flags), "move_mount", name or None)


def mount_setattr(
    fd: int,
    path: str = "",
    *,
    set: int = 0,
    clear: int = 0,
    propagation: int = 0,
    recursive: bool = False,
    userns_fd: int = 0,
) -> None:
    """Change MOUNT_ATTR_* or the propagation (MS_PRIVATE, MS_SLAVE, MS_SHARED) of a mount."""
    attr = _MountAttr(set, clear, propagation, userns_fd)
    flags = (AT_EMPTY_PATH if not path else 0) | (AT_RECURSIVE if recursive else 0)
    check(
        _mount_setattr_call(libc.MOUNT_SETATTR, fd, os.fsencode(path), flags, ctypes.byref(attr), ctypes.sizeof(attr)),
        "mount_setattr",
        path or None,
    )


def mount(source: str | None, target: str, filesystem: str | None, flags: int = 0, data: str | None = None) -> None:
    """mount(2), for what the newer calls cannot do on older kernels."""
    if LIBC.mount(_text(source), _text(target), _text(filesystem), ctypes.c_ulong(flags), _text(data)) < 0:
        raise failed("mount", target)


def umount2(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    check(LIBC.umount2(_text(target), flags), "umount2", target)


def pivot_root(new_root: str, put_old: str) -> None:
    """Make *new_root* "/" and attach the old one at *put_old*, which may be the same directory: on top of it."""
    syscall("pivot_root", number("pivot_root"), _text(new_root), _text(put_old), path=new_root)


def _text(value: str | None) -> ctypes.c_char_p:
    return ctypes.c_char_p(None if value is None else os.fsencode(value))
