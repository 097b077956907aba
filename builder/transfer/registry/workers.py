"""Several blobs at once: a few threads, the first error ends them all."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from builder.transfer.registry.client import Stopped

if TYPE_CHECKING:
    from builder.transfer.registry.client import Client

Item = TypeVar("Item")


def each(client: Client, items: Iterable[Item], work: Callable[[Item], object], *, threads: int) -> None:
    """Do `work` for all items, `threads` at a time, in their order. Raises what the first that failed raised.

    After an error, or Ctrl-C, requests under way are cut off and what has not begun is left; the threads have ended
    when this returns. The client can do nothing more then.
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
                client.abort()

    crew = [
        threading.Thread(target=run, name=f"blob {number}", daemon=True) for number in range(min(threads, len(waiting)))
    ]
    for thread in crew:
        thread.start()
    try:
        for thread in crew:
            thread.join()
    except BaseException as err:
        failed.append(err)
        client.abort()
        for thread in crew:
            thread.join()
        raise
    if failed:
        raise next((each for each in failed if not isinstance(each, Stopped)), failed[0])
