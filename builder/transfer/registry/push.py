"""Push: an image of the store goes to a registry, its layers first and its manifest last; an index by `push_index`.

An image that was pulled goes out as it came, manifest and blobs, byte for byte. One that was built gets an OCI
manifest; its layers are looked for by the digest of their packed form, mounted from a repository of the same registry
that has them, or packed and sent. A manifest is only pushed when the registry has confirmed everything that it names.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from builder.errors import EngineError, ImageNotFound, RegistryError
from builder.oci import descriptors as d
from builder.oci import digests
from builder.oci.manifests import Manifest
from builder.store.packed import PackedLayer
from builder.transfer import workers
from builder.transfer.attested import Form
from builder.transfer.compression import Compression, Packing
from builder.transfer.registry import packing, upload
from builder.transfer.registry.download import fetch
from builder.transfer.registry.packing import USUAL
from builder.transfer.registry.progress import Emit, Teller, silent
from runtime.values import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from builder.oci.descriptors import Descriptor
    from builder.oci.digests import Digest
    from builder.oci.platforms import Platform
    from builder.oci.references import Reference
    from builder.store import Store
    from builder.store.images import Image
    from builder.store.snapshots import Layer, LayerID
    from builder.transfer.registry.push_index import Document
    from builder.transfer.registry.repository import Repository, Upload
    from builder.transfer.registry.session import Registries

JOBS = 5
"""Layers at a time, docker's default."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """What went out: the reference, and the descriptor of its manifest."""

    reference: Reference
    manifest: Descriptor


def push(
    store: Store,
    registries: Registries,
    reference: Reference,
    *,
    emit: Emit = silent,
    jobs: int = JOBS,
    packing: Packing = USUAL,
    annotations: Callable[[Platform], Mapping[str, str]] | None = None,
    platform: Platform | None = None,
    form: Form = Form.INDEX,
    untagged: Digest | None = None,
) -> Pushed:
    """Push the image or index that `reference` (":latest" is added if need be) names to where the reference says.

    With another `packing` than the usual, or `annotations` for manifests, it gets manifests of its own. Of an index
    `platform` chooses one image, which is pushed alone. Otherwise what is attested of an image goes along in this
    `form`, but not into an index that came from elsewhere. `untagged` is pushed instead of what is named, to the same
    repository, where only its digest will name it.

    Raises ImageNotFound, PlatformNotFound, RegistryErrors, StoreErrors, CredentialsFailed; NotFound when an index lists
    what cannot be had.
    """
    reference = reference.tagged()
    named = untagged or store.images.named(reference)
    if named is None:
        name = reference.familiar_name()
        raise ImageNotFound(
            reference.familiar(),
            hint=f"lamina images {name} lists what is here; lamina tag IMAGE {reference.familiar()} gives a name",
        )
    target, teller = registries.target(reference), Teller(emit)
    registries.client.told = teller.line
    own = packing != USUAL or annotations is not None

    def send(image_id: Digest, manifest: Document | None = None) -> Document:
        store.images.use(image_id)
        image = store.images.get(image_id)
        noted = annotations(image.config.platform) if annotations is not None else {}
        # What stands beside attestations has OCI's media types, as with BuildKit.
        how = replace(packing, docker=False) if packing.docker and store.attestations.of(image_id) else packing
        return _Push(store, registries, target, image, teller, jobs, how, noted).image(manifest)

    index = store.indexes.find(named) if platform is None else None
    name = "" if untagged else str(reference.tag or reference.digest)
    if index is not None:
        from builder.transfer.registry.push_index import IndexPush

        store.indexes.use(index.digest)
        document, media_type = IndexPush(store, registries, target, reference, index, teller, jobs).send(
            send, anew=own, form=form
        )
        digest = target.put_manifest(name or digests.of(document), document, media_type)
        kept = store.indexes.put(document, media_type, origin=target.endpoint.name)
    else:
        kept = store.images.resolve(untagged or str(reference), platform=platform)
        document, media_type = send(kept, None if own else _listed(store, named, kept))
        with suppress(ImageNotFound):  # removed meanwhile: what was asked for goes out all the same
            store.images.put_manifest(kept, document, media_type)
        if platform is None and store.attestations.of(kept):
            from builder.transfer.registry.referrers import accompanied

            attested = accompanied(store, target, kept, (document, media_type), reference, form)
            if attested is not None:
                document, media_type = attested.to_json(), attested.media_type
                kept = store.indexes.put(document, media_type, origin=target.endpoint.name)
        digest = target.put_manifest(name or digests.of(document), document, media_type)
    with suppress(ImageNotFound):
        store.images.tag(replace(reference, tag=None, digest=digest), kept)
    teller.line(f"{name or digest}: digest: {digest} size: {len(document)}")
    return Pushed(reference, d.Descriptor(media_type, digest, len(document)))


