"""Programs for other machines: which of them this kernel runs, by itself or through a handler of binfmt_misc.

The kernel hands a program that it cannot run itself to the first handler whose magic bytes it has; for an emulator such
as qemu these are the head of an ELF file. A handler is *fixed* (flag F) when its interpreter was opened as it was
registered: it works in any root file system. Any other one must be found in the container.

Architectures are called as in images: amd64, arm64, arm, riscv64.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from runtime.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DIRECTORY = "/proc/sys/fs/binfmt_misc"

_NATIVE = {
    "x86_64": ("amd64", "386"),
    "i686": ("386",),
    "aarch64": ("arm64", "arm"),
    "armv7l": ("arm",),
    "ppc64le": ("ppc64le",),
    "riscv64": ("riscv64",),
    "s390x": ("s390x",),
    "loongarch64": ("loong64",),
}
"""What a kernel says of its machine → the architectures whose programs it runs itself, where it can at all."""

# architecture → (number of the machine in an ELF header, bits, byte order)
_ELF = {
    "386": (3, 32, "little"),
    "amd64": (62, 64, "little"),
    "arm": (40, 32, "little"),
    "arm64": (183, 64, "little"),
    "loong64": (258, 64, "little"),
    "mips": (8, 32, "big"),
    "mipsle": (8, 32, "little"),
    "mips64": (8, 64, "big"),
    "mips64le": (8, 64, "little"),
    "ppc": (20, 32, "big"),
    "ppc64": (21, 64, "big"),
    "ppc64le": (21, 64, "little"),
    "riscv64": (243, 64, "little"),
    "s390x": (22, 64, "big"),
    "sparc64": (43, 64, "big"),
}


@dataclass(frozen=True, slots=True)
class Handler:
    """An enabled handler: `interpreter` is its path, `magic` under `mask` at `offset` what it takes."""

    name: str
    interpreter: str
    fixed: bool
    offset: int
    magic: bytes
    mask: bytes

    def takes(self, head: bytes) -> bool:
        """Whether it takes a file that begins with *head*."""
        part = head[self.offset : self.offset + len(self.magic)]
        mask = self.mask or b"\xff" * len(self.magic)
        return len(part) == len(self.magic) and all(
            a & bits == b & bits for a, b, bits in zip(part, self.magic, mask, strict=True)
        )


def is_native(architecture: str, machine: str) -> bool:
    """Whether a kernel that calls itself *machine* runs programs for *architecture* without help."""
    return architecture in _NATIVE.get(machine, (machine,))


def fitting(architecture: str, found: Iterable[Handler]) -> tuple[Handler, ...]:
    """Those handlers that run programs for *architecture*; the kernel takes the one that was registered last, which
    nobody can see. None for an unknown architecture."""
    if architecture not in _ELF:
        return ()
    head = elf_head(architecture)
    return tuple(one for one in found if one.takes(head))


def handlers(directory: str = DIRECTORY) -> tuple[Handler, ...] | None:
    """The enabled handlers; None when they cannot be seen (not mounted, and we may not look): the kernel may know some.

    Raises OSError.
    """
    if os.path.exists(f"{directory}/status"):
        return tuple(_read_all(directory))
    if directory == DIRECTORY and _is_first_user_namespace():
        from runtime.linux import mounts

        try:
            context = mounts.fsopen("binfmt_misc")
        except OSError as err:
            # a kernel that has nothing of the kind, or a user who may not look
            return () if err.errno == errno.ENODEV else None
        try:
            mounts.fsconfig_create(context)
            mount = mounts.fsmount(context)  # attached nowhere
        finally:
            os.close(context)
        try:
            return tuple(_read_all(f"/proc/self/fd/{mount}"))
        finally:
            os.close(mount)
    return None


def elf_head(architecture: str) -> bytes:
    """The first bytes of a program for *architecture*, as far as handlers look. Raises KeyError."""
    machine, bits, order = _ELF[architecture]
    ident = b"\x7fELF" + bytes((bits // 32, 1 if order == "little" else 2, 1)) + bytes(9)
    numbers = (2).to_bytes(2, order), machine.to_bytes(2, order)  # type: ignore[arg-type]
    return ident + b"".join(numbers)


def _is_first_user_namespace() -> bool:
    """Each user namespace has handlers of its own, and mounting them in ours would hide those that count."""
    with open("/proc/self/uid_map", encoding="ascii") as file:
        return file.read().split() == ["0", "0", "4294967295"]


def _read_all(directory: str) -> Iterator[Handler]:
    with open(f"{directory}/status", encoding="ascii") as file:
        if file.read().strip() != "enabled":
            return
    for name in sorted(os.listdir(directory)):
        if name in ("register", "status"):
            continue
        try:
            with open(f"{directory}/{name}", encoding="utf-8", errors="surrogateescape") as file:
                found = _handler(name, file.read().splitlines())
        except FileNotFoundError:
            continue  # it went meanwhile
        if found is not None:
            yield found


def _handler(name: str, lines: list[str]) -> Handler | None:
    """What the kernel says of a handler; None for one that is disabled or goes by the name of a file."""
    facts = {key.rstrip(":"): value for key, _, value in (line.partition(" ") for line in lines)}
    if not lines or lines[0] != "enabled" or "magic" not in facts:
        return None
    return Handler(
        name,
        facts.get("interpreter", ""),
        "F" in facts.get("flags", ""),
        int(facts.get("offset", "0")),
        bytes.fromhex(facts["magic"]),
        bytes.fromhex(facts.get("mask", "")),
    )
