"""What both cgroup versions need: small files, directories with an owner, and docker's table of devices."""

from __future__ import annotations

import errno
import fcntl
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# (kind, major, minor, access): moby's default rules. -1 is any number.
DEVICES = (
    ("c", -1, -1, "m"),
    ("b", -1, -1, "m"),
    ("c", 1, 3, "rwm"),  # null
    ("c", 1, 5, "rwm"),  # zero
    ("c", 1, 7, "rwm"),  # full
    ("c", 1, 8, "rwm"),  # random
    ("c", 1, 9, "rwm"),  # urandom
    ("c", 5, 0, "rwm"),  # tty
    ("c", 5, 1, "rwm"),  # console
    ("c", 5, 2, "rwm"),  # ptmx
    ("c", 136, -1, "rwm"),  # pts/*
)

PARENT = "lamina"


def read(path: str) -> str:
    """The text of a small file, "" when it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        parts = []
        while part := os.read(fd, 1 << 16):
            parts.append(part)
        return b"".join(parts).decode(errors="replace")
    except OSError:
        return ""
    finally:
        os.close(fd)


def read_int(path: str) -> int | None:
    """The number in a file; None when there is none ("max" too)."""
    text = read(path).strip()
    return int(text) if text.isdigit() else None


def write(path: str, value: str) -> None:
    """Write *value* in one call, as control files want it. Raises OSError."""
    write_each(path, (value,))


def write_each(path: str, values: Iterable[str]) -> None:
    """Write *values* one by one, each in one call. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        for value in values:
            os.write(fd, value.encode())
    finally:
        os.close(fd)


def fields(path: str) -> dict[str, int]:
    """A file of "name number" lines."""
    found = {}
    for line in read(path).splitlines():
        name, _, number = line.partition(" ")
        if number.strip().isdigit():
            found[name] = int(number)
    return found


def claim(parent: str, name: str) -> int:
    """Make the directory *parent*/*name* and lock it as ours: the descriptor whose life is the ownership.

    Raises OSError (EEXIST, EACCES, EROFS, ...).
    """
    directory = f"{parent}/{name}"
    for _ in range(100):
        try:
            os.mkdir(directory)
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            os.makedirs(parent, exist_ok=True)  # not there yet, or somebody removed it when it was empty
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if os.path.exists(directory):
                return fd
        except BlockingIOError:
            pass
        os.close(fd)  # somebody reaped it before it was locked: again
    raise OSError(errno.EAGAIN, f"cannot make {directory}")


def orphans(parent: str) -> list[str]:
    """Names of directories below *parent* whose owner is gone."""
    found = []
    try:
        with os.scandir(parent) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    for name in names:
        try:
            fd = os.open(f"{parent}/{name}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue
        else:
            found.append(name)
        finally:
            os.close(fd)
    return found


def rmdir_tree(path: str) -> None:
    """Remove a group and the groups that its processes made in it. Raises OSError(EBUSY) while something runs."""
    try:
        try:
            os.rmdir(path)
        except OSError as err:
            if err.errno != errno.EBUSY:
                raise
            with os.scandir(path) as entries:
                below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
            for child in below:
                rmdir_tree(child)
            os.rmdir(path)
    except FileNotFoundError:
        return


def pids(path: str) -> list[int]:
    """The processes of a group and of all below it."""
    found = [int(line) for line in read(f"{path}/cgroup.procs").split()]
    try:
        with os.scandir(path) as entries:
            below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return found
    for child in below:
        found.extend(pids(child))
    return [pid for pid in found if pid > 0]


def kill_until_empty(path: str) -> None:
    """SIGKILL everything in a group until nothing is left in it, waiting for each process to end."""
    for _ in range(200):
        members = pids(path)
        if not members:
            return
        for pid in members:
            try:
                pidfd = os.pidfd_open(pid)
            except OSError:
                continue
            try:
                # The pid may have been reused since it was listed; then it is in another group by now.
                if pid in pids(path):
                    os.kill(pid, 9)
                    _wait_end(pidfd)
            except OSError:
                continue
            finally:
                os.close(pidfd)


def _wait_end(pidfd: int) -> None:
    import select

    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    poller.poll(2000)
