"""A reader of tar streams that nobody vouches for: ustar, pax (local and global), GNU long names, base-256, sparse
files.

It reads forward only, in time linear to the bytes, holds one entry's headers at a time and checks every bound before it
acts on it. What it lists is what GNU tar lists, or it refuses: where readers of tar disagree (a directory with data, an
empty checksum, a size that pax and ustar give differently for an entry without data) an archive could show one thing to
one tool and another to us (CVE-2025-62518), so nothing is guessed there. Python's ``tarfile`` is not used: the versions
that hosts have still carry CVE-2025-8194 and friends, and it reads extended headers of any size into memory.

Writing is ``tarheaders``; unpacking is ``apply``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from builder.errors import ArchiveInvalid, LimitExceeded
from builder.store.tarheaders import BLOCK
from runtime.values import dataclass

CHUNK = 1 << 18
"""Bytes asked of the stream at a time. Small enough for the second cache level, large enough to let the lock go."""

_META_MAX = 1 << 20
"""Largest extended header, the bound that Go's reader (so docker) has too."""
_META_CHAIN = 16
"""Most extended headers before one entry."""
_SPARSE_MAX = 1 << 17
"""Most segments of one sparse file."""
_EMPTY = bytes(BLOCK)
_OCTAL = b"01234567"
_MAX = 1 << 62

_HEADER_ONLY = frozenset(b"23456")
_FILES = frozenset(b"07\0S")


class Readable(Protocol):
    """A stream of bytes: a file, a pipe, a member of another archive."""

    def read(self, size: int, /) -> bytes:
        """At most *size* bytes, empty at the end."""
        ...


@dataclass(frozen=True, slots=True)
class Member:
    """One entry as the archive describes it. Nothing here is safe to use as a path."""

    path: bytes
    """As written, with leading slashes and dots; only the slash that ends a directory's name is gone."""
    kind: bytes
    """Type flag, after normalising: b"0" for every form of file; unknown ones as they are."""
    mode: int
    uid: int
    gid: int
    size: int
    """Bytes of the file (a sparse file's whole length)."""
    stored: int
    """Bytes of data in the archive."""
    mtime: int
    """In nanoseconds."""
    link: bytes
    device: tuple[int, int]
    xattrs: tuple[tuple[bytes, bytes], ...]
    """(name, value), sorted, unfiltered."""
    sparse: tuple[tuple[int, int], ...] | None = None
    """(offset, length) of the stored parts, None for ordinary files."""


