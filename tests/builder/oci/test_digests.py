"""Digests become names of files, so only one spelling is one."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import InvalidDigest
from builder.oci import digests
from builder.oci.digests import DiffID

HEX = "0123456789abcdef"


@given(st.text(HEX, min_size=64, max_size=64))
def test_a_digest_in_the_one_spelling_is_taken_as_it_is(encoded: str) -> None:
    assert digests.parse(f"sha256:{encoded}") == digests.from_hex(encoded) == f"sha256:{encoded}"
    assert digests.hex_of(digests.from_hex(encoded)) == encoded
    assert digests.short(f"sha256:{encoded}") == encoded[:12]


@settings(max_examples=200)
@given(st.text(max_size=80) | st.text(HEX + "./:ABC", min_size=60, max_size=70).map(lambda text: "sha256:" + text))
def test_nothing_else_is_a_digest(text: str) -> None:
    try:
        found = digests.parse(text)
    except InvalidDigest:
        return
    algorithm, _, encoded = found.partition(":")
    assert found == text
    assert len(encoded) * 4 == int(algorithm.removeprefix("sha"))
    assert set(encoded) <= set(HEX)


@pytest.mark.parametrize(
    "text", ["", "sha256", "sha256:", "sha256:../../../etc/passwd", "md5:" + "0" * 32, "SHA256:" + "0" * 64]
)
def test_what_is_close_to_a_digest_is_refused_with_the_text(text: str) -> None:
    with pytest.raises(InvalidDigest) as caught:
        digests.parse(text)
    assert caught.value.text == text


@given(st.lists(st.binary(max_size=20), max_size=5))
def test_pieces_hash_as_the_whole(chunks: list[bytes]) -> None:
    assert digests.of_chunks(chunks) == digests.of(b"".join(chunks))


def test_chain_ids_follow_the_image_specification() -> None:
    first, second = (DiffID(digests.of(data)) for data in (b"a", b"b"))
    chained = "sha256:" + hashlib.sha256(f"{first} {second}".encode()).hexdigest()
    assert digests.chain_ids([first, second]) == (first, chained)
    assert digests.chain_id([first, second]) == chained
    assert digests.chain_id([first]) == first
    assert digests.chain_ids([]) == ()
