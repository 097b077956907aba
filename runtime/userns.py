"""Containers for a plain user: this very process moves into a user namespace in which it is root.

Called by the command line before anything else when it does not run as root; everything after that acts as usual.
With lines in /etc/subuid and newuidmap many ids are there; without, only one, and programs see their own id as root.

All commands of a user share one namespace as long as a process lives in it, the supervisor of a container or another
command: from a second one nobody could enter the containers of the first. Its number (the inode of /proc/PID/ns/user)
is kept in a directory of the user's; a process in it is looked for among all.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import stat

from runtime import idmap
from runtime.errors import ContainerError, KernelUnsupported
from runtime.linux import process as kernel
from runtime.spec import IdMap

_HINT = "see sysctl user.max_user_namespaces and kernel.unprivileged_userns_clone, or run as root"
_RECORD = "userns"


def enter(directory: str) -> bool:
    """Enter the user namespace that *directory* tells of, or a new one, as root; whether it has more than one id.

    *directory* is made when missing, and must be the user's own. With a mount namespace of our own. Only for a process
    with one thread. Raises KernelUnsupported, ContainerError, OSError.
    """
    os.makedirs(directory, mode=0o700, exist_ok=True)
    status = os.lstat(directory)
    if status.st_uid != os.getuid() or not stat.S_ISDIR(status.st_mode) or status.st_mode & 0o022:
        raise ContainerError(
            f"{directory} is not a directory that only you can write to", hint="remove it, or set XDG_RUNTIME_DIR"
        )
    record = os.open(f"{directory}/{_RECORD}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(record, fcntl.LOCK_EX)  # of two first commands one makes it, and the other one joins
        number = os.read(record, 64).decode("ascii", "replace")
        if number and _join(number):
            kernel.unshare(kernel.CLONE_NEWNS)
        else:
            _new()
            os.ftruncate(record, 0)
            os.pwrite(record, str(os.stat("/proc/self/ns/user").st_ino).encode(), 0)
    finally:
        os.close(record)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    with open("/proc/self/uid_map") as file:
        return len(file.readlines()) > 1


def _join(number: str) -> bool:
    """Whether a process in the namespace *number* was found, and its namespace joined."""
    wanted = f"user:[{number}]"
    for name in os.listdir("/proc"):
        try:
            if not name.isdigit() or os.readlink(f"/proc/{name}/ns/user") != wanted:
                continue
            fd = os.open(f"/proc/{name}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue  # it ended, or it is somebody else's
        try:
            if str(os.fstat(fd).st_ino) == number:
                kernel.setns(fd, kernel.CLONE_NEWUSER)
                return True
        except OSError:
            continue  # another user's namespace by now
        finally:
            os.close(fd)
    return False


def _new() -> None:
    uid, gid = os.getuid(), os.getgid()
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = ""  # newuidmap will not know it, either
    ranges = subordinate("/etc/subuid", user, uid), subordinate("/etc/subgid", user, uid)
    helpers = all(os.access(f"/usr/bin/{name}", os.X_OK) for name in ("newuidmap", "newgidmap"))
    if helpers and user and ranges[0] is not None and ranges[1] is not None:
        if _unshare_mapped(uid, gid, ranges[0], ranges[1]):
            return
    else:
        _unshare()
    idmap.put("/proc/self/setgroups", "deny")
    idmap.put("/proc/self/uid_map", f"0 {uid} 1\n")
    idmap.put("/proc/self/gid_map", f"0 {gid} 1\n")


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