def _listed(store: Store, target: Digest, image_id: Digest) -> Document | None:
    """The manifest that the index `target` lists for an image, if it is one and others may have seen that manifest."""
    index = store.indexes.find(target)
    for member in () if index is None else index.members:
        if member.image == image_id and not member.made:
            document = store.indexes.kept(member)
            return None if document is None else (document, member.descriptor.media_type)
    return None


class LayerPush:
    """Layers on their way to one repository."""

    def __init__(
        self,
        store: Store,
        registries: Registries,
        target: Repository,
        layers: Sequence[LayerID],
        teller: Teller,
        jobs: int = JOBS,
        packing: Packing = USUAL,
    ) -> None:
        self._store = store
        self._registries = registries
        self._target = target
        self._layers = store.snapshots.get_all(layers)
        self.teller = teller
        self._jobs = jobs
        self._packing = packing

    def _distinct(self) -> list[Layer]:
        return list({layer.id: layer for layer in self._layers}.values())

    def blobs(self, wanted: dict[LayerID, Descriptor]) -> dict[LayerID, Descriptor]:
        """All layers to the target, several at a time; the descriptors that they have there."""
        done: dict[LayerID, Descriptor] = {}
        for layer in self._distinct()[self._jobs :]:
            self.teller.line("Waiting", _short(layer))

        def bring(layer: Layer) -> None:
            done[layer.id] = self._blob(layer, wanted.get(layer.id))

        workers.each(self._distinct(), bring, threads=self._jobs, abort=self._registries.client.abort)
        return done

    def small(self, data: bytes) -> Digest:
        """A small blob, sent if the target has it not."""
        return upload.small(self._store, self._target, data)

    def _blob(self, layer: Layer, wanted: Descriptor | None) -> Descriptor:
        """One layer: look, mount, or send."""
        assert layer.diff_id is not None
        form = (
            self._store.packed.get(wanted.digest)
            if wanted is not None
            else packing.known(self._store, layer, self._packing)
        )
        if form is None and wanted is not None:
            form = PackedLayer(wanted.digest, layer.diff_id, wanted.size, wanted.media_type)
        begun: Upload | None = None
        if form is not None:
            begun = self._offered(layer, form)
            if begun is None:
                return self._descriptor(form)
            if self._store.content.use(form.digest):
                self._send(layer, form, self._store.content.path(form.digest), begun)
                return self._descriptor(form)
            if form.digest == layer.diff_id:
                self._send_plain(layer, form, begun)
                return self._descriptor(form)
        zstd = wanted is not None and wanted.media_type == d.OCI_LAYER_ZSTD
        how = Packing(Compression.ZSTD) if zstd else self._packing
        with packing.packed(self._store, layer, how) as (made, path):
            if wanted is not None and made.digest != wanted.digest:
                raise EngineError(
                    f"layer {_short(layer)} cannot be packed again as {wanted.digest}",
                    hint="give the image another name by building it again, then push that",
                )
            if form is None and (begun := self._offered(layer, made)) is None:
                return self._descriptor(made)
            self._send(layer, made, path, begun)
        return self._descriptor(made)

    def _offered(self, layer: Layer, form: PackedLayer) -> Upload | None:
        """None when the target has the blob now; else an upload that it goes to."""
        if self._target.has_blob(form.digest):
            self.teller.line("Layer already exists", _short(layer))
            self._seen(form)
            return None
        found = upload.mount(self._store, self._target, form.digest)
        if isinstance(found, str):
            self.teller.line(f"Mounted from {found}", _short(layer))
            self._seen(form)
            return None
        return found

    def _send(self, layer: Layer, form: PackedLayer, path: Path, begun: Upload | None) -> None:
        watch = self.teller.bar("Pushing", _short(layer), form.size)
        upload.send(self._store, self._target, form.digest, path, begun, watch)
        self.teller.line("Pushed", _short(layer))
        self._seen(form)

    def _send_plain(self, layer: Layer, form: PackedLayer, begun: Upload) -> None:
        """A layer that goes out as a tar."""
        from builder.transfer import layers

        with ExitStack() as undo:
            path = undo.enter_context(self._store.scratch()) / "layer"
            with open(path, "wb") as file:
                layers.write_out(self._store, layer, file.write)
            self._send(layer, form, path, begun)

    def _descriptor(self, form: PackedLayer) -> Descriptor:
        return packing.describe(form, docker=self._packing.docker)

    def _seen(self, form: PackedLayer) -> None:
        self._store.packed.add_origin(form.digest, self._target.endpoint.name)


