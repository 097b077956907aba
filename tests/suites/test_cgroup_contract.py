"""What a control group promises, on every version that this host has mounted, whichever one containers use here.

On a host with version 1, version 2 is usually mounted beside it without the controllers that version 1 took: everything
but their limits is tested on it all the same.
"""

from __future__ import annotations

import os
import select
import stat
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

from runtime.cgroups import v1, v2
from runtime.errors import ResourceUnavailable
from runtime.linux import process
from runtime.spec import Device, Resources

pytestmark = pytest.mark.root


@dataclass(frozen=True, slots=True)
class Version:
    """One version's functions, bound to its mount."""

    create: Callable[[str], Any]
    of_process: Callable[[int], Any]
    reap: Callable[[], int]
    controllers: frozenset[str]


def mount_of_v2() -> str | None:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return place
    return None


@pytest.fixture(params=["v1", "v2"])
def version(request: pytest.FixtureRequest) -> Version:
    if request.param == "v1":
        found = v1.hierarchies()
        if not found:
            pytest.skip("no version 1 hierarchy is mounted")
        return Version(
            lambda name: v1.create(name, found), lambda pid: v1.of_process(pid, found), lambda: v1.reap(found),
            frozenset(found),
        )  # fmt: skip
    root = mount_of_v2()
    if root is None:
        pytest.skip("version 2 is not mounted")
    return Version(
        lambda name: v2.create(name, root=root), lambda pid: v2.of_process(pid, root=root), lambda: v2.reap(root=root),
        frozenset(Path(root, "cgroup.controllers").read_text().split()),
    )  # fmt: skip


@pytest.fixture
def group(version: Version) -> Iterator[Any]:
    group = version.create(f"test-{uuid.uuid4().hex}")
    yield group
    group.remove()


def start(group: Any, run: Callable[[], object]) -> int:
    """A child that is born in *group*, or joins it before anything else, as init does it.

    A process in between makes it, as a sibling: the one that runs the tests has a second thread, which clone3 refuses.
    """
    entries = group.entry_fds() if group.birth_fd() < 0 else ()
    told, tell = os.pipe()
    between = os.fork()
    if between == 0:
        try:
            pid, _ = process.clone3(process.CLONE_PARENT, group.birth_fd())
            if pid == 0:
                inside(entries, run)
            os.write(tell, pid.to_bytes(4, "little"))
        finally:
            os._exit(0)
    for fd in (tell, *entries):
        os.close(fd)
    pid = int.from_bytes(os.read(told, 4), "little")
    os.close(told)
    ended(between)
    assert pid, "the process in between could not make the child"
    return pid


def inside(entries: tuple[int, ...], run: Callable[[], object]) -> NoReturn:
    code = 99
    try:
        for fd in entries:
            os.write(fd, b"0")
        run()
        code = 0
    except OSError as err:
        code = err.errno or 98
    finally:
        os._exit(code)


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def sleeper(group: Any) -> int:
    """A child that has joined for sure, and sleeps."""
    ready, tell = os.pipe()

    def run() -> None:
        os.write(tell, b".")
        select.select([], [], [])

    pid = start(group, run)
    os.close(tell)
    assert os.read(ready, 1) == b"."
    os.close(ready)
    return pid


def test_a_process_with_threads_makes_no_child_that_could_wait_for_them() -> None:
    end = threading.Event()
    other = threading.Thread(target=end.wait)
    other.start()
    try:
        with pytest.raises(RuntimeError, match="threads"):
            process.clone3(0)
    finally:
        end.set()
        other.join()


def test_members_are_listed_found_and_killed(version: Version, group: Any) -> None:
    pids = {sleeper(group), sleeper(group)}
    assert set(group.processes()) == pids
    assert set(version.of_process(min(pids)).processes()) == pids
    group.kill()
    assert [ended(pid) for pid in pids] == [-9, -9]
    assert group.processes() == () and not group.oom_killed()


def test_a_group_can_be_removed_twice_and_takes_what_runs_with_it(group: Any) -> None:
    pid = sleeper(group)
    group.remove()
    assert ended(pid) == -9
    group.remove()
    assert group.processes() == ()


def test_nobody_escapes_a_kill_by_forking(group: Any) -> None:
    ready, tell = os.pipe()

    def run() -> None:
        os.write(tell, b".")
        while True:
            if os.fork():
                os._exit(0)

    pid = start(group, run)
    os.close(tell)
    assert os.read(ready, 1) == b"."
    ended(pid)
    group.kill()
    assert group.processes() == ()
    assert os.read(ready, 1) == b""  # the last one that held the pipe is gone
    os.close(ready)


