"""Build caches that travel: a manifest with a config of its own (`oci.cacheconfigs`), whose layers are those of steps.

A `Place` keeps the manifest under a name and the blobs by digest: a `directory` (an OCI image layout), a repository of
a `registry`, a `bucket` of an object store. What is written to a place, and what is believed of what it has, is decided
here once. Reading fetches manifest and config; layers come one by one, when a build turns out to need them.

Whose cache it is matters. A layer is what its entry says, checked against its diff_id, and stands only on what this
build has below it; but that the step with an entry's key gives this layer is the word of whoever could write to the
place, as with BuildKit. So read caches only from places that nobody writes to whom you would not let run your build.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from builder.errors import InvalidDocument, NotFound
from builder.oci import cacheconfigs, documents
from builder.oci import descriptors as d
from builder.oci.configs import ImageConfig
from builder.oci.manifests import Manifest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.oci.cacheconfigs import CacheEntry
    from builder.oci.descriptors import Descriptor
    from builder.oci.digests import DiffID, Digest
    from builder.store.snapshots import LayerID
    from builder.transfer.registry.progress import Teller


class Place(Protocol):
    """Where a cache is or goes to. Its methods raise EngineErrors; what it gives is checked against its digest."""

    @property
    def name(self) -> str:
        """For messages: "registry example.com/app:cache"."""

    def manifests(self) -> tuple[Manifest, ...]:
        """What is under the name; of an index those of the images that are wanted. Raises NotFound, InvalidDocument."""

    def document(self, blob: Descriptor, limit: int, /) -> bytes:
        """A small blob. Raises LimitExceeded, DigestMismatch."""

    def fetch(self, blob: Descriptor, layer: DiffID, teller: Teller, /) -> LayerID:
        """Bring one layer that is not in the store into it, checked."""

    def send_layers(self, layers: Sequence[LayerID], teller: Teller, /) -> tuple[Descriptor, ...]:
        """Let the place have all of these; what they are there, in the same order. `teller` hears of what is sent."""

    def send(self, data: bytes, /) -> Digest:
        """Let the place have a small blob."""

    def finish(self, manifest: Manifest, /) -> None:
        """Put a manifest under the name; the blobs that it names are there."""


class TravellingCache:
    """A cache that a place has. `entries` are those whose layers it has as well."""

    def __init__(self, place: Place, entries: tuple[CacheEntry, ...], blobs: Mapping[DiffID, Descriptor]) -> None:
        self.name = place.name
        self.entries = entries
        self._place = place
        self._blobs = blobs

    def fetch(self, layer: DiffID, teller: Teller) -> LayerID:
        """Bring one of its layers, which is not in the store, into it. Raises EngineErrors."""
        return self._place.fetch(self._blobs[layer], layer, teller)


def export(place: Place, entries: tuple[CacheEntry, ...], layers: Sequence[LayerID], teller: Teller) -> None:
    """Write a cache; `layers` are those of `cacheconfigs.layers(entries)`, in that order. `teller` hears of them.

    Raises OSError and what the place raises.
    """
    described = place.send_layers(layers, teller)
    config = cacheconfigs.dump(entries)
    place.finish(Manifest(d.Descriptor(cacheconfigs.MEDIA_TYPE, place.send(config), len(config)), described))


def open_caches(place: Place) -> tuple[TravellingCache, ...]:
    """Read what caches a place has: one of its own, or those in the configs of images (inline); nothing else of an
    image is looked at.

    Raises NotFound (it has none), InvalidDocument, and what the place raises.
    """
    found: list[TravellingCache] = []
    missing: NotFound | None = None
    for manifest in place.manifests():
        try:
            found.append(_open(place, manifest))
        except NotFound as err:
            missing = err
    if not found and missing is not None:
        raise missing
    return tuple(found)


def _open(place: Place, manifest: Manifest) -> TravellingCache:
    own = manifest.config.media_type == cacheconfigs.MEDIA_TYPE
    if not own and manifest.config.media_type not in d.CONFIG_TYPES:
        raise NotFound(f"{place.name} has something that is neither a build cache nor an image")
    raw = place.document(manifest.config, cacheconfigs.LIMIT)
    if own:
        entries = cacheconfigs.load(raw)
        diff_ids = cacheconfigs.layers(entries)
    else:
        config = ImageConfig.from_json(raw)
        inline = config.extra.get(cacheconfigs.INLINE_KEY)
        if not isinstance(inline, dict):
            raise NotFound(
                f"{place.name} has no build cache of lamina, but an image",
                hint="export one with --cache-to type=inline, or --cache-to type=registry,ref=…",
            )
        entries = cacheconfigs.read(documents.Object(inline, "inline build cache"))
        diff_ids = config.diff_ids
    if len(diff_ids) != len(manifest.layers):
        raise InvalidDocument("build cache", f"names {len(diff_ids)} layers, its manifest {len(manifest.layers)}")
    blobs = dict(zip(diff_ids, manifest.layers, strict=True))
    return TravellingCache(place, tuple(each for each in entries if each.layer in blobs), blobs)
