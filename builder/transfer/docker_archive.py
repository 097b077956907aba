"""``save`` and ``load``: the archives that docker, podman and skopeo write and read.

``save`` writes what docker 29 does: an OCI image layout (``oci-layout``, ``index.json``, ``blobs/sha256/…``) that is a
docker archive as well (``manifest.json``, ``repositories``). Layers are plain tars, streamed from their directories.
``load`` reads both, and the older form with a directory per layer.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import ArchiveInvalid, DigestMismatch, InvalidReference, StoreCorrupt
from builder.oci import digests
from builder.oci.references import Reference
from builder.store import tarheaders
from builder.transfer import layers
from builder.transfer.outer import Archive, blob_name, open_archive

if TYPE_CHECKING:
    from builder.oci.configs import ImageConfig
    from builder.oci.descriptors import Descriptor
    from builder.oci.digests import Digest
    from builder.oci.documents import Object
    from builder.store import Store
    from builder.store.apply import Limits
    from builder.store.changesets import Sink
    from builder.store.snapshots import LayerID
    from builder.store.tarstream import Readable

_LAYER = "application/vnd.oci.image.layer.v1.tar"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_DOCUMENT_MAX = 8 << 20
_NAME = "io.containerd.image.name"
_REF_NAME = "org.opencontainers.image.ref.name"


@dataclass(frozen=True, slots=True)
class Loaded:
    """One image that came in. With *reference*: "Loaded image: R"; without: "Loaded image ID: I"."""

    image_id: Digest
    reference: str | None
    """Familiar form with its tag, for example "busybox:latest"."""


# --- save -----------------------------------------------------------------------------------------------------------


def save(store: Store, names: Sequence[str], sink: Sink) -> int:
    """Write the images *names* (references, or ids, which are saved without a tag) as one archive; returns its bytes.

    A name without a tag stands for all tags of that repository, as docker has it.

    Raises: ImageNotFound, StoreCorrupt (a layer was touched), OSError.
    """
    images = _select(store, names)
    written = 0

    def out(data: bytes) -> None:
        nonlocal written
        written += len(data)
        sink(data)

    def member(name: str, data: bytes) -> None:
        out(_head(name, len(data)) + data + tarheaders.padding(len(data)))

    out(tarheaders.header(b"blobs/", tarheaders.DIRECTORY, 0o755, (0, 0), 0, 0))
    out(tarheaders.header(b"blobs/sha256/", tarheaders.DIRECTORY, 0o755, (0, 0), 0, 0))
    done: set[str] = set()
    index: list[dict[str, object]] = []
    entries: list[dict[str, object]] = []
    repositories: dict[str, dict[str, str]] = {}
    for image_id, references in images.items():
        image = store.images.get(image_id)
        descriptors = []
        for layer_id in image.layers:
            layer = store.snapshots.get(layer_id)
            assert layer.diff_id is not None and layer.tar_size is not None
            descriptors.append({"mediaType": _LAYER, "digest": str(layer.diff_id), "size": layer.tar_size})
            if layer.diff_id not in done:
                done.add(layer.diff_id)
                out(_head(blob_name(layer.diff_id), layer.tar_size))
                size = layers.write_out(store, layer, out)
                if size != layer.tar_size:
                    raise StoreCorrupt(f"layer {layer.id} has changed its size")
                out(tarheaders.padding(size))
        manifest = _dump(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": {"mediaType": _CONFIG, "digest": str(image_id), "size": len(image.raw)},
                "layers": descriptors,
            }
        )
        digest = digests.of(manifest)
        for name, data in ((image_id, image.raw), (digest, manifest)):
            if name not in done:
                done.add(name)
                member(blob_name(name), data)
        described: dict[str, object] = {"mediaType": _MANIFEST, "digest": str(digest), "size": len(manifest)}
        described["platform"] = {"architecture": image.config.architecture, "os": image.config.os}
        for reference in references:
            index.append({**described, "annotations": {_NAME: str(reference), _REF_NAME: reference.tag or "latest"}})
            top = digests.hex_of(_digest(descriptors[-1]["digest"])) if descriptors else digests.hex_of(image_id)
            repositories.setdefault(reference.familiar_name(), {})[reference.tag or "latest"] = top
        if not references:
            index.append(described)
        entries.append(
            {
                "Config": blob_name(image_id),
                "RepoTags": [reference.familiar() for reference in references] or None,
                "Layers": [blob_name(_digest(one["digest"])) for one in descriptors],
                "LayerSources": {str(one["digest"]): one for one in descriptors},
            }
        )
    member("index.json", _dump({"schemaVersion": 2, "mediaType": _INDEX, "manifests": index}))
    member("manifest.json", _dump(entries))
    member("oci-layout", _dump({"imageLayoutVersion": "1.0.0"}))
    if repositories:
        member("repositories", _dump(repositories))
    out(tarheaders.END)
    return written


def save_file(store: Store, names: Sequence[str], path: Path) -> int:
    """As :func:`save` into the file *path*, which appears whole or not at all."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "wb", buffering=1 << 20) as file:
            size = save(store, names, file.write)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return size


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


def _head(name: str, size: int) -> bytes:
    return tarheaders.header(name.encode(), tarheaders.FILE, 0o644, (0, 0), size, 0)


def _digest(value: object) -> Digest:
    """A digest that was just written into a descriptor."""
    return digests.parse(str(value))


def _dump(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


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
    kept = [
        layers.read_in(store, partial(archive.open, path), expected=diff_id, limits=limits).id
        for path, diff_id in zip(paths, config.diff_ids, strict=True)
    ]
    _finish(store, config, raw, kept, names, done)


def _load_described(
    store: Store, archive: Archive, described: Descriptor, limits: Limits | None, done: Callable[[Loaded], object]
) -> None:
    """One manifest of an OCI layout, or those of an index in it."""
    from builder.oci.configs import ImageConfig
    from builder.oci.descriptors import INDEX_TYPES
    from builder.oci.manifests import Index, Manifest

    data = archive.blob(described, _DOCUMENT_MAX)
    text = described.annotations.get(_NAME) or described.annotations.get(_REF_NAME, "")
    names = []
    # A bare tag ("latest") names nothing; podman and skopeo write whole names here.
    if _NAME in described.annotations or any(mark in text for mark in ":/"):
        names = [_reference(text)]
    if described.media_type in INDEX_TYPES:
        for below in Index.from_json(data, media_type=described.media_type).manifests:
            if blob_name(below.digest) in archive and below.media_type not in INDEX_TYPES:
                _load_described(store, archive, below, limits, done)
        return
    manifest = Manifest.from_json(data, media_type=described.media_type)
    raw = archive.blob(manifest.config, _DOCUMENT_MAX)
    config = ImageConfig.from_json(raw)
    if len(manifest.layers) != len(config.diff_ids):
        raise ArchiveInvalid(f"image has {len(manifest.layers)} layers, its config says {len(config.diff_ids)}")
    kept = [
        layers.read_in(store, _blob_opener(archive, layer), expected=diff_id, limits=limits).id
        for layer, diff_id in zip(manifest.layers, config.diff_ids, strict=True)
    ]
    _finish(store, config, raw, kept, names, done)


def _finish(
    store: Store,
    config: ImageConfig,
    raw: bytes,
    kept: list[LayerID],
    names: list[Reference],
    done: Callable[[Loaded], object],
) -> None:
    image_id = store.images.put(config, kept, raw=raw, origin="load")
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


def _blob_opener(archive: Archive, layer: Descriptor) -> Callable[[], Readable]:
    return lambda: _Verified(archive.open_blob(layer), layer.digest)


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
