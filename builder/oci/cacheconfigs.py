"""Build caches that travel: the config of a manifest whose layers are the results of steps.

The manifest is an ordinary one, its layers are ordinary layers, so every registry and every copying tool takes it. The
config says which step gave which layer: for each step the key that another build of the same step has, and what it
stood on. Keys are ours and say everything that went into a step; an image's history is never read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.errors import InvalidDigest
from builder.oci import digests, documents
from runtime.values import dataclass

if TYPE_CHECKING:
    from builder.oci.digests import DiffID
    from builder.oci.documents import Json, Object

MEDIA_TYPE = "application/vnd.lamina.cache.config.v1+json"
INLINE_KEY = "lamina.cache.v1"
"""The field of an image's config that holds the entries of an inline cache."""
LIMIT = 64 << 20
MAX_ENTRIES = 100_000


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One step that somebody ran. `key`, `step` and `content_key` as in a cache record ("": not known).

    `layer` is what it gave, `below` the topmost layer that it stood on (None: nothing), `sources` the topmost layers of
    the stages that it took files from, `created` when the layer was made (ns since the epoch, 0: not known).
    """

    key: str
    step: str
    content_key: str
    layer: DiffID
    below: DiffID | None = None
    sources: tuple[DiffID | None, ...] = ()
    duration_us: int = 0
    created: int = 0

    def to_json(self) -> dict[str, Json]:
        """As a JSON object."""
        return {
            "key": self.key,
            "step": self.step,
            "contentKey": self.content_key,
            "layer": self.layer,
            "below": self.below,
            "sources": [each or "" for each in self.sources],
            "durationUs": self.duration_us,
            "createdNs": self.created,
        }

    @staticmethod
    def from_object(source: Object) -> CacheEntry:
        """Read one. Raises InvalidDocument."""
        return CacheEntry(
            key=source.required("key"),
            step=source.string("step") or "",
            content_key=source.string("contentKey") or "",
            layer=_diff_id(source, "layer", source.required("layer")),
            below=_optional(source, "below", source.string("below") or ""),
            sources=tuple(_optional(source, "sources", each) for each in source.strings("sources") or ()),
            duration_us=source.integer("durationUs", default=0, low=0),
            created=source.integer("createdNs", default=0, low=0),
        )


def dump(entries: tuple[CacheEntry, ...]) -> bytes:
    """The config of a cache manifest. The layers of the manifest are `layers(entries)`, in that order."""
    return documents.dump({"version": 1, "entries": [each.to_json() for each in entries]})


def load(data: bytes) -> tuple[CacheEntry, ...]:
    """What `dump` wrote. Raises InvalidDocument."""
    return read(documents.load(data, "build cache", limit=LIMIT))


def read(source: Object) -> tuple[CacheEntry, ...]:
    """The entries of a document that has been read. Raises InvalidDocument."""
    version = source.integer("version", default=0)
    if version != 1:
        source.fail("version", f"{version} is not known; it was written by a newer version")
    found = source.objects("entries")
    if len(found) > MAX_ENTRIES:
        source.fail("entries", f"has {len(found)} entries, more than {MAX_ENTRIES}")
    return tuple(CacheEntry.from_object(each) for each in found)


def layers(entries: tuple[CacheEntry, ...]) -> tuple[DiffID, ...]:
    """The distinct layers of a cache."""
    return tuple(dict.fromkeys(each.layer for each in entries))


def _diff_id(source: Object, key: str, text: str) -> DiffID:
    try:
        return digests.DiffID(digests.parse(text))
    except InvalidDigest:
        source.fail(key, "is not a digest")


def _optional(source: Object, key: str, text: str) -> DiffID | None:
    return _diff_id(source, key, text) if text else None
