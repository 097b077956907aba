"""Calling the kernel: libc's ``syscall`` with errors as OSError, for what glibc has no wrapper for.

Calls go through ``PyDLL`` (the GIL is kept), so that ``clone3`` in a single-threaded process behaves like ``os.fork``;
calls that can block for long go through ``BLOCKING``.
"""

from __future__ import annotations

import ctypes
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

LIBC = ctypes.PyDLL(None, use_errno=True)
BLOCKING = ctypes.CDLL(None, use_errno=True)

_syscall = LIBC.syscall
_syscall.restype = ctypes.c_long
_blocking_syscall = BLOCKING.syscall
_blocking_syscall.restype = ctypes.c_long

MACHINE = os.uname().machine

# asm/unistd_64.h and asm-generic/unistd.h: the calls from 424 on have the same number on every architecture.
OPEN_TREE = 428
MOVE_MOUNT = 429
FSOPEN = 430
FSCONFIG = 431
FSMOUNT = 432
FSPICK = 433
PIDFD_OPEN = 434
CLONE3 = 435
CLOSE_RANGE = 436
OPENAT2 = 437
MOUNT_SETATTR = 442

_NUMBERS: dict[str, dict[str, int]] = {
    "x86_64": {
        "pivot_root": 155,
        "capget": 125,
        "capset": 126,
        "renameat2": 316,
        "seccomp": 317,
        "setns": 308,
        "bpf": 321,
    },
    "aarch64": {
        "pivot_root": 41,
        "capget": 90,
        "capset": 91,
        "renameat2": 276,
        "seccomp": 277,
        "setns": 268,
        "bpf": 280,
    },
    "riscv64": {
        "pivot_root": 41,
        "capget": 90,
        "capset": 91,
        "renameat2": 276,
        "seccomp": 277,
        "setns": 268,
        "bpf": 280,
    },
}
_NUMBERS["i386"] = {
    "pivot_root": 217,
    "capget": 184,
    "capset": 185,
    "renameat2": 353,
    "seccomp": 354,
    "setns": 346,
    "bpf": 357,
}


def number(name: str) -> int:
    """The number of an older system call on this machine; raises OSError(ENOSYS) on an architecture without a table."""
    try:
        return _NUMBERS[MACHINE][name]
    except KeyError:
        raise OSError(38, f"{name}: no system call number known for {MACHINE}") from None


def failed(call: str, path: str | None = None) -> OSError:
    """The OSError for the failure that errno tells of: "call: text", and the path where there is one."""
    err = ctypes.get_errno()
    if path is None:
        return OSError(err, f"{call}: {os.strerror(err)}")
    return OSError(err, f"{call}: {os.strerror(err)}", path)


def declared(*types: Any) -> Callable[..., int]:
    """libc's ``syscall`` for calls with arguments of these types: the number comes first, the caller checks for < 0.

    Types that are declared once make a call twice as fast: for those that a container's start makes by the hundred.
    """
    function = LIBC["syscall"]
    function.restype = ctypes.c_long
    function.argtypes = (ctypes.c_long, *types)
    return function


def syscall(call: str, nr: int, *arguments: object, path: str | None = None) -> int:
    """Make system call *nr*; integers are passed as 64 bits, everything else as ctypes does. Raises OSError."""
    result = _syscall(ctypes.c_long(nr), *[ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in arguments])
    if result < 0:
        raise failed(call, path)
    return int(result)


def blocking_syscall(call: str, nr: int, *arguments: object, path: str | None = None) -> int:
    """As ``syscall``, but other Python threads run meanwhile."""
    result = _blocking_syscall(
        ctypes.c_long(nr), *[ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in arguments]
    )
    if result < 0:
        raise failed(call, path)
    return int(result)


def check(result: int, call: str, path: str | None = None) -> int:
    """*result* of a libc function, or its errno as OSError when it is negative."""
    if result < 0:
        raise failed(call, path)
    return result
