"""Pull: a reference becomes an image of the store, with everything checked and nothing half done.

A tag is looked up once; all that follows goes by digest, so a tag that moves meanwhile changes nothing. Layers come in
several at a time, each unpacked as soon as it is whole, and whole blobs and layers are never fetched again. The image
and its names appear at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from builder.errors import (
    ArchiveInvalid,
    DigestMismatch,
    ImageNotFound,
    InvalidDocument,
    InvalidImage,
    LayerNotFound,
    LimitExceeded,
    PlatformNotFound,
    RegistryNotFound,
    Unsupported,
)
from builder.oci import descriptors as d
from builder.oci import digests, validate
from builder.oci.manifests import Index, Manifest
from builder.store.packed import PackedLayer
from builder.transfer import layers, workers
from builder.transfer.registry.download import fetch
from builder.transfer.registry.progress import Emit, Teller, Watched, silent
from builder.transfer.registry.repository import NotAnImage
from builder.transfer.registry.session import described, first, leading
from runtime.values import dataclass, replace

if TYPE_CHECKING:
    from builder.oci.descriptors import Descriptor
    from builder.oci.digests import DiffID, Digest
    from builder.oci.platforms import Platform
    from builder.oci.references import Reference
    from builder.store import Store
    from builder.store.apply import Limits
    from builder.store.snapshots import LayerID
    from builder.transfer.registry.repository import Fetched, Repository
    from builder.transfer.registry.session import Registries

JOBS = 3
"""Layers at a time, docker's default."""
_CONFIG_MAX = 8 << 20
_PACKED = frozenset({d.OCI_LAYER_GZIP, d.OCI_LAYER_ZSTD, d.DOCKER_LAYER_GZIP})
_PLAIN = frozenset({d.OCI_LAYER, d.DOCKER_LAYER})
_FOREIGN = ("foreign", "nondistributable")
_IMAGES = ("image.layer.", "image.rootfs.")
"""What is in the media types of all layers of images, also of such as are not read here."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """What came: `digest` is that of the manifest or index which the reference named; `fresh`: there was news."""

    image_id: Digest
    digest: Digest
    reference: Reference
    fresh: bool


@dataclass(frozen=True, slots=True)
class WantedLayer:
    """One layer of the image that is pulled, and where its blob may be."""

    descriptor: Descriptor
    diff_id: DiffID
    places: tuple[Repository, ...]

    @property
    def short(self) -> str:
        return digests.short(self.descriptor.digest)


def pull(
    store: Store,
    registries: Registries,
    reference: Reference,
    *,
    platform: Platform,
    exact: bool = False,
    emit: Emit = silent,
    jobs: int = JOBS,
    limits: Limits | None = None,
) -> Pulled:
    """Bring `reference` (":latest" is added if need be) into the store and name it.

    `platform` chooses from an index; `exact`: it was asked for, so an image for another one is an error.

    Raises RegistryErrors, ImageNotFound (the index has nothing for the platform), InvalidDocument, InvalidImage,
    DigestMismatch, LimitExceeded, ArchiveInvalid, Unsupported (media types), StoreErrors, CredentialsFailed.
    """
    reference = reference.tagged()
    teller = Teller(emit)
    registries.client.told = teller.line
    places, descriptor = leading(registries.repositories(reference), lambda each: described(each, reference))
    image_id = _present(store, descriptor.digest, platform, exact=exact)
    news = image_id is None
    chosen = None if image_id is not None else _chosen(places, descriptor, platform)
    # Only now, as docker does: of what is no image nothing is pulled.
    teller.line(f"Pulling from {reference.repository}", str(reference.tag or reference.digest))
    if image_id is None:
        assert chosen is not None
        image_id = _bring(store, registries, places, chosen, platform if exact else None, teller, jobs, limits)
    fresh = _name(store, reference, descriptor.digest, image_id) or news
    teller.line(f"Digest: {descriptor.digest}")
    what = "Downloaded newer image" if fresh else "Image is up to date"
    teller.line(f"Status: {what} for {reference.familiar()}")
    return Pulled(image_id, descriptor.digest, reference, fresh)


def _present(store: Store, digest: Digest, platform: Platform, *, exact: bool) -> Digest | None:
    """The image that a manifest or index means, if it is here and whole."""
    chosen = exact or store.indexes.find(digest) is not None
    for image_id in store.images.of_manifest(digest):
        try:
            store.images.use(image_id)
            store.snapshots.get_all(store.images.layers(image_id))
            image = store.images.get(image_id)
        except (ImageNotFound, LayerNotFound, InvalidDocument):
            continue
        if not chosen or platform.matches(image.config.platform):
            return image_id
    return None


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The manifest of the image to bring, and the index that it was chosen from."""

    fetched: Fetched
    manifest: Manifest
    index: Fetched | None


