"""Containers for a plain user: this very process moves into a user namespace in which it is root.

Called by the command line before anything else when it does not run as root; everything after that acts as usual.
With lines in /etc/subuid and newuidmap many ids are there; without, only one, and programs see their own id as root.
"""

from __future__ import annotations

import os

from runtime import idmap
from runtime.errors import KernelUnsupported
from runtime.linux import process as kernel
from runtime.spec import IdMap

_HINT = "see sysctl user.max_user_namespaces and kernel.unprivileged_userns_clone, or run as root"


def enter(user: str = "") -> bool:
    """Enter a user and a mount namespace as root; whether more than one id is mapped.

    *user*: the login name, by which /etc/subuid may list the ids (the number always works). Only for a process with
    one thread. Raises KernelUnsupported.
    """
    uid, gid = os.getuid(), os.getgid()
    ranges = subordinate("/etc/subuid", user, uid), subordinate("/etc/subgid", user, uid)
    if all(ranges) and _many(uid, gid, ranges):
        return True
    try:
        kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS)
    except OSError as err:
        raise KernelUnsupported(f"cannot make a user namespace: {err.strerror}", hint=_HINT) from err
    idmap.put("/proc/self/setgroups", "deny")
    idmap.put("/proc/self/uid_map", f"0 {uid} 1\n")
    idmap.put("/proc/self/gid_map", f"0 {gid} 1\n")
    return False


def subordinate(path: str, user: str, uid: int) -> tuple[int, int] | None:
    """(first id, count) that the file grants the user; None when it has no usable line."""
    try:
        with open(path) as file:
            lines = file.read(1 << 20).splitlines()
    except OSError:
        return None
    for line in lines:
        fields = line.strip().split(":")
        if len(fields) != 3 or fields[0] not in (user or str(uid), str(uid)):
            continue
        if fields[1].isdigit() and fields[2].isdigit() and int(fields[2]) > 0:
            return int(fields[1]), int(fields[2])
    return None


def _many(uid: int, gid: int, ranges: tuple[tuple[int, int] | None, tuple[int, int] | None]) -> bool:
    """A helper outside the namespace must write the maps: a child of ours, which waits until we have unshared."""
    uids, gids = ranges
    assert uids is not None and gids is not None
    if not all(os.access(f"/usr/bin/{name}", os.X_OK) for name in ("newuidmap", "newgidmap")):
        return False
    parent = os.getpid()
    ready, go = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(go)
        code = 1
        if os.read(ready, 1):
            try:
                idmap.write(parent, (IdMap(0, uid, 1), IdMap(1, *uids)), (IdMap(0, gid, 1), IdMap(1, *gids)))
                code = 0
            except KernelUnsupported:
                code = 1
        os._exit(code)
    os.close(ready)
    try:
        kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS)
        os.write(go, b"1")
    except OSError as err:
        raise KernelUnsupported(f"cannot make a user namespace: {err.strerror}", hint=_HINT) from err
    finally:
        os.close(go)
        failed = os.waitpid(child, 0)[1]
    if failed:
        raise KernelUnsupported("newuidmap or newgidmap refused the ids of /etc/subuid", hint="check /etc/subuid")
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    return True
