"""cgroup version 1: a directory per hierarchy. A container uses only those that it needs: joining costs 0.2 ms each."""

from __future__ import annotations

import errno
import os
import time

from runtime.cgroups import common
from runtime.cgroups.common import read, read_int, write
from runtime.errors import ResourceUnavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.spec import Device, Resources

# A container must see its limits of cpu: language runtimes size their thread pools by them. A cpuset is rare and slow.
_ALWAYS = ("cpu", "memory", "cpuacct", "devices", "freezer", "pids", "blkio")
_ON_DEMAND = ("cpuset",)
_KNOWN = _ALWAYS + _ON_DEMAND
_FREEZES = 1000
"""Attempts, of about ten seconds in all."""


def hierarchies() -> dict[str, tuple[str, str]]:
    """Controller → (mount point, our own group's directory), of the v1 hierarchies mounted here; empty on v2."""
    ours = _groups_of("self")
    found = {}
    for line in read("/proc/self/mountinfo").splitlines():
        head, _, tail = line.partition(" - ")
        kind, _, options = tail.partition(" ")
        if kind != "cgroup":
            continue
        columns = head.split(" ")
        root, mount_point = columns[3], columns[4]
        for controller in options.split(" ")[-1].split(","):
            if controller in _KNOWN and controller in ours:
                path = ours[controller]
                # Seen from inside a container the mount shows a part of the hierarchy only.
                below = path[len(root) :] if root != "/" and path.startswith(root) else path
                directory = f"{mount_point}/{below.strip('/')}".rstrip("/")
                if not os.path.isdir(directory):
                    directory = mount_point
                found[controller] = (mount_point, directory)
    return found


def _groups_of(pid: int | str) -> dict[str, str]:
    groups = {}
    for line in read(f"/proc/{pid}/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            groups[controller] = path
    return groups


def plan(resources: Resources) -> tuple[tuple[str, str, str], ...]:
    """(controller, file, value) for the limits that are set, in the order in which they must be written."""
    todo: list[tuple[str, str, str]] = []

    def add(controller: str, name: str, value: int | str | None) -> None:
        if value is not None:
            todo.append((controller, f"{controller}.{name}", str(value)))

    add("memory", "limit_in_bytes", resources.memory)
    swap = resources.memory_swap
    if resources.memory is not None and swap is None:
        swap = resources.memory * 2  # docker's default: as much swap as memory
    add("memory", "memsw.limit_in_bytes", swap)
    add("memory", "soft_limit_in_bytes", resources.memory_reservation)
    add("cpu", "shares", resources.cpu_shares)
    add("cpu", "cfs_period_us", resources.cpu_period)
    add("cpu", "cfs_quota_us", resources.cpu_quota)
    add("cpuset", "cpus", resources.cpuset_cpus)
    add("cpuset", "mems", resources.cpuset_mems)
    pids = resources.pids_limit
    add("pids", "max", None if pids is None else "max" if pids <= 0 else pids)
    add("blkio", "weight", resources.blkio_weight)
    return tuple(todo)


def create(name: str, found: dict[str, tuple[str, str]], parent: str = "") -> Group:
    """A new group in every hierarchy that all containers use and that we may write to."""
    directories: dict[str, str] = {}
    locks = []
    for controller in _ALWAYS:
        if controller not in found:
            continue
        mount_point, own = found[controller]
        above = f"{mount_point}/{parent.strip('/')}" if parent.strip("/") else f"{own}/{common.PARENT}"
        directory = f"{above}/{name}"
        if directory in directories.values():  # cpu and cpuacct may be one hierarchy
            directories[controller] = directory
            continue
        try:
            locks.append(common.claim(above, name))
        except OSError as err:
            if err.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT):
                continue
            raise
        directories[controller] = directory
    return Group(name, directories, found, parent, locks)


def of_process(pid: int, found: dict[str, tuple[str, str]]) -> Group:
    """The group that a container's process is in."""
    groups = _groups_of(pid)
    directories = {}
    for controller, (mount_point, own) in found.items():
        path = groups.get(controller, "/")
        directory = f"{mount_point}/{path.strip('/')}".rstrip("/")
        if directory not in (own, mount_point):
            directories[controller] = directory
    return Group(str(pid), directories, found, "", [])


def reap(found: dict[str, tuple[str, str]]) -> int:
    """See ``cgroups.reap``."""
    names = set()
    for _, own in set(found.values()):
        parent = f"{own}/{common.PARENT}"
        for name in common.orphans(parent):
            try:
                common.kill_until_empty(f"{parent}/{name}")
                common.rmdir_tree(f"{parent}/{name}")
            except OSError:
                continue
            names.add(name)
        _remove_parent(parent)
    return len(names)


