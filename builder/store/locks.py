"""Locks between processes: flocks on files, which the kernel releases when their process dies.

`Locks.hold(name)` is exclusive and waits: two builds that want to run the same step take the step's key, so that the
second finds the first one's result. A file goes away with its last holder; a process that got a lock on a file which
has just been unlinked notices and starts again.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from builder.oci import digests
from builder.store.diskfaults import disk_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Locks:
    """The named locks of one store."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """Hold the lock `name` (any text), waiting for whoever has it, in this process too. Raises StoreError."""
        path = self._path(name)
        descriptor = acquire(path, fcntl.LOCK_EX)
        try:
            yield
        finally:
            _release(path, descriptor)

    @contextmanager
    def attempt(self, name: str) -> Iterator[bool]:
        """Hold the lock `name` if it is free; yields whether it was."""
        path = self._path(name)
        try:
            descriptor = acquire(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        try:
            yield True
        finally:
            _release(path, descriptor)

    def _path(self, name: str) -> str:
        # A name may come from a user (a cache mount's id): only its digest becomes a file name.
        return f"{self._directory}/{digests.short(digests.of(name.encode()))}{len(name)}"


def acquire(path: str, operation: int) -> int:
    """An open descriptor of `path` (made if need be) with its flock; a file unlinked or renamed meanwhile is left.

    Raises BlockingIOError with LOCK_NB, StoreError.
    """
    with disk_errors("take a lock"):
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, operation)
                if _is_same(descriptor, path):
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)


def _is_same(descriptor: int, path: str) -> bool:
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    mine = os.fstat(descriptor)
    return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)


def _release(path: str, descriptor: int) -> None:
    # Unlink while holding: nobody can hold this very file afterwards, and a waiter sees in _is_same that it has gone.
    try:
        os.unlink(path)
    except OSError:
        pass
    os.close(descriptor)
