"""Build caches in registries. A cache's layers are packed as an image's are, so that a repository that has the image
has most of its cache already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.errors import RegistryNotFound
from builder.oci import descriptors as d
from builder.oci.manifests import Manifest
from builder.transfer.registry.packing import USUAL
from builder.transfer.registry.progress import Teller, silent
from builder.transfer.registry.pull import WantedLayer, bring_layer, check_layers, choose
from builder.transfer.registry.push import LayerPush
from builder.transfer.registry.session import described, first, leading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.oci.descriptors import Descriptor
    from builder.oci.digests import DiffID, Digest
    from builder.oci.platforms import Platform
    from builder.oci.references import Reference
    from builder.store import Store
    from builder.store.snapshots import LayerID
    from builder.transfer.compression import Packing
    from builder.transfer.registry.repository import Fetched, Repository
    from builder.transfer.registry.session import Registries


class Registry:
    """What a reference means at its registry, or at a mirror of it; of an index the images for these platforms."""

    def __init__(
        self,
        store: Store,
        registries: Registries,
        reference: Reference,
        platforms: Sequence[Platform] = (),
        *,
        how: Packing = USUAL,
    ) -> None:
        self.name = f"registry {reference.familiar()}"
        self._store = store
        self._registries = registries
        self._reference = reference.tagged()
        self._platforms = platforms
        self._places: tuple[Repository, ...] = ()
        self._how = how

    def manifests(self) -> tuple[Manifest, ...]:
        """The manifest; of an index those of the images that are wanted, as far as it has them."""
        everywhere = self._registries.repositories(self._reference)
        self._places, descriptor = leading(everywhere, lambda each: described(each, self._reference))
        place = self._places[0]
        fetched = first(self._places, lambda each: each.manifest(descriptor.digest, descriptor))[1]
        found = [fetched]
        if fetched.descriptor.media_type in d.INDEX_TYPES:
            found = [self._fetched(one) for one in _chosen(fetched, self._platforms, place)]
        manifests = tuple(Manifest.from_json(one.data, media_type=one.descriptor.media_type) for one in found)
        for manifest in manifests:
            check_layers(manifest, place)
        return manifests

    def _fetched(self, chosen: Descriptor) -> Fetched:
        return first(self._places, lambda each: each.manifest(chosen.digest, chosen))[1]

    def document(self, blob: Descriptor, limit: int) -> bytes:
        """A small blob."""
        return first(self._places, lambda each: each.blob(blob, limit))[1]

    def fetch(self, blob: Descriptor, layer: DiffID, teller: Teller) -> LayerID:
        """Bring one layer into the store."""
        return bring_layer(self._store, WantedLayer(blob, layer, self._places), teller)

    def send_layers(self, layers: Sequence[LayerID], teller: Teller) -> tuple[Descriptor, ...]:
        """Push layers; the repository may have them, or another one of its registry."""
        there = self._push(layers, teller).blobs({})
        return tuple(there[layer] for layer in layers)

    def send(self, data: bytes) -> Digest:
        """A small blob."""
        return self._push((), Teller(silent)).small(data)

    def finish(self, manifest: Manifest) -> None:
        """The manifest under the tag."""
        target = self._registries.target(self._reference)
        target.put_manifest(str(self._reference.tag), manifest.to_json(), manifest.media_type)

    def _push(self, layers: Sequence[LayerID], teller: Teller) -> LayerPush:
        target = self._registries.target(self._reference)
        return LayerPush(self._store, self._registries, target, layers, teller, packing=self._how)


def _chosen(index: Fetched, platforms: Sequence[Platform], place: Repository) -> tuple[Descriptor, ...]:
    """The manifests of an index for these platforms, each once. Raises RegistryNotFound when it has none of them."""
    found: dict[str, Descriptor] = {}
    missing: RegistryNotFound | None = None
    for platform in platforms:
        try:
            described = choose(index, platform, place)
        except RegistryNotFound as err:
            missing = err
        else:
            found[described.digest] = described
    if not found and missing is not None:
        raise missing
    return tuple(found.values())
