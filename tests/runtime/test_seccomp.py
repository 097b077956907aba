"""The compiler of seccomp profiles: its programs are run by a small BPF interpreter and compared with the rules."""

from __future__ import annotations

import json
import struct
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime import defaults, seccomp, seccomp_compiler
from runtime.errors import SpecInvalid

ERRNO_EPERM = seccomp_compiler.ERRNO | 1


def run(program: bytes, number: int, *args: int, machine: str = "x86_64") -> int:
    data = struct.pack("=IIQ6Q", number, seccomp_compiler.ARCHES[machine], 0, *(list(args) + [0] * 6)[:6])
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
        return seccomp_compiler.compile_profile(json.load(file), machine, (*defaults.CAPABILITIES, *more), (6, 1))


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_default_profile(machine):
    program, table = default(machine=machine), seccomp_compiler.numbers(machine)

    def verdict(name: str, *args: int) -> int:
        return run(program, table[name], *args, machine=machine)

    for name in ("read", "openat", "execve", "chroot", "ptrace", "capset", "setuid", "seccomp", "statx"):
        assert verdict(name) == seccomp_compiler.ALLOW, name
    for name in ("io_uring_setup", "userfaultfd", "keyctl", "add_key", "bpf", "perf_event_open", "mount", "unshare",
        "setns", "reboot", "init_module", "kexec_load", "open_by_handle_at", "pivot_root", "acct"):  # fmt: skip
        assert verdict(name) == ERRNO_EPERM, name
    assert verdict("clone3") == seccomp_compiler.ERRNO | 38
    assert verdict("clone", 17) == seccomp_compiler.ALLOW and verdict("clone", 17 | 0x10000000) == ERRNO_EPERM
    for family in range(60):
        assert verdict("socket", family) == (ERRNO_EPERM if family in (38, 40) else seccomp_compiler.ALLOW)
    for persona in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF):
        assert verdict("personality", persona) == seccomp_compiler.ALLOW
    assert verdict("personality", 0x40000) == ERRNO_EPERM


def test_capabilities_open_their_groups():
    program, table = default("SYS_ADMIN"), seccomp_compiler.numbers("x86_64")
    for name in ("mount", "unshare", "clone3", "setns", "bpf"):
        assert run(program, table[name]) == seccomp_compiler.ALLOW
    assert run(program, table["clone"], 0x10000000) == seccomp_compiler.ALLOW


def test_other_architectures():
    program = default()
    assert run(program, seccomp_compiler.numbers("i386")["read"], machine="i386") == seccomp_compiler.ALLOW
    assert run(program, seccomp_compiler.numbers("i386")["mount"], machine="i386") == ERRNO_EPERM
    assert run(program, 0, machine="aarch64") == seccomp_compiler.KILL_PROCESS
    assert run(program, 0x40000000) == seccomp_compiler.ERRNO | 38


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
    program = seccomp_compiler.compile_profile(profile, "x86_64", (), (6, 1))
    holds = all(OPS[op](args[index], value, two) for op, index, value, two in conditions)
    assert run(program, 0, *args) == (seccomp_compiler.ALLOW if holds else ERRNO_EPERM)


@pytest.mark.parametrize("text", ["{", '{"defaultAction": "SCMP_ACT_NICE"}'])
def test_a_bad_profile_is_refused(text):
    with pytest.raises(SpecInvalid, match="seccomp profile"):
        seccomp.program(text, ())


def test_the_shipped_programs_are_what_the_compiler_makes():
    assert tuple(sorted(defaults.CAPABILITIES)) == seccomp.DEFAULT_CAPABILITIES
    for path, content in seccomp_compiler.default_programs().items():
        with open(path, "rb") as file:
            assert file.read() == content, f"{path} is old: run python -m runtime.seccomp_compiler"


def test_other_capabilities_are_not_given_the_shipped_program():
    assert seccomp.program("default", (*defaults.CAPABILITIES, "SYS_ADMIN")) != seccomp.program(
        "default", defaults.CAPABILITIES
    )


def test_the_default_profile_agrees_with_libseccomp():
    """The same rules, compiled by libseccomp, judge every system call alike (numbers without conditions)."""
    library = pytest.importorskip("seccomp")
    with open(f"{seccomp.PROFILES}/default.json") as file:
        profile = json.load(file)
    table = seccomp_compiler.numbers("x86_64")
    theirs = library.SyscallFilter(library.ERRNO(1))
    held = {f"CAP_{name}" for name in defaults.CAPABILITIES}
    for rule in profile["syscalls"]:
        includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
        if rule["action"] != "SCMP_ACT_ALLOW" or "amd64" not in (includes.get("arches") or ["amd64"]):
            continue
        if "amd64" in (excludes.get("arches") or ()) or not set(includes.get("caps") or ()) <= held:
            continue
        if held & set(excludes.get("caps") or ()):
            continue
        conditions = [
            library.Arg(item["index"], getattr(library, item["op"].removeprefix("SCMP_CMP_")), item["value"])
            if item["op"] != "SCMP_CMP_MASKED_EQ"
            else library.Arg(item["index"], library.MASKED_EQ, item["value"], item.get("valueTwo", 0))
            for item in rule.get("args") or ()
        ]
        for name in rule["names"]:
            if name in table:
                theirs.add_rule(library.ALLOW, table[name], *conditions)
    with tempfile.TemporaryFile() as file:
        theirs.export_bpf(file)
        file.seek(0)
        reference = file.read()
    mine = default()
    for name, number in table.items():
        if name == "clone3":
            continue  # docker's ENOSYS rule, left out above
        for args in ((0,) * 6, (17, 0, 0), (38, 1, 2), (40, 0, 0), (0x10000000, 0, 0), (0xFFFFFFFF, 5, 5)):
            assert run(mine, number, *args) == run(reference, number, *args), (name, args)
