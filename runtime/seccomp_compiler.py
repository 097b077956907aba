"""From a seccomp profile in docker's JSON form to BPF. Pure but for reading our own tables.

A filter checks the architecture (a foreign one is killed; the 32-bit companion of x86_64 has a part of its own),
refuses x32, and then looks the system call up in a binary search; rules with conditions on arguments come first and
compare 64 bits in two halves.
"""

from __future__ import annotations

import json
import struct

from runtime.errors import SpecInvalid
from runtime.seccomp import DEFAULT_CAPABILITIES, MACHINES, PROFILES, shipped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# linux/bpf_common.h, linux/filter.h
_LD, _JEQ, _JGE, _JGT, _JMP, _AND, _RET = 0x20, 0x15, 0x35, 0x25, 0x05, 0x54, 0x06
# linux/seccomp.h
ALLOW, ERRNO, KILL_PROCESS, KILL_THREAD, TRAP, LOG, TRACE = (
    0x7FFF0000, 0x00050000, 0x80000000, 0x00000000, 0x00030000, 0x7FFC0000, 0x7FF00000)  # fmt: skip
_ACTIONS = {"SCMP_ACT_ALLOW": ALLOW, "SCMP_ACT_ERRNO": ERRNO, "SCMP_ACT_KILL": KILL_THREAD, "SCMP_ACT_LOG": LOG,
            "SCMP_ACT_KILL_PROCESS": KILL_PROCESS, "SCMP_ACT_KILL_THREAD": KILL_THREAD, "SCMP_ACT_TRAP": TRAP,
            "SCMP_ACT_TRACE": TRACE}  # fmt: skip
_OPERATORS = ("SCMP_CMP_EQ", "SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_GT", "SCMP_CMP_GE",
              "SCMP_CMP_MASKED_EQ")  # fmt: skip
_ENOSYS = 38
_X32_BIT = 0x40000000
# linux/audit.h: AUDIT_ARCH_*
ARCHES = {"x86_64": 0xC000003E, "i386": 0x40000003, "aarch64": 0xC00000B7}
_PROFILE_ARCH = {"x86_64": "amd64", "i386": "x86", "aarch64": "arm64"}

# With a single id in the user namespace nothing can be given to anybody else: package managers that try are told that
# they did. Device nodes likewise; mknod of a pipe is a real one.
_NO_OP = {"action": "SCMP_ACT_ERRNO", "errnoRet": 0}
_EMULATED = (
    {"names": ["chown", "chown32", "fchown", "fchown32", "lchown", "lchown32", "fchownat", "setuid", "setuid32",
               "setgid", "setgid32", "setreuid", "setreuid32", "setregid", "setregid32", "setresuid", "setresuid32",
               "setresgid", "setresgid32", "setfsuid", "setfsuid32", "setfsgid", "setfsgid32", "setgroups",
               "setgroups32"], **_NO_OP},
    *({"names": [name], **_NO_OP,
       "args": [{"index": index, "op": "SCMP_CMP_MASKED_EQ", "value": 0o170000, "valueTwo": kind}]}
      for name, index in (("mknod", 1), ("mknodat", 2)) for kind in (0o020000, 0o060000)),
)  # fmt: skip


def compile_text(text: str, machine: str, capabilities: tuple[str, ...], release: str, *, single_id: bool) -> bytes:
    """The program for a profile's JSON text on a kernel *release* ("6.1.0-18"); *single_id*: see ``_EMULATED``.

    Raises SpecInvalid for a bad profile.
    """
    try:
        value = json.loads(text)
    except ValueError as err:
        raise SpecInvalid(f"decoding seccomp profile failed: {err}") from err
    if single_id:
        value["syscalls"] = [*_EMULATED, *(value.get("syscalls") or ())]
    major, _, rest = release.partition(".")
    minor = rest.partition(".")[0].partition("-")[0]
    return compile_profile(value, machine, capabilities, (int(major), int(minor) if minor.isdigit() else 0))


