"""The compiler of seccomp profiles: its programs are run by a small BPF interpreter and compared with the rules."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime import defaults, seccomp
from runtime.errors import SpecInvalid

ERRNO_EPERM = seccomp.ERRNO | 1


def run(program: bytes, number: int, *args: int, machine: str = "x86_64") -> int:
    data = struct.pack("=IIQ6Q", number, seccomp.ARCHES[machine], 0, *(list(args) + [0] * 6)[:6])
    code = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    at, acc = 0, 0
    while True:
        op, true, false, value = code[at]
        at += 1
        match op:
            case 0x20:
                (acc,) = struct.unpack_from("=I", data, value)
            case 0x54:
                acc &= value
            case 0x05:
                at += value
            case 0x06:
                return value
            case 0x15 | 0x25 | 0x35:
                holds = {0x15: acc == value, 0x25: acc > value, 0x35: acc >= value}[op]
                at += true if holds else false


def default(*more: str, machine: str = "x86_64") -> bytes:
    with open(f"{seccomp.PROFILES}/default.json") as file:
        return seccomp.compile_profile(json.load(file), machine, (*defaults.CAPABILITIES, *more), (6, 1))


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_default_profile(machine):
    program, table = default(machine=machine), seccomp.numbers(machine)

    def verdict(name: str, *args: int) -> int:
        return run(program, table[name], *args, machine=machine)

    for name in ("read", "openat", "execve", "chroot", "ptrace", "capset", "setuid", "seccomp", "statx"):
        assert verdict(name) == seccomp.ALLOW, name
    for name in ("io_uring_setup", "userfaultfd", "keyctl", "add_key", "bpf", "perf_event_open", "mount", "unshare",
        "setns", "reboot", "init_module", "kexec_load", "open_by_handle_at", "pivot_root", "acct"):  # fmt: skip
        assert verdict(name) == ERRNO_EPERM, name
    assert verdict("clone3") == seccomp.ERRNO | 38
    assert verdict("clone", 17) == seccomp.ALLOW and verdict("clone", 17 | 0x10000000) == ERRNO_EPERM
    for family in range(60):
        assert verdict("socket", family) == (ERRNO_EPERM if family in (38, 40) else seccomp.ALLOW)
    for persona in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF):
        assert verdict("personality", persona) == seccomp.ALLOW
    assert verdict("personality", 0x40000) == ERRNO_EPERM


def test_capabilities_open_their_groups():
    program, table = default("SYS_ADMIN"), seccomp.numbers("x86_64")
    for name in ("mount", "unshare", "clone3", "setns", "bpf"):
        assert run(program, table[name]) == seccomp.ALLOW
    assert run(program, table["clone"], 0x10000000) == seccomp.ALLOW


def test_other_architectures():
    program = default()
    assert run(program, seccomp.numbers("i386")["read"], machine="i386") == seccomp.ALLOW
    assert run(program, seccomp.numbers("i386")["mount"], machine="i386") == ERRNO_EPERM
    assert run(program, 0, machine="aarch64") == seccomp.KILL_PROCESS
    assert run(program, 0x40000000) == seccomp.ERRNO | 38


OPS = {
    "SCMP_CMP_EQ": lambda a, v, w: a == v,
    "SCMP_CMP_NE": lambda a, v, w: a != v,
    "SCMP_CMP_LT": lambda a, v, w: a < v,
    "SCMP_CMP_LE": lambda a, v, w: a <= v,
    "SCMP_CMP_GT": lambda a, v, w: a > v,
    "SCMP_CMP_GE": lambda a, v, w: a >= v,
    "SCMP_CMP_MASKED_EQ": lambda a, v, w: a & v == w,
}
numbers64 = st.one_of(st.integers(0, (1 << 64) - 1), st.integers(0, 3), st.sampled_from([1 << 32, (1 << 32) - 1]))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(sorted(OPS)), st.integers(0, 5), numbers64, numbers64), min_size=1, max_size=4),
    st.lists(numbers64, min_size=6, max_size=6),
)
def test_conditions_on_arguments(conditions, args):
    rules = [{"op": op, "index": index, "value": value, "valueTwo": two} for op, index, value, two in conditions]
    profile = {"defaultAction": "SCMP_ACT_ERRNO",
               "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": rules}]}  # fmt: skip
    program = seccomp.compile_profile(profile, "x86_64", (), (6, 1))
    holds = all(OPS[op](args[index], value, two) for op, index, value, two in conditions)
    assert run(program, 0, *args) == (seccomp.ALLOW if holds else ERRNO_EPERM)


@pytest.mark.parametrize("text", ["{", '{"defaultAction": "SCMP_ACT_NICE"}'])
def test_a_bad_profile_is_refused(text):
    with pytest.raises(SpecInvalid, match="seccomp profile"):
        seccomp.program(text, ())
