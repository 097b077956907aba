"""Capability names and numbers (linux/capability.h), bit masks, and giving them up.

No policy: which ones a container gets is in ``runtime.defaults``.
"""

from __future__ import annotations

from runtime.linux import process

# In the order of their numbers.
ALL = (
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
)
NUMBERS = {name: number for number, name in enumerate(ALL)}


def known(name: str) -> bool:
    """Whether *name* (upper case, without CAP_) is a capability."""
    return name in NUMBERS


def mask(names: tuple[str, ...]) -> int:
    """The bit set of *names*."""
    bits = 0
    for name in names:
        bits |= 1 << NUMBERS[name]
    return bits


def names(bits: int) -> tuple[str, ...]:
    """The names of the bits that are set, in the order of their numbers; bits without a name are left out."""
    return tuple(name for number, name in enumerate(ALL) if bits >> number & 1)


def permitted() -> int:
    """The capabilities that this process may use, as bits."""
    return process.capget()[1]


def limit_bounding(keep: int) -> None:
    """Drop every capability that is not in *keep* from the bounding set, so that no program can bring it back."""
    for number in range(64):
        if not keep >> number & 1:
            try:
                process.capbset_drop(number)
            except OSError as err:
                if err.errno == 22:  # EINVAL: the kernel knows no capability of this number or above
                    return
                raise


def apply(keep: int) -> None:
    """Make *keep* the effective and permitted sets; inheritable and ambient become empty (CVE-2022-24769)."""
    process.ambient_clear()
    allowed = keep & permitted()
    process.capset(allowed, allowed, 0)
