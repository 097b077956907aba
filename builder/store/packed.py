"""Packed forms of layers: which compressed blob is which layer, how it can be had again, and where a registry has it.

A registry names a layer by the digest of its compressed blob, an image's config by its diff_id. A blob that came from
outside is kept in `content` as long as a layer with its diff_id is here, since nobody else's compressor can be trusted
to give the same bytes again; what we packed ourselves is only noted with its `method`, and made again when it is needed
(the maker compares digests). Losing any of this costs time or another digest, never an image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.oci.digests import DiffID, Digest
    from builder.store.database import Database

MAX_ORIGINS = 50
"""Repositories remembered for one blob; the oldest go."""
UPLOAD_TTL = 7 * 24 * 3600 * 1_000_000_000
"""How long an unfinished upload is remembered, in ns: registries drop them after some days."""


@dataclass(frozen=True, slots=True)
class PackedLayer:
    """One compressed form of a layer's tar. `method` is how we made it; "" means that it came from outside."""

    digest: Digest
    diff_id: DiffID
    size: int
    media_type: str
    method: str = ""


class Packed:
    """The packed forms that one store knows."""

    def __init__(self, database: Database, clock: Callable[[], int]) -> None:
        self._database = database
        self._clock = clock

    def put(self, layer: PackedLayer, *, origin: str = "") -> None:
        """Remember a packed form; `origin` is the repository (registry/path) that has it."""
        with self._database.write():
            self._database.run(
                "INSERT INTO packed (digest, diff_id, size, media_type, method, created) VALUES (?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (digest) DO NOTHING",
                (layer.digest, layer.diff_id, layer.size, layer.media_type, layer.method, self._clock()),
            )
            if origin:
                self.add_origin(layer.digest, origin)

    def get(self, digest: Digest) -> PackedLayer | None:
        """The form with this digest."""
        row = self._database.row(f"SELECT {_COLUMNS} FROM packed WHERE digest = ?", (digest,))
        return None if row is None else PackedLayer(*row)

    def of(self, diff_id: DiffID) -> tuple[PackedLayer, ...]:
        """All known forms of a layer: first what came from outside, then our own."""
        rows = self._database.rows(
            f"SELECT {_COLUMNS} FROM packed WHERE diff_id = ? ORDER BY method <> '', created, digest", (diff_id,)
        )
        return tuple(PackedLayer(*row) for row in rows)

    def add_origin(self, digest: Digest, repository: str) -> None:
        """The repository has the blob; nothing happens for a blob that is no packed layer."""
        with self._database.write():
            self._database.run(
                "INSERT INTO origins (digest, repository, seen) SELECT digest, ?, ? FROM packed WHERE digest = ?"
                " ON CONFLICT (digest, repository) DO UPDATE SET seen = excluded.seen",
                (repository, self._clock(), digest),
            )
            self._database.run(
                "DELETE FROM origins WHERE digest = ?1 AND repository NOT IN"
                " (SELECT repository FROM origins WHERE digest = ?1 ORDER BY seen DESC LIMIT ?2)",
                (digest, MAX_ORIGINS),
            )

    def forget_origin(self, digest: Digest, repository: str) -> None:
        """The repository does not have it any more."""
        with self._database.write():
            self._database.run("DELETE FROM origins WHERE digest = ? AND repository = ?", (digest, repository))

    def origins(self, digest: Digest) -> tuple[str, ...]:
        """The repositories that had the blob, the one seen last first."""
        rows = self._database.rows("SELECT repository FROM origins WHERE digest = ? ORDER BY seen DESC", (digest,))
        return tuple(row[0] for row in rows)

    def kept(self) -> dict[DiffID, int]:
        """Bytes of the blobs that are kept, by the layer that they are forms of."""
        rows = self._database.rows(
            "SELECT p.diff_id, total(b.size) FROM packed p JOIN blobs b ON b.digest = p.digest GROUP BY p.diff_id"
        )
        return {diff_id: int(size) for diff_id, size in rows}

    # --- uploads under way ---

    def upload(self, digest: Digest, repository: str) -> str:
        """Where the upload of a blob had begun, "" when none had."""
        row = self._database.row(
            "SELECT location FROM uploads WHERE digest = ? AND repository = ? AND created > ?",
            (digest, repository, self._clock() - UPLOAD_TTL),
        )
        return "" if row is None else str(row[0])

    def set_upload(self, digest: Digest, repository: str, location: str) -> None:
        """Remember where an upload goes on, so that the next process can continue; "" forgets it."""
        with self._database.write():
            self._database.run(
                "DELETE FROM uploads WHERE created <= ? OR (digest = ? AND repository = ?)",
                (self._clock() - UPLOAD_TTL, digest, repository),
            )
            if location:
                self._database.run(
                    "INSERT INTO uploads (digest, repository, location, created) VALUES (?, ?, ?, ?)",
                    (digest, repository, location, self._clock()),
                )


_COLUMNS = "digest, diff_id, size, media_type, method"
