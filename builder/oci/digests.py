"""Digests: the one place where text becomes a digest, and where bytes are hashed into one.

A digest is the name of a file in the store, so nothing that did not pass `parse` may ever be used as one
(`sha256:../../x`). Four digests that must not be mixed up are four types:

    Digest         sha256 of a blob's bytes
    DiffID         digest of a layer's uncompressed tar
    ChainID        identity of a stack of layers
    ContentDigest  digest of what a layer changes without its modification times (own, for early cut-off)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NewType

from builder.errors import InvalidDigest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Digest = NewType("Digest", str)
DiffID = NewType("DiffID", Digest)
ChainID = NewType("ChainID", Digest)
ContentDigest = NewType("ContentDigest", Digest)

_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}
_HEX = frozenset("0123456789abcdef")


def parse(text: str) -> Digest:
    """`text` as a digest. Raises InvalidDigest for anything but `sha256|sha384|sha512:` and lower-case hex.

    Rule: image-spec descriptor.md, with the registered algorithms that registries use.
    """
    algorithm, colon, encoded = text.partition(":")
    if not colon:
        raise InvalidDigest(text, "it has no algorithm")
    length = _LENGTHS.get(algorithm)
    if length is None:
        raise InvalidDigest(text, f"algorithm must be one of {', '.join(_LENGTHS)}")
    if len(encoded) != length:
        raise InvalidDigest(text, f"{algorithm} has {length} digits, not {len(encoded)}")
    if not _HEX.issuperset(encoded):
        raise InvalidDigest(text, "digits must be 0-9 and a-f")
    return Digest(text)


def of(data: bytes) -> Digest:
    """sha256 digest of `data`."""
    import hashlib

    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def of_chunks(chunks: Iterable[bytes]) -> Digest:
    """sha256 digest of the concatenated `chunks`, in constant memory."""
    import hashlib

    hasher = hashlib.sha256()
    for chunk in chunks:
        hasher.update(chunk)
    return Digest("sha256:" + hasher.hexdigest())


def from_hex(encoded: str) -> Digest:
    """The sha256 digest with this hex form. Raises InvalidDigest."""
    return parse("sha256:" + encoded)


def hex_of(digest: Digest) -> str:
    """The part after the colon."""
    return digest.partition(":")[2]


def short(digest: str) -> str:
    """The 12 digits that docker shows."""
    return digest.rpartition(":")[2][:12]


def chain_id(diff_ids: Sequence[DiffID]) -> ChainID:
    """Identity of a stack of at least one layer, bottom first, as in image-spec config.md."""
    chain = ChainID(diff_ids[0])
    for diff_id in diff_ids[1:]:
        chain = ChainID(of(f"{chain} {diff_id}".encode()))
    return chain


def chain_ids(diff_ids: Sequence[DiffID]) -> tuple[ChainID, ...]:
    """The chain id up to and with each layer, bottom first."""
    chains: list[ChainID] = []
    for diff_id in diff_ids:
        chains.append(ChainID(of(f"{chains[-1]} {diff_id}".encode())) if chains else ChainID(diff_id))
    return tuple(chains)
