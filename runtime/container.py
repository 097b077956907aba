"""Starting containers from a command: the client side of ``runtime.launcher``.

A command holds one ``Launcher``. It starts the launcher process at its first use (or at ``warm``), while the command
goes on planning; each container talks to its ``Running`` over a socket pair of its own, so that threads need not share one.
The end of that socket is the end of the container: a command that is killed leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from runtime.errors import ContainerError
from runtime.spec import Process, Resources, Spec


@dataclass(frozen=True, slots=True)
class Usage:
    """What a container consumed: microseconds, bytes. None where this host cannot tell."""

    cpu_user_us: int = 0
    cpu_system_us: int = 0
    peak_memory: int = 0
    read_bytes: int | None = None
    write_bytes: int | None = None
    pids_peak: int | None = None


@dataclass(frozen=True, slots=True)
class Exit:
    """How a container ended. *code* is the shell's: 128+n when *signal* n ended it; *error* when it never ran."""

    code: int
    signal: int | None = None
    oom_killed: bool = False
    usage: Usage = Usage()
    error: ContainerError | None = None


class Running:
    """A container, or a process in one (``exec_``), that was started. Not shared between threads without a lock.

    *pid*: its first process, as the host sees it. *pidfd*: readable when that has ended. *console*: the terminal's
    master side when ``process.terminal``, else None; the caller closes it. *fileno()*: readable when ``wait`` will not block.
    """

    pid: int
    pidfd: int
    console: int | None

    def fileno(self) -> int:
        """The descriptor to select on for the end."""
        raise NotImplementedError

    def wait(self, timeout: float | None = None) -> Exit:
        """Block until everything of it has ended and is cleaned up. Raises TimeoutError, LauncherDied."""
        raise NotImplementedError

    def kill(self, signal: int) -> None:
        """Send *signal* to the first process; nothing happens when it has ended already."""
        raise NotImplementedError

    def close(self) -> None:
        """Give up interest: what still runs is killed."""
        raise NotImplementedError


class Launcher:
    """Starts containers. Thread-safe. ``with Launcher() as launcher: launcher.start(spec, ...).wait()``."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def warm(self) -> None:
        """Start the launcher process now, without waiting for it, if it does not run yet."""

    def start(
        self,
        spec: Spec,
        *,
        stdin: int | None = None,
        stdout: int,
        stderr: int,
        network: Callable[[int], None] | None = None,
    ) -> Running:
        """Start a container and return once its program was executed.

        *stdin* None is /dev/null. The descriptors stay the caller's and are ignored with ``process.terminal``.
        *network* is called with the pid when the namespaces exist (/proc/PID/ns/net) and before the program runs; what
        it raises is raised here, after the container was removed. Raises ContainerError (docker's texts and codes).
        """
        raise NotImplementedError

    def exec_(
        self,
        pid: int,
        process: Process,
        *,
        stdin: int | None = None,
        stdout: int,
        stderr: int,
        seccomp: str = "default",
        cgroup: str = "",
    ) -> Running:
        """Execute *process* in the namespaces of the container whose first process is *pid*, equally hardened."""
        raise NotImplementedError

    def close(self) -> None:
        """End the launcher, and with it every container that still runs."""


def freeze(id: str) -> None:
    """Pause every process of the container (cgroup freezer). Raises ResourceUnavailable."""
    raise NotImplementedError


def thaw(id: str) -> None:
    """Undo ``freeze``."""
    raise NotImplementedError


def update(id: str, resources: Resources) -> None:
    """Change the limits of a running container."""
    raise NotImplementedError


def processes(id: str) -> Sequence[int]:
    """The pids in the container, as the host sees them."""
    raise NotImplementedError
