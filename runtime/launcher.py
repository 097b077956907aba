"""The launcher: a clean, single-threaded process that forks containers for a command (``container.spawn_helper``).

Its first argument is the number of the main socket. It ends when that closes or the command ends, and then kills every
container it has. What it says and hears is in ``runtime.sync``; the other side is ``runtime.container``. It imports
little, since every command that runs a container waits for it.

When it is told that another container of the same kind follows, it prepares a process for that beside the running one:
of the time that a start takes, two thirds are namespaces, control groups (the first process to join one after a pause
waits for an RCU grace period, 10 ms and more) and the file systems that all containers have.
"""

from __future__ import annotations

import gc
import os
import select
import sys
from _socket import AF_UNIX, SOCK_STREAM, socket

from runtime import cgroups, init, sync
from runtime.errors import ContainerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from runtime.init import Child, Spare


# How long after a container's end a next one may still be asked for, before we turn to cleaning up.
_PATIENCE_MS = 20


class _Loop:
    """One poll loop: the main socket, and for each container its channel, init's socket and its pidfd."""

    def __init__(self, main: socket) -> None:
        self.main = main
        self.poller = select.poll()
        self.handlers: dict[int, Callable[[], None]] = {}
        self.children: set[_Container] = set()
        self.spare: Spare | None = None
        self.over: list[Child] = []
        self.next: Mapping[str, Any] | None = None
        self.watch(main.fileno(), self.request)
        self.parent = os.pidfd_open(os.getppid())  # forks of the command may hold the socket open after its death
        self.watch(self.parent, self.end)
        self.left = False

    def watch(self, fd: int, handler: Callable[[], None]) -> None:
        self.handlers[fd] = handler
        self.poller.register(fd, select.POLLIN)

    def forget(self, fd: int) -> None:
        if self.handlers.pop(fd, None) is not None:
            self.poller.unregister(fd)

    def run(self) -> None:
        reaped = False
        while True:
            if self.next is not None or self.over:
                events = self.poller.poll(0 if self.next is not None else _PATIENCE_MS)
                if not events:
                    self.tidy()
            elif not reaped:
                reaped = True
                events = self.poller.poll(0)
                if not events:
                    _reap()
            else:
                events = self.poller.poll()
            for fd, _ in events:
                handler = self.handlers.get(fd)
                if handler is not None:
                    handler()

    def tidy(self) -> None:
        """Nobody waits for us: remove what is left of containers that ended, make the next one's process ready. In this
        order, since a process that joins its groups keeps their lock for as long as that takes."""
        while self.over:
            self.over.pop().release()
        self.prepare()

    def prepare(self) -> None:
        like, self.next = self.next, None
        if like is None or self.spare is not None:
            return
        try:
            self.spare = init.prepare(like)
        except (ContainerError, OSError):
            return  # whoever starts the next container will be told

    def start(self, plain: Mapping[str, Any], fds: tuple[int, ...], *, hook: bool, another: bool) -> Child:
        spare, self.spare = self.spare, None
        spec = sync.as_spec(plain) if spare is None else spare.adapted(plain)
        self.next = plain if another else None
        if spare is not None:
            if spare.fits(spec):
                child = spare.take(plain, spec, *fds[:3], hook=hook)
                if child is not None:
                    return child
            else:
                spare.discard()
        return init.spawn(spec, *fds[:3], hook=hook)

    def request(self) -> None:
        got = sync.receive(self.main)
        if got is None:
            self.end()
            return
        message, fds = got
        if message[0] == "prepare":
            self.next = message[1]
            return
        if message[0] == "stir":
            cgroups.stir()
            return
        if message[0] == "leave":
            self.leave(fds)
            return
        channel = socket(AF_UNIX, SOCK_STREAM, 0, fds[3])
        try:
            if message[0] == "start":
                child = self.start(message[1], fds, hook=message[2], another=message[3])
            else:
                from runtime import enter

                process = sync.as_process(message[2])
                child = enter.spawn(message[1], process, fds[0], fds[1], fds[2], seccomp_profile=message[3])
        except ContainerError as err:
            sync.send(channel, ("failed", *err.to_wire()))
            channel.close()
        except OSError as err:
            sync.send(channel, ("failed", "ContainerError", f"cannot start the container: {err}", None))
            channel.close()
        else:
            _Container(self, child, channel)
        finally:
            for fd in fds[:3]:
                os.close(fd)

    def leave(self, consoles: tuple[int, ...]) -> None:
        """The command goes, what runs stays: its output is thrown away, and we end with the last of it."""
        self.left = True
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        self.forget(self.parent)
        self.forget(self.main.fileno())
        self.main.close()
        for container in self.children:
            self.forget(container.channel.fileno())
        for console in consoles:
            self.watch(console, lambda console=console: self.drain(console))  # type: ignore[misc]
        if not self.children:
            self.end()

    def drain(self, console: int) -> None:
        try:
            data = os.read(console, 65536)
        except OSError:
            data = b""  # EIO: the last process has closed the terminal
        if not data:
            self.forget(console)
            os.close(console)

    def end(self) -> None:
        for container in self.children:
            container.child.kill()
        for container in list(self.children):
            container.ended()
        if self.spare is not None:
            self.spare.discard()
        self.next = None
        self.tidy()
        os._exit(0)


class _Container:
    def __init__(self, loop: _Loop, child: Child, channel: socket) -> None:
        self.loop, self.child, self.channel = loop, child, channel
        loop.children.add(self)
        self.starting = True
        self.tell(("created", child.pid), (child.pidfd,))
        loop.watch(channel.fileno(), self.heard)
        loop.watch(child.sock.fileno(), self.progress)

    def tell(self, message: tuple[object, ...], fds: tuple[int, ...] = ()) -> None:
        try:
            sync.send(self.channel, message, fds)
        except OSError:
            return  # nobody listens any more: the channel's end kills the container

    def heard(self) -> None:
        got = sync.receive(self.channel)
        if got is not None:
            self.child.proceed()
            return
        self.loop.forget(self.channel.fileno())
        self.child.kill()

    def progress(self) -> None:
        if not self.child.receive():
            return
        self.starting = False
        self.loop.forget(self.child.sock.fileno())
        if self.child.executed:
            self.tell(("started",), () if self.child.console is None else (self.child.console,))
        if self.child.console is not None:
            os.close(self.child.console)
        self.loop.watch(self.child.pidfd, self.ended)

    def ended(self) -> None:
        loop, child = self.loop, self.child
        loop.children.discard(self)
        if self.starting:
            loop.forget(child.sock.fileno())
        loop.forget(child.pidfd)
        loop.forget(self.channel.fileno())
        status, usage, oom = child.collect()
        if child.error is not None:
            self.tell(("failed", *child.error.to_wire()))
        else:
            self.tell(("exited", status, usage, oom))
        self.channel.close()
        loop.over.append(child)  # whoever waits for the container needs nothing of the rest
        if loop.left and not loop.children:
            loop.end()


def _reap() -> None:
    try:
        cgroups.reap()
    except OSError:
        pass  # another launcher is at it, or we may not: no reason not to start containers


def main() -> None:
    """Serve until the command ends."""
    # Every child shares our memory until one of us writes to it, and the collector writes to everything.
    gc.disable()
    gc.freeze()
    _Loop(socket(AF_UNIX, SOCK_STREAM, 0, int(sys.argv[1]))).run()


if __name__ == "__main__":
    main()
