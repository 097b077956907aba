"""Blobs that are still coming: what has arrived is kept, so that the next attempt or process brings the rest.

A partial blob is a file beside the blobs that its writer holds locked; the lock dies with the process, the file stays.
Nothing vouches for its bytes before they are all there and have the digest: whoever continues hashes what it finds.
Collection takes those that nobody has touched for a week.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from builder.errors import DigestMismatch
from builder.store.crash import crashpoint
from builder.store.locks import acquire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from builder.oci.digests import Digest

PREFIX = "partial-"
TTL = 7 * 24 * 3600
"""Seconds that a partial blob nobody works on is kept."""
_READ = 1 << 20


class PartialBlob:
    """A blob as far as it has come: `size` bytes, all of them hashed. For one thread."""

    def __init__(self, path: str, descriptor: int, digest: Digest, adopt: Callable[[str, Digest, int], None]) -> None:
        self._path = path
        self._descriptor = descriptor
        self._digest = digest
        self._adopt = adopt
        self._hash = hashlib.sha256()
        self.size = 0
        self.committed = False
        while data := os.pread(descriptor, _READ, self.size):
            self._hash.update(data)
            self.size += len(data)

    def write(self, data: bytes) -> None:
        """Append `data`. Raises OSError."""
        self._hash.update(data)
        view = memoryview(data)
        while view:
            written = os.pwrite(self._descriptor, view, self.size)
            self.size += written
            view = view[written:]

    def restart(self) -> None:
        """Forget what has come."""
        os.ftruncate(self._descriptor, 0)
        self._hash = hashlib.sha256()
        self.size = 0

    def commit(self) -> None:
        """Make it a blob of the store. Raises DigestMismatch: then everything that has come is forgotten; OSError."""
        found = "sha256:" + self._hash.hexdigest()
        if found != self._digest:
            self.restart()
            raise DigestMismatch("blob", self._digest, found)
        os.fchmod(self._descriptor, 0o400)
        os.fsync(self._descriptor)
        crashpoint("blob-written")
        self._adopt(self._path, self._digest, self.size)
        self.committed = True


@contextmanager
def opened(target: Path, digest: Digest, adopt: Callable[[str, Digest, int], None]) -> Iterator[PartialBlob]:
    """The partial blob that becomes *target*, locked for the block. Raises OSError, StoreError."""
    path = str(target.with_name(PREFIX + target.name))
    descriptor = acquire(path, fcntl.LOCK_EX)
    partial: PartialBlob | None = None
    try:
        os.fchmod(descriptor, 0o600)
        partial = PartialBlob(path, descriptor, digest, adopt)
        yield partial
    except OSError as err:
        if err.errno in (errno.ENOSPC, errno.EDQUOT):
            _drop(path)  # the room is needed more
        raise
    finally:
        if partial is None or (not partial.committed and not partial.size):
            _drop(path)
        os.close(descriptor)


def is_stale(path: Path, now: float) -> bool:
    """Whether the partial blob at *path* is old enough to be given up; *now* in unix seconds."""
    try:
        return now - os.stat(path).st_mtime > TTL
    except FileNotFoundError:
        return False


def _drop(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
