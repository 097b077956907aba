"""The headers of the tars that we write: ustar, with a pax header only for what ustar cannot say.

One input has one form, for ever: layers' digests depend on it. No user or group names, times in whole seconds, mode
without the file type, zeros in unused fields. Reading is ``tarstream``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

BLOCK = 512
END = bytes(2 * BLOCK)
"""What ends an archive. No further padding to a record of 10 KiB: docker writes none either."""

FILE, HARD_LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"

XATTR = b"SCHILY.xattr."
"""Prefix of the pax records that carry extended attributes: star's form, which GNU tar, bsdtar, Go and docker read."""

_MAX_ID = 0o7777777
_MAX_SIZE = 0o77777777777
_ZEROS = bytes(BLOCK)
_TAIL = b"ustar\x0000" + bytes(64)


def header(
    path: bytes,
    kind: bytes,
    mode: int,
    owner: tuple[int, int],
    size: int,
    mtime: int,
    link: bytes = b"",
    xattrs: Sequence[tuple[bytes, bytes]] = (),
    device: tuple[int, int] = (0, 0),
) -> bytes:
    """The header blocks of one entry. *path* has no leading slash, a directory's ends with one; *xattrs* are sorted by
    name.

    *mode* has the twelve permission bits, *owner* is (uid, gid), *mtime* whole seconds, *device* (major, minor).
    """
    records: list[tuple[bytes, bytes]] = []
    name, prefix = path, b""
    if len(path) > 100 or not path.isascii():
        name, prefix = _split(path)
        if not name:
            records.append((b"path", path))
            name = path[:100].rstrip(b"/")
    if len(link) > 100 or not link.isascii():
        records.append((b"linkpath", link))
        link = link[:100]
    uid, gid = owner
    if uid > _MAX_ID:
        records.append((b"uid", b"%d" % uid))
        uid = 0
    if gid > _MAX_ID:
        records.append((b"gid", b"%d" % gid))
        gid = 0
    if size > _MAX_SIZE:
        records.append((b"size", b"%d" % size))
        size = 0
    if not 0 <= mtime <= _MAX_SIZE:
        records.append((b"mtime", b"%d" % mtime))
        mtime = 0
    records += [(XATTR + key, value) for key, value in xattrs]
    block = _block(name, kind, mode, (uid, gid), size, mtime, link, prefix, device)
    return pax(records) + block if records else block


def pax(records: Sequence[tuple[bytes, bytes]]) -> bytes:
    """An extended header ("x") with *records*, sorted by key: its own block, the data and the padding."""
    data = b"".join(_record(key, value) for key, value in sorted(records))
    block = _block(b"PaxHeaders/0", b"x", 0o644, (0, 0), len(data), 0, b"", b"", (0, 0))
    return block + data + padding(len(data))


def padding(size: int) -> bytes:
    """The zeros that fill the last block after *size* bytes."""
    return _ZEROS[: -size % BLOCK]


def _split(path: bytes) -> tuple[bytes, bytes]:
    """(name, prefix) when ustar's two fields can hold *path*, else (b"", b"")."""
    if not path.isascii() or len(path) > 256:
        return b"", b""
    at = path.find(b"/", max(1, len(path) - 101))
    # The cut must leave a name, and the slash at the end of a directory is no cut.
    if at < 0 or at > 155 or at == len(path) - 1:
        return b"", b""
    return path[at + 1 :], path[:at]


def _record(key: bytes, value: bytes) -> bytes:
    """``length key=value newline``, where the length counts its own digits."""
    body = b" " + key + b"=" + value + b"\n"
    length = len(body) + 1
    while len(body) + len(b"%d" % length) != length:
        length = len(body) + len(b"%d" % length)
    return b"%d" % length + body


def _block(
    name: bytes,
    kind: bytes,
    mode: int,
    owner: tuple[int, int],
    size: int,
    mtime: int,
    link: bytes,
    prefix: bytes,
    device: tuple[int, int],
) -> bytes:
    head = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0" % (name.ljust(100, b"\0"), mode, *owner, size, mtime)
    rest, its_sum = _rest(kind, link, prefix, device)
    return b"%b%06o\0 %b" % (head, sum(head) + 256 + its_sum, rest)


@lru_cache(maxsize=64)
def _rest(kind: bytes, link: bytes, prefix: bytes, device: tuple[int, int]) -> tuple[bytes, int]:
    """What follows the checksum, and the sum of its bytes: the same for most entries of a layer."""
    rest = b"%b%b%b%07o\0%07o\0%b" % (kind, link.ljust(100, b"\0"), _TAIL, *device, prefix.ljust(167, b"\0"))
    return rest, sum(rest)
