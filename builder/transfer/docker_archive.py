"""``save`` and ``load``: the archives that docker, podman and skopeo write and read.

``save`` writes what docker 29 does: an OCI image layout (``oci-layout``, ``index.json``, ``blobs/sha256/…``) that is a
docker archive as well (``manifest.json``, ``repositories``). Layers are plain tars, streamed from their directories.
``load`` reads both, and the older form with a directory per layer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from builder.errors import ArchiveInvalid, DigestMismatch, InvalidReference
from builder.oci import digests
from builder.oci.references import Reference
from builder.store import derived
from builder.store.derived import DOCKER_MAX_LAYERS
from builder.transfer import layers
from builder.transfer.compression import PLAIN
from builder.transfer.layout import IMAGE_NAME, NO_ANNOTATIONS, REF_NAME, Layout, TarOut
from builder.transfer.outer import Archive, Blobs, blob_name, open_archive
from builder.transfer.outfile import whole_file
from runtime.values import dataclass, replace

if TYPE_CHECKING:
    from pathlib import Path

    from builder.oci.descriptors import Descriptor
    from builder.oci.digests import DiffID, Digest
    from builder.oci.documents import Object
    from builder.store import Store
    from builder.store.apply import Limits
    from builder.store.changesets import Sink
    from builder.store.images import Image
    from builder.store.tarstream import Readable
    from builder.transfer.compression import Packing
    from builder.transfer.layout import Annotations, Out, Written

_DOCUMENT_MAX = 8 << 20


@dataclass(frozen=True, slots=True)
class Loaded:
    """One image that came in. With *reference*: "Loaded image: R"; without: "Loaded image ID: I"."""

    image_id: Digest
    reference: str | None
    """Familiar form with its tag, for example "busybox:latest"."""


# --- save -----------------------------------------------------------------------------------------------------------


def save(
    store: Store,
    names: Sequence[str],
    sink: Sink,
    *,
    most: int = DOCKER_MAX_LAYERS,
    merged: Callable[[str, int, int], object] | None = None,
) -> int:
    """Write the images *names* (references, or ids, which are saved without a tag) as one archive; returns its bytes.

    A name without a tag stands for all tags of that repository, as docker has it. An image of more than *most* layers
    (0: any number) is written with adjacent layers merged, and so has another id; *merged* is told its name, its layers
    and how many are left.

    Raises: ImageNotFound, StoreCorrupt (a layer was touched), OSError.
    """
    chosen = _select(store, names)
    out = TarOut(sink)
    archive = DockerArchive(store, out)
    for image_id, references in chosen.items():
        image = store.images.get(image_id)
        slim = at_most(store, image, most)
        if slim is not image and merged is not None:
            merged(references[0].familiar() if references else image_id, len(image.layers), len(slim.layers))
        archive.add(slim, references)
    archive.close()
    return out.size


def save_file(
    store: Store,
    names: Sequence[str],
    path: Path,
    *,
    most: int = DOCKER_MAX_LAYERS,
    merged: Callable[[str, int, int], object] | None = None,
) -> int:
    """As :func:`save` into the file *path*, which appears whole or not at all."""
    with whole_file(path, mode=0o600) as write:
        return save(store, names, write, most=most, merged=merged)


def at_most(store: Store, image: Image, most: int) -> Image:
    """*image* with at most *most* layers: itself, or adjacent layers merged, so another image. 0 is any number."""
    if not most or len(image.layers) <= most:
        return image
    from builder.oci import mutate

    found = store.snapshots.get_all(image.layers)
    counts = derived.groups([layer.size or 0 for layer in found], most)
    kept = derived.grouped(store, image.layers, counts)
    diff_ids = [layer.diff_id for layer in store.snapshots.get_all(kept) if layer.diff_id is not None]
    config = mutate.regrouped(image.config, counts, diff_ids)
    raw = config.to_json()
    return replace(image, id=digests.of(raw), config=config, raw=raw, layers=kept)


class DockerArchive:
    """A layout that is a docker archive as well, on its way out: `add` images, then `close`."""

    def __init__(self, store: Store, out: Out) -> None:
        self._layout = Layout(store, out)
        self._entries: list[dict[str, object]] = []
        self._repositories: dict[str, dict[str, str]] = {}

    def add(
        self,
        image: Image,
        references: Sequence[Reference],
        *,
        packing: Packing = PLAIN,
        annotations: Annotations = NO_ANNOTATIONS,
    ) -> Written:
        """Write one image. Raises as `Layout.add`."""
        written = self._layout.add(image, references, packing=packing, annotations=annotations)
        for reference in references:
            top = digests.hex_of(written.layers[-1].digest if written.layers else image.id)
            self._repositories.setdefault(reference.familiar_name(), {})[reference.tag or "latest"] = top
        self._entries.append(
            {
                "Config": blob_name(image.id),
                "RepoTags": [reference.familiar() for reference in references] or None,
                "Layers": [blob_name(layer.digest) for layer in written.layers],
                "LayerSources": {
                    diff_id: layer.to_json()
                    for diff_id, layer in zip(image.config.diff_ids, written.layers, strict=True)
                },
            }
        )
        return written

    def close(self) -> None:
        """Write what lists the images, and end."""
        more: dict[str, object] = {"manifest.json": self._entries}
        if self._repositories:
            more["repositories"] = self._repositories
        self._layout.close(extra=more)


def _select(store: Store, names: Sequence[str]) -> dict[Digest, list[Reference]]:
    """Image id → the references to write for it, in the order in which they were named."""
    chosen: dict[Digest, list[Reference]] = {}
    for name in names:
        try:
            parsed: Reference | None = Reference.parse(name)
        except InvalidReference:
            parsed = None
        wanted: tuple[Reference, ...] = ()
        if parsed is not None and not parsed.digest:
            wanted = (parsed,) if parsed.tag else store.images.tags_of(parsed.name)
        found = False
        for reference in wanted:
            image_id = store.images.lookup(reference)
            if image_id is not None and reference.digest is None:
                found = True
                listed = chosen.setdefault(image_id, [])
                if reference not in listed:
                    listed.append(reference)
        if not found:
            chosen.setdefault(store.images.resolve(name), [])
    for image_id in chosen:
        store.images.use(image_id)
    return chosen


# --- load -----------------------------------------------------------------------------------------------------------


def load(
    store: Store,
    stream: Readable,
    *,
    limits: Limits | None = None,
    emit: Callable[[Loaded], object] | None = None,
) -> tuple[Loaded, ...]:
    """Read an archive (plain or packed, seekable or not) and store and tag its images.

    Every digest is checked. Images of the archive that are whole are kept, even when a later one is broken.

    Raises: ArchiveInvalid (hostile, broken, no image archive), LimitExceeded, DigestMismatch, InvalidDocument,
    StoreError.
    """
    loaded: list[Loaded] = []

    def done(one: Loaded) -> None:
        loaded.append(one)
        if emit:
            emit(one)

    with open_archive(stream, store, limits) as archive:
        if "manifest.json" in archive:
            from builder.oci import documents

            for entry in documents.load_list(archive.read("manifest.json", _DOCUMENT_MAX), "manifest.json"):
                _load_entry(store, archive, entry, limits, done)
        elif "index.json" in archive:
            from builder.oci.manifests import Index

            index = Index.from_json(archive.read("index.json", _DOCUMENT_MAX))
            for described in index.manifests:
                _load_described(store, archive, described, limits, done)
        else:
            raise ArchiveInvalid(
                "archive holds no image: neither manifest.json nor index.json is in it",
                hint="a root file system becomes an image with import",
            )
    return tuple(loaded)


def _load_entry(
    store: Store,
    archive: Archive,
    entry: Object,
    limits: Limits | None,
    done: Callable[[Loaded], object],
) -> None:
    """One image of ``manifest.json``."""
    from builder.oci.configs import ImageConfig

    config_path = entry.required("Config")
    raw = archive.read(config_path, _DOCUMENT_MAX)
    stated = config_path.rsplit("/", 1)[-1].removesuffix(".json")
    if len(stated) == 64 and "sha256:" + stated != digests.of(raw):
        raise DigestMismatch(f"config {stated[:12]}", "sha256:" + stated, digests.of(raw))
    config = ImageConfig.from_json(raw)
    paths = entry.strings("Layers") or ()
    if len(paths) != len(config.diff_ids):
        raise ArchiveInvalid(f"image has {len(paths)} layers, its config says {len(config.diff_ids)}")
    names = [_reference(text) for text in entry.strings("RepoTags") or ()]
    wanted = [(partial(archive.open, path), diff_id) for path, diff_id in zip(paths, config.diff_ids, strict=True)]
    kept = layers.read_all(store, wanted, limits=limits)
    _tell(store, store.images.put(config, kept, raw=raw, origin="load"), names, done)


def _load_described(
    store: Store, archive: Archive, described: Descriptor, limits: Limits | None, done: Callable[[Loaded], object]
) -> None:
    """One manifest of an OCI layout, or those of an index in it."""
    from builder.oci.descriptors import INDEX_TYPES
    from builder.oci.manifests import Index
    from builder.store.indexes import Member

    text = described.annotations.get(IMAGE_NAME) or described.annotations.get(REF_NAME, "")
    names = []
    # A bare tag ("latest") names nothing; podman and skopeo write whole names here.
    if IMAGE_NAME in described.annotations or any(mark in text for mark in ":/"):
        names = [_reference(text)]
    if described.media_type in INDEX_TYPES:
        index = archive.blob(described, _DOCUMENT_MAX)
        for below in Index.from_json(index, media_type=described.media_type).manifests:
            if blob_name(below.digest) in archive and below.media_type not in INDEX_TYPES and Member(below).is_image:
                _load_described(store, archive, below, limits, done)
        return
    _tell(store, read_image(store, archive, described, limits=limits), names, done)


def read_image(store: Store, blobs: Blobs, described: Descriptor, *, limits: Limits | None = None) -> Digest:
    """Keep the image whose manifest *described* is, with its layers; returns its id.

    Raises: ArchiveInvalid, LimitExceeded, DigestMismatch, InvalidDocument, StoreError.
    """
    from builder.oci.configs import ImageConfig
    from builder.oci.manifests import Manifest

    manifest = Manifest.from_json(blobs.blob(described, _DOCUMENT_MAX), media_type=described.media_type)
    raw = blobs.blob(manifest.config, _DOCUMENT_MAX)
    config = ImageConfig.from_json(raw)
    if len(manifest.layers) != len(config.diff_ids):
        raise ArchiveInvalid(f"image has {len(manifest.layers)} layers, its config says {len(config.diff_ids)}")
    pairs = zip(manifest.layers, config.diff_ids, strict=True)
    kept = layers.read_all(
        store, [(_blob_opener(blobs, layer, diff_id), diff_id) for layer, diff_id in pairs], limits=limits
    )
    return store.images.put(config, kept, raw=raw, origin="load")


def _tell(store: Store, image_id: Digest, names: list[Reference], done: Callable[[Loaded], object]) -> None:
    if names:
        store.images.tag_all(names, image_id)
    for name in names:
        done(Loaded(image_id, name.familiar()))
    if not names:
        done(Loaded(image_id, None))


def _reference(text: str) -> Reference:
    try:
        return Reference.parse(text).tagged()
    except InvalidReference as err:
        raise ArchiveInvalid(f"archive has an image with an invalid name: {err}") from err


def _blob_opener(blobs: Blobs, layer: Descriptor, diff_id: DiffID) -> Callable[[], Readable]:
    if layer.digest == diff_id:
        return lambda: blobs.open_blob(layer)  # not packed: its digest is compared when it is unpacked
    return lambda: _Verified(blobs.open_blob(layer), layer.digest)


class _Verified:
    """A blob that is checked against its digest when its end is read."""

    def __init__(self, stream: Readable, digest: str) -> None:
        self._stream = stream
        self._digest = digest
        self._hash = hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        data = self._stream.read(size)
        self._hash.update(data)
        if not data and size and "sha256:" + self._hash.hexdigest() != self._digest:
            raise DigestMismatch("layer", self._digest, "sha256:" + self._hash.hexdigest())
        return data
