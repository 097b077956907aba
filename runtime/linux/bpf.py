"""eBPF programs on a cgroup v2's device hook (linux/bpf.h): which devices the processes in it may make and open."""

from __future__ import annotations

import ctypes
import os
import struct

from runtime.linux.libc import number, syscall

_PROG_LOAD, _PROG_ATTACH = 5, 8
_TYPE_CGROUP_DEVICE, _ATTACH_CGROUP_DEVICE = 15, 6
_ALLOW_MULTI = 2
_KINDS = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}


def device_program(rules: tuple[tuple[str, int, int, str], ...]) -> bytes:
    """A program that allows what any of the (kind, major, minor, access) rules allows; -1 is any number. Pure."""
    # struct bpf_cgroup_dev_ctx: access << 16 | type, major, minor
    code = [_insn(0x61, 2, 1, 0, 0), _insn(0xBC, 3, 2, 0, 0), _insn(0x54, 2, 0, 0, 0xFFFF), _insn(0x74, 3, 0, 0, 16),
            _insn(0x61, 4, 1, 4, 0), _insn(0x61, 5, 1, 8, 0)]  # fmt: skip
    for kind, major, minor, access in rules:
        allowed = sum(_ACCESS[letter] for letter in access)
        tests = [(0x55, 2, _KINDS[kind])]
        if major >= 0:
            tests.append((0x55, 4, major))
        if minor >= 0:
            tests.append((0x55, 5, minor))
        # r1 = access & ~allowed must be 0; then return 1
        tail = [_insn(0xBC, 1, 3, 0, 0), _insn(0x54, 1, 0, 0, ~allowed & 7), _insn(0x55, 1, 0, 2, 0),
                _insn(0xB4, 0, 0, 0, 1), _insn(0x95, 0, 0, 0, 0)]  # fmt: skip
        for index, (opcode, register, value) in enumerate(tests):
            code.append(_insn(opcode, register, 0, len(tests) - 1 - index + len(tail), value))
        code += tail
    code += [_insn(0xB4, 0, 0, 0, 0), _insn(0x95, 0, 0, 0, 0)]
    return b"".join(code)


def attach_device_program(cgroup: int, program: bytes) -> None:
    """Load *program* and attach it to the cgroup directory *cgroup*. Raises OSError."""
    code = ctypes.create_string_buffer(program, len(program))
    licence = ctypes.create_string_buffer(b"Apache")
    attributes = ctypes.create_string_buffer(
        struct.pack(
            "=IIQQ", _TYPE_CGROUP_DEVICE, len(program) // 8, ctypes.addressof(code), ctypes.addressof(licence)
        ).ljust(128, b"\0"),
        128,
    )
    fd = syscall("bpf", number("bpf"), _PROG_LOAD, ctypes.byref(attributes), 128)
    try:
        attributes = ctypes.create_string_buffer(
            struct.pack("=IIII", cgroup, fd, _ATTACH_CGROUP_DEVICE, _ALLOW_MULTI).ljust(128, b"\0"), 128
        )
        syscall("bpf", number("bpf"), _PROG_ATTACH, ctypes.byref(attributes), 128)
    finally:
        os.close(fd)


def _insn(opcode: int, destination: int, source: int, offset: int, value: int) -> bytes:
    return struct.pack("=BBhi", opcode, source << 4 | destination, offset, value)