def _chosen(places: tuple[Repository, ...], descriptor: Descriptor, platform: Platform) -> _Chosen:
    """What is to be brought. Raises NotAnImage, and as `pull`."""
    fetched = first(places, lambda each: each.manifest(descriptor.digest, descriptor))[1]
    index: Fetched | None = None
    if fetched.descriptor.media_type in d.INDEX_TYPES:
        with _about("index", places[0]):
            index, chosen = fetched, choose(fetched, platform, places[0])
        fetched = first(places, lambda each: each.manifest(chosen.digest, chosen))[1]
    with _about("manifest", places[0]):
        manifest = Manifest.from_json(fetched.data, media_type=fetched.descriptor.media_type)
    if manifest.config.media_type not in d.CONFIG_TYPES:
        why = f"its config has media type {manifest.config.media_type[:100]!r}"
        raise NotAnImage(places[0].endpoint.name, why, _ours(manifest))
    check_layers(manifest, places[0])
    return _Chosen(fetched, manifest, index)


def _bring(
    store: Store,
    registries: Registries,
    places: tuple[Repository, ...],
    chosen: _Chosen,
    wanted: Platform | None,
    teller: Teller,
    jobs: int,
    limits: Limits | None,
) -> Digest:
    """The image in the store; what no index vouches for must be for the platform `wanted`, if there is one."""
    fetched, manifest, index = chosen.fetched, chosen.manifest, chosen.index
    raw = first(places, lambda each: each.blob(manifest.config, _CONFIG_MAX))[1]
    with _about("image", places[0]):
        config = validate.manifest(manifest, raw)
    if index is None and wanted is not None and not wanted.matches(config.platform):
        err = PlatformNotFound(places[0].endpoint.name, wanted)
        err.hint = f"it is for {config.platform} alone: leave out --platform, or choose another tag"
        raise err
    wanted_layers = [
        WantedLayer(layer, diff_id, places) for layer, diff_id in zip(manifest.layers, config.diff_ids, strict=True)
    ]
    kept = _layers(store, registries, wanted_layers, teller, jobs, limits)
    image_id = store.images.put(config, kept, raw=raw, origin="pull")
    store.images.put_manifest(image_id, fetched.data, fetched.descriptor.media_type)
    if index is not None:
        store.indexes.put(index.data, index.descriptor.media_type, origin=places[-1].endpoint.name)
    return image_id


def _ours(manifest: Manifest) -> str:
    """What takes something of ours that is no image; "" for what is not ours."""
    from builder.oci import cacheconfigs
    from builder.transfer import mount_archive

    if manifest.config.media_type == cacheconfigs.MEDIA_TYPE:
        return "it is a build cache, which lamina build --cache-from takes"
    if manifest.artifact_type == mount_archive.ARTIFACT_TYPE:
        return "it has cache mounts, which lamina cache-mount import --pull takes"
    return ""


def choose(index: Fetched, platform: Platform, place: Repository) -> Descriptor:
    """The manifest for `platform`: the one with the very variant if there is one, else the first that runs there.

    Raises RegistryNotFound, InvalidDocument, NotAnImage (it says of nothing for which platform it is).
    """
    from builder.oci.platforms import normal

    fitting: list[tuple[bool, Descriptor]] = []
    entries = Index.from_json(index.data, media_type=index.descriptor.media_type).manifests
    for each in entries:
        if each.platform is None or each.media_type not in d.MANIFEST_TYPES:
            continue
        found = normal(each.platform.os, each.platform.architecture, each.platform.variant)
        if platform.matches(found):
            fitting.append((found.variant != platform.variant, each))
    if not any(each.platform and each.platform.os != "unknown" for each in entries):
        raise NotAnImage(place.endpoint.name, "it is an index without images")
    if not fitting:
        names = sorted({str(each.platform) for each in entries if each.platform and each.platform.os != "unknown"})
        raise RegistryNotFound(
            place.endpoint.host,
            place.endpoint.repository,
            f"no matching manifest for {platform} in the manifest list entries of {place.endpoint.name}",
            hint=f"it has {', '.join(names[:20]) or 'none at all'}; choose one with --platform",
        )
    return min(fitting, key=lambda pair: pair[0])[1]


def is_foreign(layer: Descriptor) -> bool:
    """Whether a layer is said to lie elsewhere than in registries."""
    return any(word in layer.media_type for word in _FOREIGN)