def default_programs() -> dict[str, bytes]:
    """What ships as ``profiles/*.bpf``: path and content, for every machine, with one id and with many."""
    with open(f"{PROFILES}/default.json") as file:
        text = file.read()
    return {
        shipped(machine, single_id=single): compile_text(text, machine, DEFAULT_CAPABILITIES, "6.0", single_id=single)
        for machine in MACHINES
        for single in (False, True)
    }


def numbers(machine: str) -> dict[str, int]:
    """System call names of an architecture and their numbers."""
    with open(f"{PROFILES}/syscalls-{machine}.txt") as file:
        return {name: int(number) for name, number in (line.split() for line in file)}


def compile_profile(
    profile: dict[str, Any], machine: str, capabilities: tuple[str, ...], kernel: tuple[int, int]
) -> bytes:
    """BPF (8 bytes an instruction) for a profile on *machine*, for given capabilities and kernel version."""
    if machine not in ARCHES:
        raise SpecInvalid(f"no seccomp filter for {machine} yet", hint="use seccomp=unconfined")
    parts = [machine, *(("i386",) if machine == "x86_64" else ())]
    code = [_stmt(_LD, 4)]
    sections = [_section(profile, part, capabilities, kernel) for part in parts]
    for part, section in zip(parts, sections, strict=True):
        # A section is longer than a conditional jump reaches: jump over an unconditional one instead.
        code += [_jump(_JEQ, ARCHES[part], 1, 0), _stmt(_JMP, len(section)), *section]
    code.append(_stmt(_RET, KILL_PROCESS))
    if len(code) > 4096:
        raise SpecInvalid(f"seccomp profile is too long: {len(code)} instructions, the kernel takes 4096")
    return b"".join(code)


def _section(
    profile: dict[str, Any], machine: str, capabilities: tuple[str, ...], kernel: tuple[int, int]
) -> list[bytes]:
    table = numbers(machine)
    default = _action(profile.get("defaultAction", "SCMP_ACT_ERRNO"), profile.get("defaultErrnoRet", 1))
    flat: dict[int, int] = {}
    conditional: dict[int, list[tuple[list[Any], int]]] = {}
    for rule in profile.get("syscalls") or ():
        if not _applies(rule, machine, capabilities, kernel):
            continue
        action = _action(rule["action"], rule.get("errnoRet"))
        for name in rule.get("names") or (rule["name"],):
            number = table.get(name)
            if number is None:
                continue  # another architecture's, or newer than our table
            if rule.get("args"):
                conditional.setdefault(number, []).append((rule["args"], action))
            else:
                flat.setdefault(number, action)
    code = [_stmt(_LD, 0)]
    if machine == "x86_64":
        code += [_jump(_JGE, _X32_BIT, 0, 1), _stmt(_RET, ERRNO | _ENOSYS)]
    for number, rules in sorted(conditional.items()):
        block: list[bytes] = []
        for arguments, action in rules:
            block += _conditions(arguments, action)
        block.append(_stmt(_RET, flat.pop(number, default)))
        code += [_jump(_JEQ, number, 1, 0), _stmt(_JMP, len(block)), *block]
    code += _search(_ranges(flat, default), default)
    return code


def _ranges(flat: dict[int, int], default: int) -> list[tuple[int, int]]:
    """(first number, action) of runs with one action, covering everything from 0 on."""
    runs: list[tuple[int, int]] = [(0, flat.get(0, default))]
    for number in range(1, max(flat, default=0) + 2):
        action = flat.get(number, default)
        if action != runs[-1][1]:
            runs.append((number, action))
    return runs


def _search(runs: list[tuple[int, int]], default: int) -> list[bytes]:
    """Binary search in the runs: the number is in the accumulator."""
    if len(runs) == 1:
        return [_stmt(_RET, runs[0][1])]
    middle = len(runs) // 2
    low, high = _search(runs[:middle], default), _search(runs[middle:], default)
    if len(low) < 256:
        return [_jump(_JGE, runs[middle][0], len(low), 0), *low, *high]
    return [_jump(_JGE, runs[middle][0], 0, 1), _stmt(_JMP, len(low)), *low, *high]


