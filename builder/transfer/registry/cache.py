"""Build caches in registries: a manifest of their own (`cacheconfigs`), or inside of an image's config (inline).

A cache's layers are packed as an image's are, so that a repository that has the image has most of its cache already.
Reading fetches the manifest and the config; layers come one by one, when a build turns out to need them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from builder.errors import NotFound
from builder.oci import cacheconfigs, documents, platforms
from builder.oci import descriptors as d
from builder.oci.configs import ImageConfig
from builder.oci.manifests import Manifest
from builder.transfer.registry.progress import Emit, Teller, silent
from builder.transfer.registry.pull import WantedLayer, bring_layer, check_layers, choose
from builder.transfer.registry.push import LayerPush
from builder.transfer.registry.session import described, first

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.oci.cacheconfigs import CacheEntry
    from builder.oci.descriptors import Descriptor
    from builder.oci.digests import DiffID
    from builder.oci.references import Reference
    from builder.store import Store
    from builder.store.snapshots import LayerID
    from builder.transfer.registry.repository import Repository
    from builder.transfer.registry.session import Registries


def push_cache(
    store: Store,
    registries: Registries,
    reference: Reference,
    entries: tuple[CacheEntry, ...],
    layers: Sequence[LayerID],
    *,
    emit: Emit = silent,
) -> Descriptor:
    """Push a cache; `layers` are those of `cacheconfigs.layers(entries)`, in that order.

    Raises RegistryErrors, StoreErrors, CredentialsFailed.
    """
    reference = reference.tagged()
    target = registries.target(reference)
    work = LayerPush(store, registries, target, layers, Teller(emit))
    there = work.blobs({})
    config = cacheconfigs.dump(entries)
    manifest = Manifest(
        config=d.Descriptor(cacheconfigs.MEDIA_TYPE, work.small(config), len(config)),
        layers=tuple(there[layer] for layer in layers),
    )
    document = manifest.to_json()
    digest = target.put_manifest(str(reference.tag), document, manifest.media_type)
    return d.Descriptor(manifest.media_type, digest, len(document))


class RegistryCache:
    """A cache that a registry has."""

    def __init__(
        self,
        store: Store,
        places: tuple[Repository, ...],
        name: str,
        entries: tuple[CacheEntry, ...],
        layers: Mapping[DiffID, Descriptor],
    ) -> None:
        self.name = name
        self.entries = entries
        self._store = store
        self._places = places
        self._layers = layers

    def fetch(self, layer: DiffID) -> LayerID:
        """Bring one layer into the store. Raises RegistryErrors, StoreErrors, ArchiveInvalid, DigestMismatch."""
        known = self._store.snapshots.find(layer)
        if known is not None:
            return known.id
        wanted = WantedLayer(self._layers[layer], layer, self._places)
        return bring_layer(self._store, wanted, Teller(silent))


def open_cache(store: Store, registries: Registries, reference: Reference) -> RegistryCache:
    """Read what cache a reference has. Raises RegistryErrors, InvalidDocument, NotFound (it has none)."""
    reference = reference.tagged()
    places = registries.repositories(reference)
    place, descriptor = first(places, lambda each: described(each, reference))
    places = (place, *(each for each in places if each is not place))
    fetched = first(places, lambda each: each.manifest(descriptor.digest, descriptor))[1]
    if fetched.descriptor.media_type in d.INDEX_TYPES:
        chosen = choose(fetched, platforms.host(os.uname().machine), place)
        fetched = first(places, lambda each: each.manifest(chosen.digest, chosen))[1]
    manifest = Manifest.from_json(fetched.data, media_type=fetched.descriptor.media_type)
    check_layers(manifest, place)
    raw = first(places, lambda each: each.blob(manifest.config, cacheconfigs.LIMIT))[1]
    if manifest.config.media_type == cacheconfigs.MEDIA_TYPE:
        entries = cacheconfigs.load(raw)
        diff_ids = cacheconfigs.layers(entries)
    else:
        config = ImageConfig.from_json(raw)
        inline = config.extra.get(cacheconfigs.INLINE_KEY)
        if not isinstance(inline, dict):
            raise NotFound(
                f"{reference.familiar()} has no build cache of lamina",
                hint="export one with --cache-to type=inline, or --cache-to type=registry,ref=…",
            )
        entries = cacheconfigs.read(documents.Object(inline, "inline build cache"))
        diff_ids = config.diff_ids
    layers = cacheconfigs.paired(diff_ids, manifest)
    entries = tuple(each for each in entries if each.layer in layers)
    return RegistryCache(store, places, f"registry {reference.familiar()}", entries, layers)