class TarReader:
    """Iterate over the members of *stream*; read :meth:`chunks` of a member before asking for the next, or they are
    skipped.

    Of sparse files more than *ratio_after* bytes may come only out of a *ratio*th of that: a hole costs nothing to
    write down, and as much as anything to hash.

    *observe* gets every byte of the stream as it is read (for its digest). *literal* gets, in order, what is not
    content of a file: headers, padding, the end. After the last member :meth:`drain` reads what follows the archive's
    end.

    *skip* moves the stream on by a number of bytes, for who only lists: contents are then not read, nothing of them is
    observed, and whether the last one is there in full is for the caller to compare (``size``).

    Raises from any call: ArchiveInvalid, LimitExceeded, and what *stream* raises.
    """

    def __init__(
        self,
        stream: Readable,
        *,
        max_bytes: int = _MAX,
        max_entries: int = _MAX,
        ratio: int = _MAX,
        ratio_after: int = _MAX,
        observe: Callable[[bytes], object] | None = None,
        literal: Callable[[bytes], object] | None = None,
        skip: Callable[[int], object] | None = None,
    ) -> None:
        self._stream = stream
        self._skip = skip
        self._observe = observe
        self._literal = literal
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self._ratio, self._ratio_after = ratio, ratio_after
        self._buffer = b""
        self._at = 0
        self._left = 0
        self._pad = 0
        self._apparent = self._stored = 0
        self._globals: dict[bytes, bytes] = {}
        self._done = False
        self.size = 0
        """Bytes read from the stream so far."""
        self.entries = 0

    def __iter__(self) -> Iterator[Member]:
        while (member := self.next()) is not None:
            yield member

    def next(self) -> Member | None:
        """The next member, or None after the last one."""
        if self._done:
            return None
        self._pass()
        name = link = None
        records: dict[bytes, bytes] = {}
        offsets: list[bytes] = []
        for _ in range(_META_CHAIN):
            block = self._header()
            if block is None:
                if name is not None or link is not None or records:
                    raise ArchiveInvalid("tar ends after an extended header")
                self._done = True
                return None
            kind = block[156:157]
            if kind in b"xX":
                records.update(_records(self._meta(block), offsets))
            elif kind == b"g":
                self._globals.update(_global(_records(self._meta(block), offsets)))
            elif kind == b"L":
                name = self._meta(block).split(b"\0", 1)[0]
            elif kind == b"K":
                link = self._meta(block).split(b"\0", 1)[0]
            else:
                self.entries += 1
                if self.entries > self._max_entries:
                    raise LimitExceeded(f"tar has more than {self._max_entries} entries")
                return self._member(block, {**self._globals, **records}, name, link, offsets)
        raise ArchiveInvalid(f"tar has more than {_META_CHAIN} extended headers in a row")

    def chunks(self) -> Iterator[bytes]:
        """The stored data of the current member, in pieces of at most CHUNK bytes."""
        while self._left:
            chunk = self._some(self._left)
            self._left -= len(chunk)
            yield chunk
        if self._pad:
            pad, self._pad = self._pad, 0
            self._take_literal(pad)

    def _pass(self) -> None:
        """Leave what is unread of the current member."""
        beyond = self._left + self._pad - (len(self._buffer) - self._at)
        if self._skip is None or beyond <= 0:
            for _ in self.chunks():
                pass
            return
        self._skip(beyond)
        self.size += beyond
        self._buffer, self._at, self._left, self._pad = b"", 0, 0, 0

    def drain(self) -> None:
        """Read to the end of the stream: padding to whole records, or whatever a writer left there."""
        while self._at < len(self._buffer) or self._fill():
            rest = self._buffer[self._at :]
            self._at = len(self._buffer)
            if self._literal:
                self._literal(rest)

    # --- bytes ---

    def _fill(self) -> bool:
        chunk = self._stream.read(CHUNK)
        self.size += len(chunk)
        if self.size > self._max_bytes:
            raise LimitExceeded(f"tar is larger than {self._max_bytes} bytes")
        if self._observe and chunk:
            self._observe(chunk)
        self._buffer = chunk
        self._at = 0
        return bool(chunk)

    def _some(self, limit: int) -> bytes:
        at, buffer = self._at, self._buffer
        if at >= len(buffer):
            if not self._fill():
                raise ArchiveInvalid("tar ends in the middle of a file")
            at, buffer = 0, self._buffer
        end = at + limit
        if at == 0 and end >= len(buffer):
            self._at = len(buffer)
            return buffer
        chunk = buffer[at:end]
        self._at = at + len(chunk)
        return chunk

    def _take(self, count: int) -> bytes:
        """Exactly *count* bytes; fewer only when the stream ends."""
        end = self._at + count
        if end <= len(self._buffer):
            chunk = self._buffer[self._at : end]
            self._at = end
            return chunk
        parts = []
        while count:
            if self._at >= len(self._buffer) and not self._fill():
                break
            parts.append(self._some(count))
            count -= len(parts[-1])
        return b"".join(parts)

    def _take_literal(self, count: int) -> bytes:
        chunk = self._take(count)
        if len(chunk) != count:
            raise ArchiveInvalid("tar ends in the middle of an entry")
        if self._literal:
            self._literal(chunk)
        return chunk

    def _header(self) -> bytes | None:
        """The next header block with a right checksum; None at the end."""
        block = self._take(BLOCK)
        if self._literal and block:
            self._literal(block)
        # A lone block of zeros ends an archive as well: GNU tar warns and stops there.
        if not block or block == _EMPTY[: len(block)]:
            return None
        if len(block) < BLOCK:
            raise ArchiveInvalid("tar ends in the middle of a header")
        stated = _number(block[148:156], "checksum")
        unsigned = sum(block) - sum(block[148:156]) + 256
        if stated != unsigned and stated != _signed_sum(block):
            raise ArchiveInvalid("tar header has a wrong checksum" if self.entries else "not a tar archive")
        return block

    def _meta(self, block: bytes) -> bytes:
        size = _number(block[124:136], "size")
        if not 0 <= size <= _META_MAX:
            raise LimitExceeded(f"tar has an extended header of {size} bytes, more than {_META_MAX}")
        data = self._take_literal(size)
        self._take_literal(-size % BLOCK)
        return data

    # --- one entry ---

    def _member(
        self, block: bytes, records: dict[bytes, bytes], name: bytes | None, link: bytes | None, offsets: list[bytes]
    ) -> Member:
        kind = block[156:157]
        size = _number(block[124:136], "size")
        if name is None:
            name = block[:100].split(b"\0", 1)[0]
            if block[257:263] == b"ustar\0" and block[345]:
                name = block[345:500].split(b"\0", 1)[0] + b"/" + name
        if link is None:
            link = block[157:257].split(b"\0", 1)[0]
        name = records.get(b"path", name)
        link = records.get(b"linkpath", link)
        if b"size" in records:
            size = _decimal(records[b"size"], "size")
        if not 0 <= size < _MAX:
            raise ArchiveInvalid(f"tar entry {name!r} has a size of {size}")
        kind = _kind(kind, name, size)
        if kind[0] in _HEADER_ONLY and size:
            raise ArchiveInvalid(f"tar entry {name!r} has data, which an entry of its type cannot have")
        if kind == b"1" and size and b"size" in records:
            # GNU tar then skips data, Go's reader does not; a size in the header alone both take for the file's.
            raise ArchiveInvalid(f"tar entry {name!r} is a hard link with data")
        stored = 0 if kind == b"1" else size
        self._left, self._pad = stored, -stored % BLOCK
        length, sparse = stored, None
        if block[156:157] == b"S":
            length, sparse = self._old_sparse(block)
        elif kind == b"0" and any(key.startswith(b"GNU.sparse.") for key in records):
            name, length, sparse = self._pax_sparse(records, name, offsets)
        if sparse is not None:
            _check_sparse(sparse, length, self._left, name)
            stored = self._left
        self._apparent += length
        if self._apparent > self._max_bytes:
            raise LimitExceeded(f"tar has files of more than {self._max_bytes} bytes")
        self._stored += stored
        if sparse is not None and self._apparent > max(self._ratio_after, self._ratio * (self._stored + BLOCK)):
            raise LimitExceeded(f"tar has files of {self._apparent} bytes that are holes almost everywhere")
        return Member(
            path=name[:-1] if kind == b"5" and name.endswith(b"/") and len(name) > 1 else name,
            kind=kind,
            mode=_number(block[100:108], "mode") & 0o7777,
            uid=_identity(records.get(b"uid"), block[108:116], "uid"),
            gid=_identity(records.get(b"gid"), block[116:124], "gid"),
            size=length,
            stored=stored,
            mtime=_time(records.get(b"mtime"), block[136:148]),
            link=link,
            device=(_number(block[329:337], "device"), _number(block[337:345], "device")) if kind in b"34" else (0, 0),
            xattrs=_xattrs(records) if records else (),
            sparse=sparse,
        )

    def _old_sparse(self, block: bytes) -> tuple[int, tuple[tuple[int, int], ...]]:
        """GNU's first form: four segments in the header, 21 in each block that follows."""
        pieces: list[tuple[int, int]] = []
        fields, more = block[386:482], block[482]
        length = _number(block[483:495], "size")
        while True:
            for at in range(0, len(fields), 24):
                if not fields[at]:
                    break
                pieces.append((_number(fields[at : at + 12], "offset"), _number(fields[at + 12 : at + 24], "length")))
            if not more:
                return length, tuple(pieces)
            if len(pieces) > _SPARSE_MAX:
                raise LimitExceeded("tar has a sparse file of too many parts")
            block = self._take_literal(BLOCK)
            fields, more = block[:504], block[504]

    def _pax_sparse(
        self, records: dict[bytes, bytes], name: bytes, offsets: list[bytes]
    ) -> tuple[bytes, int, tuple[tuple[int, int], ...]]:
        """GNU's pax forms: 0.0 and 0.1 have the map in the records, 1.0 before the data."""
        name = records.get(b"GNU.sparse.name", name)
        if records.get(b"GNU.sparse.major") == b"1" and records.get(b"GNU.sparse.minor") == b"0":
            length = _decimal(records.get(b"GNU.sparse.realsize", b""), "size")
            numbers = self._sparse_map()
        else:
            length = _decimal(records.get(b"GNU.sparse.size", records.get(b"GNU.sparse.realsize", b"")), "size")
            fields = records[b"GNU.sparse.map"].split(b",") if b"GNU.sparse.map" in records else offsets
            if len(fields) > 2 * _SPARSE_MAX:
                raise LimitExceeded("tar has a sparse file of too many parts")
            numbers = [_decimal(field, "offset") for field in fields]
        if len(numbers) % 2:
            raise ArchiveInvalid(f"tar entry {name!r} has a broken map of its parts")
        return name, length, tuple(zip(numbers[::2], numbers[1::2], strict=True))

    def _sparse_map(self) -> list[int]:
        """Decimal numbers on lines, the first counts the pairs, filled up to whole blocks."""
        text = b""
        wanted = None
        while wanted is None or text.count(b"\n") < wanted:
            if self._left < BLOCK or len(text) > 48 * _SPARSE_MAX:
                raise ArchiveInvalid("tar has a sparse file with a broken map of its parts")
            self._left -= BLOCK
            text += self._take_literal(BLOCK)
            if wanted is None and b"\n" in text:
                count = _decimal(text.split(b"\n", 1)[0], "count")
                if count > _SPARSE_MAX:
                    raise LimitExceeded("tar has a sparse file of too many parts")
                wanted = 2 * count + 1
        return [_decimal(line, "offset") for line in text.split(b"\n")[1:wanted]]


