"""What the kernel says of its handlers, and for which machines they are."""

import os
from pathlib import Path

import pytest

from runtime import binfmt

QEMU_ARM64 = """\
enabled
interpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P
flags: POCF
offset 0
magic 7f454c460201010000000000000000000200b700
mask ffffffffffffff00fffffffffffffffffeffffff
"""


def directory(path: Path, **files: str) -> str:
    for name, text in {"register": "", "status": "enabled\n", **files}.items():
        (path / name.replace("_", "-")).write_text(text)
    return str(path)


def test_a_handler_is_found_by_what_programs_begin_with(tmp_path: Path) -> None:
    arm = QEMU_ARM64.replace("0201010000000000000000000200b700", "0101010000000000000000000200 2800".replace(" ", ""))
    place = directory(
        tmp_path,
        a_script="enabled\ninterpreter /usr/bin/cli\nflags: \nextension .exe\n",
        qemu_arm=arm.replace("enabled", "disabled"),
        qemu_aarch64=QEMU_ARM64,
        python="enabled\ninterpreter /usr/bin/python3\nflags: \noffset 0\nmagic 0d0d\n",
    )
    found = binfmt.handlers(place)
    assert found is not None and [one.name for one in found] == ["python", "qemu-aarch64"]
    (chosen,) = binfmt.fitting("arm64", found)
    assert chosen.fixed and chosen.interpreter == "/usr/libexec/qemu-binfmt/aarch64-binfmt-P"
    assert all(binfmt.fitting(other, found) == () for other in ("arm", "amd64", "s390x", "riscv64", "unheard-of"))
    (tmp_path / "qemu-arm").write_text(arm.replace("POCF", ""))
    (chosen,) = binfmt.fitting("arm", binfmt.handlers(place) or ())
    assert chosen.name == "qemu-arm" and not chosen.fixed


def test_switched_off_there_is_none_and_not_mounted_nobody_knows(tmp_path: Path) -> None:
    assert binfmt.handlers(str(tmp_path)) is None
    place = directory(tmp_path, qemu=QEMU_ARM64)
    (tmp_path / "status").write_text("disabled\n")
    assert binfmt.handlers(place) == ()


@pytest.mark.root
def test_this_kernel_is_asked_without_anything_being_mounted() -> None:
    before = Path("/proc/self/mountinfo").read_text()
    found = binfmt.handlers()
    assert found is None or all(one.interpreter.startswith("/") for one in found)
    assert Path("/proc/self/mountinfo").read_text() == before


def test_a_kernel_runs_its_own_programs_and_those_of_its_32_bit_kin() -> None:
    assert binfmt.is_native("amd64", "x86_64") and binfmt.is_native("386", "x86_64")
    assert not binfmt.is_native("arm64", "x86_64") and not binfmt.is_native("amd64", "aarch64")
    with open("/proc/self/exe", "rb") as file:
        head = file.read(20)
    own = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine)
    if own is not None:
        # a program may be of the kind that can be loaded anywhere
        assert binfmt.elf_head(own)[:7] == head[:7] and binfmt.elf_head(own)[18:] == head[18:]
