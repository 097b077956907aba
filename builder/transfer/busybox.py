"""A root file system of one program: busybox, and links that are called as what it can do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import DownloadFailed

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Literal

CANDIDATES = (Path("/bin/busybox"), Path("/usr/bin/busybox"))
"""Where a host may have one."""

_DIRECTORIES = (
    "bin",
    "dev",
    "etc",
    "home",
    "proc",
    "root",
    "sys",
    "tmp",
    "usr",
    "usr/bin",
    "usr/sbin",
    "var",
    "var/tmp",
)
_PASSWD = "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
_PASSWD += "nobody:x:65534:65534:nobody:/home:/bin/false\n"
_GROUP = "root:x:0:\ndaemon:x:1:\ntty:x:5:\nusers:x:100:\nnogroup:x:65534:\n"


def lay_out(root: Path, binary: Path, names: Iterable[str]) -> None:
    """Make the files of an image of the program *binary*, with links that are called *names*: all of the program's
    time, so that two machines with the same program have the same image.
    """
    import shutil

    for name in _DIRECTORIES:
        (root / name).mkdir()
    for name in ("tmp", "var/tmp"):
        (root / name).chmod(0o1777)
    (root / "root").chmod(0o700)
    busybox = root / "bin/busybox"
    shutil.copyfile(binary, busybox)
    busybox.chmod(0o755)
    for applet in names:
        if applet != "busybox" and "/" not in applet:
            os.link(busybox, root / "bin" / applet)
    (root / "usr/bin/env").symlink_to("../../bin/env")
    (root / "etc/passwd").write_text(_PASSWD)
    (root / "etc/group").write_text(_GROUP)
    (root / "etc/shadow").write_text("root:*:::::::\n")
    (root / "etc/shadow").chmod(0o600)
    when = binary.stat().st_mtime_ns
    for path in (*root.rglob("*"), root):
        os.utime(path, ns=(when, when), follow_symlinks=False)


def listed(binary: Path) -> list[str]:
    """The program's own list, so that no link leads to an applet that this build of it lacks."""
    import subprocess

    return subprocess.run([binary, "--list"], capture_output=True, check=True, timeout=30).stdout.decode().split()


def applets(binary: Path) -> list[str]:
    """The same, of a program that cannot be run here: the names lie in it one after the other, sorted, from "[" on.

    Raises DownloadFailed."""
    _, found, rest = binary.read_bytes().partition(b"\0[\0[[\0")
    names = rest.partition(b"\0\0")[0].split(b"\0")
    if not found or b"sh" not in names or names != sorted(names):
        raise DownloadFailed("the list of applets is not where it is expected in busybox")
    return ["[", "[[", *(name.decode("ascii") for name in names)]


def is_static(path: Path) -> bool:
    """Whether *path* is an ELF program that asks for no dynamic loader (no PT_INTERP)."""
    try:
        with open(path, "rb") as file:
            head = file.read(64)
            if head[:4] != b"\x7fELF":
                return False
            order: Literal["little", "big"] = "little" if head[5] == 1 else "big"
            places = ((32, 40), (54, 56), (56, 58)) if head[4] == 2 else ((28, 32), (42, 44), (44, 46))
            start, size, count = (int.from_bytes(head[a:b], order) for a, b in places)
            file.seek(start)
            table = file.read(size * count)
    except OSError:
        return False
    return all(int.from_bytes(table[at : at + 4], order) != 3 for at in range(0, len(table), size or 1))
