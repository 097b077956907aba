"""Decompression of streams that nobody vouches for: gzip, bzip2, xz and zstd, told apart by their first bytes.

Always in this process and with libraries, never by a program found on a PATH (CVE-2026-41567). Output is made as it is
asked for, so a bomb costs no memory; how much may come out in all is the reader's business (``apply.Limits``), how much
per byte that went in is checked here.
"""

from __future__ import annotations

from typing import Protocol

from builder.errors import ArchiveInvalid, LimitExceeded, Unsupported
from builder.store.tarstream import Readable

_READ = 1 << 18
_XZ_MEMORY = 256 << 20
"""xz -9 needs 65 MiB to unpack."""


class _Decompressor(Protocol):
    """What bz2, lzma and isal have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = ...) -> bytes: ...


class Peekable:
    """A stream whose first bytes can be looked at before they are read."""

    def __init__(self, stream: Readable, head: bytes = b"") -> None:
        self._stream = stream
        self._head = head
        self.consumed = 0
        """Bytes given out so far."""

    def peek(self, count: int) -> bytes:
        """The next *count* bytes, fewer at the end of the stream."""
        while len(self._head) < count:
            more = self._stream.read(count - len(self._head))
            if not more:
                break
            self._head += more
        return self._head[:count]

    def read(self, size: int, /) -> bytes:
        """As a file's ``read``, but may give fewer bytes before the end."""
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
        else:
            data = self._stream.read(size)
        self.consumed += len(data)
        return data


HEAD = 10
"""Bytes by which packed data is known."""


def compression(head: bytes) -> str:
    """ "gzip", "bzip2", "xz", "zstd" or "" from the first bytes (HEAD are enough) of a stream."""
    if head.startswith(b"\x1f\x8b\x08"):
        return "gzip"
    # With the magic of its first block, or of its end: a tar may begin with a file's name.
    if head.startswith(b"BZh") and any(magic.startswith(head[4:HEAD]) for magic in (b"1AY&SY", b"\x17rE8P\x90")):
        return "bzip2"
    if head.startswith(b"\xfd7zXZ\0"):
        return "xz"
    # The second form is a skippable frame, which pzstd and estargz's cousins put first.
    if head.startswith(b"\x28\xb5\x2f\xfd") or (head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50):
        return "zstd"
    return ""


def unpack(stream: Readable, *, window_log: int = 27, ratio: int = 200, ratio_after: int = 4 << 30) -> Readable:
    """*stream* unpacked, or as it is when it is not packed.

    *window_log* bounds zstd's window, *ratio* the bytes out per byte in, after *ratio_after* bytes have come out.

    Raises: Unsupported (a library is missing). Reading raises ArchiveInvalid (damaged, cut off) and LimitExceeded.
    """
    source = stream if isinstance(stream, Peekable) else Peekable(stream)
    kind = compression(source.peek(HEAD))
    if kind == "zstd":
        return _Checked(_Zstd(source, window_log), source, ratio, ratio_after)
    if kind:
        return _Checked(_Frames(source, kind), source, ratio, ratio_after)
    return source


class _Checked:
    """Watches how much comes out for what went in."""

    def __init__(self, inner: Readable, source: Peekable, ratio: int, after: int) -> None:
        self._inner = inner
        self._source = source
        self._ratio = ratio
        self._after = after
        self._out = 0

    def read(self, size: int, /) -> bytes:
        data = self._inner.read(size)
        self._out += len(data)
        if self._out > self._after and self._out > self._ratio * max(1, self._source.consumed):
            raise LimitExceeded(f"archive unpacks to more than {self._ratio} times its size")
        return data


