"""The two ends that a supervisor joins: its clients, and the container's stdin. Nothing here ever blocks."""

from __future__ import annotations

import os
import select
from _socket import MSG_NOSIGNAL
from struct import pack

from runtime import supervisor_protocol as protocol
from runtime.errors import ContainerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket

    from runtime.loop import Loop
    from runtime.supervisor import Supervisor


class Client:
    """One connection. *streams*: FLAG_* of what it is attached to. *waits*: it wants to know the end."""

    def __init__(self, supervisor: Supervisor | None, sock: socket) -> None:
        self._supervisor, self._sock = supervisor, sock
        self.streams = 0
        self.waits = False
        self._heard = bytearray()
        self._pending = bytearray()
        self._closing = self._writing = False

    @property
    def behind(self) -> int:
        """Bytes that it has not taken yet."""
        return len(self._pending)

    def join(self, supervisor: Supervisor, streams: int) -> None:
        """For the first one, which is there before its supervisor."""
        self._supervisor, self.streams = supervisor, streams
        supervisor.join(self)

    def watch(self) -> None:
        """Listen to it, and send what is pending."""
        supervisor = self._owner()
        self._writing = bool(self._pending)
        events = select.POLLIN | (select.POLLOUT if self._writing else 0)
        supervisor.loop.watch(self._sock.fileno(), self._ready, events)

    def send(self, kind: int, payload: bytes = b"") -> None:
        """Queue one frame, and send what goes out now."""
        if self._sock.fileno() < 0:
            return
        had = bool(self._pending)
        self._pending += protocol.frame(kind, payload)
        if not had:
            self._flush()

    def finish(self, code: int | None) -> None:
        """The container has ended with *code* (None: not said); the connection ends when all is sent."""
        if code is not None and (self.streams or self.waits):
            self.send(protocol.EXIT, pack("=i", code))
        self._closing = True
        if not self._pending:
            self.close()

    def close(self) -> None:
        """Gone."""
        if self._sock.fileno() < 0:
            return
        supervisor = self._owner()
        supervisor.loop.forget(self._sock.fileno())
        self._sock.close()
        self._pending.clear()
        supervisor.leave(self)

    def _owner(self) -> Supervisor:
        if self._supervisor is None:
            raise ContainerError("a client without a supervisor")
        return self._supervisor

    def _ready(self, events: int) -> None:
        if events & select.POLLOUT:
            self._flush()
        if events & ~select.POLLOUT and self._sock.fileno() >= 0:
            self._receive()

    def _receive(self) -> None:
        try:
            data = self._sock.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._heard += data
        try:
            frames = protocol.cut(self._heard)
        except ContainerError:
            self.close()
            return
        for kind, payload in frames:
            self._owner().heard(self, kind, payload)

    def _flush(self) -> None:
        try:
            sent = self._sock.send(self._pending, MSG_NOSIGNAL)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return
        del self._pending[:sent]
        if bool(self._pending) != self._writing:
            self.watch()
        if self._pending:
            return
        if self._closing:
            self.close()
            return
        self._owner().caught_up()


class Input:
    """The container's stdin: bytes of clients in the order they came, given on as fast as they are taken."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._fd = -1
        self._parts: list[tuple[Client, bytes]] = []
        self._ending = False

    def open(self, fd: int) -> None:
        """A new container's stdin, not blocking; ours to close."""
        self._fd, self._ending = fd, False

    def feed(self, client: Client, data: bytes) -> None:
        """Hand *data* on; the client hears when it was taken."""
        if self._fd < 0 or self._ending:
            client.send(protocol.TAKEN, pack("=I", len(data)))  # to nowhere
            return
        self._parts.append((client, data))
        self._write(0)

    def end(self) -> None:
        """No more will come: the container sees the end after what is under way."""
        self._ending = True
        if not self._parts:
            self.close()

    def close(self) -> None:
        """Drop what is under way."""
        if self._fd >= 0:
            self._loop.forget(self._fd)
            os.close(self._fd)
            self._fd = -1
        parts, self._parts = self._parts, []
        for client, data in parts:
            client.send(protocol.TAKEN, pack("=I", len(data)))

    def _write(self, _: int) -> None:
        while self._parts:
            client, data = self._parts[0]
            try:
                done = os.write(self._fd, data)
            except BlockingIOError:
                self._loop.watch(self._fd, self._write, select.POLLOUT)
                return
            except OSError:  # nobody reads any more
                self.close()
                return
            client.send(protocol.TAKEN, pack("=I", done))
            if done < len(data):
                self._parts[0] = (client, data[done:])
            else:
                del self._parts[0]
        self._loop.forget(self._fd)
        if self._ending:
            self.close()
