"""inotify: waiting for changes of files instead of looking again and again. Constants from sys/inotify.h."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator

from runtime.linux.libc import LIBC, check

IN_MODIFY = 0x2
IN_CLOSE_WRITE = 0x8
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE_SELF = 0x400

_EVENT = struct.Struct("=iIII")

LIBC.inotify_add_watch.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32]


def init() -> int:
    """A new inotify descriptor, close-on-exec and non-blocking."""
    return check(LIBC.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK), "inotify_init1")


def add_watch(descriptor: int, path: str, mask: int) -> int:
    """Watch a file or directory; returns the watch's number."""
    return check(LIBC.inotify_add_watch(descriptor, os.fsencode(path), mask), "inotify_add_watch", path)


def events(descriptor: int) -> Iterator[tuple[int, str]]:
    """(mask, name) of what has happened since the last call; nothing when nothing has."""
    try:
        data = os.read(descriptor, 1 << 16)
    except BlockingIOError:
        return
    at = 0
    while at < len(data):
        _, mask, _, length = _EVENT.unpack_from(data, at)
        name = data[at + _EVENT.size : at + _EVENT.size + length]
        yield mask, os.fsdecode(name.rstrip(b"\0"))
        at += _EVENT.size + length
