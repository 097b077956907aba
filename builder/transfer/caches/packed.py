"""Layers to a place that keeps blobs by digest, packed as they are pushed, several at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from builder.oci import descriptors as d
from builder.oci import digests
from builder.store.packed import PackedLayer
from builder.transfer import workers
from builder.transfer.registry import packing

if TYPE_CHECKING:
    from builder.oci.descriptors import Descriptor
    from builder.oci.digests import DiffID
    from builder.store import Store
    from builder.store.snapshots import Layer, LayerID
    from builder.transfer.compression import Packing
    from builder.transfer.registry.progress import Teller, Watch

Has = Callable[[PackedLayer], bool]
Send = Callable[[PackedLayer, Path, "Watch"], None]


def send_all(
    store: Store,
    layers: Sequence[LayerID],
    has: Has,
    send: Send,
    teller: Teller,
    *,
    jobs: int,
    stop: threading.Event | None = None,
    how: Packing = packing.USUAL,
) -> tuple[Descriptor, ...]:
    """Send those that the place has not, and tell of it; what they are there, in the same order.

    `stop` is set when the rest is not wanted any more. Raises as `has`, `send`, OSError.
    """
    stop = stop or threading.Event()
    found: dict[LayerID, Descriptor] = {}

    def one(layer: LayerID) -> None:
        found[layer] = packing.describe(_sent(store, store.snapshots.get(layer), has, send, teller, stop, how))

    workers.each(dict.fromkeys(layers), one, threads=jobs, abort=stop.set)
    return tuple(found[layer] for layer in layers)


def _sent(
    store: Store, layer: Layer, has: Has, send: Send, teller: Teller, stop: threading.Event, how: Packing
) -> PackedLayer:
    form = packing.known(store, layer, how)
    if form is not None and has(form):
        return form
    with _file(store, layer, form, how) as (form, path):
        if stop.is_set():
            raise workers.Stopped
        if not has(form):
            send(form, path, teller.bar("Writing", digests.short(form.digest), form.size))
        return form


@contextmanager
def _file(store: Store, layer: Layer, form: PackedLayer | None, how: Packing) -> Iterator[tuple[PackedLayer, Path]]:
    if form is not None and store.content.use(form.digest):
        yield form, store.content.path(form.digest)
        return
    with packing.packed(store, layer, how) as made:
        yield made


def note(store: Store, blob: Descriptor, layer: DiffID) -> None:
    """Remember the packed form that a layer came in: it goes out again as it came."""
    if blob.media_type in (d.OCI_LAYER_GZIP, d.OCI_LAYER_ZSTD) and blob.digest != layer:
        store.packed.put(PackedLayer(blob.digest, layer, blob.size, blob.media_type))
