"""What a pull or push tells while it runs: docker's messages, as values.

A message without `total` is a line ("a3ed95caeb02: Pull complete"); one with `total` is a step of a bar, shown on
terminals only. Messages come from several threads, never two at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from runtime.values import dataclass

if TYPE_CHECKING:
    from builder.store.tarstream import Readable


@dataclass(frozen=True, slots=True)
class Message:
    """`status` of the layer `id` ("" for the whole image); `current` of `total` bytes, 0 when it is no bar."""

    status: str
    id: str = ""
    current: int = 0
    total: int = 0


Emit = Callable[[Message], object]
Watch = Callable[[int], object]
"""Told how many bytes have come or gone more; at first, of what goes on, how many did so before."""


def silent(message: Message) -> None:
    """Tell nobody."""


class Teller:
    """Hands messages on one at a time; bars move only every `step` bytes."""

    def __init__(self, emit: Emit, *, step: int = 1 << 19) -> None:
        self._emit = emit
        self._step = step
        self._guard = threading.Lock()

    def line(self, status: str, id: str = "") -> None:
        """A line."""
        with self._guard:
            self._emit(Message(status, id))

    def bar(self, status: str, id: str, total: int, at: int = 0) -> Watch:
        """A bar; call what it gives with the number of bytes that have been added."""
        current, shown = at, -self._step

        def add(count: int) -> None:
            nonlocal current, shown
            current += count
            if current - shown >= self._step or shown < total <= current:
                shown = current
                with self._guard:
                    self._emit(Message(status, id, min(current, total), max(total, 1)))

        return add


class Watched:
    """Something packed on its way to be unpacked; `watch` is called with the number of bytes that were read."""

    def __init__(self, file: Readable, watch: Watch) -> None:
        self._file = file
        self._watch = watch

    def read(self, size: int, /) -> bytes:
        """As a file."""
        data = self._file.read(size)
        self._watch(len(data))
        return data
