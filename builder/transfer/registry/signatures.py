"""Signatures of images in registries, where cosign has them: beside the image, under a tag made of its digest.

All signatures of a manifest are the layers of one manifest: a layer is the claim that was signed, the signature an
annotation of it. A registry that cannot be trusted may leave signatures out, but not make one.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from builder.errors import InvalidDigest, InvalidDocument, InvalidReference, LimitExceeded, RegistryNotFound
from builder.oci import claims, digests
from builder.oci import descriptors as d
from builder.oci.manifests import Index, Manifest
from builder.oci.references import Reference
from builder.transfer.registry import upload
from builder.transfer.registry.session import described, first
from runtime.values import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from builder.oci.descriptors import Descriptor
    from builder.oci.digests import Digest
    from builder.store import Store
    from builder.transfer.keys import SigningKey, VerifyingKey
    from builder.transfer.registry.repository import Repository
    from builder.transfer.registry.session import Registries

MOST = 500
"""Signatures of one image that are looked at."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A signature that was looked at: what was signed, and why it does not hold ("": it does)."""

    payload: bytes
    reason: str = ""


def sign(
    store: Store,
    registries: Registries,
    reference: Reference,
    key: SigningKey,
    annotations: Mapping[str, str],
    *,
    recursive: bool = False,
) -> tuple[Digest, ...]:
    """Sign what a reference means at its registry now, and with `recursive` what an index names; the digests.

    Raises RegistryErrors, InvalidDocument, StoreErrors, CredentialsFailed.
    """
    from builder.transfer import keys

    target = registries.target(reference)
    top = described(target, reference.tagged())
    signed = [top.digest]
    if recursive and top.media_type in d.INDEX_TYPES:
        index = Index.from_json(target.manifest(top.digest, top).data, media_type=top.media_type)
        signed += [each.digest for each in index.manifests]
    verifying = keys.load_verifying(key.public, "")
    for digest in dict.fromkeys(signed):
        _add(store, target, digest, claims.Claim(reference.name, digest, annotations), key, verifying)
    return tuple(dict.fromkeys(signed))


def verify(
    registries: Registries,
    reference: Reference,
    key: VerifyingKey,
    annotations: Mapping[str, str],
    *,
    same_name: bool = False,
) -> tuple[Digest, tuple[Signed, ...]]:
    """What a reference means at its registry now, and each signature of that with whether it holds under the key.

    `annotations` must be among those that were signed; with `same_name` it must have been signed under this name.

    Raises RegistryErrors, InvalidDocument, LimitExceeded.
    """
    places = registries.repositories(reference)
    place, top = first(places, lambda each: described(each, reference.tagged()))
    found = _signatures(place, top.digest)
    if len(found) > MOST:
        raise LimitExceeded(f"{place.endpoint.name} has {len(found)} signatures of {top.digest}, more than {MOST}")
    wanted = reference if same_name else None
    return top.digest, tuple(_checked(place, each, top.digest, key, annotations, wanted) for each in found)


def _checked(
    place: Repository,
    layer: Descriptor,
    digest: Digest,
    key: VerifyingKey,
    annotations: Mapping[str, str],
    name: Reference | None,
) -> Signed:
    if layer.media_type != claims.MEDIA_TYPE or claims.SIGNATURE not in layer.annotations:
        return Signed(b"", f"a signature of another kind ({layer.media_type[:100]})")
    if layer.size > claims.LIMIT:
        return Signed(b"", f"a claim of {layer.size} bytes")
    payload = place.blob(layer, claims.LIMIT)
    try:
        signature = base64.b64decode(layer.annotations[claims.SIGNATURE], validate=True)
    except ValueError:
        return Signed(payload, "a signature that is damaged")
    if not key.verifies(payload, signature):
        return Signed(payload, "a signature was made with another key, or what it signs was altered")
    # Only what the key's owner wrote is read.
    try:
        claim = claims.Claim.from_json(payload)
    except (InvalidDocument, InvalidDigest) as err:
        return Signed(payload, err.message)
    if claim.digest != digest:
        return Signed(payload, f"a signature is for another image, {claim.digest}")
    for key_, value in annotations.items():
        if claim.annotations.get(key_) != value:
            return Signed(payload, f"a signature was made without the annotation {key_}={value}")
    if name is not None and not _is_called(claim.name, name):
        return Signed(payload, f"a signature was made for the name {claim.name[:200]!r}")
    return Signed(payload)


def _is_called(text: str, name: Reference) -> bool:
    """Whether a signer's name for the image is the repository *name*, and its tag if the signer said one."""
    try:
        signed = Reference.parse(text)
    except InvalidReference:
        return False
    return signed.name == name.name and (signed.tag is None or signed.tag == name.tagged().tag)


def _add(
    store: Store,
    target: Repository,
    digest: Digest,
    claim: claims.Claim,
    key: SigningKey,
    verifying: VerifyingKey,
) -> None:
    """Add one signature to those that the repository has; the same once only."""
    payload = claim.to_json()
    present = _signatures(target, digest)
    for layer in present:
        if layer.digest == digests.of(payload) and _holds(layer, payload, verifying.verifies):
            return
    pointer = d.Descriptor(
        claims.MEDIA_TYPE,
        upload.small(store, target, payload),
        len(payload),
        annotations={claims.SIGNATURE: base64.b64encode(key.sign(payload)).decode()},
    )
    layers = (*present, pointer)
    config = _config(layers)
    manifest = Manifest(d.Descriptor(d.OCI_CONFIG, upload.small(store, target, config), len(config)), layers)
    target.put_manifest(claims.tag_of(digest), manifest.to_json(), manifest.media_type)


def _holds(layer: Descriptor, payload: bytes, verifies: Callable[[bytes, bytes], bool]) -> bool:
    try:
        return verifies(payload, base64.b64decode(layer.annotations.get(claims.SIGNATURE, ""), validate=True))
    except ValueError:
        return False


def _signatures(place: Repository, digest: Digest) -> tuple[Descriptor, ...]:
    """What a repository has under the tag for a manifest's signatures, as it is there."""
    try:
        fetched = place.manifest(claims.tag_of(digest))
    except RegistryNotFound:
        return ()
    return Manifest.from_json(fetched.data, media_type=fetched.descriptor.media_type).layers


def _config(layers: Sequence[Descriptor]) -> bytes:
    """A config like an image's, which registries and tools expect a manifest to have."""
    never = "0001-01-01T00:00:00Z"
    document = {
        "architecture": "",
        "created": never,
        "history": [{"created": never} for _ in layers],
        "os": "",
        "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
        "config": {},
    }
    return json.dumps(document, separators=(",", ":")).encode()


def image_of(name: str) -> Reference:
    """What a user calls an image of a registry. Raises InvalidReference."""
    reference = Reference.parse(name)
    # name:tag@digest means the digest; the tag is for people
    return replace(reference, tag=None) if reference.digest else reference.tagged()
