"""What a signature of an image is made over: the "simple signing" claim, as cosign writes and reads it.

A claim says which manifest is meant, by digest, and under which name its signer knew it. Rules: SIGNATURE_SPEC.md of
cosign, containers-signature(5).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from builder.oci import digests, documents
from runtime.values import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Mapping

TYPE = "cosign container image signature"
MEDIA_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE = "dev.cosignproject.cosign/signature"
LIMIT = 1 << 16
"""Bytes of a claim; usual ones have 250."""


@dataclass(frozen=True, slots=True)
class Claim:
    """`name` is registry/repository as the signer called it, with or without a tag; `annotations` are the signer's."""

    name: str
    digest: digests.Digest
    annotations: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """The bytes to sign, in cosign's order of fields."""
        critical = {
            "identity": {"docker-reference": self.name},
            "image": {"docker-manifest-digest": self.digest},
            "type": TYPE,
        }
        document = {"critical": critical, "optional": dict(sorted(self.annotations.items())) or None}
        return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()

    @staticmethod
    def from_json(data: bytes) -> Claim:
        """Read one. Raises InvalidDocument, InvalidDigest."""
        source = documents.load(data, "signed claim", limit=LIMIT)
        critical = source.object("critical")
        if critical is None:
            source.fail("critical", "is missing")
        if critical.required("type") != TYPE:
            critical.fail("type", f"must be {TYPE!r}")
        image, identity = critical.object("image"), critical.object("identity")
        if image is None:
            critical.fail("image", "is missing")
        name = "" if identity is None else identity.string("docker-reference") or ""
        optional = source.object("optional")
        # A signer may write anything there; only texts can be asked for.
        annotations = {} if optional is None else {k: v for k, v in optional.rest().items() if isinstance(v, str)}
        return Claim(name, digests.parse(image.required("docker-manifest-digest")), annotations)


def tag_of(digest: digests.Digest) -> str:
    """Where signatures of a manifest are, in the repository that it is in."""
    return digest.replace(":", "-") + ".sig"
