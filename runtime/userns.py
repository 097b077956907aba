"""Containers for a plain user: this very process moves into a user namespace in which it is root.

Called by the command line before anything else when it does not run as root; everything after that acts as usual.
With lines in /etc/subuid and newuidmap many ids are there; without, only one, and programs see their own id as root.
The choice is made anew by every command; what the store holds is the user's own under either.
"""

from __future__ import annotations

import os
import pwd

from runtime import idmap
from runtime.errors import KernelUnsupported
from runtime.linux import process as kernel
from runtime.spec import IdMap

_HINT = "see sysctl user.max_user_namespaces and kernel.unprivileged_userns_clone, or run as root"


def enter() -> bool:
    """Enter a user and a mount namespace as root; whether more than one id is mapped.

    Only for a process with one thread. Raises KernelUnsupported.
    """
    uid, gid = os.getuid(), os.getgid()
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = ""  # newuidmap will not know it, either
    ranges = subordinate("/etc/subuid", user, uid), subordinate("/etc/subgid", user, uid)
    helpers = all(os.access(f"/usr/bin/{name}", os.X_OK) for name in ("newuidmap", "newgidmap"))
    if helpers and user and ranges[0] is not None and ranges[1] is not None:
        if _unshare_mapped(uid, gid, ranges[0], ranges[1]):
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
            return True
    else:
        _unshare()
    idmap.put("/proc/self/setgroups", "deny")
    idmap.put("/proc/self/uid_map", f"0 {uid} 1\n")
    idmap.put("/proc/self/gid_map", f"0 {gid} 1\n")
    return False


def _unshare() -> None:
    try:
        kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS)
    except OSError as err:
        raise KernelUnsupported(f"cannot make a user namespace: {err.strerror}", hint=_HINT) from err


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


def _unshare_mapped(uid: int, gid: int, uids: tuple[int, int], gids: tuple[int, int]) -> bool:
    """Unshare, and have the maps written by a helper outside: a child of ours, which waits until we have unshared.

    False when newuidmap refuses (it has told why): the namespace is new and without maps then.
    """
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
            except (KernelUnsupported, OSError):
                code = 1
        os._exit(code)
    os.close(ready)
    try:
        _unshare()
        os.write(go, b"1")
    finally:
        os.close(go)
        failed = os.waitpid(child, 0)[1]
    return not failed
