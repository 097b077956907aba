"""Times that directories get at the end, in the order of the archive. Packed: an archive may have millions."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

_RECORD = struct.Struct(">QqII")
_LONGEST = 1 << 14
"""Bytes of a path: `unpacker` takes no longer ones."""


class DirectoryTimes:
    """Noted while an archive is unpacked, asked for when nothing follows."""

    def __init__(self) -> None:
        self._packer = zlib.compressobj(1)
        self._packed = bytearray()
        self._pending = bytearray()

    def add(self, path: bytes, inode: int, mtime: int, implied: int) -> None:
        """Note a directory; of *implied* ones, the last levels of *path* were made for it."""
        self._pending += _RECORD.pack(inode, mtime, implied, len(path)) + path
        if len(self._pending) >= 1 << 16:
            self._packed += self._packer.compress(self._pending)
            self._pending.clear()

    def __iter__(self) -> Iterator[tuple[bytes, int, int, int]]:
        """(path, inode, mtime, implied) of each; may be asked once, when nothing follows."""
        self._packed += self._packer.compress(self._pending) + self._packer.flush()
        unpacker, data, at = zlib.decompressobj(), b"", 0
        packed = bytes(self._packed)
        while True:
            if len(data) - at < _RECORD.size + _LONGEST:
                more = unpacker.decompress(packed, 1 << 18)
                packed = unpacker.unconsumed_tail
                data, at = data[at:] + more, 0
                if not data:
                    return
            inode, mtime, implied, length = _RECORD.unpack_from(data, at)
            at += _RECORD.size
            yield data[at : at + length], inode, mtime, implied
            at += length
