"""How to get a foreign layer's tar back from its directory, byte for byte.

A recipe holds everything of a tar that is not content of a file: headers, padding, the end, in order, with references
to the files whose content stood between. It is small and packs well. Layers that we wrote ourselves need none: their
canonical tar is the one (``Applied.exact``).

Form: a magic line, then records. ``L`` length bytes is literal, ``F`` path-length path size stands for the content of a
file, ``E`` ends; numbers are 8 bytes, big-endian. Literals are cut only at files and every 64 KiB, so that one tar has
one recipe, however its bytes arrived.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from builder.errors import StoreCorrupt
from builder.store.tarstream import CHUNK, Readable
from runtime.linux.files import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, openat2

Sink = Callable[[bytes], object]

_MAGIC = b"lamina recipe 1\n"
_CUT = 1 << 16
PATH_MAX = 4000
"""Longest path that a recipe can name: the kernel opens it in one step."""


class Writer:
    """Collects a recipe and gives it to *sink* in pieces; :meth:`close` ends it."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._pending = bytearray()
        sink(_MAGIC)

    def literal(self, data: bytes) -> None:
        """The next bytes of the tar are *data*."""
        self._pending += data
        while len(self._pending) >= _CUT:
            self._sink(b"L" + _CUT.to_bytes(8, "big") + bytes(self._pending[:_CUT]))
            del self._pending[:_CUT]

    def file(self, path: bytes, size: int) -> None:
        """The next *size* bytes are the content of the layer's file *path*. Nothing is written for empty files."""
        if size:
            self._flush()
            self._sink(b"F" + len(path).to_bytes(8, "big") + path + size.to_bytes(8, "big"))

    def close(self) -> None:
        """End the recipe."""
        self._flush()
        self._sink(b"E")

    def _flush(self) -> None:
        if self._pending:
            self._sink(b"L" + len(self._pending).to_bytes(8, "big") + bytes(self._pending))
            self._pending.clear()


def replay(recipe: Readable, upper: Path, sink: Sink) -> int:
    """Write the tar that *recipe* and the layer directory *upper* give to *sink*; returns its size in bytes.

    The caller compares the digest: what comes out is only as right as the directory is untouched.

    Raises: StoreCorrupt (broken recipe, a file that is missing or has another size), OSError.
    """
    if _exactly(recipe, len(_MAGIC)) != _MAGIC:
        raise StoreCorrupt("layer recipe has an unknown form")
    root = os.open(upper, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    total = 0
    try:
        while (mark := _exactly(recipe, 1)) != b"E":
            length = int.from_bytes(_exactly(recipe, 8), "big")
            if mark == b"L" and length <= _CUT:
                sink(_exactly(recipe, length))
                total += length
            elif mark == b"F" and length <= PATH_MAX:
                path = _exactly(recipe, length)
                size = int.from_bytes(_exactly(recipe, 8), "big")
                _content(root, path, size, sink)
                total += size
            else:
                raise StoreCorrupt("layer recipe is broken")
    finally:
        os.close(root)
    return total


def _content(root: int, path: bytes, size: int, sink: Sink) -> None:
    try:
        # Through links inside of the layer, as the path in the archive went when the file was written.
        fd = openat2(root, path, os.O_RDONLY | os.O_NONBLOCK, resolve=RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
    except OSError as err:
        raise StoreCorrupt(f"layer file {os.fsdecode(path)!r} cannot be read: {err.strerror}") from err
    try:
        if os.fstat(fd).st_size != size:
            raise StoreCorrupt(f"layer file {os.fsdecode(path)!r} has changed its size")
        while size:
            chunk = os.read(fd, min(size, CHUNK))
            if not chunk:
                raise StoreCorrupt(f"layer file {os.fsdecode(path)!r} has changed its size")
            sink(chunk)
            size -= len(chunk)
    finally:
        os.close(fd)


def _exactly(recipe: Readable, count: int) -> bytes:
    data = recipe.read(count)
    while len(data) < count:
        more = recipe.read(count - len(data))
        if not more:
            raise StoreCorrupt("layer recipe ends too early")
        data += more
    return data