def check_layers(manifest: Manifest, place: Repository) -> None:
    """Refuse layers that cannot be what they should, before anything is fetched."""
    for layer in manifest.layers:
        if is_foreign(layer):
            raise Unsupported(
                f"layer {digests.short(layer.digest)} of {place.endpoint.name} is foreign: it lies outside of the "
                "registry, at addresses that the image names",
                hint="such layers are not fetched; push the image again with all its layers",
            )
        if not any(word in layer.media_type for word in _IMAGES):
            raise NotAnImage(
                place.endpoint.name, f"it has a layer of unsupported media type {layer.media_type[:100]!r}"
            )
        if layer.media_type not in _PACKED and layer.media_type not in _PLAIN:
            raise Unsupported(
                f"layer {digests.short(layer.digest)} of {place.endpoint.name} has unsupported media type "
                f"{layer.media_type[:100]!r}",
                hint="it is no layer of files; a newer lamina may know it",
            )
    for each in (manifest.config, *manifest.layers):
        if not each.digest.startswith("sha256:"):
            raise Unsupported(f"{place.endpoint.name} has a blob with digest {each.digest[:20]}…: only sha256 is known")


# --- layers ---------------------------------------------------------------------------------------------------------


def _layers(
    store: Store,
    registries: Registries,
    wanted: list[WantedLayer],
    teller: Teller,
    jobs: int,
    limits: Limits | None,
) -> list[LayerID]:
    """All layers in the store, in their order."""
    found: dict[DiffID, LayerID] = {}
    missing: dict[DiffID, WantedLayer] = {}
    for layer in wanted:
        if layer.diff_id in found or layer.diff_id in missing:
            continue
        known = store.snapshots.find(layer.diff_id)
        if known is None:
            missing[layer.diff_id] = layer
            teller.line("Pulling fs layer", layer.short)
        else:
            found[layer.diff_id] = known.id
            teller.line("Already exists", layer.short)
            _note(store, layer)
    for layer in list(missing.values())[jobs:]:
        teller.line("Waiting", layer.short)

    def bring(layer: WantedLayer) -> None:
        found[layer.diff_id] = bring_layer(store, layer, teller, limits)

    workers.each(missing.values(), bring, threads=jobs, abort=registries.client.abort)
    return [found[layer.diff_id] for layer in wanted]


def bring_layer(store: Store, layer: WantedLayer, teller: Teller, limits: Limits | None = None) -> LayerID:
    """Fetch one blob and make it a layer. Raises as `pull`."""
    descriptor = layer.descriptor
    if fetch(store, layer.places, descriptor, teller.bar("Downloading", layer.short, descriptor.size)):
        teller.line("Verifying Checksum", layer.short)
    teller.line("Download complete", layer.short)
    with ExitStack() as undo, _about(f"layer {layer.short}", layer.places[0]):
        watch = teller.bar("Extracting", layer.short, descriptor.size)

        def opened() -> Watched:
            return Watched(undo.enter_context(store.content.open(descriptor.digest)), watch)

        committed = layers.read_in(store, opened, expected=layer.diff_id, limits=limits)
    _note(store, layer)
    teller.line("Pull complete", layer.short)
    return committed.id


def _note(store: Store, layer: WantedLayer) -> None:
    """Remember the packed form, so that it goes out again as it came, and where it is."""
    if layer.descriptor.media_type not in _PACKED or layer.descriptor.digest == layer.diff_id:
        return
    origin = layer.places[-1].endpoint.name
    form = PackedLayer(layer.descriptor.digest, layer.diff_id, layer.descriptor.size, layer.descriptor.media_type)
    store.packed.put(form, origin=origin)


def _name(store: Store, reference: Reference, digest: Digest, image_id: Digest) -> bool:
    """Let the reference, and its form with the digest, name the image or its index; whether that is news."""
    pinned = replace(reference, tag=None, digest=digest)
    target = digest if store.indexes.find(digest) is not None else image_id
    store.images.tag(pinned, target)
    if reference.digest is not None:
        return store.images.tag(replace(reference, tag=None), target) != target
    return store.images.tag(reference, target) != target


@contextmanager
def _about(what: str, place: Repository) -> Iterator[None]:
    """Say of what arrived and is no good where it came from."""
    try:
        yield
    except (ArchiveInvalid, LimitExceeded, DigestMismatch, InvalidDocument, InvalidImage) as err:
        err.message = f"{what} of {place.endpoint.name} from registry {place.endpoint.host}: {err.message}"
        raise
