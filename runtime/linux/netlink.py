"""Netlink: sockets, messages, attributes. The message kinds are in `rtnetlink` and `nftables`.

Written here instead of taken from a library because the whole of it costs under a millisecond to import, and setting up
the network is on the path of every ``run`` and every RUN step. Constants from linux/netlink.h.
"""

from __future__ import annotations

import _socket as socket  # the C part: all that is used, without its enums
import os
import struct
from collections.abc import Iterable, Iterator, Mapping

NETLINK_ROUTE = 0
NETLINK_NETFILTER = 12

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP = 0x300
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_APPEND = 0x800

_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_NLM_F_CAPPED = 0x100
_NLM_F_ACK_TLVS = 0x200
_NLMSGERR_ATTR_MSG = 1
_NLA_F_NESTED = 0x8000
_NLA_TYPE_MASK = 0x3FFF

_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_BUFFER = 1 << 18


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    return _ATTRIBUTE.pack(len(value) + 4, kind) + value + b"\0" * (-len(value) % 4)


def text(kind: int, value: str) -> bytes:
    """A zero-terminated string."""
    return attribute(kind, value.encode() + b"\0")


def u32(kind: int, value: int) -> bytes:
    """An integer in host order (rtnetlink)."""
    return attribute(kind, struct.pack("=I", value))


def be32(kind: int, value: int) -> bytes:
    """An integer in network order (nftables)."""
    return attribute(kind, struct.pack(">I", value))


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | _NLA_F_NESTED, b"".join(attributes))


def attributes(data: bytes) -> Mapping[int, bytes]:
    """Attributes by kind; of a repeated kind the last."""
    return dict(each_attribute(data))


def each_attribute(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Attributes in order, repeated kinds too."""
    at = 0
    while at + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < 4:
            return
        yield kind & _NLA_TYPE_MASK, data[at + 4 : at + length]
        at += (length + 3) & ~3


def message(kind: int, flags: int, sequence: int, payload: bytes) -> bytes:
    """One message with its header. Payloads are whole attributes, so they are aligned."""
    return _HEADER.pack(16 + len(payload), kind, flags, sequence, 0) + payload


class Netlink:
    """A netlink socket in the network namespace of the thread that makes it; it stays in that namespace."""

    def __init__(self, family: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)
        try:
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
            self._socket.bind((0, 0))
        except OSError:
            self._socket.close()
            raise
        self._sequence = 0

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def next_sequence(self) -> int:
        """The number of the next message."""
        self._sequence += 1
        return self._sequence

    def send(self, data: bytes) -> None:
        """Send messages as they are."""
        self._socket.send(data)

    def request(self, kind: int, flags: int, payload: bytes, *, call: str) -> None:
        """One message that is acknowledged. Raises OSError(errno, "call: the kernel's text")."""
        sequence = self.next_sequence()
        self._socket.send(message(kind, flags | NLM_F_REQUEST | NLM_F_ACK, sequence, payload))
        for _ in self.replies({sequence}, call=call):
            pass

    def dump(self, kind: int, payload: bytes, *, call: str) -> list[bytes]:
        """All objects of a kind: their messages without headers."""
        sequence = self.next_sequence()
        self._socket.send(message(kind, NLM_F_REQUEST | NLM_F_DUMP, sequence, payload))
        return list(self.replies({sequence}, call=call))

    def get(self, kind: int, payload: bytes, *, call: str) -> bytes:
        """One object: its message without header. Raises OSError when it does not exist."""
        sequence = self.next_sequence()
        self._socket.send(message(kind, NLM_F_REQUEST | NLM_F_ACK, sequence, payload))
        found = list(self.replies({sequence}, call=call))
        if not found:
            raise OSError(0, f"{call}: empty answer")
        return found[0]

    def replies(self, sequences: set[int], *, call: str, around: int = 0) -> Iterator[bytes]:
        """Payloads until each of *sequences* is acknowledged or done; the first error ends it as OSError.

        *around* is the message that holds them together: an error for it (EPERM) is the only answer that comes.
        """
        waiting = set(sequences)
        while waiting:
            data = self._socket.recv(_BUFFER)
            at = 0
            while at + 16 <= len(data):
                length, kind, flags, sequence, _ = _HEADER.unpack_from(data, at)
                body = data[at + 16 : at + length]
                at += (length + 3) & ~3
                if sequence not in sequences and sequence != around:
                    continue
                if kind == _NLMSG_ERROR:
                    _raise(body, flags, call)
                    waiting.discard(sequence)
                elif kind == _NLMSG_DONE:
                    _raise(body, 0, call)
                    waiting.discard(sequence)
                else:
                    yield body


def _raise(body: bytes, flags: int, call: str) -> None:
    (error,) = struct.unpack_from("=i", body) if len(body) >= 4 else (0,)
    if not error:
        return
    said = ""
    if flags & _NLM_F_ACK_TLVS:
        said = (
            attributes(body[20:] if flags & _NLM_F_CAPPED else b"")
            .get(_NLMSGERR_ATTR_MSG, b"")
            .rstrip(b"\0")
            .decode(errors="replace")
        )
    raise OSError(-error, f"{call}: {os.strerror(-error)}" + (f" ({said})" if said else ""))


def join(parts: Iterable[bytes]) -> bytes:
    """Attributes one after another."""
    return b"".join(parts)
