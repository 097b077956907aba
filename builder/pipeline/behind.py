"""Work that is done behind the steps: a made layer is hashed and written down while the next step runs already.

Jobs start in the order in which they were added and may wait for those before them.
"""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING

from builder.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable


class Behind:
    """Named jobs in up to *workers* threads, which start when there is something to do. `close` waits for all."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._threads: list[threading.Thread] = []
        self._jobs: SimpleQueue[tuple[Callable[[], None], threading.Event] | None] = SimpleQueue()
        self._ends: dict[str, threading.Event] = {}
        self._failures: list[Exception] = []

    def add(self, name: str, job: Callable[[], None]) -> None:
        """Do *job* as soon as a thread is free. What it raises (OSError, EngineError), `check` and `wait` raise."""
        for other, end in list(self._ends.items()):
            if end.is_set():
                self._ends.pop(other, None)
        busy = len(self._ends)
        end = self._ends[name] = threading.Event()
        if busy >= len(self._threads) < self._workers:
            thread = threading.Thread(target=self._work, name=f"behind {len(self._threads)}")
            self._threads.append(thread)
            thread.start()
        self._jobs.put((job, end))

    def wait(self, name: str) -> None:
        """Return when the job *name* has ended, or there is none. Raises what the first failing job raised."""
        end = self._ends.get(name)
        if end is not None:
            end.wait()
        self.check()

    def check(self) -> None:
        """Raise what the first failing job raised, if one did."""
        if self._failures:
            raise self._failures[0]

    def busy(self) -> bool:
        """Whether some job has not ended."""
        return not all(end.is_set() for end in self._ends.values())

    def close(self) -> None:
        """Wait for all jobs."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (given := self._jobs.get()) is not None:
            job, end = given
            try:
                job()
            except (OSError, EngineError) as err:
                self._failures.append(err)
            finally:
                end.set()
