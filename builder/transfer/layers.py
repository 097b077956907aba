"""Layers in and out: a tar into the store (once per diff_id), and a layer's tar back out of it, byte for byte."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, BinaryIO

from builder.errors import ArchiveInvalid, StoreCorrupt
from builder.store import apply, changesets, recipes
from builder.store.diskfaults import disk_errors
from builder.store.hashing import Sha256
from builder.store.unpack import unpack

if TYPE_CHECKING:
    from builder.oci.digests import DiffID, Digest
    from builder.store import Store
    from builder.store.apply import Limits
    from builder.store.changesets import Sink
    from builder.store.snapshots import Layer, LayerID
    from builder.store.tarstream import Readable

_READ = 1 << 20
_JOBS = 2
"""Layers read at once: each has its hash in a thread of its own already."""


def read_in(
    store: Store, open_stream: Callable[[], Readable], *, expected: DiffID | None = None, limits: Limits | None = None
) -> Layer:
    """The layer whose tar (plain or packed) *open_stream* gives; an equal one that the store has already is used
    instead.

    *open_stream* is called again when the tar cannot be given back from the directory: it is then kept as it is.

    Raises: ArchiveInvalid, LimitExceeded, DigestMismatch, StoreError. Nothing is kept then.
    """
    if expected is not None and (known := store.snapshots.find(expected)) is not None:
        return known
    with disk_errors("store a layer"):
        return _read_in(store, open_stream, expected, limits or apply.DEFAULT_LIMITS)


def _read_in(store: Store, open_stream: Callable[[], Readable], expected: DiffID | None, bounds: Limits) -> Layer:
    active = store.snapshots.prepare(())
    try:
        recipe: Digest | None = None
        with store.scratch() as directory, open(directory / "recipe", "w+b") as file:
            packed = _packer(file.write)
            applied = apply.extract(open_stream(), active.upper, limits=bounds, recipe=packed.write, expected=expected)
            packed.close()
            if not applied.exact:
                if not applied.reproducible:
                    file.seek(0)
                    file.truncate()
                    _whole(
                        unpack(
                            open_stream(),
                            window_log=bounds.window_log,
                            ratio=bounds.ratio,
                            ratio_after=bounds.ratio_after,
                        ),
                        file,
                    )
                file.seek(0)
                recipe = _keep(store, file)
        found = store.snapshots.find(applied.changeset.diff_id)
        if found is not None:
            store.snapshots.discard(active)
            return found
        return store.snapshots.commit(active, applied.changeset, recipe=recipe)
    except BaseException:
        store.snapshots.discard(active)
        raise


def read_all(
    store: Store, wanted: Sequence[tuple[Callable[[], Readable], DiffID]], *, limits: Limits | None = None
) -> list[LayerID]:
    """The layers of an image in their order, each as `read_in`, two at a time: one is hashed while another is written.

    After an error, or Ctrl-C, what is under way is stopped. Raises as `read_in`.
    """
    distinct = {diff_id: opener for opener, diff_id in wanted}
    stop = threading.Event()

    def bring(diff_id: DiffID) -> LayerID:
        opener = distinct[diff_id]
        return read_in(store, lambda: _Stoppable(opener(), stop), expected=diff_id, limits=limits).id

    with ThreadPoolExecutor(_JOBS, "layer") as pool:
        try:
            found = dict(zip(distinct, pool.map(bring, distinct), strict=True))
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return [found[diff_id] for _, diff_id in wanted]


class _Stoppable:
    """A stream that ends with an error when nobody wants it any more."""

    def __init__(self, stream: Readable, stop: threading.Event) -> None:
        self._stream = stream
        self._stop = stop

    def read(self, size: int, /) -> bytes:
        if self._stop.is_set():
            raise ArchiveInvalid("reading it was stopped")
        return self._stream.read(size)


def write_out(store: Store, layer: Layer, sink: Sink) -> int:
    """Write the tar of *layer* to *sink*; returns its bytes.

    Raises: StoreCorrupt when what came out has another digest than the layer (its directory was touched).
    """
    if layer.recipe is None:
        change = changesets.write(layer.path, sink, contents=False)
        size, diff_id = change.size, str(change.diff_id)
    else:
        with Sha256() as hasher, store.content.open(layer.recipe) as file:

            def both(data: bytes) -> None:
                hasher.update(data)
                sink(data)

            size = recipes.replay(unpack(file), layer.path, both)
            diff_id = "sha256:" + hasher.hexdigest()
    if layer.diff_id is not None and diff_id != layer.diff_id:
        raise StoreCorrupt(f"layer {layer.id} has changed: its tar has digest {diff_id}, expected {layer.diff_id}")
    return size


class _Packer:
    """A recipe on its way to a file, packed."""

    def __init__(self, sink: Sink) -> None:
        import zstandard

        self._sink = sink
        self._packer = zstandard.ZstdCompressor(level=3).compressobj()

    def write(self, data: bytes) -> None:
        packed = self._packer.compress(data)
        if packed:
            self._sink(packed)

    def close(self) -> None:
        self._sink(self._packer.flush())


def _packer(sink: Sink) -> _Packer:
    return _Packer(sink)


def _whole(stream: Readable, file: BinaryIO) -> None:
    """A recipe without references to files: all of the tar."""
    packed = _packer(file.write)
    writer = recipes.Writer(packed.write)
    while data := stream.read(_READ):
        writer.literal(data)
    writer.close()
    packed.close()


def _keep(store: Store, file: BinaryIO) -> Digest:
    with store.content.writer() as writer:
        while data := file.read(_READ):
            writer.write(data)
    assert writer.digest is not None
    return writer.digest
