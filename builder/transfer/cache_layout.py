"""Build caches in a directory: an OCI image layout with one cache for each tag, which collects itself.

The blobs are the same as in a registry, so `skopeo copy` moves a cache between both. After an export, blobs that no
manifest of the layout names are removed; a cache therefore never grows beyond what its last export needed.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from builder.errors import ArchiveInvalid, ContextError, InvalidDocument, NotFound
from builder.oci import cacheconfigs, digests, documents
from builder.oci import descriptors as d
from builder.oci.manifests import Index, Manifest
from builder.transfer import layers, layout_in
from builder.transfer.layout import REF_NAME, DirectoryOut
from builder.transfer.outer import blob_name
from builder.transfer.registry import packing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from builder.oci.cacheconfigs import CacheEntry
    from builder.oci.descriptors import Descriptor
    from builder.oci.digests import DiffID
    from builder.store import Store
    from builder.store.snapshots import Layer, LayerID

TAG = "latest"


def export(
    store: Store, directory: Path, entries: tuple[CacheEntry, ...], cached: Sequence[LayerID], *, tag: str = TAG
) -> None:
    """Write a cache; `cached` are the layers of `cacheconfigs.layers(entries)`, in that order.

    Raises OSError, StoreErrors, InvalidDocument (the directory has another kind of index).
    """
    out = DirectoryOut(directory)
    described = tuple(_layer(store, directory, out, store.snapshots.get(each)) for each in cached)
    config = cacheconfigs.dump(entries)
    manifest = Manifest(
        config=d.Descriptor(cacheconfigs.MEDIA_TYPE, _small(out, config), len(config)), layers=described
    )
    document = manifest.to_json()
    top = d.Descriptor(manifest.media_type, _small(out, document), len(document), annotations={REF_NAME: tag})
    out.put("index.json", Index((top,)).to_json())
    out.put("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    out.close()
    collect(directory)


def _small(out: DirectoryOut, data: bytes) -> digests.Digest:
    digest = digests.of(data)
    out.put(blob_name(digest), data)
    return digest


def _layer(store: Store, directory: Path, out: DirectoryOut, layer: Layer) -> Descriptor:
    """One layer's blob, unless it is there."""
    form = packing.known(store, layer)
    if form is None or not (directory / blob_name(form.digest)).is_file():
        if form is not None and store.content.use(form.digest):
            _copy(out, form.digest, form.size, store.content.path(form.digest))
        else:
            with packing.packed(store, layer) as (form, path):
                _copy(out, form.digest, form.size, path)
    return d.Descriptor(
        d.OCI_LAYER_ZSTD if form.media_type == d.OCI_LAYER_ZSTD else d.OCI_LAYER_GZIP, form.digest, form.size
    )


def _copy(out: DirectoryOut, digest: digests.Digest, size: int, path: Path) -> None:
    with open(path, "rb") as file:
        out.stream(blob_name(digest), size, lambda sink: [sink(data) for data in iter(lambda: file.read(1 << 20), b"")])


def collect(directory: Path) -> None:
    """Remove the blobs that no manifest of the layout names. What cannot be read keeps everything."""
    try:
        index = Index.from_json((directory / "index.json").read_bytes())
        keep = {each.digest for each in index.manifests}
        for each in index.manifests:
            manifest = Manifest.from_json((directory / blob_name(each.digest)).read_bytes())
            keep.update((manifest.config.digest, *(layer.digest for layer in manifest.layers)))
    except (OSError, InvalidDocument):
        return
    blobs = directory / "blobs" / "sha256"
    for name in os.listdir(blobs):
        if f"sha256:{name}" not in keep:
            (blobs / name).unlink()


class LocalCache:
    """A cache in a directory."""

    def __init__(
        self, store: Store, directory: Path, entries: tuple[CacheEntry, ...], blobs: Mapping[DiffID, Descriptor]
    ) -> None:
        self.name = f"directory {directory}"
        self.entries = entries
        self._store = store
        self._directory = directory
        self._blobs = blobs

    def fetch(self, layer: DiffID) -> LayerID:
        """Bring one layer into the store. Raises StoreErrors, ArchiveInvalid, DigestMismatch, ContextError."""
        with layout_in.opened(self._directory) as layout:
            return layers.read_in(self._store, lambda: layout.open_blob(self._blobs[layer]), expected=layer).id


def open_cache(store: Store, directory: Path, *, tag: str = TAG, digest: str = "") -> LocalCache:
    """Read the cache of a directory.

    Raises NotFound (there is none), InvalidDocument, DigestMismatch, LimitExceeded.
    """
    try:
        with layout_in.opened(directory) as layout:
            found = [
                each
                for each in layout.index().manifests
                if (each.digest == digest if digest else each.annotations.get(REF_NAME, TAG) == tag)
            ]
            if not found:
                raise NotFound(f"{directory} has no cache {digest or tag}")
            manifest = Manifest.from_json(layout.blob(found[0], documents.LIMIT))
            if manifest.config.media_type != cacheconfigs.MEDIA_TYPE:
                raise NotFound(f"{directory} has an image, but no build cache")
            entries = cacheconfigs.load(layout.blob(manifest.config, cacheconfigs.LIMIT))
    except (ArchiveInvalid, ContextError) as err:
        raise NotFound(f"no build cache in {directory}: {err.message}") from err
    return LocalCache(store, directory, entries, cacheconfigs.paired(cacheconfigs.layers(entries), manifest))