def _conditions(arguments: list[Any], action: int) -> list[bytes]:
    """All conditions hold: return *action*; else fall out at the end, with the system call's number loaded again."""
    code = [_stmt(_RET, action)]
    for argument in reversed(arguments):
        code = _condition(argument, code)
    return [*code, _stmt(_LD, 0)]


def _condition(argument: Any, then: list[bytes]) -> list[bytes]:
    operator, index, value = argument["op"], argument["index"], argument["value"] & (1 << 64) - 1
    if operator not in _OPERATORS:
        raise SpecInvalid(f'seccomp profile: unknown operator "{operator}"')
    low, high = _stmt(_LD, 16 + 8 * index), _stmt(_LD, 20 + 8 * index)
    small, big = value & 0xFFFFFFFF, value >> 32
    n = len(then)  # how far behind the condition's end "false" lies
    if operator == "SCMP_CMP_MASKED_EQ":
        wanted = argument.get("valueTwo", 0)
        return [high, _stmt(_AND, big), _jump(_JEQ, wanted >> 32 & 0xFFFFFFFF, 0, n + 3),
                low, _stmt(_AND, small), _jump(_JEQ, wanted & 0xFFFFFFFF, 0, n), *then]  # fmt: skip
    if operator == "SCMP_CMP_EQ":
        return [high, _jump(_JEQ, big, 0, n + 2), low, _jump(_JEQ, small, 0, n), *then]
    if operator == "SCMP_CMP_NE":
        return [high, _jump(_JEQ, big, 0, 2), low, _jump(_JEQ, small, n, 0), *then]
    if operator in ("SCMP_CMP_GT", "SCMP_CMP_GE"):
        code = _JGT if operator.endswith("GT") else _JGE
        return [high, _jump(_JGT, big, 3, 0), _jump(_JEQ, big, 0, n + 2), low, _jump(code, small, 0, n), *then]
    code = _JGE if operator.endswith("LT") else _JGT
    return [high, _jump(_JGT, big, n + 3, 0), _jump(_JEQ, big, 0, 2), low, _jump(code, small, n, 0), *then]


def _applies(rule: dict[str, Any], machine: str, capabilities: tuple[str, ...], kernel: tuple[int, int]) -> bool:
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    held = {f"CAP_{name}" for name in capabilities}
    arch = _PROFILE_ARCH[machine]
    if includes.get("arches") and arch not in includes["arches"]:
        return False
    if arch in (excludes.get("arches") or ()):
        return False
    if any(name not in held for name in includes.get("caps") or ()):
        return False
    if any(name in held for name in excludes.get("caps") or ()):
        return False
    if includes.get("minKernel"):
        major, _, minor = includes["minKernel"].partition(".")
        return kernel >= (int(major), int(minor or 0))
    return True


def _action(name: str, errno: int | None) -> int:
    if name not in _ACTIONS:
        raise SpecInvalid(f'seccomp profile: unknown action "{name}"')
    action = _ACTIONS[name]
    return action | ((1 if errno is None else errno) & 0xFFFF) if action in (ERRNO, TRACE) else action


def _stmt(code: int, value: int) -> bytes:
    return struct.pack("=HBBI", code, 0, 0, value)


def _jump(code: int, value: int, true: int, false: int) -> bytes:
    if max(true, false) > 255:
        raise SpecInvalid("seccomp profile: a rule has too many conditions")
    return struct.pack("=HBBI", code, true, false, value)


if __name__ == "__main__":
    # `python -m runtime.seccomp_compiler` writes the shipped programs anew after a change of a table or of this file.
    for path, content in default_programs().items():
        with open(path, "wb") as file:
            file.write(content)
