"""From one repository to another: blobs, and manifests with all that they name.

A blob is mounted when both repositories are of one registry. Else it goes through the store's content, which keeps what
has come when a connection breaks off; nothing names it there afterwards, so that collection takes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.errors import LimitExceeded, NotFound, RegistryNotFound
from builder.oci import descriptors as d
from builder.oci import digests
from builder.oci.manifests import Index, Manifest
from builder.transfer import workers
from builder.transfer.registry import upload
from builder.transfer.registry.download import fetch
from builder.transfer.registry.pull import JOBS, is_foreign
from builder.transfer.registry.session import first

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.oci.descriptors import Descriptor
    from builder.store import Store
    from builder.transfer.registry.progress import Teller
    from builder.transfer.registry.repository import Fetched, Repository
    from builder.transfer.registry.session import Registries

MAX_MANIFESTS = 10_000


def copy(
    store: Store,
    registries: Registries,
    target: Repository,
    top: Fetched,
    places: Sequence[Repository],
    teller: Teller,
) -> None:
    """Bring a manifest or index of `places` to the target with all that it names, and put it under its digest; nothing
    is put before what it names. Raises RegistryErrors, InvalidDocument, DigestMismatch, LimitExceeded, StoreErrors.
    """
    documents, blobs = _named(target, top, places)

    def bring(one: Descriptor) -> None:
        blob(store, target, one, places, teller)

    workers.each(blobs, bring, threads=JOBS, abort=registries.client.abort)
    # An index may list a manifest that an index in it lists as well.
    documents.sort(key=lambda one: one.descriptor.media_type not in d.INDEX_TYPES)
    for each in reversed(documents):
        target.put_manifest(each.descriptor.digest, each.data, each.descriptor.media_type)


def _named(
    target: Repository, top: Fetched, places: Sequence[Repository]
) -> tuple[list[Fetched], tuple[Descriptor, ...]]:
    """The documents that the target has not got, each before those that it lists; and the blobs of all of them."""
    documents, blobs, seen = [top], dict[str, d.Descriptor](), {top.descriptor.digest}
    for each in documents:  # which grows
        if each.descriptor.media_type not in d.INDEX_TYPES:
            manifest = Manifest.from_json(each.data, media_type=each.descriptor.media_type)
            found = (one for one in (manifest.config, *manifest.layers) if not is_foreign(one))
            blobs.update((one.digest, one) for one in found)
            continue
        for one in Index.from_json(each.data, media_type=each.descriptor.media_type).manifests:
            if one.media_type not in d.INDEX_TYPES | d.MANIFEST_TYPES:
                blobs[one.digest] = one  # BuildKit's caches list layers
            elif one.digest not in seen and not has_manifest(target, one):
                if len(documents) == MAX_MANIFESTS:
                    raise LimitExceeded(f"{places[0].endpoint.name} lists more than {MAX_MANIFESTS} manifests")
                documents.append(first(places, lambda place, one=one: place.manifest(one.digest, one))[1])  # type: ignore[misc]
            seen.add(one.digest)
    return documents, tuple(blobs.values())


def has_manifest(target: Repository, described: Descriptor) -> bool:
    """Whether the target has a manifest, and so all that it names."""
    try:
        return target.head(described.digest) is not None
    except RegistryNotFound:
        return False


def blob(store: Store, target: Repository, one: Descriptor, places: Sequence[Repository], teller: Teller) -> None:
    """One blob: look, mount, or fetch and send. Raises RegistryErrors, NotFound, DigestMismatch, StoreErrors."""
    short = digests.short(one.digest)
    if target.has_blob(one.digest):
        teller.line("Layer already exists", short)
        return
    host = target.endpoint.name.partition("/")[0]
    for place in places:
        registry, _, repository = place.endpoint.name.partition("/")
        if registry == host and place.endpoint.name != target.endpoint.name:
            begun = target.mount(one.digest, repository)
            if begun is None:
                teller.line(f"Mounted from {repository}", short)
                return
            target.cancel(begun)
    if not store.content.use(one.digest):
        if not places:
            raise NotFound(f"blob {one.digest} for {target.endpoint.name} is neither here nor known to be elsewhere")
        fetch(store, places, one, teller.bar("Downloading", short, one.size))
    upload.send(store, target, one.digest, store.content.path(one.digest), None, teller.bar("Pushing", short, one.size))
    teller.line("Pushed", short)
