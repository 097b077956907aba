"""Content digests of files, remembered by what ``stat`` says about them.

A digest is trusted without reading the file when device, inode, size, mtime and ctime are what they were when the file
was read, and when the file was not younger than the clock's grain at that time: the rule that git's index uses against
"racily clean" entries (``filecopy.is_racy``). The memory itself is a table of the store, given by the caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from builder.pipeline.filecopy import StatKey

__all__ = ["DigestCache", "MemoryCache", "StatKey"]


class DigestCache(Protocol):
    """What COPY needs from the store; all digests are the 32 raw bytes of a sha256."""

    def get_files(self, keys: Iterable[StatKey], /) -> Mapping[StatKey, bytes]:
        """Those of *keys* that are known; one call for many files."""

    def put_files(self, digests: Mapping[StatKey, bytes], /) -> None:
        """Remember many; losing them costs a re-read and nothing else."""

    def get_selection(self, fingerprint: bytes, /) -> bytes | None:
        """The digest of a whole selection whose every ``stat`` hashed to *fingerprint*."""

    def put_selection(self, fingerprint: bytes, digest: bytes, /) -> None:
        """Remember the digest of a selection (both 32 bytes)."""


class MemoryCache:
    """A DigestCache that forgets: for one build without a store, and for tests."""

    def __init__(self) -> None:
        self.files: dict[StatKey, bytes] = {}
        self.selections: dict[bytes, bytes] = {}

    def get_files(self, keys: Iterable[StatKey], /) -> Mapping[StatKey, bytes]:
        """See DigestCache."""
        return {key: self.files[key] for key in keys if key in self.files}

    def put_files(self, digests: Mapping[StatKey, bytes], /) -> None:
        """See DigestCache."""
        self.files.update(digests)

    def get_selection(self, fingerprint: bytes, /) -> bytes | None:
        """See DigestCache."""
        return self.selections.get(fingerprint)

    def put_selection(self, fingerprint: bytes, digest: bytes, /) -> None:
        """See DigestCache."""
        self.selections[fingerprint] = digest
