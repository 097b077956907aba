"""Content digests of files, remembered by what ``stat`` says about them.

A digest is trusted without reading the file when device, inode, size, mtime and ctime are what they were when the file
was read, and when the file was not younger than the clock's grain at that time: the rule that git's index uses against
"racily clean" entries. The memory itself (a table of the store) is given by the caller, see :class:`DigestCache`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol, TypeAlias

StatKey: TypeAlias = "tuple[int, int, int, int, int]"
"""(device, inode, size in bytes, mtime in ns, ctime in ns)."""


class DigestCache(Protocol):
    """What this package needs from the store; all digests are the 32 raw bytes of a sha256."""

    def get_files(self, keys: Iterable[StatKey], /) -> Mapping[StatKey, bytes]:
        """Those of *keys* that are known; one call for many files."""

    def put_files(self, digests: Mapping[StatKey, bytes], /) -> None:
        """Remember many; losing them costs a re-read and nothing else."""

    def get_selection(self, fingerprint: bytes, /) -> bytes | None:
        """The digest of a whole selection whose every ``stat`` hashed to *fingerprint*."""

    def put_selection(self, fingerprint: bytes, digest: bytes, /) -> None:
        """Remember the digest of a selection (both 32 bytes)."""
