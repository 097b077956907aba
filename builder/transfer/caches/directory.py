"""Build caches in a directory: an OCI image layout with one cache for each tag, which collects itself.

The blobs are the same as in a registry, so `skopeo copy` moves a cache between both. After an export, blobs that no
manifest of the layout names are removed; a cache therefore never grows beyond what its last export needed. Exports to
one directory wait for each other: the directory itself is locked, so nothing is left of a process that was killed.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from builder.errors import (
    ArchiveInvalid,
    ContextError,
    DigestMismatch,
    EngineError,
    InvalidInput,
    LimitExceeded,
    NotFound,
)
from builder.oci import descriptors as d
from builder.oci import digests, documents
from builder.oci.manifests import Index, Manifest
from builder.transfer import layers, layout_in
from builder.transfer.caches import packed
from builder.transfer.layout import REF_NAME, DirectoryOut
from builder.transfer.outer import blob_name
from builder.transfer.registry.packing import USUAL
from builder.transfer.registry.progress import Watched

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from builder.oci.descriptors import Descriptor
    from builder.oci.digests import DiffID, Digest
    from builder.store import Store
    from builder.store.packed import PackedLayer
    from builder.store.snapshots import LayerID
    from builder.transfer.compression import Packing
    from builder.transfer.registry.progress import Teller, Watch

TAG = "latest"
JOBS = 2
"""Layers that are packed at once."""


@contextmanager
def written(store: Store, path: Path, *, tag: str = TAG, how: Packing = USUAL) -> Iterator[Directory]:
    """The directory, made if need be, for one export; nobody else writes to it during the block.

    Raises InvalidInput (an image is in the way), OSError.
    """
    DirectoryOut(path)  # makes it
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock(descriptor)
        for inner in (path / "blobs", path / "blobs" / "sha256"):
            # What is not needed there is removed, and a directory that came from elsewhere may lead anywhere.
            if inner.is_symlink():
                raise InvalidInput(f"{inner} is a symlink, and a cache keeps its blobs in itself", hint="remove it")
        if _has_image(path, tag):
            raise InvalidInput(f"{path} has an image called {tag}", hint="choose another directory, or tag=")
        try:
            yield Directory(store, path, tag=tag, how=how)
        except OSError as err:
            if err.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise  # what has been written is there for the next export
            collect(path)
            raise
        collect(path)
    finally:
        os.close(descriptor)


def _has_image(path: Path, tag: str) -> bool:
    """Whether the name belongs to an image. What cannot be read is none."""
    try:
        with layout_in.opened(path) as layout:
            for each in (each for each in layout.index().manifests if _tag(each) == tag):
                document = layout.blob(each, documents.LIMIT)
                if each.media_type not in d.INDEX_TYPES:
                    return Manifest.from_json(document).config.media_type in d.CONFIG_TYPES
                listed = Index.from_json(document, media_type=each.media_type).manifests
                return any(one.media_type in d.MANIFEST_TYPES for one in listed)
    except EngineError:
        pass
    return False


def _lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:
        pass  # a network file system without locks


class Directory:
    """One tag of a layout. With a `digest` that manifest is meant instead."""

    def __init__(self, store: Store, path: Path, *, tag: str = TAG, digest: str = "", how: Packing = USUAL) -> None:
        self.name = f"directory {path}"
        self._store = store
        self._path = path
        self._tag = tag
        self._digest = digest
        self._how = how

    def manifests(self) -> tuple[Manifest, ...]:
        """What the tag or digest means."""
        try:
            with layout_in.opened(self._path) as layout:
                for each in layout.index().manifests:
                    meant = each.digest == self._digest if self._digest else _tag(each) == self._tag
                    if meant:
                        return (Manifest.from_json(layout.blob(each, documents.LIMIT)),)
        except (ArchiveInvalid, ContextError) as err:
            raise NotFound(f"no build cache in {self._path}: {err.message}") from err
        raise NotFound(f"{self._path} has no cache {self._digest or self._tag}")

    def document(self, blob: Descriptor, limit: int) -> bytes:
        """A small blob."""
        with layout_in.opened(self._path) as layout:
            return layout.blob(blob, limit)

    def fetch(self, blob: Descriptor, layer: DiffID, teller: Teller) -> LayerID:
        """Bring one layer into the store. A blob that turns out to be damaged goes: the next export makes it again."""
        try:
            with layout_in.opened(self._path) as layout:
                watch = teller.bar("Extracting", digests.short(blob.digest), blob.size)
                return layers.read_in(self._store, lambda: Watched(layout.open_blob(blob), watch), expected=layer).id
        except (ArchiveInvalid, DigestMismatch, LimitExceeded):
            with layout_in.opened(self._path) as layout:
                layout.drop_damaged(blob)
            raise

    def send_layers(self, layers: Sequence[LayerID], teller: Teller) -> tuple[Descriptor, ...]:
        """The blobs of layers, but for those that are there."""
        return packed.send_all(self._store, layers, self._has, self._send, teller, jobs=JOBS, how=self._how)

    def _has(self, form: PackedLayer) -> bool:
        try:
            return os.lstat(self._path / blob_name(form.digest)).st_size == form.size
        except OSError:
            return False

    def _send(self, form: PackedLayer, path: Path, watch: Watch) -> None:
        out = DirectoryOut(self._path)
        with open(path, "rb") as file:
            watched = Watched(file, watch)
            read = iter(lambda: watched.read(1 << 20), b"")
            out.stream(blob_name(form.digest), form.size, lambda sink: [sink(data) for data in read])

    def send(self, data: bytes) -> Digest:
        """A small blob."""
        digest = digests.of(data)
        DirectoryOut(self._path).put(blob_name(digest), data)
        return digest

    def finish(self, manifest: Manifest) -> None:
        """The manifest, and the index that names it beside those of other tags."""
        document = manifest.to_json()
        noted = {REF_NAME: self._tag}
        top = d.Descriptor(manifest.media_type, self.send(document), len(document), annotations=noted)
        out = DirectoryOut(self._path)
        out.put("index.json", Index((top,)).to_json())
        out.put("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')


def _tag(manifest: Descriptor) -> str:
    return manifest.annotations.get(REF_NAME, TAG)


def collect(directory: Path) -> None:
    """Remove the blobs that no manifest of the layout names, and what a killed export has left. What cannot be read
    keeps everything."""
    keep: set[str] = set()
    try:
        with layout_in.opened(directory) as layout:
            for each in layout.index().manifests if os.path.lexists(directory / "index.json") else ():
                manifest = Manifest.from_json(layout.blob(each, documents.LIMIT))
                keep.update((each.digest, manifest.config.digest, *(layer.digest for layer in manifest.layers)))
    except EngineError:
        return
    blobs = directory / "blobs" / "sha256"
    for name in os.listdir(blobs):
        if f"sha256:{name}" not in keep:
            (blobs / name).unlink()
    for left in (*directory.glob(".index.json.*"), *directory.glob(".oci-layout.*")):
        left.unlink()
