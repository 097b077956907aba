"""What a container writes: read as it comes, logged, and passed on to the clients."""

from __future__ import annotations

import errno
import os
import sys
import time

from runtime import logwriter
from runtime.supervisor_protocol import FLAG_STDERR, FLAG_STDOUT, STDERR, STDOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from runtime.loop import Loop
    from runtime.supervisor_streams import Client

_READ = 1 << 16
_BEHIND = 1 << 20
_KINDS = {"stdout": (STDOUT, FLAG_STDOUT), "stderr": (STDERR, FLAG_STDERR)}


class Output:
    """The streams of one run after the other, and the log that all runs share. *clients* is the supervisor's own."""

    def __init__(self, loop: Loop, directory: str, clients: set[Client]) -> None:
        self._loop, self._directory, self._clients = loop, directory, clients
        self._streams: dict[int, str] = {}
        self._splitters = {name: logwriter.Splitter(name) for name in _KINDS}
        self._log: logwriter.Writer | None = None
        self._console = -1
        self._running = self._held = False

    def open(self, *, terminal: bool) -> tuple[int, int, int]:
        """The container's stdin, stdout and stderr, the caller's to close; -1 for what it does not need."""
        self._console = -1
        if terminal:
            return -1, -1, -1
        theirs = []
        for name in _KINDS:
            ours, other = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(ours, False)
            self._streams[ours] = name
            theirs.append(other)
        return -1, theirs[0], theirs[1]

    def terminal(self, console: int) -> None:
        """Read a terminal's master, which stays the caller's."""
        self._console = console
        self._streams = {console: "stdout"}

    def begin(self, log: Mapping[str, Any]) -> None:
        """Open the log, if it is not open yet. Raises ContainerError for options that are none."""
        if self._log is not None or log["driver"] == "none":
            return
        size, files = (20 << 20, 5) if log["driver"] == "local" else (0, 1)
        if log["options"]:
            from runtime.logs import Limits

            limits = Limits.parse(tuple((name, value) for name, value in log["options"]))
            size, files = limits.size or size, limits.files if "max-file" in dict(log["options"]) else files
        self._log = logwriter.Writer(f"{self._directory}/{logwriter.FILE_NAME}", size=size, files=files)

    def watch(self) -> None:
        """Read from now on."""
        self._running, self._held = True, False
        for fd in self._streams:
            self._watch(fd)

    def drain(self) -> None:
        """Take what is still there, after the last writer has ended."""
        for fd in tuple(self._streams):
            while self._take(fd):
                pass

    def close(self) -> None:
        """Nothing comes any more."""
        self._running = False
        for fd in self._streams:
            self._loop.forget(fd)
            if fd != self._console:
                os.close(fd)
        for splitter in self._splitters.values():
            self._record(splitter.finish(time.time_ns()))
        self._streams = {}

    def end(self) -> None:
        """Close the log."""
        if self._log is not None:
            self._log.close()
            self._log = None

    def caught_up(self) -> None:
        """A client has taken what it was sent, or is gone: go on when reading was stopped for it."""
        if self._held and self._running and not self._behind():
            self._held = False
            for fd in self._streams:
                self._watch(fd)

    def _behind(self) -> bool:
        return any(client.behind > _BEHIND for client in self._clients)

    def _watch(self, fd: int) -> None:
        def ready(_: int) -> None:
            self._take(fd)

        self._loop.watch(fd, ready)

    def _take(self, fd: int) -> bool:
        """Pass on what is there; False when there is nothing now."""
        name = self._streams.get(fd)
        if name is None:
            return False
        try:
            data = os.read(fd, _READ)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            data = b""  # the last process has closed the terminal
        if not data:
            self._loop.forget(fd)
            del self._streams[fd]
            self._record(self._splitters[name].finish(time.time_ns()))
            if fd != self._console:
                os.close(fd)
            return False
        self._record(self._splitters[name].feed(data, time.time_ns()))
        kind, flag = _KINDS[name]
        for client in tuple(self._clients):
            if client.streams & flag:
                client.send(kind, data)
        if self._behind() and not self._held:
            self._held = True
            for each in self._streams:
                self._loop.forget(each)  # docker, too, lets the container wait for a reader
        return True

    def _record(self, records: list[logwriter.Record]) -> None:
        if self._log is None or not records:
            return
        try:
            self._log.write(records)
        except OSError as error:  # a full disk loses lines of the log, not the container
            try:
                sys.stderr.write(f"cannot write the log: {error}\n")
                sys.stderr.flush()
            except OSError:
                pass  # our own log is on the same disk
