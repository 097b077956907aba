"""Packing: every level gives back what went in, one input has one form, and media types follow."""

from __future__ import annotations

import gzip

import pytest
import zstandard

from builder.oci import descriptors
from builder.transfer.compression import LEVELS, Compression, Packer, Packing

DATA = b"".join(b"line %d of a layer\n" % (number * 7919 % 1000) for number in range(20_000))


def pack(packing: Packing) -> bytes:
    out: list[bytes] = []
    packer = Packer(packing, out.append)
    for start in range(0, len(DATA), 70_000):
        packer.write(DATA[start : start + 70_000])
    packer.close()
    return b"".join(out)


def unpacked(kind: Compression, data: bytes) -> bytes:
    match kind:
        case Compression.UNCOMPRESSED:
            return data
        case Compression.GZIP:
            return gzip.decompress(data)
        case Compression.ZSTD:
            return zstandard.ZstdDecompressor().decompressobj().decompress(data)


@pytest.mark.parametrize(
    "packing", [Packing(kind, level) for kind in Compression for level in {None, *LEVELS[kind], max(LEVELS[kind]) // 2}]
)
def test_every_level_unpacks_to_the_same_and_has_one_form(packing: Packing) -> None:
    packed = pack(packing)
    assert unpacked(packing.compression, packed) == DATA
    assert pack(packing) == packed


def test_media_types_are_dockers_only_where_docker_has_one() -> None:
    assert Packing(Compression.GZIP, docker=True).media_type == descriptors.DOCKER_LAYER_GZIP
    assert Packing(Compression.GZIP).media_type == descriptors.OCI_LAYER_GZIP
    assert Packing(Compression.ZSTD).media_type == descriptors.OCI_LAYER_ZSTD
    assert Packing().media_type == descriptors.OCI_LAYER
