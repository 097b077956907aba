"""An image's attestations on their way out: in-toto statements about its manifest, and the manifests that carry them.

A predicate (`store.attestations`) becomes a statement when the digest of the image's manifest is known. The statements
of one image go into one manifest that stands beside the image's in an index, as BuildKit's attestation storage has it
(platform unknown/unknown, so that nobody takes it for an image). Or each goes into an artifact of its own that names
the image as its subject: then the image keeps its digest, and a registry lists the artifacts as its referrers.

Pure: what goes where (registry, layout) is the business of who asks. All of it is OCI's: docker's media types know no
annotations, and BuildKit leaves them for the same reason.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

from builder.oci import descriptors as d
from builder.oci import digests, purls
from builder.oci.manifests import Manifest
from builder.oci.platforms import Platform
from builder.store.indexes import REFERENCE_DIGEST, REFERENCE_TYPE
from runtime.values import dataclass, replace

if TYPE_CHECKING:
    from builder.oci.descriptors import Descriptor
    from builder.oci.references import Reference
    from builder.store.attestations import Predicate

STATEMENT = "https://in-toto.io/Statement/v1"
IN_TOTO = "application/vnd.in-toto+json"
PREDICATE_TYPE = "in-toto.io/predicate-type"
ATTESTATION_MANIFEST = "attestation-manifest"
_ARTIFACT = "application/vnd.docker.attestation.manifest.v1+json"
_EMPTY = b"{}"
UNKNOWN = Platform("unknown", "unknown")


class Form(StrEnum):
    """How attestations accompany an image."""

    INDEX = "index"
    """In an index with it, as a manifest whose config is that of an image: what BuildKit does by default."""
    ARTIFACT = "artifact"
    """In an index with it, as an artifact that has the image as its subject: BuildKit's oci-artifact=true."""
    REFERRERS = "referrers"
    """The image stays alone; each statement is an artifact with the image as its subject."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A manifest with statements: what points at it, its bytes, and the blobs that it names."""

    descriptor: Descriptor
    document: bytes
    blobs: tuple[tuple[Descriptor, bytes], ...]

    def written(self) -> tuple[tuple[Descriptor, bytes], ...]:
        """All that is to be written, in an order in which nothing names what is not there."""
        return (*self.blobs, (self.descriptor, self.document))


def statement(predicate: Predicate, subjects: Iterable[tuple[str, str]]) -> bytes:
    """The in-toto statement that *predicate* holds for these things: (name, digest)."""
    about = []
    for name, digest in subjects:
        algorithm, _, value = digest.partition(":")
        about.append({"name": name, "digest": {algorithm: value}})
    head = {"_type": STATEMENT, "predicateType": predicate.type, "subject": about}
    # the predicate's own bytes: a reader of large numbers or of floats may not give the same back
    return json.dumps(head, separators=(",", ":")).encode()[:-1] + b',"predicate":' + predicate.data.strip() + b"}"


def attachments(
    predicates: Sequence[Predicate], subject: Descriptor, names: Sequence[Reference] = (), *, form: Form = Form.INDEX
) -> tuple[Attachment, ...]:
    """The manifests for what is attested of the image whose manifest is *subject*; () for no predicate.

    *names* are what the image is called where it goes.
    """
    called = dict.fromkeys([purls.of_image(name, subject.platform) for name in names] or ["_"])
    statements = []
    for each in predicates:
        data = statement(each, [(name, subject.digest) for name in called])
        statements.append(
            (d.Descriptor(IN_TOTO, digests.of(data), len(data), annotations={PREDICATE_TYPE: each.type}), data)
        )
    if not statements:
        return ()
    if form is Form.REFERRERS:
        return tuple(_referrer(each, subject) for each in statements)
    pointer = {REFERENCE_TYPE: ATTESTATION_MANIFEST, REFERENCE_DIGEST: str(subject.digest)}
    if form is Form.ARTIFACT:
        made = _manifest(statements, _ARTIFACT, subject)
    else:
        made = _manifest(statements)
    return (replace(made, descriptor=replace(made.descriptor, annotations=pointer, platform=UNKNOWN)),)


def _referrer(one: tuple[Descriptor, bytes], subject: Descriptor) -> Attachment:
    """An artifact with one statement. What a registry lists of it has the annotations of its manifest."""
    return _manifest([one], IN_TOTO, subject, annotations=one[0].annotations)


def _manifest(
    statements: Sequence[tuple[Descriptor, bytes]],
    artifact_type: str | None = None,
    subject: Descriptor | None = None,
    *,
    annotations: Mapping[str, str] | None = None,
) -> Attachment:
    if artifact_type is None:
        config, data = _config([described for described, _ in statements])
    else:
        config, data = d.Descriptor(d.OCI_EMPTY, digests.of(_EMPTY), len(_EMPTY)), _EMPTY
    manifest = Manifest(
        config=config,
        layers=tuple(described for described, _ in statements),
        annotations=annotations or {},
        subject=None if subject is None else d.Descriptor(subject.media_type, subject.digest, subject.size),
        artifact_type=artifact_type,
    )
    document = manifest.to_json()
    described = d.Descriptor(
        manifest.media_type,
        digests.of(document),
        len(document),
        annotations=manifest.annotations,
        artifact_type=artifact_type,
    )
    return Attachment(described, document, ((config, data), *statements))


def _config(layers: Sequence[Descriptor]) -> tuple[Descriptor, bytes]:
    """A config like an image's, for readers that want one: for no platform, with the statements as its layers."""
    document = {
        "architecture": UNKNOWN.architecture,
        "os": UNKNOWN.os,
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
    }
    data = json.dumps(document, separators=(",", ":")).encode()
    return d.Descriptor(d.OCI_CONFIG, digests.of(data), len(data)), data
