"""What was found out about files outside of the store, so that nobody reads them twice. All of it may be lost.

Digests of file contents by (device, inode, size, mtime ns, ctime ns), digests of whole COPY selections by the
fingerprint of their stats, and parsed Dockerfiles by digest of their text and version of the parser. Digests are 32 raw
bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from builder.store.database import Database

StatKey = tuple[int, int, int, int, int]
_BATCH = 900
"""Parameters of one SELECT; SQLite takes at least 999."""
_SIGN = 1 << 63


class Files:
    """The memory for files of one store."""

    def __init__(self, database: Database, clock: Callable[[], int]) -> None:
        self._database = database
        self._clock = clock

    def get_files(self, keys: Iterable[StatKey], /) -> dict[StatKey, bytes]:
        """Those of `keys` that are known."""
        wanted: dict[int, list[StatKey]] = {}
        for key in keys:
            wanted.setdefault(key[0], []).append(key)
        found: dict[StatKey, bytes] = {}
        for device, mine in wanted.items():
            known: dict[int, tuple[StatKey, bytes]] = {}
            for start in range(0, len(mine), _BATCH):
                batch = [_signed(key[1]) for key in mine[start : start + _BATCH]]
                marks = ",".join("?" * len(batch))
                for inode, size, mtime, ctime, digest in self._database.rows(
                    "SELECT inode, size, mtime, ctime, digest FROM file_digests"
                    f" WHERE inode IN ({marks}) AND device = ?",
                    (*batch, _signed(device)),
                ):
                    known[inode] = ((device, inode % (2 * _SIGN), size, mtime, ctime), digest)
            for key in mine:
                hit = known.get(_signed(key[1]))
                if hit is not None and hit[0] == key:
                    found[key] = hit[1]
        return found

    def put_files(self, digests: Mapping[StatKey, bytes], /) -> None:
        """Remember many; an older entry of the same device and inode is replaced."""
        with self._database.write():
            self._database.run_many(
                "INSERT OR REPLACE INTO file_digests (device, inode, size, mtime, ctime, digest)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                sorted(
                    (_signed(device), _signed(inode), size, mtime, ctime, digest)
                    for (device, inode, size, mtime, ctime), digest in digests.items()
                ),
            )

    def get_selection(self, fingerprint: bytes, /) -> bytes | None:
        """The digest of a selection whose stats hashed to `fingerprint`."""
        row = self._database.row("SELECT digest FROM selections WHERE fingerprint = ?", (fingerprint,))
        return None if row is None else bytes(row[0])

    def put_selection(self, fingerprint: bytes, digest: bytes, /) -> None:
        """Remember the digest of a selection."""
        with self._database.write():
            self._database.run(
                "INSERT OR REPLACE INTO selections (fingerprint, digest, created) VALUES (?, ?, ?)",
                (fingerprint, digest, self._clock()),
            )

    def get_parsed(self, key: str, /) -> bytes | None:
        """The serialized form of a Dockerfile; `key` is made of its text's digest and the parser's version."""
        row = self._database.row("SELECT data FROM parsed WHERE key = ?", (key,))
        return None if row is None else bytes(row[0])

    def put_parsed(self, key: str, data: bytes, /) -> None:
        """Remember the serialized form of a Dockerfile."""
        with self._database.write():
            self._database.run(
                "INSERT OR REPLACE INTO parsed (key, data, created) VALUES (?, ?, ?)", (key, data, self._clock())
            )


def _signed(number: int) -> int:
    """Inode and device numbers are unsigned 64 bit, SQLite's integers signed."""
    return number if number < _SIGN else number - 2 * _SIGN
