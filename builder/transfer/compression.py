"""Packing of layers on their way out: one form for one input, in bounded memory.

A packed layer's digest depends on the packer's version, which is why an image is known by its diff_ids; within one
version the same tar always packs to the same bytes (no name, no time in the header).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

from builder.oci import descriptors
from runtime.values import dataclass

Sink = Callable[[bytes], object]


class Compression(StrEnum):
    """How layers are packed, in the words of buildx."""

    UNCOMPRESSED = "uncompressed"
    GZIP = "gzip"
    ZSTD = "zstd"

    def media_type(self, *, docker: bool) -> str:
        """Of a layer. Docker's schema has no zstd: whoever asks for both gets OCI's (see `Packing`)."""
        match self:
            case Compression.UNCOMPRESSED:
                return descriptors.DOCKER_LAYER if docker else descriptors.OCI_LAYER
            case Compression.GZIP:
                return descriptors.DOCKER_LAYER_GZIP if docker else descriptors.OCI_LAYER_GZIP
            case Compression.ZSTD:
                return descriptors.OCI_LAYER_ZSTD


LEVELS = {Compression.UNCOMPRESSED: (0, 0), Compression.GZIP: (0, 9), Compression.ZSTD: (0, 22)}
"""Least and largest `compression-level`, as BuildKit takes them."""

_FAST = 3
"""isal's largest level; its level 1 is as dense as zlib's 3 to 4, at several times the speed."""
_DEFAULT = {Compression.UNCOMPRESSED: 0, Compression.GZIP: 1, Compression.ZSTD: 3}


@dataclass(frozen=True, slots=True)
class Packing:
    """How the layers of one image are packed. `level` None is the usual one; `docker` asks for docker's media types."""

    compression: Compression = Compression.UNCOMPRESSED
    level: int | None = None
    docker: bool = False

    @property
    def media_type(self) -> str:
        """Of the layers."""
        return self.compression.media_type(docker=self.docker)


PLAIN = Packing()
"""Layers as they are, with OCI's media types."""


class _Compressor(Protocol):
    """What zlib, isal and zstandard have in common."""

    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class Packer:
    """Packs what is written to it into `sink`; `close` ends the stream."""

    def __init__(self, packing: Packing, sink: Sink) -> None:
        self._sink = sink
        self._packer = _compressor(packing.compression, packing.level)

    def write(self, data: bytes) -> None:
        """The next bytes."""
        if self._packer is None:
            self._sink(data)
        elif packed := self._packer.compress(data):
            self._sink(packed)

    def close(self) -> None:
        """Nothing follows."""
        if self._packer is not None and (rest := self._packer.flush()):
            self._sink(rest)


def _compressor(kind: Compression, level: int | None) -> _Compressor | None:
    chosen = _DEFAULT[kind] if level is None else level
    match kind:
        case Compression.UNCOMPRESSED:
            return None
        case Compression.GZIP if chosen <= _FAST:
            from isal import isal_zlib

            fast: _Compressor = isal_zlib.compressobj(chosen, isal_zlib.DEFLATED, 31)
            return fast
        case Compression.GZIP:
            return zlib.compressobj(chosen, zlib.DEFLATED, 31)
        case Compression.ZSTD:
            import zstandard

            dense: _Compressor = zstandard.ZstdCompressor(level=chosen or 3).compressobj()
            return dense
