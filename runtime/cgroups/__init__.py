"""Control groups behind one interface, version 1 and version 2: limits, accounting, freezing, killing, devices.

``create`` makes a group for a container below our own one, in the version that this host mounts; ``of_process`` finds
the group of a running one; ``reap`` removes what a killed owner left. ``v1`` and ``v2`` hold one class each with the
methods of ``Cgroup``; their ``plan`` functions are pure and say which files get which values.

A group belongs to the process that made it, which holds a lock (flock) on the directory: a group without its owner is
garbage, and what still runs in it is killed. Where no controller may be used (a plain user without delegation) a group
is an empty shell that accounts for nothing and refuses limits.
"""

from __future__ import annotations

import os

from runtime.cgroups import v1

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from runtime.spec import Device, Resources

    class Cgroup(Protocol):
        """One container's group."""

        def entry_fds(self) -> tuple[int, ...]:
            """Open cgroup.procs files: a process that writes "0" to each joins. The caller closes them."""

        def birth_fd(self) -> int:
            """A directory for CLONE_INTO_CGROUP, -1 when this version has none. The group's to close."""

        def limit(self, resources: Resources) -> None:
            """Set limits. Raises ResourceUnavailable when no controller enforces one that was asked for."""

        def allow_devices(self, devices: tuple[Device, ...], *, everything: bool) -> None:
            """Allow docker's standard devices and *devices*, or everything."""

        def usage(self) -> tuple[int, int, int, int | None, int | None, int | None]:
            """(user us, system us, peak memory bytes, bytes read, bytes written, most processes at once)."""

        def oom_killed(self) -> bool:
            """Whether the kernel killed a process in it for lack of memory."""

        def freeze(self) -> None:
            """Stop every process; returns when they stand."""

        def thaw(self) -> None:
            """Undo ``freeze``."""

        def processes(self) -> tuple[int, ...]:
            """The pids in it."""

        def kill(self) -> None:
            """SIGKILL to every process in it, also those that fork meanwhile."""

        def remove(self) -> None:
            """Remove the group; what still runs in it is killed first. Idempotent."""

        def views(self) -> tuple[tuple[str, str], ...]:
            """(name below /sys/fs/cgroup, host directory) of what the container may look at; empty for v2."""


_mounted: list[dict[str, tuple[str, str]]] = []


def create(name: str, parent: str = "") -> Cgroup:
    """A new group *name* below *parent* (a path below the cgroup root; "" is our own group)."""
    if not _mounted:  # looked up once: a launcher makes many
        _mounted.append(v1.hierarchies())
    if _mounted[0]:
        return v1.create(name, _mounted[0], parent)
    from runtime.cgroups import v2

    return v2.create(name, parent)


def of_process(pid: int) -> Cgroup:
    """The group that the process *pid* is in; not owned, so ``remove`` is not for it."""
    hierarchies = v1.hierarchies()
    if hierarchies:
        return v1.of_process(pid, hierarchies)
    from runtime.cgroups import v2

    return v2.of_process(pid)


def stir() -> None:
    """Join the group that this process is in, which changes nothing. But the first join after a pause waits for an RCU
    grace period (8 to 16 ms), and those of the next 10 ms do not: who does this while it waits anyway has the real one
    for nothing."""
    try:
        entries = of_process(os.getpid()).entry_fds()
    except OSError:
        return  # nothing that we may join
    for fd in entries[:1]:
        try:
            os.write(fd, b"0")
        except OSError:
            pass  # then the real one waits, or fails and says why
    for fd in entries:
        os.close(fd)


def reap() -> int:
    """Kill and remove every group whose owner is gone; how many there were. Never raises for a single one."""
    hierarchies = v1.hierarchies()
    if hierarchies:
        return v1.reap(hierarchies)
    from runtime.cgroups import v2

    return v2.reap()


def version() -> int:
    """1 or 2, as `docker info` says; 0 when nothing is mounted."""
    if v1.hierarchies():
        return 1
    from runtime.cgroups import v2

    return 2 if os.path.exists(f"{v2.ROOT}/cgroup.controllers") else 0
