"""Control groups on the version that this host mounts: limits, members, freezing, and orphans."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest

from runtime import cgroups
from runtime.cgroups.v1 import Group
from runtime.spec import Resources

pytestmark = pytest.mark.root


def start_in(group: cgroups.Cgroup) -> int:
    entries = group.entry_fds()
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        for fd in entries:
            os.write(fd, b"0")
        os.execv("/bin/sleep", ["sleep", "1000"])
    for fd in entries:
        os.close(fd)
    os.close(tell)
    os.read(ready, 1)  # the end of file: executed, so that the child holds none of our descriptors (and locks) any more
    os.close(ready)
    return pid


def test_the_life_of_a_group():
    group = cgroups.create(f"test-{uuid.uuid4().hex}")
    try:
        group.limit(Resources(memory=64 << 20, pids_limit=10, cpu_shares=512, cpuset_cpus="0"))
        pid = start_in(group)
        assert group.processes() == (pid,)
        other = cgroups.of_process(pid)
        other.freeze()
        other.thaw()
        other.limit(Resources(memory=32 << 20))
        group.kill()
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -9
        assert group.usage()[2] > 0 and not group.oom_killed()
    finally:
        group.remove()
    assert group.processes() == ()


def test_a_group_with_an_owner_is_not_reaped_and_an_orphan_is():
    group = cgroups.create(f"test-{uuid.uuid4().hex}")
    if not isinstance(group, Group):
        group.remove()
        pytest.skip("this host has cgroup version 2")
    directories = list(group.directories.values())
    pid = start_in(group)
    cgroups.reap()
    assert group.processes() == (pid,) and all(map(os.path.isdir, directories))
    for fd in group._locks:
        os.close(fd)
    cgroups.reap()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -9
    cgroups.reap()
    assert not any(map(os.path.isdir, directories))


def test_stirring_moves_nobody() -> None:
    before = Path("/proc/self/cgroup").read_text()
    open_files = len(os.listdir("/proc/self/fd"))
    cgroups.stir()
    assert Path("/proc/self/cgroup").read_text() == before
    assert len(os.listdir("/proc/self/fd")) == open_files
