"""Cache mounts to a registry and back (see `mount_archive`)."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from builder.transfer import mount_archive
from builder.transfer.registry import upload
from builder.transfer.registry.download import fetch
from builder.transfer.registry.session import described, first

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from builder.oci.descriptors import Descriptor
    from builder.oci.digests import Digest
    from builder.oci.references import Reference
    from builder.store import Store
    from builder.store.cachemounts import CacheMount
    from builder.store.tarstream import Readable
    from builder.transfer.registry.repository import Repository
    from builder.transfer.registry.session import Registries


def push(store: Store, registries: Registries, reference: Reference, mounts: Sequence[CacheMount]) -> Digest:
    """Push cache mounts under a tag; the manifest's digest. Raises RegistryErrors, StoreErrors."""
    target = registries.target(reference.tagged())
    layers = []
    for mount in mounts:
        with mount_archive.packed(store, mount) as (layer, path):
            _send(store, target, layer, path)
            layers.append(layer)
    document = mount_archive.manifest(layers)
    with store.scratch() as directory:
        path = directory / "empty"
        path.write_bytes(mount_archive.EMPTY)
        _send(store, target, document.config, path)
    return target.put_manifest(str(reference.tagged().tag), document.to_json(), document.media_type)


def _send(store: Store, target: Repository, blob: Descriptor, path: Path) -> None:
    if not target.has_blob(blob.digest):
        upload.send(store, target, blob.digest, path, None, lambda count: None)


def pull(store: Store, registries: Registries, reference: Reference) -> tuple[str, ...]:
    """Bring the cache mounts of a tag into the store; their names.

    Raises RegistryErrors and as `mount_archive.read`.
    """
    reference = reference.tagged()
    places = registries.repositories(reference)
    _, descriptor = first(places, lambda each: described(each, reference))
    fetched = first(places, lambda each: each.manifest(descriptor.digest, descriptor))[1]
    with _Fetched(store, places) as blobs:
        return mount_archive.read(store, fetched.data, blobs)


class _Fetched:
    """Blobs that are brought when they are asked for."""

    def __init__(self, store: Store, places: Sequence[Repository]) -> None:
        self._store = store
        self._places = places
        self._undo = ExitStack()

    def __enter__(self) -> _Fetched:
        return self

    def __exit__(self, *exception: object) -> None:
        self._undo.close()

    def blob(self, descriptor: Descriptor, limit: int, /) -> bytes:
        """All of a blob."""
        return self._places[0].blob(descriptor, limit)

    def open_blob(self, descriptor: Descriptor, /) -> Readable:
        """A blob, by way of the store's content, which keeps a cut download."""
        fetch(self._store, self._places, descriptor, lambda count: None)
        return self._undo.enter_context(self._store.content.open(descriptor.digest))
