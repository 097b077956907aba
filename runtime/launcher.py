"""The launcher: a clean, single-threaded process that forks containers for a command (`python -I -m runtime.launcher`).

Its first argument is the number of the main socket. It ends when that closes or the command ends, and then kills every
container it has. What it says and hears is in ``runtime.sync``; the other side is ``runtime.container``. It imports
little, since every command that runs a container waits for it.
"""

from __future__ import annotations

import os
import select
import sys
from _socket import AF_UNIX, SOCK_STREAM, socket

from runtime import cgroups, enter, init, sync
from runtime.errors import ContainerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.init import Child


class _Loop:
    """One poll loop: the main socket, and for each container its channel, init's socket and its pidfd."""

    def __init__(self, main: socket) -> None:
        self.main = main
        self.poller = select.poll()
        self.handlers: dict[int, Callable[[], None]] = {}
        self.children: set[_Container] = set()
        self.watch(main.fileno(), self.request)
        parent = os.pidfd_open(os.getppid())  # forks of the command may hold the socket open after its death
        self.watch(parent, self.end)

    def watch(self, fd: int, handler: Callable[[], None]) -> None:
        self.handlers[fd] = handler
        self.poller.register(fd, select.POLLIN)

    def forget(self, fd: int) -> None:
        if self.handlers.pop(fd, None) is not None:
            self.poller.unregister(fd)

    def run(self) -> None:
        while True:
            for fd, _ in self.poller.poll():
                handler = self.handlers.get(fd)
                if handler is not None:
                    handler()

    def request(self) -> None:
        got = sync.receive(self.main)
        if got is None:
            self.end()
            return
        message, fds = got
        channel = socket(AF_UNIX, SOCK_STREAM, 0, fds[3])
        try:
            if message[0] == "start":
                spec = sync.as_spec(message[1])
                child = init.spawn(spec, fds[0], fds[1], fds[2], hook=message[2])
            else:
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

    def end(self) -> None:
        for container in self.children:
            container.child.kill()
        for container in list(self.children):
            container.ended()
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
        status, usage, oom = child.finish()
        if child.error is not None:
            self.tell(("failed", *child.error.to_wire()))
        else:
            self.tell(("exited", status, usage, oom))
        self.channel.close()


def main() -> None:
    """Serve until the command ends."""
    loop = _Loop(socket(AF_UNIX, SOCK_STREAM, 0, int(sys.argv[1])))
    try:
        cgroups.reap()
    except OSError:
        pass  # another launcher is at it, or we may not: no reason not to start containers
    loop.run()


if __name__ == "__main__":
    main()
