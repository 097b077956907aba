"""Images as OCI image layouts: ``oci-layout``, ``index.json`` and blobs, as members of a tar or files of a directory.

``save`` and the outputs of a build both write with this. Nothing of the size of a layer is held in memory: plain layers
are streamed from their directories, packed ones go through one temporary file on the store's disk, since a tar says the
size of a member before it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from builder.errors import ArchiveInvalid, ContextError, InvalidDocument, LimitExceeded, StoreCorrupt
from builder.oci import digests
from builder.oci.descriptors import DOCKER_CONFIG, DOCKER_MANIFEST, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Descriptor
from builder.oci.manifests import Index, Manifest
from builder.store import tarheaders
from builder.transfer import layers
from builder.transfer.attested import Form, attachments
from builder.transfer.compression import PLAIN, Compression, Packer, Packing
from builder.transfer.outer import blob_name
from builder.transfer.outfile import whole_file
from runtime.values import dataclass, field, replace

if TYPE_CHECKING:
    from builder.oci.platforms import Platform
    from builder.oci.references import Reference
    from builder.store import Store
    from builder.store.attestations import Predicate
    from builder.store.changesets import Sink
    from builder.store.images import Image
    from builder.store.snapshots import Layer

IMAGE_NAME = "io.containerd.image.name"
REF_NAME = "org.opencontainers.image.ref.name"
_READ = 1 << 20


@dataclass(frozen=True, slots=True)
class Annotations:
    """What is to be noted in the documents of one image: in its manifest, and beside what points at it."""

    manifest: Mapping[str, str] = field(default_factory=dict)
    descriptor: Mapping[str, str] = field(default_factory=dict)


NO_ANNOTATIONS = Annotations()


@dataclass(frozen=True, slots=True)
class Written:
    """An image that was written. `descriptor` points at its manifest, without a name."""

    descriptor: Descriptor
    config: Descriptor
    layers: tuple[Descriptor, ...]


class Out(Protocol):
    """Where the files of a layout go."""

    def put(self, name: str, data: bytes) -> None:
        """A small file."""

    def stream(self, name: str, size: int, write: Callable[[Sink], object]) -> None:
        """A file of `size` bytes that `write` gives."""

    def close(self) -> None:
        """All is there."""


class TarOut:
    """The files as members of a tar. `size` counts its bytes: 0 until there is something to write."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.size = 0

    def put(self, name: str, data: bytes) -> None:
        """A small file."""
        self._out(_head(name, len(data)) + data + tarheaders.padding(len(data)))

    def stream(self, name: str, size: int, write: Callable[[Sink], object]) -> None:
        """A file of `size` bytes that `write` gives."""
        self._out(_head(name, size))
        start = self.size
        write(self._out)
        if self.size - start != size:
            raise StoreCorrupt(f"{name} has {self.size - start} bytes, not {size}")
        self._out(tarheaders.padding(size))

    def close(self) -> None:
        """End the archive."""
        self._out(tarheaders.END)

    def _out(self, data: bytes) -> None:
        if not self.size:
            names = (b"blobs/", b"blobs/sha256/")
            heads = [tarheaders.header(name, tarheaders.DIRECTORY, 0o755, (0, 0), 0, 0) for name in names]
            data = b"".join((*heads, data))
        self.size += len(data)
        self._sink(data)