class _Frames:
    """gzip, bzip2 and xz: streams that may follow one another and end with zeros."""

    def __init__(self, source: Peekable, kind: str) -> None:
        self._source = source
        self._kind = kind
        self._decompressor = _decompressor(kind)
        self._input = b""
        self._ended = False

    def read(self, size: int, /) -> bytes:
        while not self._ended:
            decompressor = self._decompressor
            if decompressor.eof:
                self._next(decompressor.unused_data)
                continue
            if decompressor.needs_input and not self._input:
                self._input = self._source.read(_READ)
                if not self._input:
                    raise ArchiveInvalid(f"{self._kind} data ends too early")
            data, self._input = self._input, b""
            try:
                out = decompressor.decompress(data, size)
            except _errors(self._kind) as err:
                raise ArchiveInvalid(f"{self._kind} data is damaged: {err}") from err
            if out:
                return out
        return b""

    def _next(self, rest: bytes) -> None:
        """After one frame: another one, padding, or the end."""
        while True:
            rest = rest.lstrip(b"\0")
            if rest:
                break
            rest = self._source.read(_READ)
            if not rest:
                self._ended = True
                return
        while len(rest) < HEAD and (more := self._source.read(HEAD)):
            rest += more
        if compression(rest) != self._kind:
            raise ArchiveInvalid(f"{self._kind} data is followed by something else")
        self._decompressor = _decompressor(self._kind)
        self._input = rest


class _Zstd:
    def __init__(self, source: Peekable, window_log: int) -> None:
        try:
            import zstandard
        except ImportError as err:
            raise Unsupported("zstd data needs the Python package zstandard") from err
        self._error = zstandard.ZstdError
        self._frames = _ZstdFrames(source)
        self._reader = zstandard.ZstdDecompressor(max_window_size=1 << window_log).stream_reader(
            self._frames,  # type: ignore[arg-type]  # It only calls read.
            read_size=_READ,
            read_across_frames=True,
        )

    def read(self, size: int, /) -> bytes:
        try:
            data = self._reader.read(size)
        except self._error as err:
            raise ArchiveInvalid(f"zstd data is damaged: {err}") from err
        if not data and not self._frames.complete:
            raise ArchiveInvalid("zstd data ends too early")
        return data


class _ZstdFrames:
    """Follows the frames and blocks of zstd data (RFC 8878) on its way to the library.

    The library's reader gives the same empty answer at the end of a frame and at the end of half a frame.
    """

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._stage = "magic"
        self._field = b""
        self._wanted = 4
        self._skip = 0
        self._checksum = 0

    @property
    def complete(self) -> bool:
        """Whether what has been read ends with a whole frame."""
        return self._stage == "magic" and not self._field and not self._skip

    def read(self, size: int, /) -> bytes:
        data = self._source.read(size)
        at = 0
        while at < len(data):
            if self._skip:
                step = min(self._skip, len(data) - at)
                self._skip -= step
            else:
                step = self._wanted - len(self._field)
                self._field += data[at : at + step]
                if len(self._field) == self._wanted:
                    self._wanted = self._field_read(self._field)
                    self._field = b""
            at += step
        return data

    def _field_read(self, field: bytes) -> int:
        """Act on a whole field; returns the size of the next one."""
        number = int.from_bytes(field, "little")
        if self._stage == "magic":
            self._stage = "skippable" if number & 0xFFFFFFF0 == 0x184D2A50 else "descriptor"
            return 4 if self._stage == "skippable" else 1
        if self._stage == "skippable":
            self._skip, self._stage = number, "magic"
            return 4
        if self._stage == "descriptor":
            single = number >> 5 & 1
            content = (single, 2, 4, 8)[number >> 6]
            self._skip = (1 - single) + (0, 1, 2, 4)[number & 3] + content
            self._checksum = 4 * (number >> 2 & 1)
            self._stage = "block"
            return 3
        # A block of the second type is one byte, repeated.
        self._skip = 1 if number >> 1 & 3 == 1 else number >> 3
        if number & 1:
            self._skip += self._checksum
            self._stage = "magic"
            return 4
        return 3


def _decompressor(kind: str) -> _Decompressor:
    if kind == "gzip":
        try:
            from isal import igzip_lib
        except ImportError as err:
            raise Unsupported("gzip data needs the Python package isal") from err
        gzip: _Decompressor = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        return gzip
    if kind == "bzip2":
        import bz2

        return bz2.BZ2Decompressor()
    import lzma

    return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)


def _errors(kind: str) -> tuple[type[Exception], ...]:
    """What the library of *kind* raises for bad data."""
    errors: tuple[type[Exception], ...] = (OSError, EOFError, ValueError, MemoryError)
    if kind == "gzip":
        from isal import igzip_lib

        return (*errors, igzip_lib.error)  # type: ignore[arg-type]  # Its stub calls the class an instance.
    if kind == "xz":
        import lzma

        return (*errors, lzma.LZMAError)
    return errors
