"""Indexes in archives and layouts: written with those of their images that are here, read with those that are there.

An index that came from elsewhere is written byte for byte, its images with the very blobs that its manifests name; what
is not here is left out, as docker and containerd leave it out and take it. When a blob cannot be had any more, or the
images are to be packed in another way, they get manifests of their own, and the index is written anew. Reading keeps
the packed blobs, so that what was read can go out again as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from builder.errors import ArchiveInvalid, PlatformNotFound
from builder.oci import descriptors as d
from builder.oci import digests
from builder.oci.manifests import Index, Manifest
from builder.store.indexes import Member
from builder.store.packed import PackedLayer
from builder.transfer import layers
from builder.transfer.compression import PLAIN
from builder.transfer.outer import LEAVE_OUT, blob_name
from runtime.values import dataclass, replace

if TYPE_CHECKING:
    from builder.oci.configs import ImageConfig
    from builder.oci.descriptors import Descriptor
    from builder.oci.digests import DiffID, Digest
    from builder.oci.platforms import Platform
    from builder.oci.references import Reference
    from builder.store import Store
    from builder.store.apply import Limits
    from builder.store.changesets import Sink
    from builder.store.images import Image
    from builder.store.indexes import ImageIndex
    from builder.store.snapshots import Layer
    from builder.store.tarstream import Readable
    from builder.transfer.compression import Packing
    from builder.transfer.layout import Layout, Written
    from builder.transfer.outer import Blobs, LayoutFiles

DOCUMENT_MAX = 8 << 20
_READ = 1 << 20
_PACKED = frozenset({d.OCI_LAYER_GZIP, d.OCI_LAYER_ZSTD, d.DOCKER_LAYER_GZIP})


@dataclass(frozen=True, slots=True)
class _AsListed:
    """An image as its index lists it: its manifest, and for each layer who writes its blob."""

    image: Image
    member: Member
    document: bytes
    config: Descriptor
    layers: tuple[tuple[Descriptor, Callable[[Sink], object]], ...]


def add_index(
    store: Store,
    layout: Layout,
    index: ImageIndex,
    images: Mapping[Digest, Image],
    references: Sequence[Reference],
    packing: Packing | None = None,
) -> tuple[Written, ...]:
    """Write an index with these of its images, and note it once for each of its names; what was written of each image.

    *images* are by the id that they have in the index: what is written may be another (`at_most`).
    With *packing* they get manifests of their own.

    Raises StoreCorrupt (a layer was touched), OSError, DiskFull.
    """
    listed = [None if packing is not None else _as_listed(store, index, image) for image in images.values()]
    found = [each for each in listed if each is not None]
    if len(found) == len(images):
        written = tuple(_write(layout, each) for each in found)
        chosen = {each.member.descriptor.digest for each in found}
        for member in index.members:
            if member.about in chosen:
                _attestation(store, layout, member)
        top, document = _attested(store, layout, index, found, references)
    else:
        written = tuple(layout.write(image, packing=packing or PLAIN) for image in images.values())
        top, document = _anew(index, dict(zip(images, written, strict=True)))
    layout.small(top, document)
    layout.note(top, references)
    return written


def _attested(
    store: Store, layout: Layout, index: ImageIndex, found: Sequence[_AsListed], references: Sequence[Reference]
) -> tuple[Descriptor, bytes]:
    """The index, with what is attested of images whose manifests were made here after all that it lists."""
    more = [
        each
        for one in found
        if one.member.made
        for each in layout.attach(one.member.descriptor, references, store.attestations.of(one.image.id))
    ]
    if not more:
        return index.describe(), index.raw
    listed = Index.from_json(index.raw, media_type=index.media_type)
    document = replace(listed, manifests=(*listed.manifests, *more)).to_json()
    return d.Descriptor(listed.media_type, digests.of(document), len(document)), document


def _as_listed(store: Store, index: ImageIndex, image: Image) -> _AsListed | None:
    """None when the image cannot be written as its index lists it."""
    member = next((each for each in index.members if each.image == image.id), None)
    document = None if member is None else store.indexes.kept(member)
    if member is None or document is None:
        return None
    manifest = Manifest.from_json(document, media_type=member.descriptor.media_type)
    if len(manifest.layers) != len(image.layers):
        return None
    sources = []
    for layer, described in zip(store.snapshots.get_all(image.layers), manifest.layers, strict=True):
        source = _source(store, layer, described)
        if source is None:
            return None
        sources.append((described, source))
    return _AsListed(image, member, document, manifest.config, tuple(sources))


def _source(store: Store, layer: Layer, described: Descriptor) -> Callable[[Sink], object] | None:
    """Who writes the blob of a layer: from its directory, as it was kept, or packed once more."""
    if described.digest == layer.diff_id:
        return lambda sink: layers.write_out(store, layer, sink)
    if store.content.use(described.digest):
        return lambda sink: _copy(store, described.digest, sink)
    from builder.transfer.registry import packing

    form = store.packed.get(described.digest)
    return None if form is None or not packing.can_again(form) else partial(_pack, store, layer, form)


def _pack(store: Store, layer: Layer, form: PackedLayer, sink: Sink) -> None:
    from builder.transfer.compression import Compression, Packing
    from builder.transfer.registry import packing

    zstd = form.media_type == d.OCI_LAYER_ZSTD
    how = Packing(Compression.ZSTD) if zstd else packing.USUAL
    with packing.packed(store, layer, how) as (made, path):
        if made.digest != form.digest:
            raise ArchiveInvalid(f"layer {digests.short(form.diff_id)} cannot be packed again as {form.digest}")
        with open(path, "rb", buffering=0) as file:
            while data := file.read(_READ):
                sink(data)


def _copy(store: Store, digest: Digest, sink: Sink) -> None:
    with store.content.open(digest) as file:
        while data := file.read(_READ):
            sink(data)


def _write(layout: Layout, each: _AsListed) -> Written:
    for described, write in each.layers:
        layout.blob(described, write)
    layout.small(each.config, each.image.raw)
    layout.small(each.member.descriptor, each.document)
    from builder.transfer.layout import Written

    return Written(each.member.descriptor, each.config, tuple(described for described, _ in each.layers))


def _attestation(store: Store, layout: Layout, member: Member) -> None:
    """What is attested of an image, if it is here."""
    document = store.indexes.kept(member)
    if document is None:
        return
    manifest = Manifest.from_json(document, media_type=member.descriptor.media_type)
    blobs = (manifest.config, *manifest.layers)
    if all(store.content.use(blob.digest) for blob in blobs):
        for blob in blobs:
            layout.blob(blob, partial(_copy, store, blob.digest))
        layout.small(member.descriptor, document)


def _anew(index: ImageIndex, written: Mapping[Digest, Written]) -> tuple[Descriptor, bytes]:
    """The index with the manifests that its images have got; attestations are of those that it had, so they go."""
    here = {member.descriptor.digest: member.image for member in index.members if member.image in written}
    new: dict[str, Descriptor] = {
        digest: written[image].descriptor for digest, image in here.items() if image is not None
    }
    kept = tuple(each.descriptor for each in index.members if each.is_image or each.descriptor.digest in new)
    listed = replace(Index.from_json(index.raw, media_type=index.media_type), manifests=kept).relisted(new)
    document = listed.to_json()
    return d.Descriptor(listed.media_type, digests.of(document), len(document)), document


# --- reading --------------------------------------------------------------------------------------------------------


def read_index(
    store: Store,
    archive: LayoutFiles,
    described: Descriptor,
    *,
    platforms: Sequence[Platform] = (),
    limits: Limits | None = None,
) -> Digest:
    """Keep an index with those of its images that are in the archive (and are for one of *platforms*); its digest.

    Raises: PlatformNotFound, ArchiveInvalid, LimitExceeded, DigestMismatch, InvalidDocument, StoreError.
    """
    document = archive.blob(described, DOCUMENT_MAX)
    entries = Index.from_json(document, media_type=described.media_type).manifests
    there = [
        Member(each) for each in {one.digest: one for one in entries}.values() if blob_name(each.digest) in archive
    ]
    for member in there:
        if member.descriptor.media_type not in d.MANIFEST_TYPES:
            raise ArchiveInvalid(
                f"index {digests.short(described.digest)} lists {member.descriptor.digest}, which is no manifest but "
                f"{member.descriptor.media_type[:100]!r}",
                hint="an index in an index of the archive is not read",
            )
    images = [member for member in there if member.is_image]
    for platform in platforms:
        if not any(member.platform and platform.matches(member.platform) for member in images):
            here = [str(member.platform) for member in images]
            raise PlatformNotFound(digests.short(described.digest), platform, here=here, remedy=LEAVE_OUT)
    if platforms:
        images = [
            member
            for member in images
            if member.platform and any(platform.matches(member.platform) for platform in platforms)
        ]
    if not images:
        raise ArchiveInvalid(f"archive has no image of the index {described.digest}")
    for member in images:
        read_listed(store, archive, member.descriptor, limits=limits)
    chosen = {member.descriptor.digest for member in images}
    for member in there:
        if member.about in chosen:
            _read_attestation(store, archive, member.descriptor)
    return store.indexes.put(document, described.media_type)


def read_listed(store: Store, blobs: Blobs, described: Descriptor, *, limits: Limits | None = None) -> Digest:
    """Keep an image with its manifest and its packed blobs as they are; its id. Raises as `read_index`."""
    document = blobs.blob(described, DOCUMENT_MAX)
    manifest = Manifest.from_json(document, media_type=described.media_type)
    raw = blobs.blob(manifest.config, DOCUMENT_MAX)
    config = _config(raw, manifest)
    with ExitStack() as undo:

        def opened(layer: Descriptor) -> Readable:
            return undo.enter_context(store.content.open(layer.digest))

        wanted: list[tuple[Callable[[], Readable], DiffID]] = []
        for layer, diff_id in zip(manifest.layers, config.diff_ids, strict=True):
            if layer.digest == diff_id:
                wanted.append((partial(blobs.open_blob, layer), diff_id))
            else:
                _keep(store, blobs, layer)
                wanted.append((partial(opened, layer), diff_id))
        kept = layers.read_all(store, wanted, limits=limits)
    for layer, diff_id in zip(manifest.layers, config.diff_ids, strict=True):
        if layer.digest != diff_id and layer.media_type in _PACKED:
            store.packed.put(PackedLayer(layer.digest, diff_id, layer.size, layer.media_type))
    image_id = store.images.put(config, kept, raw=raw, origin="load")
    store.images.put_manifest(image_id, document, described.media_type)
    return image_id


def _config(raw: bytes, manifest: Manifest) -> ImageConfig:
    from builder.oci.configs import ImageConfig

    config = ImageConfig.from_json(raw)
    if len(manifest.layers) != len(config.diff_ids):
        raise ArchiveInvalid(f"image has {len(manifest.layers)} layers, its config says {len(config.diff_ids)}")
    return config


def _keep(store: Store, blobs: Blobs, described: Descriptor) -> None:
    """Keep a blob as it is. Raises DigestMismatch, ArchiveInvalid."""
    if store.content.use(described.digest):
        return
    source = blobs.open_blob(described)
    with store.content.writer(expected=described.digest) as writer:
        while data := source.read(_READ):
            writer.write(data)


def _read_attestation(store: Store, archive: LayoutFiles, described: Descriptor) -> None:
    document = archive.blob(described, DOCUMENT_MAX)
    manifest = Manifest.from_json(document, media_type=described.media_type)
    for blob in (manifest.config, *manifest.layers):
        if blob_name(blob.digest) in archive:
            _keep(store, archive, blob)
    store.indexes.keep(document)
