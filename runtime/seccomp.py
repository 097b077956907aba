"""The seccomp filter of a process: docker's default profile ready to load, any other one compiled on demand.

The default's programs are files (``profiles/*.bpf``, made by ``runtime.seccomp_compiler``, which a test compares them
with): no container waits for a compiler.
"""

from __future__ import annotations

import os

PROFILES = f"{os.path.dirname(os.path.abspath(__file__))}/profiles"
MACHINES = ("x86_64", "aarch64")
# The capabilities for which the default profile is compiled beforehand: ``runtime.defaults.CAPABILITIES``.
DEFAULT_CAPABILITIES = ("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE",
                        "NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT")  # fmt: skip

_compiled: dict[tuple[str, tuple[str, ...], bool], bytes] = {}


def program(profile: str, capabilities: tuple[str, ...]) -> bytes | None:
    """The filter for *profile* ("default", "unconfined" or JSON text) of a process with these capabilities.

    None is no filter. Kept for the next container of the same kind. Raises SpecInvalid for a bad profile.
    """
    single = single_id()
    if profile == "unconfined":
        if not single:
            return None
        profile = '{"defaultAction": "SCMP_ACT_ALLOW"}'
    key = (profile, tuple(sorted(capabilities)), single)
    if key not in _compiled:
        _compiled[key] = _ready(*key) or _compile(*key)
    return _compiled[key]


def single_id() -> bool:
    """Whether this process lives in a user namespace that has only one user id."""
    with open("/proc/self/uid_map") as file:
        fields = file.read().split()
    return len(fields) == 3 and fields[2] == "1"


def shipped(machine: str, *, single_id: bool) -> str:
    """Where the default profile's program for *machine* lies."""
    return f"{PROFILES}/default-{machine}{'-single-id' if single_id else ''}.bpf"


def _ready(profile: str, capabilities: tuple[str, ...], single: bool) -> bytes | None:  # noqa: FBT001
    if profile != "default" or capabilities != DEFAULT_CAPABILITIES:
        return None
    try:
        fd = os.open(shipped(os.uname().machine, single_id=single), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return os.read(fd, 4096 * 8)
    finally:
        os.close(fd)


def _compile(profile: str, capabilities: tuple[str, ...], single: bool) -> bytes:  # noqa: FBT001
    from runtime.seccomp_compiler import compile_text

    text = profile
    if profile == "default":
        with open(f"{PROFILES}/default.json") as file:
            text = file.read()
    host = os.uname()
    return compile_text(text, host.machine, capabilities, host.release, single_id=single)
