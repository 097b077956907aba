"""A poll loop with timers: what a supervisor is made around. Single-threaded."""

from __future__ import annotations

import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Loop:
    """Who is to be called when a descriptor is ready or a time has come. Times are ``time.monotonic`` seconds."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._timers: dict[str, tuple[float, Callable[[], None]]] = {}

    def watch(self, fd: int, handler: Callable[[int], None], events: int = select.POLLIN) -> None:
        """Call *handler* with poll's events; replaces the descriptor's former handler."""
        self._handlers[fd] = handler
        self._poll.register(fd, events)

    def forget(self, fd: int) -> None:
        """Stop watching; no effect when nobody does."""
        if self._handlers.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def at(self, name: str, seconds: float, handler: Callable[[], None]) -> None:
        """Call *handler* in *seconds*; replaces the timer of that name."""
        self._timers[name] = (time.monotonic() + seconds, handler)

    def cancel(self, name: str) -> None:
        """Forget a timer; no effect when there is none."""
        self._timers.pop(name, None)

    def turn(self) -> None:
        """Wait for the next thing to happen and handle it."""
        wait = None
        if self._timers:
            wait = max(0.0, min(when for when, _ in self._timers.values()) - time.monotonic()) * 1000 + 0.5
        for fd, events in self._poll.poll(wait):
            handler = self._handlers.get(fd)
            if handler is not None:
                handler(events)
        if self._timers:
            now = time.monotonic()
            for name, (when, call) in sorted(self._timers.items(), key=lambda item: item[1][0]):
                if when <= now and self._timers.get(name, (0.0, None))[1] is call:
                    del self._timers[name]
                    call()