def _kind(kind: bytes, name: bytes, size: int) -> bytes:
    """The type flag in one spelling; a trailing slash makes a file a directory, as in archives from before ustar."""
    if kind == b"D":
        raise ArchiveInvalid("tar is an incremental dump of GNU tar, which is not supported")
    if kind in b"0\x007":
        if not name.endswith(b"/"):
            return b"0"
        if size:
            raise ArchiveInvalid(f"tar entry {name!r} is named like a directory and has data")
        return b"5"
    return b"0" if kind == b"S" else kind


def _check_sparse(pieces: tuple[tuple[int, int], ...], length: int, stored: int, name: bytes) -> None:
    end = 0
    for offset, count in pieces:
        if offset < end or count < 0:
            raise ArchiveInvalid(f"tar entry {name!r} has parts that overlap")
        end = offset + count
    if not end <= length < _MAX or sum(count for _, count in pieces) != stored:
        raise ArchiveInvalid(f"tar entry {name!r} has parts that do not add up to its size")


def _records(data: bytes, offsets: list[bytes]) -> dict[bytes, bytes]:
    """The records of an extended header. GNU's sparse form 0.0 repeats two keys: their values go to *offsets*, in
    order.
    """
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 21)
        digits = data[at:space] if space > 0 else b""
        if not digits.isdigit():
            # GNU tar fills the end with zeros when it edits a header in place.
            if not data[at:].strip(b"\0"):
                break
            raise ArchiveInvalid("tar has a broken extended header")
        end = at + int(digits)
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if end > len(data) or end <= space + 1 or data[end - 1 : end] != b"\n" or not equals or not key:
            raise ArchiveInvalid("tar has a broken extended header")
        if key in (b"path", b"linkpath", b"GNU.sparse.name") and b"\0" in value:
            raise ArchiveInvalid("tar has a name with a zero byte")
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            offsets.append(value)
        if value:
            records[key] = value
        else:
            # An empty value takes back an earlier one.
            records.pop(key, None)
        at = end
    return records


