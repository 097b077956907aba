"""What is attested of an image that came in an index: read from the store, or fetched from where the index was seen.

A pull does not bring attestations, which may be larger than the image; they come when somebody wants to read one, and
are kept then. A statement is only taken for an image when its subject is the image's manifest.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from builder.errors import InvalidDocument
from builder.oci import digests, documents
from builder.oci.manifests import Manifest
from builder.oci.references import Reference
from builder.store.attestations import Predicate
from builder.store.indexes import REFERENCE_DIGEST, REFERENCE_TYPE
from builder.transfer.attested import ATTESTATION_MANIFEST, IN_TOTO, PREDICATE_TYPE
from builder.transfer.registry.session import first
from runtime.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from builder.oci.descriptors import Descriptor
    from builder.oci.digests import Digest
    from builder.store import Store
    from builder.transfer.registry.repository import Repository
    from builder.transfer.registry.session import Registries

LIMIT = 64 << 20
"""Bytes of a statement."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A statement that an index lists about an image: where it may be fetched, and the image's manifest."""

    layer: Descriptor
    origins: tuple[str, ...]
    subject: Digest


def carried(
    store: Store, registries: Callable[[], Registries], image: Digest, types: Sequence[str]
) -> Predicate | None:
    """The first of these predicate types that an index with the image has of it; `registries` are opened if need be.

    Raises RegistryErrors, InvalidDocument, DigestMismatch, LimitExceeded, StoreErrors.
    """
    found = {one.layer.annotations.get(PREDICATE_TYPE, ""): one for one in _statements(store, registries, image)}
    name = next((each for each in types if each in found), None)
    if name is None:
        return None
    one = found[name]
    if not store.content.use(one.layer.digest):
        store.content.put(first(_places(registries(), one.origins), lambda each: each.blob(one.layer, LIMIT))[1])
    return predicate(store.content.read(one.layer.digest), name, one.subject)


def _statements(store: Store, registries: Callable[[], Registries], image: Digest) -> Iterator[_Found]:
    for digest in store.indexes.of(image):
        index = store.indexes.get(digest)
        subjects = {member.descriptor.digest for member in index.members if member.image == image}
        for member in index.members:
            notes, origins = member.descriptor.annotations, store.indexes.origins(member.descriptor.digest, digest)
            subject = digests.Digest(notes.get(REFERENCE_DIGEST, ""))
            if notes.get(REFERENCE_TYPE) != ATTESTATION_MANIFEST or subject not in subjects:
                continue
            document = store.indexes.kept(member)
            if document is None and origins:
                document = _fetched(member.descriptor, _places(registries(), origins))
                store.indexes.keep(document)
            if document is not None:
                for layer in Manifest.from_json(document, media_type=member.descriptor.media_type).layers:
                    if layer.media_type == IN_TOTO:
                        yield _Found(layer, origins, subject)


def _fetched(described: Descriptor, places: tuple[Repository, ...]) -> bytes:
    return first(places, lambda each: each.manifest(described.digest, described))[1].data


def _places(registries: Registries, origins: Sequence[str]) -> tuple[Repository, ...]:
    return tuple(place for name in origins for place in registries.repositories(Reference.parse(name)))


def predicate(data: bytes, name: str, subject: Digest) -> Predicate:
    """What a statement says of the manifest *subject*. Raises InvalidDocument (it is about something else)."""
    source = documents.load(data, "attestation", limit=LIMIT)
    if source.string("predicateType") != name:
        source.fail("predicateType", f"is not {name}, as which it was listed")
    about = [one.object("digest") for one in source.objects("subject")]
    algorithm, _, value = subject.partition(":")
    if not any(one is not None and one.string(algorithm) == value for one in about):
        source.fail("subject", f"is not {subject}, beside which it was found")
    found = source.rest().get("predicate")
    if not isinstance(found, dict):
        raise InvalidDocument("attestation", "is missing", where="predicate")
    return Predicate(name, json.dumps(found, separators=(",", ":"), ensure_ascii=False).encode())
