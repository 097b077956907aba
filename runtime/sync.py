"""The messages between a command, its launcher and a container's init, and how they travel.

A message is a tuple of plain values, its first item the name; framed as length, then ``marshal`` bytes (both ends are
the same interpreter, so its format needs no promise and costs no import); file descriptors ride on the length.

command → launcher, on the main socket        ("start", spec, hook, another) + stdio (3), channel
                                              ("exec", pid, process, seccomp) + stdio (3), channel
                                              ("prepare", spec)   get ready for such a one
                                              ("stir",)           an exec comes soon
launcher → command, on the channel            ("created", pid) + pidfd     namespaces exist; the hook may run
                                              ("started",) [+ console]     the program was executed
                                              ("failed", class, text, hint)  and the container is gone again
                                              ("exited", status, usage, oom)  wait status; usage as a tuple
command → launcher, on the channel            ("go",)                      the hook is done
closing the channel                           kills the container; closing the main socket kills all
launcher → init, on a socket pair             ("mapped",)   the ids of its user namespace
                                              ("start", changed, filter, hook) + stdio (3)
                                              to one that waits: what its spec has other than the one it was made for
                                              ("go",)
init → launcher                               ("made", [(path, device, inode, is directory)])  mount points it made
                                              ("console",) + master
                                              ("error", class, text, hint)
                                              end of file: the program was executed

stdio of a container with a terminal is three descriptors that are not used.
"""

from __future__ import annotations

import marshal
import sys
from _socket import CMSG_SPACE, MSG_CMSG_CLOEXEC, MSG_WAITALL, SCM_RIGHTS, SOL_SOCKET, socket
from binascii import a2b_base64
from struct import pack, unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from runtime.spec import Process, Spec

_HEADER = 4
_MAX_FDS = 8
_MAX_MESSAGE = 256 << 20
_Namespace = type(sys.implementation)  # types.SimpleNamespace without an import


def send(sock: socket, message: tuple[Any, ...], fds: tuple[int, ...] = ()) -> None:
    """Send one message with descriptors. Raises OSError(EPIPE, ECONNRESET) when the other end is gone."""
    body = marshal.dumps(message)
    data = pack("=I", len(body)) + body
    ancillary = [(SOL_SOCKET, SCM_RIGHTS, pack(f"={len(fds)}i", *fds))] if fds else []
    sent = sock.sendmsg([data], ancillary)
    if sent < len(data):
        sock.sendall(data[sent:])


def receive(sock: socket) -> tuple[tuple[Any, ...], tuple[int, ...]] | None:
    """The next message and its descriptors (close-on-exec, the receiver's to close); None at the end of the stream."""
    try:
        header, ancillary, _, _ = sock.recvmsg(_HEADER, CMSG_SPACE(4 * _MAX_FDS), MSG_CMSG_CLOEXEC | MSG_WAITALL)
    except ConnectionResetError:
        return None
    fds: list[int] = []
    for level, kind, data in ancillary:
        if level == SOL_SOCKET and kind == SCM_RIGHTS:
            count = len(data) // 4
            fds.extend(unpack(f"={count}i", data[: 4 * count]))
    if len(header) < _HEADER:
        return None
    (left,) = unpack("=I", header)
    if left > _MAX_MESSAGE:
        raise OSError(90, f"message of {left} bytes")  # EMSGSIZE
    parts = []
    while left:
        part = sock.recv(min(left, 1 << 20))
        if not part:
            return None
        parts.append(part)
        left -= len(part)
    message: tuple[Any, ...] = marshal.loads(b"".join(parts))
    return message, tuple(fds)


def as_spec(value: Mapping[str, Any]) -> Spec:
    """An object with the attributes of a Spec, from its plain form, without importing ``runtime.spec``.

    Every field must be there, as ``Spec.to_dict`` writes them: no defaults are filled in.
    """
    spec: Spec = _object(value)
    return spec


def adapted(like: Spec, changed: Mapping[str, Any]) -> Spec:
    """*like* with other values, in plain form, for some of its fields."""
    values = {**vars(like), **{name: _object(item) for name, item in changed.items()}}
    spec: Any = _Namespace(**values)
    return spec  # type: ignore[no-any-return]


def as_process(value: Mapping[str, Any]) -> Process:
    """As ``as_spec`` for a Process."""
    process: Process = _object(value)
    return process


def _object(value: Any) -> Any:
    if isinstance(value, dict):
        return _Namespace(
            **{
                key: a2b_base64(item) if key == "data" and isinstance(item, str) else _object(item)
                for key, item in value.items()
            }
        )
    if isinstance(value, (list, tuple)):
        return tuple([_object(item) for item in value])
    return value
