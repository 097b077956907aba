"""What is attested of images: predicates (bills of materials, provenance) as documents beside the image.

A predicate says nothing of whom it is about: its subject is the digest of a manifest, which is only known when the
image goes out (`builder.transfer.attested` makes the statement then). An image has at most one of a type. They go with
their image; their bytes are blobs of `content`, which collection keeps as long as a row here names them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.errors import BlobNotFound, ImageNotFound
from runtime.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from builder.oci.digests import Digest
    from builder.store.content import Content
    from builder.store.database import Database


@dataclass(frozen=True, slots=True)
class Predicate:
    """`type` is the URI that names the kind of document, `data` the document: a JSON object as UTF-8."""

    type: str
    data: bytes


class Attestations:
    """The predicates of one store's images."""

    def __init__(self, database: Database, content: Callable[[], Content], clock: Callable[[], int]) -> None:
        self._database = database
        self._content = content
        self._clock = clock

    def put(self, image_id: Digest, predicates: Iterable[Predicate]) -> None:
        """Attach predicates to an image, each instead of an earlier one of its type.

        Raises ImageNotFound (it was removed meanwhile), StoreErrors.
        """
        kept = [(image_id, each.type, self._content().put(each.data), self._clock()) for each in predicates]
        with self._database.write(durable=True):
            if self._database.row("SELECT 1 FROM images WHERE id = ?", (image_id,)) is None:
                raise ImageNotFound(image_id)
            self._database.run_many(
                "INSERT OR REPLACE INTO attestations (image, type, digest, created) VALUES (?, ?, ?, ?)", kept
            )

    def of(self, image_id: Digest) -> tuple[Predicate, ...]:
        """The predicates of an image, by type. Raises DigestMismatch (a document was touched)."""
        return tuple(
            found
            for (name,) in self._database.rows(
                "SELECT type FROM attestations WHERE image = ? ORDER BY type", (image_id,)
            )
            if (found := self.get(image_id, name)) is not None
        )

    def get(self, image_id: Digest, name: str) -> Predicate | None:
        """The predicate of type `name`, None without one. Raises DigestMismatch."""
        row = self._database.row("SELECT digest FROM attestations WHERE image = ? AND type = ?", (image_id, name))
        if row is None:
            return None
        try:
            return Predicate(name, self._content().read(row[0]))
        except BlobNotFound:
            return None  # a row without its file is a miss

    def remove(self, image_id: Digest, types: Iterable[str]) -> None:
        """Take predicates of these types off an image. Idempotent."""
        with self._database.write(durable=True):
            self._database.run_many(
                "DELETE FROM attestations WHERE image = ? AND type = ?", [(image_id, name) for name in types]
            )