def _global(records: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Global records that may stand: git and others leave a comment. One name or size for all entries is an attack."""
    for key in records:
        if key in (b"path", b"linkpath", b"size") or key.startswith(b"GNU.sparse."):
            raise ArchiveInvalid(f"tar has a global header that sets the {key.decode()} of all entries")
    return records


def _number(field: bytes, what: str) -> int:
    """A number of a header: octal digits between blanks, or base-256 when the first bit is set."""
    first = field[0]
    if first & 0x80:
        value = int.from_bytes(field, "big")
        bits = 8 * len(field)
        # The first bit is the mark, the second the sign.
        return value - (1 << bits) if first & 0x40 else value - (1 << bits - 1)
    digits = field.split(b"\0", 1)[0].strip(b" ")
    if digits.strip(_OCTAL):
        raise ArchiveInvalid(
            f"tar header has a {what} that is no number" if what != "checksum" else "not a tar archive"
        )
    return int(digits, 8) if digits else 0


def _decimal(field: bytes, what: str) -> int:
    if not field.isdigit() or len(field) > 20:
        raise ArchiveInvalid(f"tar has an extended header with a {what} that is no number")
    return int(field)


def _identity(record: bytes | None, field: bytes, what: str) -> int:
    value = _number(field, what) if record is None else _decimal(record, what)
    # 2**32-1 is "no change" to chown, and larger ones would wrap around to root.
    if not 0 <= value < 0xFFFFFFFF:
        raise ArchiveInvalid(f"tar has a {what} of {value}, which no system has")
    return value


def _time(record: bytes | None, field: bytes) -> int:
    """Nanoseconds since the epoch, kept within what a file system can store."""
    if record is None:
        seconds, nanoseconds = _number(field, "time"), 0
    else:
        whole, _, fraction = record.partition(b".")
        digits = whole.removeprefix(b"-")
        if not (digits.isdigit() and len(digits) < 20 and (fraction.isdigit() or not fraction)):
            raise ArchiveInvalid("tar has an extended header with a time that is no number")
        seconds, nanoseconds = int(whole), int(fraction[:9].ljust(9, b"0") or b"0")
        if whole.startswith(b"-"):
            nanoseconds = -nanoseconds
    return max(-(1 << 33), min(seconds, 1 << 33)) * 1_000_000_000 + nanoseconds


def _xattrs(records: dict[bytes, bytes]) -> tuple[tuple[bytes, bytes], ...]:
    found = [(key[13:], value) for key, value in records.items() if key.startswith(b"SCHILY.xattr.")]
    return tuple(sorted(found))


def _signed_sum(block: bytes) -> int:
    """The checksum as early Sun tars made it, with signed bytes."""
    return sum(byte - 256 if byte > 127 else byte for byte in block[:148] + block[156:]) + 256
