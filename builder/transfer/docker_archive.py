"""``save`` and ``load``: the archives that docker, podman and skopeo write and read.

``save`` writes what docker 29 does: an OCI image layout (``oci-layout``, ``index.json``, ``blobs/sha256/…``) that is a
docker archive as well (``manifest.json``, ``repositories``). Layers are plain tars, streamed from their directories.
``load`` reads both, and the older form with a directory per layer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from builder.errors import ArchiveInvalid, DigestMismatch, InvalidReference, PlatformNotFound
from builder.oci import digests
from builder.oci.references import Reference
from builder.store import derived
from builder.store.derived import DOCKER_MAX_LAYERS
from builder.transfer import layers
from builder.transfer.compression import PLAIN
from builder.transfer.layout import IMAGE_NAME, NO_ANNOTATIONS, REF_NAME, Layout, TarOut
from builder.transfer.outer import LEAVE_OUT, Archive, Blobs, LayoutFiles, blob_name, open_archive
from builder.transfer.outfile import whole_file
from runtime.values import dataclass, replace

if TYPE_CHECKING:
    from pathlib import Path

    from builder.oci.configs import ImageConfig
    from builder.oci.descriptors import Descriptor
    from builder.oci.digests import DiffID, Digest
    from builder.oci.documents import Object
    from builder.oci.platforms import Platform
    from builder.store import Store
    from builder.store.apply import Limits
    from builder.store.attestations import Predicate
    from builder.store.changesets import Sink
    from builder.store.images import Image
    from builder.store.indexes import ImageIndex
    from builder.store.tarstream import Readable
    from builder.transfer.compression import Packing
    from builder.transfer.layout import Annotations, Out, Written

_DOCUMENT_MAX = 8 << 20
Wanted = tuple[Sequence["Platform"], "Limits | None"]
"""Platforms to load (none: all), and how much an image may be."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """One image (or index) that came in. With *reference*: "Loaded image: R"; without: "Loaded image ID: I"."""

    image_id: Digest
    reference: str | None
    """Familiar form with its tag, for example "busybox:latest"."""


# --- save -----------------------------------------------------------------------------------------------------------


def save(
    store: Store,
    names: Sequence[str],
    sink: Sink,
    *,
    platforms: Sequence[Platform] = (),
    most: int = DOCKER_MAX_LAYERS,
    merged: Callable[[str, int, int], object] | None = None,
) -> int:
    """Write the images *names* (references, or ids, which are saved without a tag) as one archive; returns its bytes.

    A name without a tag stands for all tags of that repository, as docker has it. Of an index all images that are here
    are written, or those for *platforms*. An image of more than *most* layers (0: any number) is written with adjacent
    layers merged, and so has another id; *merged* is told its name, its layers and how many are left.

    Raises: ImageNotFound, PlatformNotFound, StoreCorrupt (a layer was touched), OSError.
    """
    chosen = _select(store, names)
    out = TarOut(sink)
    archive = DockerArchive(store, out)
    for target, references in chosen.items():
        name = references[0].familiar() if references else target
        images = {}
        for image_id in _images(store, target, name, platforms):
            image = store.images.get(image_id)
            slim = at_most(store, image, most)
            if slim is not image and merged is not None:
                merged(name, len(image.layers), len(slim.layers))
            images[image_id] = slim
        index = store.indexes.find(target)
        if index is None:
            archive.add_attested(images[target], references, store.attestations.of(target))
        else:
            archive.add_index(index, images, references)
    archive.close()
    return out.size


def _images(store: Store, target: Digest, name: str, platforms: Sequence[Platform]) -> tuple[Digest, ...]:
    """The images to save of an image or index, kept from collection. Raises PlatformNotFound."""
    found = store.images.of(target)
    if platforms or not found:
        found = tuple(dict.fromkeys(store.images.resolve(name, platform=platform) for platform in platforms or (None,)))
    for image_id in found:
        store.images.use(image_id)
    return found


def save_file(
    store: Store,
    names: Sequence[str],
    path: Path,
    *,
    platforms: Sequence[Platform] = (),
    most: int = DOCKER_MAX_LAYERS,
    merged: Callable[[str, int, int], object] | None = None,
) -> int:
    """As :func:`save` into the file *path*, which appears whole or not at all."""
    with whole_file(path, mode=0o600) as write:
        return save(store, names, write, platforms=platforms, most=most, merged=merged)


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
        self._store = store
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
        self._entry(image, written, references)
        return written

    def add_attested(self, image: Image, references: Sequence[Reference], predicates: Sequence[Predicate]) -> None:
        """Write one image with what is attested of it; who reads no index sees the image. Raises as `Layout.add`."""
        if not predicates:
            self.add(image, references)
            return
        written = self._layout.write(image)
        attached = self._layout.attach(written.descriptor, references, predicates)
        self._layout.add_index((written.descriptor, *attached), references)
        self._entry(image, written, references)

    def add_index(
        self,
        index: ImageIndex,
        images: Mapping[Digest, Image],
        references: Sequence[Reference],
        packing: Packing | None = None,
    ) -> None:
        """Write an index with these of its images; who reads no index sees the first. Raises as `add_index`."""
        from builder.transfer.archived_index import add_index

        written = add_index(self._store, self._layout, index, images, references, packing)
        self._entry(next(iter(images.values())), written[0], references)

    def _entry(self, image: Image, written: Written, references: Sequence[Reference]) -> None:
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

    def close(self) -> None:
        """Write what lists the images, and end."""
        more: dict[str, object] = {"manifest.json": self._entries}
        if self._repositories:
            more["repositories"] = self._repositories
        self._layout.close(extra=more)


def _select(store: Store, names: Sequence[str]) -> dict[Digest, list[Reference]]:
    """Image or index → the references to write for it, in the order in which they were named."""
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
            target = store.images.named(reference)
            if target is not None and reference.digest is None:
                found = True
                listed = chosen.setdefault(target, [])
                if reference not in listed:
                    listed.append(reference)
        if not found:
            chosen.setdefault(store.images.target(name), [])
    return chosen


# --- load -----------------------------------------------------------------------------------------------------------


def load(
    store: Store,
    stream: Readable,
    *,
    platforms: Sequence[Platform] = (),
    limits: Limits | None = None,
    emit: Callable[[Loaded], object] | None = None,
) -> tuple[Loaded, ...]:
    """Read an archive (plain or packed, seekable or not) and store and tag its images and indexes.

    Every digest is checked. Images of the archive that are whole are kept, even when a later one is broken. With
    *platforms* only the images for these are read.

    Raises: ArchiveInvalid (hostile, broken, no image archive), PlatformNotFound, LimitExceeded, DigestMismatch,
    InvalidDocument, StoreError.
    """
    loaded, done = _noted(emit)
    with open_archive(stream, store, limits) as archive:
        listed = _layout_of(archive)
        if listed is not None:
            return load_listed(store, archive, listed, platforms=platforms, limits=limits, emit=emit)
        if "manifest.json" in archive:
            from builder.oci import documents

            for entry in documents.load_list(archive.read("manifest.json", _DOCUMENT_MAX), "manifest.json"):
                _load_entry(store, archive, entry, (platforms, limits), done)
        else:
            raise ArchiveInvalid(
                "archive holds no image: neither manifest.json nor index.json is in it",
                hint="a root file system becomes an image with import",
            )
    return tuple(loaded)


def load_listed(
    store: Store,
    layout: LayoutFiles,
    listed: Sequence[Descriptor],
    *,
    platforms: Sequence[Platform] = (),
    limits: Limits | None = None,
    emit: Callable[[Loaded], object] | None = None,
) -> tuple[Loaded, ...]:
    """Store and tag what an OCI layout lists. As `load`."""
    loaded, done = _noted(emit)
    for described in listed:
        _load_described(store, layout, described, (platforms, limits), done)
    return tuple(loaded)


def _noted(emit: Callable[[Loaded], object] | None) -> tuple[list[Loaded], Callable[[Loaded], object]]:
    """What was loaded, and what is to be called with each: it also tells `emit`."""
    loaded: list[Loaded] = []

    def done(one: Loaded) -> None:
        loaded.append(one)
        if emit:
            emit(one)

    return loaded, done


def _layout_of(archive: Archive) -> tuple[Descriptor, ...] | None:
    """What the archive lists as an OCI layout; None when it is none, or says no more than its manifest.json."""
    if "index.json" not in archive:
        return None
    from builder.oci.descriptors import INDEX_TYPES
    from builder.oci.manifests import Index

    listed = Index.from_json(archive.read("index.json", _DOCUMENT_MAX)).manifests
    several = any(described.media_type in INDEX_TYPES for described in listed)
    return listed if several or "manifest.json" not in archive else None


def _load_entry(
    store: Store,
    archive: Archive,
    entry: Object,
    wanted: Wanted,
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
    platforms, limits = wanted
    _check_platform(config, platforms, digests.short(digests.of(raw)))
    paths = entry.strings("Layers") or ()
    if len(paths) != len(config.diff_ids):
        raise ArchiveInvalid(f"image has {len(paths)} layers, its config says {len(config.diff_ids)}")
    names = [_reference(text) for text in entry.strings("RepoTags") or ()]
    for name in names:
        if name.digest is not None:
            raise ArchiveInvalid(f'archive has "{name.familiar()}", a name with a digest, among its tags')
    openers = [(partial(archive.open, path), diff_id) for path, diff_id in zip(paths, config.diff_ids, strict=True)]
    kept = layers.read_all(store, openers, limits=limits)
    _tell(store, store.images.put(config, kept, raw=raw, origin="load"), names, done)


def _load_described(
    store: Store, archive: LayoutFiles, described: Descriptor, wanted: Wanted, done: Callable[[Loaded], object]
) -> None:
    """One manifest of an OCI layout, or an index in it."""
    from builder.oci.descriptors import INDEX_TYPES

    platforms, limits = wanted
    text = described.annotations.get(IMAGE_NAME) or described.annotations.get(REF_NAME, "")
    names = []
    # A bare tag ("latest") names nothing; podman and skopeo write whole names here.
    if IMAGE_NAME in described.annotations or any(mark in text for mark in ":/"):
        name = _reference(text)
        # podman and skopeo write manifests anew, but keep the digest that an image was asked for by; who pins an image
        # must not get what an archive put in its place.
        names = [name] if name.digest in (None, described.digest) else []
    if described.media_type in INDEX_TYPES:
        from builder.transfer.archived_index import read_index

        _tell(store, read_index(store, archive, described, platforms=platforms, limits=limits), names, done)
        return
    image_id = read_image(store, archive, described, limits=limits)
    _check_platform(store.images.get(image_id).config, platforms, digests.short(described.digest))
    _tell(store, image_id, names, done)


def _check_platform(config: ImageConfig, platforms: Sequence[Platform], name: str) -> None:
    """An image alone must be for each of *platforms*. Raises PlatformNotFound."""
    for platform in platforms:
        if not platform.matches(config.platform):
            raise PlatformNotFound(name, platform, here=[str(config.platform)], remedy=LEAVE_OUT)


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


def _tell(store: Store, target: Digest, names: list[Reference], done: Callable[[Loaded], object]) -> None:
    if names:
        store.images.tag_all(names, target)
    for name in names:
        done(Loaded(target, name.familiar()))
    if not names:
        done(Loaded(target, None))


def _reference(text: str) -> Reference:
    """What an archive calls an image. Raises ArchiveInvalid."""
    try:
        reference = Reference.parse(text).tagged()
    except InvalidReference as err:
        raise ArchiveInvalid(f"archive has an image with an invalid name: {err}") from err
    if reference.reads_as_id:
        raise ArchiveInvalid(f'archive calls an image "{reference.familiar()}", which reads as an id')
    return reference


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
