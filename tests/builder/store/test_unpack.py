"""Decompression: every kind, however the bytes arrive, to the last frame; damage has one error."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import ArchiveInvalid, EngineError
from builder.store import apply, tarheaders
from builder.store.unpack import Peekable, compression, unpack

zstandard = pytest.importorskip("zstandard")

PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda data: zstandard.ZstdCompressor().compress(data),
}
SKIPPABLE = b"\x50\x2a\x4d\x18\x05\x00\x00\x00hello"


class Slow:
    """Gives a few bytes at a time, as a pipe may."""

    def __init__(self, data: bytes, step: int) -> None:
        self._file = io.BytesIO(data)
        self._step = step

    def read(self, size: int, /) -> bytes:
        return self._file.read(min(size, self._step))


def everything(stream: object, size: int = 1000) -> bytes:
    out = b""
    while data := stream.read(size):  # type: ignore[attr-defined]
        assert len(data) <= size
        out += data
    return out


@pytest.mark.parametrize("kind", PACK)
@settings(max_examples=25, deadline=None)
@given(st.lists(st.binary(max_size=3000), min_size=1, max_size=3), st.integers(1, 500), st.integers(1, 5000))
def test_frames_one_after_the_other(kind: str, parts: list[bytes], step: int, size: int) -> None:
    packed = b"".join(PACK[kind](part) for part in parts)
    assert compression(packed) == kind
    assert everything(unpack(Slow(packed, step)), size) == b"".join(parts)


@pytest.mark.parametrize("kind", PACK)
def test_every_cut_is_an_error(kind: str) -> None:
    packed = PACK[kind](os.urandom(300) * 3)
    for at in range(6, len(packed), 7):
        with pytest.raises(ArchiveInvalid):
            everything(unpack(io.BytesIO(packed[:at])))


@pytest.mark.parametrize("kind", PACK)
def test_every_turned_byte_is_an_error_or_nothing(kind: str) -> None:
    data = os.urandom(300) * 3
    packed = PACK[kind](data)
    for at in range(6, len(packed), 5):
        turned = packed[:at] + bytes([packed[at] ^ 0x10]) + packed[at + 1 :]
        try:
            everything(unpack(io.BytesIO(turned)))
        except EngineError:
            continue


def test_zeros_may_follow_and_nothing_else() -> None:
    packed = gzip.compress(b"data")
    assert everything(unpack(io.BytesIO(packed + bytes(5000)))) == b"data"
    with pytest.raises(ArchiveInvalid):
        everything(unpack(io.BytesIO(packed + b"trailing")))


def test_skippable_frames_of_zstd() -> None:
    packed = SKIPPABLE + PACK["zstd"](b"one") + SKIPPABLE + PACK["zstd"](b"two") + SKIPPABLE
    for step in (1, 3, 1000):
        assert everything(unpack(Slow(packed, step))) == b"onetwo"
    with pytest.raises(ArchiveInvalid):
        everything(unpack(io.BytesIO(packed[:-2])))


def test_what_is_not_packed_passes() -> None:
    for data in (b"", b"x", b"\x1f\x8b", b"plain" * 1000):
        assert everything(unpack(Slow(data, 7))) == data


@pytest.mark.parametrize("name", [b"BZh", b"BZh9", b"BZhang/report.txt"])
def test_a_tar_is_not_packed_because_of_its_first_name(name: bytes) -> None:
    tar = tarheaders.header(name, b"0", 0o644, (0, 0), 0, 1) + tarheaders.END
    assert everything(unpack(Slow(tar, 7))) == tar
    assert apply.is_archive(tar)


def test_bzip2_of_nothing_is_packed() -> None:
    assert everything(unpack(Slow(bz2.compress(b""), 7))) == b""


def test_a_look_ahead_reads_nothing_away() -> None:
    stream = Peekable(Slow(b"0123456789", 2))
    assert stream.peek(5) == b"01234"
    assert stream.peek(2) == b"01"
    assert everything(stream, 4) == b"0123456789"
    assert stream.consumed == 10


@pytest.mark.parametrize("kind", ["bzip2", "xz"])
def test_an_archive_whose_first_block_is_long_is_one(kind: str) -> None:
    """Such a block gives nothing before it is read whole: the first bytes of the file do not tell."""
    content = os.urandom(900_000)
    tar = tarheaders.header(b"x", b"0", 0o644, (0, 0), len(content), 1) + content + tarheaders.padding(len(content))
    packed = PACK[kind](tar + tarheaders.END)
    assert apply.is_archive(io.BytesIO(packed))
    assert not apply.is_archive(io.BytesIO(PACK[kind](content)))
