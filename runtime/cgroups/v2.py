"""cgroup version 2: one directory. A container is born in it (CLONE_INTO_CGROUP), so joining costs nothing."""

from __future__ import annotations

import errno
import os

from runtime.cgroups import common
from runtime.cgroups.common import read, read_int, write
from runtime.errors import ResourceUnavailable
from runtime.linux import bpf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.spec import Device, Resources

ROOT = "/sys/fs/cgroup"
_WANTED = ("cpu", "memory", "pids", "io", "cpuset")


def plan(resources: Resources) -> tuple[tuple[str, str], ...]:
    """(file, value) for the limits that are set, in the order in which they must be written."""
    todo: list[tuple[str, str]] = []
    memory = resources.memory
    if memory is not None:
        todo.append(("memory.max", str(memory)))
    swap = resources.memory_swap
    if swap is not None and swap < 0:
        todo.append(("memory.swap.max", "max"))
    elif memory is not None:
        # Version 2 counts swap alone; docker's option is the sum, and twice the memory by default.
        todo.append(("memory.swap.max", str(max(0, swap - memory) if swap is not None else memory)))
    if resources.memory_reservation is not None:
        todo.append(("memory.low", str(resources.memory_reservation)))
    if resources.cpu_shares:
        todo.append(("cpu.weight", str(weight_of(resources.cpu_shares))))
    if resources.cpu_quota is not None or resources.cpu_period is not None:
        quota = resources.cpu_quota if resources.cpu_quota is not None and resources.cpu_quota > 0 else "max"
        todo.append(("cpu.max", f"{quota} {resources.cpu_period or 100000}"))
    if resources.cpuset_cpus is not None:
        todo.append(("cpuset.cpus", resources.cpuset_cpus))
    if resources.cpuset_mems is not None:
        todo.append(("cpuset.mems", resources.cpuset_mems))
    if resources.pids_limit is not None:
        todo.append(("pids.max", "max" if resources.pids_limit <= 0 else str(resources.pids_limit)))
    if resources.blkio_weight is not None:
        # 10..1000 to 1..10000, as the OCI runtimes convert it.
        todo.append(("io.weight", str(1 + (resources.blkio_weight - 10) * 9999 // 990)))
    return tuple(todo)


def weight_of(shares: int) -> int:
    """cpu.weight (1..10000) for version 1's cpu.shares (2..262144), as the OCI runtimes convert it."""
    return 1 + (min(max(shares, 2), 262144) - 2) * 9999 // 262142


def create(name: str, parent: str = "", *, root: str = ROOT) -> Group:
    """A new group; without any controllers, or no group at all, where we may do no more."""
    above = _parent_directory(parent, root)
    if above is None:
        return Group("", -1)
    _enable(root, above)
    try:
        return Group(f"{above}/{name}", common.claim(above, name))
    except OSError as err:
        if err.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT):
            return Group("", -1)
        raise


def of_process(pid: int, *, root: str = ROOT) -> Group:
    """The group that a process is in."""
    return Group(f"{root}/{_path_of(str(pid)).strip('/')}".rstrip("/"), -1)


def reap(*, root: str = ROOT) -> int:
    """See ``cgroups.reap``."""
    above = _parent_directory("", root)
    if above is None:
        return 0
    count = 0
    for name in common.orphans(above):
        group = Group(f"{above}/{name}", -1)
        try:
            group.kill()
            group.remove()
        except OSError:
            continue
        count += 1
    return count


def _path_of(pid: str) -> str:
    for line in read(f"/proc/{pid}/cgroup").splitlines():
        if line.startswith("0::"):
            return line[3:]
    return "/"


def _parent_directory(parent: str, root: str) -> str | None:
    """Where our groups go: the highest of our own groups that we may write to, since one with processes in it cannot
    hand controllers down. As root that is the root itself."""
    if not os.path.exists(f"{root}/cgroup.controllers"):
        return None
    if parent.strip("/"):
        return f"{root}/{parent.strip('/')}"
    best = None
    path = _path_of("self").strip("/")
    while True:
        directory = f"{root}/{path}".rstrip("/")
        if not os.access(f"{directory}/cgroup.procs", os.W_OK):
            break
        best = directory
        if not path:
            break
        path = path.rpartition("/")[0]
    return None if best is None else f"{best}/{common.PARENT}"


def _enable(root: str, above: str) -> None:
    try:
        os.makedirs(above, exist_ok=True)
    except OSError:
        return
    relative = os.path.relpath(above, root).split("/")
    for depth in range(len(relative) + 1):
        directory = "/".join([root, *relative[:depth]])
        available = read(f"{directory}/cgroup.controllers").split()
        enabled = read(f"{directory}/cgroup.subtree_control").split()
        for controller in _WANTED:
            if controller in available and controller not in enabled:
                try:
                    write(f"{directory}/cgroup.subtree_control", f"+{controller}")
                except OSError:
                    continue  # EBUSY or EACCES: this one stays unavailable, and a limit that needs it says so


class Group:
    """One container's directory; "" stands for no group."""

    def __init__(self, directory: str, lock: int) -> None:
        self.directory = directory
        self._lock = lock

    def entry_fds(self) -> tuple[int, ...]:
        """See Cgroup."""
        if not self.directory:
            return ()
        return (os.open(f"{self.directory}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC),)

    def birth_fd(self) -> int:
        """See Cgroup."""
        return self._lock

    def limit(self, resources: Resources) -> None:
        """See Cgroup."""
        for file, value in plan(resources):
            path = f"{self.directory}/{file}"
            if not self.directory or not os.path.exists(path):
                # Kernels without swap accounting or a weighing scheduler: docker discards these, too. Builds always ask
                # for a number of processes; a plain user has RLIMIT_NPROC over him anyway.
                if file in ("memory.swap.max", "io.weight", "pids.max"):
                    continue
                controller = file.partition(".")[0]
                raise ResourceUnavailable(
                    f'this host has no usable cgroup controller "{controller}"',
                    hint="run as root, or have the controller delegated (systemd: Delegate=), or leave the limit out",
                )
            try:
                write(path, value)
            except OSError as err:
                raise ResourceUnavailable(
                    f"cannot set {file} to {value}: {os.strerror(err.errno or 0).lower()}",
                    hint="see what the host's own group allows in /sys/fs/cgroup",
                ) from err

    def allow_devices(self, devices: tuple[Device, ...], *, everything: bool) -> None:
        """See Cgroup: a program on the kernel's device hook. Without the right to load one (a plain user) it is the
        user namespace that keeps devices away."""
        if not self.directory or everything:
            return
        rules = (*common.DEVICES, *((item.kind, item.major, item.minor, item.access) for item in devices))
        try:
            bpf.attach_device_program(self._lock, bpf.device_program(rules))
        except OSError as err:
            if err.errno not in (errno.EPERM, errno.EACCES, errno.ENOSYS):
                raise

    def usage(self) -> tuple[int, int, int, int | None, int | None, int | None]:
        """See Cgroup."""
        cpu = common.fields(f"{self.directory}/cpu.stat") if self.directory else {}
        reads = writes = None
        text = read(f"{self.directory}/io.stat") if self.directory else ""
        for word in text.split():
            key, _, number = word.partition("=")
            if key == "rbytes":
                reads = (reads or 0) + int(number)
            elif key == "wbytes":
                writes = (writes or 0) + int(number)
        return (
            cpu.get("user_usec", 0),
            cpu.get("system_usec", 0),
            read_int(f"{self.directory}/memory.peak") or 0,
            reads,
            writes,
            read_int(f"{self.directory}/pids.peak"),
        )

    def oom_killed(self) -> bool:
        """See Cgroup."""
        return bool(self.directory) and common.fields(f"{self.directory}/memory.events").get("oom_kill", 0) > 0

    def freeze(self) -> None:
        """See Cgroup."""
        self._need()
        write(f"{self.directory}/cgroup.freeze", "1")
        events = os.open(f"{self.directory}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        try:
            import select

            poller = select.poll()
            poller.register(events, select.POLLPRI)
            while b"frozen 1" not in os.pread(events, 4096, 0):
                poller.poll(1000)
        finally:
            os.close(events)

    def thaw(self) -> None:
        """See Cgroup."""
        self._need()
        write(f"{self.directory}/cgroup.freeze", "0")

    def _need(self) -> None:
        if not self.directory:
            raise ResourceUnavailable(
                "this host gives us no cgroup", hint="run as root, or under systemd with Delegate=yes"
            )

    def processes(self) -> tuple[int, ...]:
        """See Cgroup."""
        return tuple(common.pids(self.directory)) if self.directory else ()

    def kill(self) -> None:
        """See Cgroup."""
        if not self.directory:
            return
        try:
            write(f"{self.directory}/cgroup.kill", "1")
        except OSError:
            pass  # before 5.14
        common.kill_until_empty(self.directory)

    def remove(self) -> None:
        """See Cgroup."""
        if self.directory:
            try:
                common.rmdir_tree(self.directory)
            except OSError as err:
                if err.errno != errno.EBUSY:
                    raise
                self.kill()
                common.rmdir_tree(self.directory)
            try:
                os.rmdir(os.path.dirname(self.directory))
            except OSError:
                pass  # others have containers there
        if self._lock >= 0:
            os.close(self._lock)
        self.directory, self._lock = "", -1

    def views(self) -> tuple[tuple[str, str], ...]:
        """See Cgroup: the container mounts its own."""
        return ()
