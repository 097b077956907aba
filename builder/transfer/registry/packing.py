"""Layers as registries have them: gzip, always the same bytes for the same layer.

A layer that was packed by somebody else is kept as it came (`store.packed`), so it goes out as it came. One of our own
is packed when it is pushed, by one compressor at one level with an empty header: the digest that was noted the first
time is found again, and looked for in the registry before anything is packed. Should a later version of the compressor
give other bytes, the digest differs, the layer does not: it is then simply pushed as a new blob.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import isal

from builder.oci.descriptors import OCI_LAYER_GZIP
from builder.oci.digests import Digest
from builder.store.hashing import Sha256
from builder.store.packed import PackedLayer
from builder.transfer import layers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from builder.store import Store
    from builder.store.snapshots import Layer

_LEVEL = 1
METHOD = f"isal-{isal.__version__}-{_LEVEL}"
"""What `store.packed` calls this way of packing: another version may give other bytes."""


def known(store: Store, layer: Layer) -> PackedLayer | None:
    """The form that a layer is pushed in, if one is known: the one it came in, else our own."""
    assert layer.diff_id is not None
    for form in store.packed.of(layer.diff_id):
        if form.method == METHOD or (not form.method and store.content.use(form.digest)):
            return form
    return None


@contextmanager
def packed(store: Store, layer: Layer) -> Iterator[tuple[PackedLayer, Path]]:
    """The layer packed our way into a file that lives as long as the block.

    Raises StoreCorrupt, StoreErrors.
    """
    from isal import isal_zlib

    assert layer.diff_id is not None
    with store.scratch() as directory, Sha256() as hasher:
        path = directory / "layer"
        packer = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, 31)
        size = 0
        with open(path, "wb", buffering=0) as file:

            def out(data: bytes) -> None:
                nonlocal size
                if data:
                    size += len(data)
                    hasher.update(data)
                    file.write(data)

            def take(data: bytes) -> None:
                out(packer.compress(data))

            layers.write_out(store, layer, take)
            out(packer.flush())
        form = PackedLayer(Digest("sha256:" + hasher.hexdigest()), layer.diff_id, size, OCI_LAYER_GZIP, METHOD)
        store.packed.put(form)
        yield form, path
