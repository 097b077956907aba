"""Cache mounts: the directories of `RUN --mount=type=cache`, by name, with what people know them by.

The directory's name is a digest of id and origin, so that neither can say anything about paths; the row keeps both. A
directory without a row (made by an older version, or by `bootstrap`) is a cache mount without an id.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from builder.errors import NotFound
from builder.store import trees
from builder.store.leases import CACHE
from runtime.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from builder.store.database import Database
    from builder.store.leases import Lease

NAME = re.compile(r"[0-9a-z]{1,64}(-[0-9]{1,9})?")


@dataclass(frozen=True, slots=True)
class CacheMount:
    """One cache mount. `origin` is what from= named ("": nothing); times in ns since the epoch."""

    name: str
    id: str
    origin: str
    path: Path
    created: int
    last_used: int
    uses: int

    def size(self) -> int:
        """The bytes of its files, counted now."""
        return trees.size(self.path)


class CacheMounts:
    """The cache mounts of one store."""

    def __init__(self, database: Database, directory: Path, clock: Callable[[], int]) -> None:
        self._database = database
        self._directory = directory
        self._clock = clock

    def note_use(self, name: str, mount_id: str, origin: str) -> None:
        """A step uses it now: its size is not known any longer."""
        now = self._clock()
        with self._database.write():
            self._database.run(
                "INSERT INTO cache_mounts (name, id, origin, created, last_used, uses) VALUES (?, ?, ?, ?, ?, 1)"
                " ON CONFLICT (name) DO UPDATE SET last_used = excluded.last_used, uses = uses + 1, size = NULL",
                (name, mount_id, origin, now, now),
            )

    def list(self) -> tuple[CacheMount, ...]:
        """All whose directory is there, last used first."""
        columns = "name, id, origin, created, last_used, uses"
        rows = {row[0]: row[1:] for row in self._database.rows(f"SELECT {columns} FROM cache_mounts")}
        found = []
        for name in os.listdir(self._directory):
            path = self._directory / name
            row = rows.get(name)
            if row is not None:
                found.append(CacheMount(name, row[0], row[1], path, *row[2:]))
            elif NAME.fullmatch(name):
                changed = path.stat().st_mtime_ns
                found.append(CacheMount(name, "", "", path, changed, changed, 0))
        return tuple(sorted(found, key=lambda each: (-each.last_used, each.name)))

    def find(self, word: str) -> tuple[CacheMount, ...]:
        """Those with this id, or whose name starts with `word` (at least four characters). Raises NotFound."""
        mounts = self.list()
        found = tuple(each for each in mounts if each.id == word)
        if not found and len(word) >= 4:
            found = tuple(each for each in mounts if each.name.startswith(word))
        if not found:
            raise NotFound(f"no such cache mount: {word}", hint="lamina cache-mount ls shows them")
        return found

    def total(self, lease: Lease) -> int:
        """The bytes of all. Counted are those that `lease`, this process's own, has used, and those whose size nobody
        knows; a size that a step of another process changes now is not kept."""
        rows = self._database.rows
        used = {row[0] for row in rows("SELECT name FROM lease_items WHERE kind = ? AND lease = ?", (CACHE, lease.id))}
        sizes: dict[str, int | None] = dict(rows("SELECT name, size FROM cache_mounts"))
        total, counted = 0, []
        for name in os.listdir(self._directory):
            size = None if name in used else sizes.get(name)
            if size is None:
                size = trees.size(self._directory / name)
                counted.append((size, name, CACHE, lease.id))
            total += size
        if counted:
            with self._database.write():
                # Whoever begins to use one after this makes its size unknown.
                self._database.run_many(
                    "UPDATE cache_mounts SET size = ? WHERE name = ? AND name NOT IN"
                    " (SELECT name FROM lease_items WHERE kind = ? AND lease <> ?)",
                    counted,
                )
        return total

    def in_use(self, *, but: Lease | None = None) -> frozenset[str]:
        """Names of those that a living process has; `but` what this lease alone has."""
        return frozenset(
            str(row[0])
            for row in self._database.rows(
                "SELECT name FROM lease_items WHERE kind = ? AND lease <> ?", (CACHE, but.id if but else "")
            )
        )