class DirectoryOut:
    """The files below a directory, which is made; each appears whole. An index that is there keeps its other images."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)

    def put(self, name: str, data: bytes) -> None:
        """A small file."""
        if name == "index.json":
            data = self._merged(data)
        self.stream(name, len(data), lambda sink: sink(data))

    def stream(self, name: str, size: int, write: Callable[[Sink], object]) -> None:
        """A file of `size` bytes that `write` gives."""
        with whole_file(self.path / name, follow=False) as sink:
            write(sink)

    def close(self) -> None:
        """All is there."""

    def _merged(self, data: bytes) -> bytes:
        """The index `data` with those images of the present one that have another name."""
        from builder.transfer import layout_in

        try:
            with layout_in.opened(self.path) as layout:
                present = layout.index()
        except (ArchiveInvalid, ContextError, InvalidDocument, LimitExceeded):
            return data
        new = Index.from_json(data)
        names = {one.annotations.get(REF_NAME) for one in new.manifests}
        kept = [one for one in present.manifests if one.annotations.get(REF_NAME) not in names]
        return Index(tuple(kept) + new.manifests).to_json()


class Layout:
    """One layout on its way out: `add` images, then `close`."""

    def __init__(self, store: Store, out: Out) -> None:
        self._store = store
        self._out = out
        self._done: set[str] = set()
        self._index: list[Descriptor] = []
        self._packed: dict[tuple[str, Packing], Descriptor] = {}

    def add(
        self,
        image: Image,
        references: Sequence[Reference] = (),
        *,
        packing: Packing = PLAIN,
        annotations: Annotations = NO_ANNOTATIONS,
    ) -> Written:
        """Write an image and note it in the index, once for each of its names.

        Raises StoreCorrupt (a layer was touched), OSError, DiskFull.
        """
        written = self.write(image, packing=packing, annotations=annotations)
        self.note(written.descriptor, references)
        return written

    def write(
        self,
        image: Image,
        *,
        packing: Packing = PLAIN,
        annotations: Annotations = NO_ANNOTATIONS,
        platform: Platform | None = None,
    ) -> Written:
        """Write the blobs of an image, to be noted or to be a member of an index; `platform` None is its own.

        Raises as `add`.
        """
        described = tuple(self._layer(self._store.snapshots.get(one), packing) for one in image.layers)
        config = Descriptor(DOCKER_CONFIG if packing.docker else OCI_CONFIG, image.id, len(image.raw))
        manifest = Manifest(
            config=config,
            layers=described,
            media_type=DOCKER_MANIFEST if packing.docker else OCI_MANIFEST,
            annotations=annotations.manifest,
        )
        document = manifest.to_json()
        top = Descriptor(
            manifest.media_type,
            digests.of(document),
            len(document),
            annotations=annotations.descriptor,
            platform=platform or image.config.platform,
        )
        self.small(config, image.raw)
        self.small(top, document)
        return Written(top, config, described)

    def attach(
        self,
        image: Descriptor,
        references: Sequence[Reference],
        predicates: Sequence[Predicate],
        *,
        form: Form = Form.INDEX,
    ) -> tuple[Descriptor, ...]:
        """Write what is attested of an image, which goes by `references`; what an index that has both lists of it."""
        found = attachments(predicates, image, references, form=form)
        for each in found:
            for described, data in each.written():
                self.small(described, data)
        return tuple(each.descriptor for each in found)

    def add_index(
        self,
        members: Sequence[Descriptor],
        references: Sequence[Reference] = (),
        *,
        media_type: str = OCI_INDEX,
        annotations: Annotations = NO_ANNOTATIONS,
    ) -> Descriptor:
        """Write an index of manifests that were written, and note it; what points at it.

        `annotations` are those of the index, and those beside what points at it.
        """
        document = Index(tuple(members), media_type, annotations=annotations.manifest).to_json()
        top = Descriptor(media_type, digests.of(document), len(document), annotations=annotations.descriptor)
        self.small(top, document)
        self.note(top, references)
        return top

    def note(self, top: Descriptor, references: Sequence[Reference]) -> None:
        """List what was written, once for each of its names."""
        for reference in references:
            named = {IMAGE_NAME: str(reference), REF_NAME: reference.tag or "latest", **top.annotations}
            self._index.append(_replaced(top, named))
        if not references:
            self._index.append(top)

    def small(self, described: Descriptor, data: bytes) -> None:
        """A small blob, once."""
        if described.digest not in self._done:
            self._done.add(described.digest)
            self._out.put(blob_name(described.digest), data)

    def blob(self, described: Descriptor, write: Callable[[Sink], object]) -> None:
        """A blob that `write` gives, once."""
        if described.digest not in self._done:
            self._done.add(described.digest)
            self._out.stream(blob_name(described.digest), described.size, write)

    def put(self, name: str, document: object) -> None:
        """A further JSON document beside the index."""
        self._out.put(name, json.dumps(document, separators=(",", ":")).encode())

    def close(self, *, extra: Mapping[str, object] | None = None) -> None:
        """Write the index, what is `extra`, and end."""
        self._out.put("index.json", Index(tuple(self._index), OCI_INDEX).to_json())
        for name, document in (extra or {}).items():
            self.put(name, document)
        self.put("oci-layout", {"imageLayoutVersion": "1.0.0"})
        self._out.close()

    def _layer(self, layer: Layer, packing: Packing) -> Descriptor:
        assert layer.diff_id is not None and layer.tar_size is not None
        known = self._packed.get((layer.diff_id, packing))
        if known is not None:
            return known
        if packing.compression is Compression.UNCOMPRESSED:
            described = Descriptor(packing.media_type, digests.Digest(layer.diff_id), layer.tar_size)
            self.blob(described, lambda sink: layers.write_out(self._store, layer, sink))
        else:
            with self._store.scratch() as directory:
                file = directory / "layer"
                described = self._pack(layer, packing, file)
                self.blob(described, lambda sink: _copy(file, sink))
        self._packed[layer.diff_id, packing] = described
        return described

    def _pack(self, layer: Layer, packing: Packing, target: Path) -> Descriptor:
        hasher = hashlib.sha256()
        with open(target, "wb", buffering=_READ) as file:

            def out(data: bytes) -> None:
                hasher.update(data)
                file.write(data)

            packer = Packer(packing, out)
            layers.write_out(self._store, layer, packer.write)
            packer.close()
        return Descriptor(packing.media_type, digests.parse("sha256:" + hasher.hexdigest()), os.stat(target).st_size)


def _replaced(described: Descriptor, annotations: Mapping[str, str]) -> Descriptor:
    return replace(described, annotations=annotations)


def _copy(path: Path, sink: Sink) -> None:
    with open(path, "rb", buffering=0) as file:
        while data := file.read(_READ):
            sink(data)


def _head(name: str, size: int) -> bytes:
    return tarheaders.header(name.encode(), tarheaders.FILE, 0o644, (0, 0), size, 0)