class Group:
    """One container's directories."""

    def __init__(
        self, name: str, directories: dict[str, str], found: dict[str, tuple[str, str]], parent: str, locks: list[int]
    ) -> None:
        self.name = name
        self.directories = directories
        self._found = found
        self._parent = parent
        self._locks = locks

    def entry_fds(self) -> tuple[int, ...]:
        """See Cgroup."""
        return tuple(
            os.open(f"{directory}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
            for directory in dict.fromkeys(self.directories.values())
        )

    def birth_fd(self) -> int:
        """See Cgroup."""
        return -1

    def limit(self, resources: Resources) -> None:
        """See Cgroup."""
        todo = plan(resources)
        if not self.directories:
            # Builds always ask for a number of processes; a plain user has RLIMIT_NPROC over him anyway.
            todo = tuple(item for item in todo if item[0] != "pids")
        for controller in dict.fromkeys(item[0] for item in todo):
            if controller not in self.directories:
                self._join(controller)
        for controller, file, value in todo:
            path = f"{self.directories[controller]}/{file}"
            if not os.path.exists(path) and file in ("memory.memsw.limit_in_bytes", "blkio.weight"):
                continue  # kernels without swap accounting or a weighing scheduler: docker discards these, too
            try:
                write(path, value)
            except OSError as err:
                if file == "memory.limit_in_bytes" and err.errno == errno.EINVAL:
                    # An update that raises the limit above memory+swap: that one has to go first.
                    write(f"{self.directories[controller]}/memory.memsw.limit_in_bytes", "-1")
                    write(path, value)
                    continue
                raise ResourceUnavailable(
                    f"cannot set {file} to {value}: {os.strerror(err.errno or 0).lower()}",
                    hint="see what the host's own group allows in /sys/fs/cgroup",
                ) from err

    def _join(self, controller: str) -> None:
        if controller not in self._found or not self.directories:
            raise ResourceUnavailable(
                f'this host has no usable cgroup controller "{controller}"',
                hint="run as root, or have the controller delegated, or leave the limit out",
            )
        mount_point, own = self._found[controller]
        parent = self._parent.strip("/")
        above = f"{mount_point}/{parent}" if parent else f"{own}/{common.PARENT}"
        try:
            self._locks.append(common.claim(above, self.name))
        except FileExistsError:
            pass
        if controller == "cpuset":
            for file in ("cpuset.cpus", "cpuset.mems"):  # a new cpuset is empty and takes no process
                for directory in (above, f"{above}/{self.name}"):
                    if not read(f"{directory}/{file}").strip():
                        write(f"{directory}/{file}", read(f"{os.path.dirname(directory)}/{file}").strip())
        directory = f"{above}/{self.name}"
        for pid in self.processes():
            write(f"{directory}/cgroup.procs", str(pid))
        self.directories[controller] = directory

    def allow_devices(self, devices: tuple[Device, ...], *, everything: bool) -> None:
        """See Cgroup."""
        directory = self.directories.get("devices")
        if directory is None or everything:
            return
        rules = [*common.DEVICES, *((item.kind, item.major, item.minor, item.access) for item in devices)]
        try:
            write(f"{directory}/devices.deny", "a")
            common.write_each(f"{directory}/devices.allow", [_rule(*rule) for rule in rules])
        except OSError as err:
            # Inside a container our own group may have less than docker's table: more than that cannot be given.
            if err.errno != errno.EPERM:
                raise

    def usage(self) -> tuple[int, int, int, int | None, int | None, int | None]:
        """See Cgroup."""
        cpu = self.directories.get("cpuacct", "")
        user = (read_int(f"{cpu}/cpuacct.usage_user") or 0) // 1000
        system = (read_int(f"{cpu}/cpuacct.usage_sys") or 0) // 1000
        memory = read_int(f"{self.directories.get('memory', '')}/memory.max_usage_in_bytes") or 0
        reads = writes = None
        directory = self.directories.get("blkio")
        if directory is not None:
            reads = writes = 0
            for line in read(f"{directory}/blkio.throttle.io_service_bytes_recursive").splitlines():
                columns = line.split()
                if len(columns) == 3 and columns[1] == "Read":
                    reads += int(columns[2])
                elif len(columns) == 3 and columns[1] == "Write":
                    writes += int(columns[2])
        return user, system, memory, reads, writes, read_int(f"{self.directories.get('pids', '')}/pids.peak")

    def oom_killed(self) -> bool:
        """See Cgroup."""
        directory = self.directories.get("memory")
        return directory is not None and common.fields(f"{directory}/memory.oom_control").get("oom_kill", 0) > 0

    def freeze(self) -> None:
        """See Cgroup."""
        directory = self._freezer()
        for attempt in range(_FREEZES):
            write(f"{directory}/freezer.state", "FROZEN")
            if read(f"{directory}/freezer.state").strip() == "FROZEN":
                return
            # A process stops when it runs, and on a busy machine that may be in a while.
            time.sleep(min(attempt, 10) / 1000)
        self.thaw()
        raise ResourceUnavailable("the container's processes do not stop")

    def thaw(self) -> None:
        """See Cgroup."""
        write(f"{self._freezer()}/freezer.state", "THAWED")

    def _freezer(self) -> str:
        if "freezer" not in self.directories:
            raise ResourceUnavailable(
                'this host has no usable cgroup controller "freezer"', hint="run as root, or stop instead of pause"
            )
        return self.directories["freezer"]

    def processes(self) -> tuple[int, ...]:
        """See Cgroup."""
        for directory in self.directories.values():
            return tuple(common.pids(directory))
        return ()

    def kill(self) -> None:
        """See Cgroup."""
        for directory in list(self.directories.values())[:1]:
            if "freezer" in self.directories:
                self.thaw()  # a frozen process does not die
            common.kill_until_empty(directory)

    def remove(self) -> None:
        """See Cgroup."""
        for directory in dict.fromkeys(self.directories.values()):
            try:
                common.rmdir_tree(directory)
            except OSError as err:
                if err.errno != errno.EBUSY:
                    raise
                self.kill()
                common.rmdir_tree(directory)
            if not self._parent:
                _remove_parent(os.path.dirname(directory))
        self.directories = {}
        for fd in self._locks:
            os.close(fd)
        self._locks = []

    def views(self) -> tuple[tuple[str, str], ...]:
        """See Cgroup."""
        return tuple(sorted(self.directories.items()))


def _rule(kind: str, major: int, minor: int, access: str) -> str:
    numbers = ":".join("*" if number < 0 else str(number) for number in (major, minor))
    return f"{kind} {numbers} {access}"


def _remove_parent(path: str) -> None:
    try:
        if os.stat(path).st_nlink <= 2:  # asking costs less than a refusal, which takes the lock of all groups
            os.rmdir(path)
    except OSError:
        return  # others have containers there
