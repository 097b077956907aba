"""Layers as registries have them: packed, always with the same bytes for the same layer.

A layer that was packed by somebody else is kept as it came (`store.packed`), so it goes out as it came. One of our own
is packed when it is pushed: the digest that was noted the first time is found again, and looked for in the registry
before anything is packed. Should a later version of the compressor give other bytes, the digest differs, the layer does
not: it is then simply pushed as a new blob.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from builder.oci import descriptors as d
from builder.oci.digests import Digest
from builder.store.hashing import Sha256
from builder.store.packed import PackedLayer
from builder.transfer import layers
from builder.transfer.compression import Compression, Packer, Packing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from builder.oci.descriptors import Descriptor
    from builder.store import Store
    from builder.store.snapshots import Layer

USUAL = Packing(Compression.GZIP)
"""What every registry and tool takes."""
_OCI_TYPES = {d.DOCKER_LAYER_GZIP: d.OCI_LAYER_GZIP, d.DOCKER_LAYER: d.OCI_LAYER}
_DOCKER_TYPES = {oci: docker for docker, oci in _OCI_TYPES.items()}


def method(packing: Packing) -> str:
    """What `store.packed` calls a way of packing: another version of a compressor may give other bytes."""
    import isal
    import zstandard

    version = zstandard.__version__ if packing.compression is Compression.ZSTD else isal.__version__
    return f"{packing.compression} {packing.level} {version}"


def known(store: Store, layer: Layer, packing: Packing = USUAL) -> PackedLayer | None:
    """The form that a layer is pushed in, if one is known: the one it came in unless another was asked for, else our
    own.
    """
    assert layer.diff_id is not None and layer.tar_size is not None
    if packing.compression is Compression.UNCOMPRESSED:
        return PackedLayer(layer.diff_id, layer.diff_id, layer.tar_size, packing.media_type)
    mine, usual = method(packing), packing.compression is USUAL.compression and packing.level is None
    for form in store.packed.of(layer.diff_id):
        if form.method == mine or (usual and not form.method and store.content.use(form.digest)):
            return form
    return None


def can_again(form: PackedLayer) -> bool:
    """Whether packing the layer once more gives these bytes."""
    return form.method in (method(USUAL), method(Packing(Compression.ZSTD)))


def describe(form: PackedLayer, *, docker: bool = False) -> Descriptor:
    """What points at a packed layer, with OCI's media types, or docker's where it has one of its own."""
    media_type = _OCI_TYPES.get(form.media_type, form.media_type)
    if docker:
        media_type = _DOCKER_TYPES.get(media_type, media_type)
    return d.Descriptor(media_type, form.digest, form.size)


@contextmanager
def packed(store: Store, layer: Layer, packing: Packing = USUAL) -> Iterator[tuple[PackedLayer, Path]]:
    """The layer packed into a file that lives as long as the block. Raises StoreCorrupt, StoreErrors."""
    assert layer.diff_id is not None
    with store.scratch() as directory, Sha256() as hasher:
        path = directory / "layer"
        size = 0
        with open(path, "wb") as file:

            def out(data: bytes) -> None:
                nonlocal size
                size += len(data)
                hasher.update(data)
                file.write(data)

            packer = Packer(packing, out)
            layers.write_out(store, layer, packer.write)
            packer.close()
        digest, media_type = Digest("sha256:" + hasher.hexdigest()), packing.compression.media_type(docker=False)
        form = PackedLayer(digest, layer.diff_id, size, media_type, method(packing))
        if packing.compression is not Compression.UNCOMPRESSED:
            store.packed.put(form)
        yield form, path
