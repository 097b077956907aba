"""Blobs by digest: files that appear whole or not at all and then never change.

Used for what comes from outside and must go out again as the same bytes (recipes of foreign layers, members of an
archive while it is read). A blob is written under a temporary name, hashed on the way, synced, renamed to its digest;
the directory is synced; then it gets its row. A file without a row is garbage, a row without its file a miss.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from builder.errors import BlobNotFound, DigestMismatch
from builder.oci import digests
from builder.store.crash import crashpoint
from builder.store.diskfaults import disk_errors
from builder.store.leases import BLOB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from builder.store.database import Database
    from builder.store.leases import Lease
    from builder.store.partial import PartialBlob


class BlobWriter:
    """A blob being written; `digest` is known after the block of `Content.writer` has ended."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.size = 0
        self.digest: digests.Digest | None = None

    def write(self, data: bytes) -> int:
        """Append `data`."""
        self._hash.update(data)
        self.size += len(data)
        return self._file.write(data)

    def so_far(self) -> digests.Digest:
        """Digest of what was written until now."""
        return digests.from_hex(self._hash.hexdigest())


class Content:
    """The blobs of one store."""

    def __init__(
        self, database: Database, directory: Path, temporary: Path, lease: Callable[[], Lease], clock: Callable[[], int]
    ) -> None:
        self._database = database
        self._directory = directory
        self._temporary = temporary
        self._lease = lease
        self._clock = clock

    @contextmanager
    def writer(self, *, expected: digests.Digest | None = None) -> Iterator[BlobWriter]:
        """Write a blob in the block; at its end it is there (and leased) or, after an error, was never there.

        Raises DigestMismatch when the bytes are not those of `expected`, DiskFull and other StoreErrors.
        """
        lease = self._lease()
        name = f"{self._temporary}/{lease.id}.{os.urandom(4).hex()}"
        with disk_errors("write a blob"):
            try:
                with open(name, "xb", buffering=1 << 18) as file:
                    os.fchmod(file.fileno(), 0o600)
                    writer = BlobWriter(file)
                    yield writer
                    file.flush()
                    writer.digest = writer.so_far()
                    if expected is not None and expected != writer.digest:
                        raise DigestMismatch("blob", expected, writer.digest)
                    os.fchmod(file.fileno(), 0o400)
                    os.fsync(file.fileno())
                crashpoint("blob-written")
                self._adopt(name, writer.digest, writer.size)
            except BaseException:
                _unlink(name)
                raise

    @contextmanager
    def partial(self, digest: digests.Digest) -> Iterator[PartialBlob]:
        """The blob `digest` as far as it has come, for whoever brings the rest; others wait for the end of the block.

        What is there is kept when the block ends, however it ends (a full disk excepted), also when the process dies.
        `commit` of what it yields makes it a blob. Raises StoreErrors.
        """
        from builder.store.partial import opened

        with disk_errors("write a blob"), opened(self.path(digest), digest, self._adopt) as partial:
            yield partial

    def _adopt(self, path: str, digest: digests.Digest, size: int) -> None:
        """Make the whole and synced file `path` a blob."""
        # Leased before it has its name, so that a collection beside us lets the file without a row be.
        self._lease().protect(BLOB, [digest])
        os.rename(path, self.path(digest))
        _sync_directory(self._directory)
        crashpoint("blob-renamed")
        now = self._clock()
        with self._database.write():
            self._database.run(
                "INSERT INTO blobs (digest, size, created, last_used) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (digest) DO UPDATE SET size = excluded.size, last_used = excluded.last_used",
                (digest, size, now, now),
            )

    def use(self, digest: digests.Digest) -> bool:
        """Whether the blob is there; it is then kept from collection while this process lives."""
        self._lease().protect(BLOB, [digest])
        return self.exists(digest)

    def put(self, data: bytes) -> digests.Digest:
        """Keep `data`; returns its digest. Keeping the same bytes again does nothing."""
        digest = digests.of(data)
        self._lease().protect(BLOB, [digest])
        if not self.exists(digest):
            with self.writer(expected=digest) as writer:
                writer.write(data)
        return digest

    def open(self, digest: digests.Digest) -> BinaryIO:
        """The blob for reading; the caller closes it. Raises BlobNotFound."""
        try:
            return open(self.path(digest), "rb")
        except FileNotFoundError:
            raise BlobNotFound(digest) from None

    def read(self, digest: digests.Digest) -> bytes:
        """The bytes of a (small) blob, checked against its digest. Raises BlobNotFound, DigestMismatch."""
        with self.open(digest) as file:
            data = file.read()
        found = digests.of(data)
        if found != digest:
            raise DigestMismatch("blob", digest, found)
        return data

    def exists(self, digest: digests.Digest) -> bool:
        """Whether the blob is there, row and file; a row without its file is forgotten."""
        row = self._database.row("SELECT size FROM blobs WHERE digest = ?", (digest,))
        if row is None:
            return False
        try:
            whole = bool(os.stat(self.path(digest)).st_size == row[0])
        except FileNotFoundError:
            whole = False
        if not whole:
            with self._database.write():
                self._database.run("DELETE FROM blobs WHERE digest = ?", (digest,))
        return whole

    def peek(self, digest: digests.Digest) -> bool:
        """As `exists`, but changes nothing."""
        row = self._database.row("SELECT size FROM blobs WHERE digest = ?", (digest,))
        try:
            return row is not None and bool(os.stat(self.path(digest)).st_size == row[0])
        except FileNotFoundError:
            return False

    def path(self, digest: digests.Digest) -> Path:
        """Where the blob is, if it is there. Raises InvalidDigest for what is no digest."""
        return self._directory / digests.parse(digest).replace(":", "-")


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
