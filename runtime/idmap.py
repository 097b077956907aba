"""Writing the id maps of a user namespace: directly where that is allowed, else with newuidmap and newgidmap."""

from __future__ import annotations

import os

from runtime.errors import KernelUnsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.spec import IdMap


def write(pid: int, uid_maps: tuple[IdMap, ...], gid_maps: tuple[IdMap, ...]) -> None:
    """Map the ids of the user namespace that *pid* is in. Raises KernelUnsupported."""
    for kind, maps in (("uid", uid_maps), ("gid", gid_maps)):
        lines = text(maps)
        try:
            put(f"/proc/{pid}/{kind}_map", lines)
        except OSError as err:
            if not _helper(f"new{kind}map", pid, maps):
                raise KernelUnsupported(
                    f"cannot map {kind}s of a user namespace: {err.strerror}",
                    hint="install newuidmap and newgidmap (Debian: uidmap) and give the user lines in /etc/subuid and "
                    "/etc/subgid",
                ) from err


def text(maps: tuple[IdMap, ...]) -> str:
    """The kernel's form: "inside outside count" lines."""
    return "".join(f"{item.inside} {item.outside} {item.count}\n" for item in maps)


def put(path: str, value: str) -> None:
    """Write a map file, which takes everything in one write. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def _helper(program: str, pid: int, maps: tuple[IdMap, ...]) -> bool:
    numbers = [str(number) for item in maps for number in (item.inside, item.outside, item.count)]
    for directory in ("/usr/bin", "/bin", "/usr/local/bin"):
        path = f"{directory}/{program}"
        if os.access(path, os.X_OK):
            child = os.posix_spawn(path, [program, str(pid), *numbers], {})
            return os.waitpid(child, 0)[1] == 0
    return False
