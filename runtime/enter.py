"""Executing a further process in a running container (exec), under the same hardening as its first one."""

from __future__ import annotations

import os
from _socket import AF_UNIX, SOCK_STREAM, socket, socketpair

from runtime import become, boot, cgroups, init, seccomp, users
from runtime.console import open_terminal, take_terminal
from runtime.errors import ContainerError
from runtime.linux import process as kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from runtime.spec import Process

_NAMESPACES = (
    ("mnt", kernel.CLONE_NEWNS),
    ("pid", kernel.CLONE_NEWPID),
    ("net", kernel.CLONE_NEWNET),
    ("ipc", kernel.CLONE_NEWIPC),
    ("uts", kernel.CLONE_NEWUTS),
    ("cgroup", kernel.CLONE_NEWCGROUP),
)


class Entered(init.Child):
    """A process in somebody else's container: its group is not ours to remove or to ask for figures."""

    def collect(self) -> tuple[int, tuple[int, int, int, int | None, int | None, int | None], bool]:
        """See Child: figures from rusage alone."""
        _, status, rusage = os.wait4(self.pid, 0)
        user, system = int(rusage.ru_utime * 1e6), int(rusage.ru_stime * 1e6)
        return status, (user, system, rusage.ru_maxrss * 1024, None, None, None), False

    def release(self) -> None:
        """See Child."""
        self.sock.close()
        os.close(self.pidfd)


def spawn(
    pid: int, process: Process, stdin: int, stdout: int, stderr: int, *, seccomp_profile: str = "default"
) -> Entered:
    """Fork a process into the namespaces and the control group of the process *pid*. For single-threaded callers.

    Raises ContainerError; what fails after the fork is in ``Child.error``.
    """
    program = seccomp.program(seccomp_profile, process.capabilities)
    try:
        target = os.pidfd_open(pid)
    except OSError as err:
        raise ContainerError("the container is not running", hint="start it first") from err
    namespaces = _foreign(pid)
    group = cgroups.of_process(pid)
    entries = group.entry_fds()
    ours, theirs = socketpair(AF_UNIX, SOCK_STREAM)
    # From its first instant the child is visible to the container's processes: what it is must be out of their reach.
    kernel.set_dumpable(dumpable=False)
    try:
        child, pidfd = init.fork(
            lambda: boot.guarded(
                lambda: _main(target, namespaces, process, theirs, (stdin, stdout, stderr), entries, program), theirs
            ),
            0,
            pid_namespace=target if namespaces & kernel.CLONE_NEWPID else -1,
        )
    except OSError as err:
        ours.close()
        raise ContainerError(f"cannot enter the container: {err.strerror}") from err
    finally:
        theirs.close()
        for fd in (target, *entries):
            os.close(fd)
    return Entered(child, pidfd, ours, group, None)


def _foreign(pid: int) -> int:
    """The namespaces of the process *pid* that are not ours: a user may not join the host's, where he is already."""
    flags = 0
    for name, flag in _NAMESPACES:
        try:
            ours = os.readlink(f"/proc/self/ns/{name}") == os.readlink(f"/proc/{pid}/ns/{name}")
        except OSError:
            ours = False
        flags |= 0 if ours else flag
    return flags


def _main(
    target: int,
    namespaces: int,
    process: Process,
    sock: socket,
    stdio: tuple[int, int, int],
    entries: tuple[int, ...],
    program: bytes | None,
) -> NoReturn:
    console = -1
    try:
        kernel.setns(target, kernel.CLONE_NEWUSER | namespaces)
    except OSError:
        kernel.setns(target, namespaces)  # EINVAL: it is our own user namespace
    boot.isolate(sock, entries, stdio)
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    who = users.resolve(root, process.user, process.additional_groups)
    become.enter_directory(root, process.cwd, make=False)
    if process.terminal:
        console = open_terminal(root, sock)
    os.close(root)
    become.set_rlimits(process.rlimits)
    if console >= 0:
        take_terminal(console, process.console_size, who.uid)
    become.execute(process, who, program, lambda: None)
