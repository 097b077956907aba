"""sha256 in a thread of its own, for streams that somebody is busy reading and writing at the same time."""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from types import TracebackType

_START = 1 << 20
"""Bytes that are hashed on the spot before a thread is worth it."""
_AHEAD = 32
"""Chunks that may wait: bounds memory."""


class Sha256:
    """As hashlib's, but large amounts are hashed beside the caller. A context manager: the thread ends with the
    block.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._size = 0
        self._thread: threading.Thread | None = None
        self._chunks: deque[bytes | None] = deque()
        self._filled = threading.Semaphore(0)
        self._free = threading.Semaphore(_AHEAD)

    def __enter__(self) -> Sha256:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        self._finish()

    def update(self, data: bytes) -> None:
        """Hash *data*, which must not change any more."""
        self._size += len(data)
        if self._thread is None:
            if self._size < _START:
                self._hash.update(data)
                return
            self._thread = threading.Thread(target=self._run, name="sha256", daemon=True)
            self._thread.start()
        self._free.acquire()
        self._put(data)

    def hexdigest(self) -> str:
        """The digest of everything; nothing may follow."""
        self._finish()
        return self._hash.hexdigest()

    def _put(self, data: bytes | None) -> None:
        self._chunks.append(data)
        self._filled.release()

    def _finish(self) -> None:
        if self._thread is not None:
            self._put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while True:
            self._filled.acquire()
            data = self._chunks.popleft()
            if data is None:
                return
            self._hash.update(data)
            self._free.release()
