"""The frames between a container's supervisor and the commands that talk to it.

A frame is one byte of kind, four bytes of length (native order), then that many bytes. A connection (``attach.sock``,
or the socket that a supervisor was born with) begins with one request and goes on as the request says:

client → supervisor
    PREPARE   marshal of a spec                    only on the first socket, before START: what is likely to come
    START     marshal of (directory, config, flags)  only on the first socket; then as ATTACH when there are flags
    ATTACH    flags                                answered OK or ERROR; then streams flow
    WAIT                                           answered EXIT when the container has ended for good
    STOP      int32 timeout, signal name           as WAIT; timeout -1: no end, -2: as configured
    KILL      signal name                          answered OK or ERROR, as all that follow
    PAUSE, UNPAUSE
    RESIZE    uint16 rows, columns
    UPDATE                                         read config.json again
    on an attached connection, never answered: STDIN bytes, STDIN_END, SIGNAL uint8, RESIZE
supervisor → client
    OK, ERROR class NUL text NUL hint, EXIT int32 code, STDOUT bytes, STDERR bytes
    TAKEN uint32: so many bytes of stdin were handed to the container. A client has at most WINDOW bytes under way:
    signals must get past input that nobody reads.
"""

from __future__ import annotations

from struct import pack, unpack

from runtime.errors import ContainerError, from_wire

START, ATTACH, WAIT, STOP, KILL, PAUSE, UNPAUSE, RESIZE, UPDATE, STDIN, STDIN_END, SIGNAL, PREPARE = range(1, 14)
OK, ERROR, EXIT, STDOUT, STDERR, TAKEN = range(64, 70)

FLAG_STDIN, FLAG_STDOUT, FLAG_STDERR = 1, 2, 4

HEADER = 5
WINDOW = 1 << 18
_LONGEST = 64 << 20

SOCKET_NAME = "attach.sock"
AS_CONFIGURED = -2


def frame(kind: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return pack("=BI", kind, len(payload)) + payload


def cut(buffer: bytearray) -> list[tuple[int, bytes]]:
    """Take the whole frames off the front of *buffer*. Raises ContainerError for one that cannot be."""
    frames = []
    at = 0
    while len(buffer) - at >= HEADER:
        kind, length = unpack("=BI", buffer[at : at + HEADER])
        if length > _LONGEST:
            raise ContainerError(f"a frame of {length} bytes: not this protocol")
        if len(buffer) - at < HEADER + length:
            break
        frames.append((kind, bytes(buffer[at + HEADER : at + HEADER + length])))
        at += HEADER + length
    del buffer[:at]
    return frames


def encode_error(error: ContainerError) -> bytes:
    """The payload of ERROR."""
    name, text, hint = error.to_wire()
    return b"\0".join(part.encode("utf-8", "surrogateescape") for part in (name, text, hint or ""))


def decode_error(payload: bytes) -> ContainerError:
    """The reverse."""
    name, text, hint = payload.decode("utf-8", "surrogateescape").split("\0")
    return from_wire(name, text, hint or None)
