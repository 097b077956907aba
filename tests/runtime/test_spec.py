"""Specs as plain values; capability options; detach keys; cgroup plans; id map files."""

from __future__ import annotations

import json

import pytest

from runtime import defaults, sync
from runtime.capabilities import ALL, mask, names
from runtime.cgroups import v1, v2
from runtime.errors import ContainerError, SpecInvalid, UserNotFound, from_wire
from runtime.spec import Device, IdMap, Mount, Namespaces, Process, Resources, Rootfs, Spec
from runtime.terminal import DetachFilter, parse_keys
from runtime.userns import subordinate

SPEC = Spec(
    "id",
    Rootfs(("/a", "/b"), "/u", "/w"),
    Process(("sh",), rlimits=defaults.RLIMITS, console_size=(1, 2)),
    mounts=(Mount("file", "", "/s", ("ro",), data=b"\0\xff"), Mount("overlay", "", "/o", rootfs=Rootfs(("/c",)))),
    namespaces=Namespaces(uid_maps=(IdMap(0, 1000, 1),)),
    resources=Resources(memory=1),
    devices=(Device("/dev/x", "c", 1, 2),),
    sysctls=(("a.b", "1"),),
)


def test_a_spec_survives_json():
    assert Spec.from_dict(json.loads(json.dumps(SPEC.to_dict()))) == SPEC


def test_init_sees_the_same_attributes():
    seen = sync.as_spec(SPEC.to_dict())
    assert seen.mounts[0].data == b"\0\xff" and seen.mounts[1].rootfs.lowers == ("/c",)
    assert seen.namespaces.uid_maps[0].outside == 1000 and seen.process.argv == ("sh",)


def test_errors_travel():
    for error in (UserNotFound("x", hint="y"), ContainerError("z")):
        back = from_wire(*error.to_wire())
        assert type(back) is type(error) and (str(back), back.hint) == (str(error), error.hint)


def test_capability_options():
    assert set(defaults.capabilities()) == set(defaults.CAPABILITIES)
    assert "NET_ADMIN" in defaults.capabilities(add=["cap_net_admin"])
    assert "CHOWN" not in defaults.capabilities(drop=["CHOWN"])
    assert defaults.capabilities(add=["CHOWN"], drop=["all"]) == ("CHOWN",)
    assert set(defaults.capabilities(add=["ALL"], drop=["SYS_ADMIN"])) == set(ALL) - {"SYS_ADMIN"}
    with pytest.raises(SpecInvalid):
        defaults.capabilities(add=["FLY"])
    assert set(names(mask(defaults.CAPABILITIES))) == set(defaults.CAPABILITIES)


def test_detach_keys():
    keys = DetachFilter(parse_keys("ctrl-p,ctrl-q"))
    assert keys.feed(b"a\x10") == b"a" and keys.feed(b"b") == b"\x10b" and not keys.detached
    assert keys.feed(b"c\x10\x11rest") == b"c" and keys.detached
    with pytest.raises(SpecInvalid):
        parse_keys("ctrl-")


def test_cgroup_plans():
    limits = Resources(memory=100, cpu_quota=50000, cpu_period=100000, pids_limit=-1, cpu_shares=1024)
    assert {file: value for _, file, value in v1.plan(limits)} == {
        "memory.limit_in_bytes": "100", "memory.memsw.limit_in_bytes": "200", "cpu.shares": "1024",
        "cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "50000", "pids.max": "max"}  # fmt: skip
    assert dict(v2.plan(limits)) == {"memory.max": "100", "memory.swap.max": "100", "cpu.weight": "39",
                                     "cpu.max": "50000 100000", "pids.max": "max"}  # fmt: skip
    assert v1.plan(Resources()) == () and v2.plan(Resources()) == ()


def test_subordinate_ids(tmp_path):
    (tmp_path / "subuid").write_text("bob:100000:65536\n1001:5:x\nalice:200000:10\n")
    assert subordinate(str(tmp_path / "subuid"), "alice", 1002) == (200000, 10)
    assert subordinate(str(tmp_path / "subuid"), "carol", 1001) is None
