"""Processes, namespaces and privileges: clone3, setns, unshare, pidfd, prctl, capabilities, seccomp, close_range."""

from __future__ import annotations

import ctypes
import os
import sys

from runtime.linux import libc
from runtime.linux.libc import LIBC, check, number, syscall

# linux/sched.h
CLONE_NEWTIME = 0x00000080
CLONE_PIDFD = 0x00001000
CLONE_PARENT = 0x00008000
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_INTO_CGROUP = 0x200000000

# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_GET_DUMPABLE = 3
_PR_SET_DUMPABLE = 4
_PR_SET_KEEPCAPS = 8
_PR_SET_NAME = 15
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4

_CAPABILITY_VERSION_3 = 0x20080522
_SECCOMP_SET_MODE_FILTER = 1
_SIGCHLD = 17
_CLOSE_RANGE_CLOEXEC = 4


_prctl_call = LIBC["prctl"]
_prctl_call.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)


class _CloneArgs(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls", "set_tid",
            "set_tid_size", "cgroup",
        )
    ]  # fmt: skip


class _CapHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _CapData(ctypes.Structure):
    _fields_ = [("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32)]


class _SockFilter(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def clone3(flags: int, cgroup: int = -1) -> tuple[int, int]:
    """Fork into new namespaces: (pid, pidfd) in the parent, (0, -1) in the child. Python's hooks run as with os.fork.

    *cgroup*: a cgroup v2 directory to be born in. Raises RuntimeError in a process with threads, OSError. The child of
    one could wait for ever for a thread that it doesn't have: to take the interpreter's lock, as it runs some Python
    before the hook that renews that lock, or to leave the allocator, as glibc learns nothing of the fork.
    """
    if len(sys._current_frames()) > 1:
        raise RuntimeError("clone3 in a process with threads")
    pidfd = ctypes.c_int(-1)
    # A sibling (CLONE_PARENT) inherits the signal; to give one is an error.
    signal = 0 if flags & CLONE_PARENT else _SIGCHLD
    args = _CloneArgs(flags | CLONE_PIDFD, ctypes.addressof(pidfd), exit_signal=signal)
    if cgroup >= 0:
        args.flags |= CLONE_INTO_CGROUP
        args.cgroup = cgroup
    size = ctypes.sizeof(args)
    pointer = ctypes.byref(args)
    ctypes.pythonapi.PyOS_BeforeFork()
    try:
        pid = syscall("clone3", libc.CLONE3, pointer, size)
    except OSError:
        ctypes.pythonapi.PyOS_AfterFork_Parent()
        raise
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0, -1
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    return pid, pidfd.value


def unshare(flags: int) -> None:
    """Leave the namespaces named by CLONE_NEW* for new ones."""
    check(LIBC.unshare(ctypes.c_int(flags)), "unshare")


def setns(fd: int, flags: int) -> None:
    """Join the namespace *fd* is, or those of the process a pidfd stands for, limited to *flags*."""
    syscall("setns", number("setns"), fd, flags)


def close_range(first: int, last: int = 0xFFFFFFFF, *, cloexec: bool = False) -> None:
    """Close every descriptor in the range, or mark it close-on-exec."""
    syscall("close_range", libc.CLOSE_RANGE, first, last, _CLOSE_RANGE_CLOEXEC if cloexec else 0)


def prctl(option: int, *arguments: int) -> int:
    """prctl(2) with up to four integer arguments."""
    return check(_prctl_call(option, *(*arguments, 0, 0, 0, 0)[:4]), "prctl")


def set_parent_death_signal(signal: int) -> None:
    """Get *signal* when the thread that forked us ends. Cleared by setuid and by executing a set-user-ID program."""
    prctl(_PR_SET_PDEATHSIG, signal)


def set_dumpable(*, dumpable: bool) -> None:
    """Not dumpable: others without CAP_SYS_PTRACE cannot reach our /proc/PID/{exe,fd,mem}. Reset by execve."""
    prctl(_PR_SET_DUMPABLE, int(dumpable))


def set_keep_capabilities() -> None:
    """Keep the permitted capabilities over the next setuid away from 0."""
    prctl(_PR_SET_KEEPCAPS, 1)


def set_name(name: str) -> None:
    """The process name of at most 15 bytes, as ps shows it."""
    buffer = ctypes.create_string_buffer(name.encode()[:15])
    check(LIBC.prctl(ctypes.c_int(_PR_SET_NAME), buffer, 0, 0, 0), "prctl PR_SET_NAME")


def set_title(words: tuple[bytes, ...]) -> None:
    """The command line that others read, at most as long as the one we were started with. Needs /proc; without it
    nothing changes."""
    try:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return
    start, end = int(fields[45]), int(fields[46])  # arg_start and arg_end of proc_pid_stat(5)
    if 0 < start < end:
        text = b"\0".join(words)[: end - start - 1]
        ctypes.memmove(start, text.ljust(end - start, b"\0"), end - start)


def set_child_subreaper() -> None:
    """Orphans below us become our children instead of init's."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)


def set_no_new_privileges() -> None:
    """No program executed from here on gains anything by set-user-ID bits or file capabilities."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1)


def capbset_drop(capability: int) -> None:
    """Remove one capability from the bounding set. Raises OSError(EINVAL) for a number the kernel does not know."""
    prctl(_PR_CAPBSET_DROP, capability)


def ambient_clear() -> None:
    """Empty the ambient capability set."""
    prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)


def capget() -> tuple[int, int, int]:
    """(effective, permitted, inheritable) of this process as bits."""
    header = _CapHeader(_CAPABILITY_VERSION_3, 0)
    data = (_CapData * 2)()
    syscall("capget", number("capget"), ctypes.byref(header), ctypes.byref(data))
    low, high = data
    return (
        low.effective | high.effective << 32,
        low.permitted | high.permitted << 32,
        low.inheritable | high.inheritable << 32,
    )


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """Set the three capability sets of this process."""
    header = _CapHeader(_CAPABILITY_VERSION_3, 0)
    data = (_CapData * 2)(
        _CapData(effective & 0xFFFFFFFF, permitted & 0xFFFFFFFF, inheritable & 0xFFFFFFFF),
        _CapData(effective >> 32, permitted >> 32, inheritable >> 32),
    )
    syscall("capset", number("capset"), ctypes.byref(header), ctypes.byref(data))


def seccomp_filter(program: bytes) -> None:
    """Install a filter (struct sock_filter[], 8 bytes each). Needs CAP_SYS_ADMIN or no_new_privs."""
    fprog = _SockFilter(len(program) // 8, program)
    syscall("seccomp", number("seccomp"), _SECCOMP_SET_MODE_FILTER, 0, ctypes.byref(fprog))


def pidfd_open(pid: int) -> int:
    """A descriptor for the process, readable when it has ended."""
    return os.pidfd_open(pid)


def setgroups(groups: tuple[int, ...]) -> None:
    """Set the supplementary groups; always called, also with none (CVE-2022-36109)."""
    os.setgroups(groups)


def sethostname(name: str) -> None:
    """The host name of this UTS namespace."""
    data = os.fsencode(name)
    check(LIBC.sethostname(ctypes.c_char_p(data), ctypes.c_size_t(len(data))), "sethostname", name)


def setdomainname(name: str) -> None:
    """The NIS domain name of this UTS namespace."""
    data = os.fsencode(name)
    check(LIBC.setdomainname(ctypes.c_char_p(data), ctypes.c_size_t(len(data))), "setdomainname", name)
