"""A Unix socket that passes everything on to another one: an ssh agent, shown to a step without touching its socket."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CHUNK = 64 << 10


class Relay:
    """Listens at *place* (which must not exist) for connections to *goal*. Its end cuts all of them.

    Raises OSError when it cannot listen; a connection for which *goal* does not answer is closed.
    """

    def __init__(self, place: Path, goal: Path) -> None:
        self._goal = goal
        self._guard = threading.Lock()
        self._open: set[socket.socket] = set()
        self._serving: list[threading.Thread] = []
        self._ending = False
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _short(place) as name:
                self._listener.bind(name)
            self._listener.listen(16)
        except OSError:
            self._listener.close()
            raise
        self._accepting = threading.Thread(target=self._accept, name="relay")
        self._accepting.start()

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *exc: object) -> None:
        # shutdown, not close: only that wakes a thread which waits in accept or recv
        with self._guard:
            self._ending = True
            waiting = [self._listener, *self._open]
        for one in waiting:
            _shut(one, socket.SHUT_RDWR)
        self._accepting.join()  # the only one that starts others: afterwards there are no more
        for thread in self._serving:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return  # shut down
            far = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                with _short(self._goal) as name:
                    far.connect(name)
            except OSError:
                near.close()
                far.close()
                continue
            with self._guard:
                self._open.update((near, far))
                if self._ending:
                    _shut(near, socket.SHUT_RDWR)
                    _shut(far, socket.SHUT_RDWR)
            thread = threading.Thread(target=self._serve, args=(near, far), name="relay connection")
            thread.start()
            self._serving.append(thread)

    def _serve(self, near: socket.socket, far: socket.socket) -> None:
        back = threading.Thread(target=_pass, args=(far, near), name="relay back")
        back.start()
        _pass(near, far)
        back.join()
        with self._guard:
            self._open -= {near, far}
        near.close()
        far.close()


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """*path* by way of its open directory: the address of a socket has room for 107 bytes only."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def _pass(source: socket.socket, goal: socket.socket) -> None:
    """Pass on until the end of *source*, and then that end."""
    try:
        while data := source.recv(_CHUNK):
            goal.sendall(data)
    except OSError:
        pass  # one of them has gone
    _shut(goal, socket.SHUT_WR)


def _shut(one: socket.socket, how: int) -> None:
    try:
        one.shutdown(how)
    except OSError:
        pass  # it is not connected any more