def test_a_frozen_group_stands_still(group: Any) -> None:
    ready, tell = os.pipe2(os.O_NONBLOCK)

    def run() -> None:
        while True:
            try:
                os.write(tell, b".")
            except BlockingIOError:
                select.select([], [tell], [])

    pid = start(group, run)
    assert select.select([ready], [], [], 60)[0]
    group.freeze()
    try:
        while True:
            os.read(ready, 1 << 16)
    except BlockingIOError:
        pass  # drained
    assert not select.select([ready], [], [], 0.05)[0]
    group.thaw()
    assert select.select([ready], [], [], 10)[0]
    group.kill()
    assert ended(pid) == -9
    os.close(ready)
    os.close(tell)


def test_time_is_accounted(version: Version, group: Any) -> None:
    def run() -> None:
        while sum(os.times()[:2]) < 0.05:
            pass

    assert ended(start(group, run)) == 0
    user, system, *_ = group.usage()
    assert user + system >= 40_000


def test_devices_are_docker_s_and_those_that_were_given(version: Version, group: Any, tmp_path: Path) -> None:
    if "devices" not in version.controllers and isinstance(group, v1.Group):
        pytest.skip("no devices controller is mounted")
    # 10:229 is fuse, 10:200 a tunnel: not docker's. Whether the kernel has a driver is asked after the group.
    nodes = {name: str(tmp_path / name) for name in ("null", "fuse", "tun")}
    for name, numbers in (("null", (1, 3)), ("fuse", (10, 229)), ("tun", (10, 200))):
        os.mknod(nodes[name], stat.S_IFCHR | 0o666, os.makedev(*numbers))
    try:
        os.close(os.open(nodes["null"], os.O_RDWR))
    except PermissionError:
        pytest.skip("device nodes do not work on this file system")
    group.allow_devices((Device("/dev/fuse", "c", 10, 229, access="r"),), everything=False)

    def result(name: str, flags: int) -> int:
        return ended(start(group, lambda: os.close(os.open(nodes[name], flags))))

    assert result("null", os.O_RDWR) == 0
    assert result("tun", os.O_RDONLY) == 1  # EPERM
    assert result("fuse", os.O_WRONLY) == 1
    assert result("fuse", os.O_RDONLY) != 1


def test_a_limit_holds_or_is_refused(version: Version, group: Any) -> None:
    if "pids" not in version.controllers:
        group.limit(Resources(pids_limit=3))  # every build asks for it: left out where there is no controller
    else:
        group.limit(Resources(pids_limit=1))
        assert ended(start(group, os.fork)) == 11  # EAGAIN
    if "memory" not in version.controllers:
        with pytest.raises(ResourceUnavailable, match='no usable cgroup controller "memory"'):
            group.limit(Resources(memory=64 << 20))
        return
    group.limit(Resources(memory=16 << 20, memory_swap=16 << 20))

    def run() -> None:
        bytearray(64 << 20)[::4096]

    assert ended(start(group, run)) == -9
    assert group.oom_killed()


def test_an_orphan_is_reaped_and_its_owner_s_not(version: Version) -> None:
    """The owner is a process of its own, and is killed."""
    name = f"test-{uuid.uuid4().hex}"
    ready, tell = os.pipe()
    owner = os.fork()
    if owner == 0:
        group = version.create(name)
        os.write(tell, sleeper(group).to_bytes(4, "little"))
        select.select([], [], [])
    pid = int.from_bytes(os.read(ready, 4), "little")
    version.reap()
    members = version.of_process(pid)
    assert members.processes() == (pid,)
    os.kill(owner, 9)
    ended(owner)
    # What it held is held by its child as well, as a container's first process never does: it closes everything.
    os.kill(pid, 9)
    poller = select.poll()
    try:
        pidfd = os.pidfd_open(pid)
        poller.register(pidfd, select.POLLIN)
        poller.poll(10_000)
        os.close(pidfd)
    except ProcessLookupError:
        pass
    assert version.reap() >= 1
    for line in Path("/proc/self/mounts").read_text().splitlines():
        place, kind = line.split()[1:3]
        if kind in ("cgroup", "cgroup2"):
            assert not Path(place, "lamina", name).exists()
    os.close(ready)
    os.close(tell)
