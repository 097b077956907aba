"""Several things at once: a few threads, the first error ends them all."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")

PATIENCE = 5.0
"""Seconds that Ctrl-C may take where nothing can end what is under way."""


class Stopped(Exception):
    """Another thread has failed, or the user has had enough."""


def each(
    items: Iterable[Item],
    work: Callable[[Item], object],
    *,
    threads: int,
    abort: Callable[[], object],
    patience: float | None = None,
) -> None:
    """Do `work` for all items, `threads` at a time, in their order. Raises what the first that failed raised.

    After an error, or Ctrl-C, `abort` is called to end what is under way, and what has not begun is left. The threads
    have ended when this returns; those that `abort` cannot end at once are left behind after `patience` seconds.
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
            while thread.is_alive() and not (failed and patience is not None):
                thread.join(1 if patience is not None else None)
    except BaseException as err:
        failed.append(err)
        abort()
        _join(crew, patience)
        raise
    if failed:
        _join(crew, patience)
        raise next((each for each in failed if not isinstance(each, Stopped)), failed[0])


def _join(crew: list[threading.Thread], patience: float | None) -> None:
    for thread in crew:
        thread.join(patience)
