"""What is said of images, on its way to a registry, and what refers to a manifest there.

A registry of OCI's distribution specification 1.1 lists manifests by their subject. One that does not is given the list
as an index under a tag made of the subject's digest, which every client reads and adds to (referrers tag schema).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.errors import RegistryNotFound
from builder.oci import descriptors as d
from builder.oci import digests
from builder.oci.manifests import Index
from builder.transfer.attested import Form, attachments
from builder.transfer.registry import upload
from runtime.values import replace

if TYPE_CHECKING:
    from builder.oci.descriptors import Descriptor
    from builder.oci.digests import Digest
    from builder.oci.references import Reference
    from builder.store import Store
    from builder.transfer.registry.repository import Repository


def accompanied(
    store: Store, target: Repository, image: Digest, manifest: tuple[bytes, str], reference: Reference, form: Form
) -> Index | None:
    """Bring the manifest of an image of the store, and what is attested of the image, to the target; the index of both,
    None when the manifest stands alone. Raises as `attest`.
    """
    document, media_type = manifest
    digest = target.put_manifest(digests.of(document), document, media_type)
    platform = store.images.get(image).config.platform
    subject = d.Descriptor(media_type, digest, len(document), platform=platform)
    more = attest(store, target, image, subject, reference, form)
    return Index((subject, *more), d.OCI_INDEX) if more else None


def attest(
    store: Store, target: Repository, image: Digest, subject: Descriptor, reference: Reference, form: Form
) -> tuple[Descriptor, ...]:
    """Bring what is attested of an image to the target, where its manifest *subject* is, and keep it as what a pull
    would bring; what an index that lists the image must list besides.

    Raises RegistryErrors, StoreErrors.
    """
    found = attachments(store.attestations.of(image), subject, [reference], form=form)
    for each in found:
        for _, data in each.blobs:
            upload.small(store, target, data)
        if form is Form.INDEX:
            target.put_manifest(each.descriptor.digest, each.document, each.descriptor.media_type)
        else:
            refer(target, each.descriptor, each.document, subject.digest)
        if form is not Form.REFERRERS:
            for _, data in each.blobs:
                store.content.put(data)
            store.indexes.keep(each.document)
    return () if form is Form.REFERRERS else tuple(each.descriptor for each in found)


def refer(target: Repository, described: Descriptor, document: bytes, subject: Digest) -> None:
    """Push a manifest that has a subject, and see to it that those who ask for the subject's referrers find it.

    Raises RegistryErrors, InvalidDocument (something else is under the tag of the list).
    """
    if target.put_referrer(document, described.media_type):
        return
    present = _tagged(target, subject)
    if any(each.digest == described.digest for each in present.manifests):
        return
    plain = replace(described, platform=None)
    index = replace(present, manifests=(*present.manifests, plain))
    target.put_manifest(tag_of(subject), index.to_json(), index.media_type)


def listed(place: Repository, subject: Digest) -> tuple[Descriptor, ...]:
    """What refers to a manifest: artifact types, annotations and digests. Raises RegistryErrors, InvalidDocument."""
    found = place.referrers(subject)
    return _tagged(place, subject).manifests if found is None else found


def tag_of(subject: Digest) -> str:
    """The tag of the list of a manifest's referrers, where the registry keeps none."""
    algorithm, _, value = subject.partition(":")
    return f"{algorithm[:32]}-{value[:64]}"


def _tagged(place: Repository, subject: Digest) -> Index:
    try:
        fetched = place.manifest(tag_of(subject))
    except RegistryNotFound:
        return Index(())
    return Index.from_json(fetched.data, media_type=fetched.descriptor.media_type)
