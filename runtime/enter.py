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

_ALL = (
    kernel.CLONE_NEWNS
    | kernel.CLONE_NEWPID
    | kernel.CLONE_NEWNET
    | kernel.CLONE_NEWIPC
    | kernel.CLONE_NEWUTS
    | kernel.CLONE_NEWCGROUP
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
    group = cgroups.of_process(pid)
    entries = group.entry_fds()
    ours, theirs = socketpair(AF_UNIX, SOCK_STREAM)
    # From its first instant the child is visible to the container's processes: what it is must be out of their reach.
    kernel.set_dumpable(dumpable=False)
    try:
        child, pidfd = init.fork(
            lambda: boot.guarded(
                lambda: _main(target, process, theirs, (stdin, stdout, stderr), entries, program), theirs
            ),
            0,
            pid_namespace=target,
        )
    except OSError as err:
        ours.close()
        raise ContainerError(f"cannot enter the container: {err.strerror}") from err
    finally:
        theirs.close()
        for fd in (target, *entries):
            os.close(fd)
    return Entered(child, pidfd, ours, group, None)


def _main(
    target: int,
    process: Process,
    sock: socket,
    stdio: tuple[int, int, int],
    entries: tuple[int, ...],
    program: bytes | None,
) -> NoReturn:
    console = -1
    try:
        kernel.setns(target, kernel.CLONE_NEWUSER | _ALL)
    except OSError:
        kernel.setns(target, _ALL)  # EINVAL: it is our own user namespace
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
