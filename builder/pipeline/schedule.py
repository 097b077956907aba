"""Which step runs when: each as soon as what it needs is there, several side by side, all stopped when one fails.

The calling thread does the work itself as long as there is one thing to do; threads start only for more. Ctrl-C
reaches the calling thread alone: it tells the others by `Cancel` and waits for them.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TYPE_CHECKING

from builder.errors import BuildError

if TYPE_CHECKING:
    from builder.store import Store

_LONGEST_WAIT = 0.1
"""Seconds between two looks at a lock that another build holds."""


class StepCancelled(BuildError):
    """This step was stopped because another one failed or the user stopped the build."""

    def __init__(self) -> None:
        super().__init__("cancelled")


class Cancel:
    """A flag that several threads can wait for, also together with other descriptors. Close it at the end."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def fileno(self) -> int:
        """Readable once it is set."""
        return self._fd

    def set(self) -> None:
        """Stop everybody. Idempotent."""
        os.eventfd_write(self._fd, 1)

    def wait(self, seconds: float) -> None:
        """Sleep. Raises StepCancelled when it is set, at once."""
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        if poller.poll(seconds * 1000):
            raise StepCancelled

    def check(self) -> None:
        """Raises StepCancelled when it is set."""
        self.wait(0)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)


class Together:
    """Builds that are one: they stop together, and what one has run the others do not run again, cache or not."""

    def __init__(self) -> None:
        self.cancel = Cancel()
        self.builds: set[str] = set()
        """The ids of those that have begun."""


@contextmanager
def exclusive(store: Store, name: str, cancel: Cancel) -> Iterator[None]:
    """Hold the lock *name* of the store, waiting for whoever has it. Raises StepCancelled when stopped meanwhile."""
    delay = 0.002
    while True:
        with store.locks.attempt(name) as ours:
            if ours:
                yield
                return
        cancel.wait(delay)
        delay = min(2 * delay, _LONGEST_WAIT)


def run_all(needs: Mapping[int, Collection[int]], work: Callable[[int], None], *, jobs: int, cancel: Cancel) -> None:
    """Call *work* for every number in *needs*, after those that it needs, at most *jobs* at once.

    Raises what the first failing call raised, after all others have ended.
    """
    waiting = {number: {one for one in wanted if one in needs} for number, wanted in needs.items()}
    users: dict[int, list[int]] = {}
    for number, wanted in waiting.items():
        for one in wanted:
            users.setdefault(one, []).append(number)
    ready = deque(number for number, wanted in waiting.items() if not wanted)
    ended: SimpleQueue[tuple[int, BaseException | None]] = SimpleQueue()
    threads: dict[int, threading.Thread] = {}

    def beside(number: int) -> None:
        try:
            work(number)
        except BaseException as err:  # noqa: BLE001  it is raised in the calling thread
            ended.put((number, err))
        else:
            ended.put((number, None))

    def finish(number: int) -> None:
        for user in users.get(number, ()):
            waiting[user].discard(number)
            if not waiting[user]:
                ready.append(user)

    try:
        while ready or threads:
            if len(ready) == 1 and not threads:
                number = ready.popleft()
                work(number)
                finish(number)
                continue
            while ready and len(threads) < max(1, jobs):
                number = ready.popleft()
                threads[number] = threading.Thread(target=beside, args=(number,), name=f"step {number}")
                threads[number].start()
            number, error = ended.get()
            threads.pop(number).join()
            if error is not None:
                raise error
            finish(number)
    finally:
        if threads:
            cancel.set()
            for thread in threads.values():
                thread.join()