class _Push(LayerPush):
    """One image on its way to one repository."""

    def __init__(
        self,
        store: Store,
        registries: Registries,
        target: Repository,
        image: Image,
        teller: Teller,
        jobs: int,
        packing: Packing,
        annotations: Mapping[str, str],
    ) -> None:
        super().__init__(store, registries, target, image.layers, teller, jobs, packing)
        self._image = image
        self._annotations = annotations

    def image(self, listed: Document | None = None) -> Document:
        """Bring all blobs there; returns the manifest and its media type.

        `listed` is the manifest that it must have, as an index lists that one.
        """
        for layer in self._distinct():
            self.teller.line("Preparing", _short(layer))
        for document, media_type in (listed,) if listed is not None else self._known():
            manifest = Manifest.from_json(document, media_type=media_type)
            if len(manifest.layers) == len(self._layers) and self._can(manifest):
                wanted = {layer.id: described for layer, described in zip(self._layers, manifest.layers, strict=True)}
                self.blobs(wanted)
                self.small(self._image.raw)
                return document, media_type
        if listed is not None:
            raise EngineError(
                f"image {digests.short(self._image.id)} cannot be pushed as it came: a layer was not kept as it was "
                "packed, and where it was seen it is no more",
                hint="build it again, or push one image alone with --platform",
            )
        described = self.blobs({})
        self.small(self._image.raw)
        docker = self._packing.docker
        manifest = Manifest(
            config=d.Descriptor(d.DOCKER_CONFIG if docker else d.OCI_CONFIG, self._image.id, len(self._image.raw)),
            layers=tuple(described[layer.id] for layer in self._layers),
            media_type=d.DOCKER_MANIFEST if docker else d.OCI_MANIFEST,
            annotations=self._annotations,
        )
        return manifest.to_json(), manifest.media_type

    def _known(self) -> tuple[Document, ...]:
        """The manifests that it came with; none when it is to get one of its own."""
        if self._packing != USUAL or self._annotations:
            return ()
        return tuple((document, media_type) for _, media_type, document in self._store.images.manifests(self._image.id))

    def _can(self, manifest: Manifest) -> bool:
        """Whether the blobs of a manifest that the image came with can be had, so that it goes out unchanged."""
        for layer, described in zip(self._layers, manifest.layers, strict=True):
            form = self._store.packed.get(described.digest)
            mine = described.digest == layer.diff_id or (form is not None and packing.can_again(form))
            if not mine and not self._store.content.use(described.digest) and not self._there(described):
                return False
        return True

    def _there(self, described: Descriptor) -> bool:
        """Whether the target has a blob that we do not have, or one of the registries that it was seen at."""
        if self._target.has_blob(described.digest):
            return True
        from builder.oci.references import Reference

        for origin in self._store.packed.origins(described.digest):
            try:
                places = self._registries.repositories(Reference.parse(origin))
                fetch(self._store, places, described, lambda count: None)
            except (RegistryError, EngineError):
                continue
            return True
        return False


def _short(layer: Layer) -> str:
    assert layer.diff_id is not None
    return digests.short(layer.diff_id)
