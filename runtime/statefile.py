"""The files by which a supervisor is known: its lock, and ``state.json`` as it writes it.

Without imports that cost: a supervisor starts with every container. ``runtime.states`` reads more than plain values.
"""

from __future__ import annotations

import errno
import fcntl
import os
from _json import encode_basestring_ascii, make_scanner

from runtime.errors import ContainerError, WrongState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from os import PathLike
    from typing import Any


def lock(directory: str | PathLike[str]) -> int:
    """Take the supervisor's lock; the descriptor holds it. Raises WrongState when a supervisor is alive."""
    descriptor = os.open(os.path.join(os.fspath(directory), "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise WrongState("container is already running", hint="stop it first") from None
    return descriptor


def write(directory: str | PathLike[str], state: Mapping[str, object]) -> None:
    """Replace the state file; a reader sees the old or the new one. Only the holder of the lock calls this.

    On a full disk the old file is written over, which takes no room that it does not have: that a container has ended
    must be known.
    """
    path = os.path.join(os.fspath(directory), "state.json")
    text = encode(state).encode()
    fd = -1
    try:
        fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        os.write(fd, text)
        os.rename(f"{path}.new", path)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not os.path.exists(path):
            raise
        if fd >= 0:
            os.unlink(f"{path}.new")
        _write_over(path, text)
    finally:
        if fd >= 0:
            os.close(fd)


def _write_over(path: str, text: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(fd, text.ljust(os.fstat(fd).st_size), 0)  # blanks are nothing in JSON
    finally:
        os.close(fd)


def alive(directory: str | PathLike[str]) -> bool:
    """Whether a supervisor holds the lock."""
    try:
        # Not for writing: the end of that is told to whoever watches the directory, and asks again.
        descriptor = os.open(os.path.join(os.fspath(directory), "lock"), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # Shared, so that two who ask at once do not take each other for a supervisor.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def read(directory: str | PathLike[str], name: str) -> dict[str, Any]:
    """What a JSON file in *directory* says, as plain values; nothing when there is none. Raises ContainerError."""
    path = os.path.join(os.fspath(directory), name)
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        value, end = _scan(text, 0)
    except FileNotFoundError:
        return {}
    except (ValueError, StopIteration) as err:
        raise ContainerError(f"{path} is damaged: {err}", hint="remove the container") from err
    if not isinstance(value, dict) or text[end:].strip():
        raise ContainerError(f"{path} is damaged: not one object", hint="remove the container")
    return value


def rejoin(namespaces: Mapping[str, str], joined: Sequence[tuple[str, str]]) -> dict[str, str]:
    """*namespaces* with those that other containers have now: *joined* are (name, directory of the container).

    Raises WrongState when one does not run: the pid that it had may be somebody else's by now.
    """
    found = dict(namespaces)
    for name, directory in joined:
        state = read(directory, "state.json")
        pid = state.get("pid", 0)
        if not pid or process_start(pid) != state["pid_start"]:
            other = os.path.basename(directory)[:12]
            raise WrongState(f"cannot join {name} namespace of a non running container: {other}")
        found[name] = f"/proc/{pid}/ns/{namespaces[name].rpartition('/')[2]}"
    return found


class _Plain:
    """What the scanner of the json module asks its caller: nothing out of the ordinary."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo: dict[str, str] = {}  # noqa: RUF012  read by name, by C


# The json module's own, without that module: it loads re, which takes as long as the command that reads.
_scan = make_scanner(_Plain)  # type: ignore[arg-type]


def encode(value: object) -> str:
    """JSON of plain values. Raises ContainerError for anything else."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, str):
        text: str = encode_basestring_ascii(value)
        return text
    if isinstance(value, (list, tuple)):
        return "[" + ",".join([encode(item) for item in value]) + "]"
    if isinstance(value, dict):
        return "{" + ",".join([f"{encode(name)}:{encode(item)}" for name, item in value.items()]) + "}"
    raise ContainerError(f"a state holds no {type(value).__name__}")


def process_start(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0 when there is none, or it has ended and nobody has noticed.
    With the pid it names a process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The program's name, in parentheses, may hold blanks and parentheses itself.
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])
