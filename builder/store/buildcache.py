"""The build cache: what a step gave, under the key of everything that went into it.

A record keeps its named leaves, so that a miss can say which of them changed, and two keys: `key` is made of
definitions (the parent's key), `content_key` of the parent's content, so that a step whose parent ran again with the
same result still hits. Records come only from builds in this store, never from an image's history (CVE-2024-24557).
Losing one costs a rebuild.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from builder.errors import LayerNotFound
from builder.store.snapshots import LayerID
from runtime.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from builder.store.database import Database, Row
    from builder.store.snapshots import Snapshots


@dataclass(frozen=True, slots=True)
class CacheRecord:
    """What one step gave. `layer` is None for a step that left no files.

    `step` identifies the step without its parents (the pipeline decides what counts), `text` is the instruction for
    people, `leaves` are (name, digest or text) pairs, `parent` the key below, `result` any text of the pipeline's.
    `created` in ns since the epoch (0: `put` fills it in), `duration_us` how long it took.
    """

    key: str
    step: str
    text: str
    leaves: tuple[tuple[str, str], ...]
    parent: str | None = None
    layer: LayerID | None = None
    content_key: str | None = None
    content_digest: str | None = None
    result: str = ""
    build: str | None = None
    duration_us: int = 0
    created: int = 0
    place: str = ""
    """Where the step stood (stage and position of which Dockerfile): the pipeline decides what counts."""


class BuildCache:
    """The cache records of one store."""

    def __init__(self, database: Database, snapshots: Snapshots, clock: Callable[[], int]) -> None:
        self._database = database
        self._snapshots = snapshots
        self._clock = clock

    def lookup(self, key: str) -> CacheRecord | None:
        """The record under `key`, its layer there and leased; None is a miss. A record without its layer goes."""
        return self._hit(self._database.row(f"SELECT {_COLUMNS} FROM cache_records WHERE key = ?", (key,)))

    def lookup_all(self, keys: Sequence[str]) -> dict[str, CacheRecord]:
        """As `lookup` for a whole plan: a few queries and one transaction, however many keys."""
        found = self.peek_all(keys)
        if not found:
            return found
        try:
            self._snapshots.use([record.layer for record in found.values() if record.layer is not None])
        except LayerNotFound:
            # Collected since: find out one by one which.
            hits = ((key, self.lookup(key)) for key in found)
            return {key: hit for key, hit in hits if hit is not None}
        now = self._clock()
        with self._database.write():
            self._database.run_many(
                "UPDATE cache_records SET last_used = ?, uses = uses + 1 WHERE key = ?", [(now, key) for key in found]
            )
        return found

    def peek_all(self, keys: Sequence[str]) -> dict[str, CacheRecord]:
        """As `peek` for many keys at once."""
        found: dict[str, CacheRecord] = {}
        for start in range(0, len(keys), _BATCH):
            batch = keys[start : start + _BATCH]
            marks = ",".join("?" * len(batch))
            for row in self._database.rows(f"SELECT {_COLUMNS} FROM cache_records WHERE key IN ({marks})", batch):
                record = _record(row)
                if record.layer is None or self._snapshots.path(record.layer).is_dir():
                    found[record.key] = record
        return found

    def peek(self, key: str) -> CacheRecord | None:
        """As `lookup`, without leasing or counting: for `plan`, which changes nothing."""
        row = self._database.row(f"SELECT {_COLUMNS} FROM cache_records WHERE key = ?", (key,))
        if row is None:
            return None
        record = _record(row)
        if record.layer is not None and not self._snapshots.path(record.layer).is_dir():
            return None
        return record

    def lookup_content(self, content_key: str) -> CacheRecord | None:
        """The newest record with this content key, as `lookup`."""
        rows = self._database.rows(
            f"SELECT {_COLUMNS} FROM cache_records WHERE content_key = ? ORDER BY created DESC", (content_key,)
        )
        for row in rows:
            record = self._hit(row)
            if record is not None:
                return record
        return None

    def put(self, record: CacheRecord) -> None:
        """Keep `record`, instead of an older one with its key."""
        now = self._clock()
        with self._database.write():
            self._database.run(
                f"INSERT OR REPLACE INTO cache_records ({_COLUMNS}, last_used, uses)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
                (
                    record.key,
                    record.content_key,
                    record.step,
                    record.text,
                    json.dumps(record.leaves),
                    record.parent,
                    record.layer,
                    record.content_digest,
                    record.result,
                    record.build,
                    record.duration_us,
                    record.created or now,
                    record.place,
                    now,
                ),
            )

    def set_content(self, key: str, content_digest: str, content_key: str | None) -> None:
        """Add what became known after the step: its layer's content digest and its content key."""
        with self._database.write():
            self._database.run(
                "UPDATE cache_records SET content_digest = ?, content_key = coalesce(?, content_key) WHERE key = ?",
                (content_digest, content_key, key),
            )

    def nearest(self, step: str) -> CacheRecord | None:
        """The newest record of the same step, whatever its parents: what a miss is compared with."""
        found = self.of_step(step, limit=1)
        return found[0] if found else None

    def of_step(self, step: str, *, limit: int = 20) -> tuple[CacheRecord, ...]:
        """Records of the same step, newest first."""
        rows = self._database.rows(
            f"SELECT {_COLUMNS} FROM cache_records WHERE step = ? ORDER BY created DESC LIMIT ?", (step, limit)
        )
        return tuple(_record(row) for row in rows)

    def at_place(self, place: str) -> CacheRecord | None:
        """The newest record of any step at this place; `place` is not empty."""
        row = self._database.row(
            f"SELECT {_COLUMNS} FROM cache_records WHERE place = ? ORDER BY created DESC LIMIT 1", (place,)
        )
        return None if row is None else _record(row)

    def put_manifest(self, layer: LayerID, manifest: bytes) -> None:
        """Keep the list of files that a layer was copied from; it goes with its layer."""
        import zlib

        with self._database.write():
            self._database.run(
                "INSERT OR REPLACE INTO copied_files (layer, data) VALUES (?, ?)", (layer, zlib.compress(manifest, 1))
            )

    def manifest(self, layer: LayerID) -> bytes | None:
        """What `put_manifest` was given for this layer."""
        import zlib

        row = self._database.row("SELECT data FROM copied_files WHERE layer = ?", (layer,))
        return None if row is None else zlib.decompress(row[0])

    def remove(self, key: str) -> None:
        """Forget one record; its layer goes with the next collection if nothing else needs it."""
        with self._database.write():
            self._database.run("DELETE FROM cache_records WHERE key = ?", (key,))

    def list(self) -> tuple[CacheRecord, ...]:
        """All records, newest first."""
        rows = self._database.rows(f"SELECT {_COLUMNS} FROM cache_records ORDER BY created DESC, key")
        return tuple(_record(row) for row in rows)

    def _hit(self, row: Row | None) -> CacheRecord | None:
        if row is None:
            return None
        record = _record(row)
        if record.layer is not None:
            try:
                self._snapshots.use([record.layer])
            except LayerNotFound:
                self.remove(record.key)
                return None
        with self._database.write():
            self._database.run(
                "UPDATE cache_records SET last_used = ?, uses = uses + 1 WHERE key = ?", (self._clock(), record.key)
            )
        return record


_COLUMNS = (
    "key, content_key, step, text, leaves, parent, layer, content_digest, result, build, duration_us, created, place"
)
_BATCH = 500
"""Keys in one SELECT."""


def _record(row: Row) -> CacheRecord:
    key, content_key, step, text, leaves, parent, layer, content_digest, result, build, duration_us, created, place = (
        row
    )
    return CacheRecord(
        key=key,
        step=step,
        text=text,
        leaves=tuple((str(name), str(value)) for name, value in json.loads(leaves)),
        parent=parent,
        layer=None if layer is None else LayerID(layer),
        content_key=content_key,
        content_digest=content_digest,
        result=result,
        build=build,
        duration_us=duration_us,
        created=created,
        place=place,
    )
