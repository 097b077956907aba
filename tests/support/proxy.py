"""A TCP proxy on loopback that counts, and ends or stalls connections after so many bytes."""

import socket
import threading
from typing import Self


class Proxy:
    """Relays to `target` (host:port). A context manager.

    `budget`: bytes that may still pass, in the direction that is `counted` ("down" to the client, "up"); None: any
    number. When it is used up, `used_up` is set and nothing passes any more: connections are cut, or `stall` if so
    asked, until there is a new budget.
    """

    def __init__(self, target: str, *, counted: str = "down", stall: bool = False) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._counted = counted
        self._stall = stall
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.budget: int | None = None
        self.passed = 0
        """Bytes that passed in the counted direction."""
        self.used_up = threading.Event()
        self._guard = threading.Lock()
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        self._thread.join()

    def allow(self, budget: int | None) -> None:
        """From now on so many bytes; connections from before are over."""
        self.cut()
        with self._guard:
            self.budget = budget
            self.used_up.clear()

    def cut(self) -> None:
        """End all connections."""
        with self._guard:
            ended, self._open = self._open, set()
        for each in ended:
            _end(each)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.used_up.is_set() and not self._stall:
                client.close()
                continue
            server = socket.create_connection(self._target)
            with self._guard:
                self._open |= {client, server}
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for source, sink, way in ((server, client, "down"), (client, server, "up")):
                threading.Thread(target=self._relay, args=(source, sink, way == self._counted), daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket, counts: bool) -> None:
        try:
            while data := source.recv(1 << 16):
                part = self._take(data) if counts else data
                sink.sendall(part)
                if len(part) < len(data):
                    self.used_up.set()
                    if self._stall:
                        return
                    break
        except OSError:
            pass
        # The other way ends too; what was sent arrives before the end does.
        for each in (source, sink):
            _end(each)

    def _take(self, data: bytes) -> bytes:
        with self._guard:
            part = data if self.budget is None else data[: self.budget]
            if self.budget is not None:
                self.budget -= len(part)
            self.passed += len(part)
            return part


def _end(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    connection.close()
