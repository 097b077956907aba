"""Several things at once: a few threads, the first error ends them all."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")

PATIENCE = 5.0
"""Seconds that Ctrl-C may take where nothing can end what is under way: a connection that is still being made, a
registry that thinks about its answer."""


class Stopped(Exception):
    """Another thread has failed, or the user has had enough."""


def each(
    items: Iterable[Item],
    work: Callable[[Item], object],
    *,
    threads: int,
    abort: Callable[[], object],
    patience: float = PATIENCE,
) -> None:
    """Do `work` for all items, `threads` at a time, in their order. Raises what the first that failed raised.

    After an error, or Ctrl-C, `abort` is called to end what is under way, and what has not begun is left. The threads
    have ended when this returns; those that `abort` cannot end are left behind after `patience` seconds.
    """
    waiting = deque(items)
    failed: list[BaseException] = []
    guard = threading.Lock()

    def run() -> None:
        while not failed:
            with guard:
                if not waiting:
                    return
                item = waiting.popleft()
            try:
                work(item)
            except BaseException as err:  # noqa: BLE001  raised again below, in the thread that waits
                with guard:
                    if not isinstance(err, Stopped) or not failed:
                        failed.append(err)
                abort()

    crew = [
        threading.Thread(target=run, name=f"blob {number}", daemon=True) for number in range(min(threads, len(waiting)))
    ]
    for thread in crew:
        thread.start()
    try:
        for thread in crew:
            while thread.is_alive() and not failed:
                thread.join(1)
    except BaseException as err:
        failed.append(err)
        abort()
        _join(crew, patience)
        raise
    if failed:
        _join(crew, patience)
        raise next((each for each in failed if not isinstance(each, Stopped)), failed[0])


def _join(crew: list[threading.Thread], patience: float) -> None:
    until = time.monotonic() + patience
    for thread in crew:
        thread.join(max(0.0, until - time.monotonic()))
