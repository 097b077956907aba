"""Reads the package headers of rpm's databases, without rpm: SQLite (rpm 4.16 and later), Berkeley DB before, and ndb,
which SUSE has.

A package's blob is a header as rpm's documentation of its file format has it, without the leading magic: two big-endian
32-bit numbers (count of index entries, bytes of data), the entries (tag, type, offset, count; 16 bytes each), the data.

The database is somebody else's. A schema is a program (a view may never end, a column may be computed), so only a plain
table is asked, and no more is taken than the file has bytes: places that point at each other could give any number of
packages.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator

from builder.insight import berkeley
from runtime.values import dataclass

_NAME, _VERSION, _RELEASE, _EPOCH, _LICENSE, _ARCHITECTURE = 1000, 1001, 1002, 1003, 1014, 1022
_INT32, _STRING, _I18N = 4, 6, 9
_WANTED = frozenset((_NAME, _VERSION, _RELEASE, _EPOCH, _LICENSE, _ARCHITECTURE))
_MAX_ENTRIES = 4096
"""Of one header; rpm knows some hundred tags."""
_MAX_TEXT = 4096
"""Bytes of one value; what is longer is cut."""
_ROW = 4
"""Bytes that the smallest row takes in a file."""
_NDB, _NDB_PAGE, _NDB_BLOCK, _SLOT = b"RpmP\0\0\0\0", 4096, 16, 16
"""How an ndb of the only version begins; bytes of its pages and blocks, and of a slot."""


@dataclass(frozen=True, slots=True)
class RpmHeader:
    """What is used of a header; `version` is [epoch:]version-release."""

    name: str
    version: str
    architecture: str
    license: str


def headers(database: bytes) -> Iterator[RpmHeader]:
    """The packages of a database given as the bytes of its file; nothing where it cannot be read."""
    left = len(database)
    for blob in _blobs(database):
        left -= _ROW + len(blob)
        if left < 0:
            return
        header = parse(blob)
        # Keys of repositories are kept as packages without a build.
        if header is not None and header.name != "gpg-pubkey":
            yield header


def _blobs(database: bytes) -> Iterator[bytes]:
    if database.startswith(b"SQLite format 3\0"):
        return _of_sqlite(database)
    if database.startswith(_NDB):
        return _of_ndb(database)
    return berkeley.values(database) if berkeley.is_database(database) else iter(())


def _of_ndb(database: bytes) -> Iterator[bytes]:
    """The fourth number of the head counts pages of slots, which follow it: (magic, package, block, blocks), the
    package 0 in free ones. At its block a package has (magic, package, generation, length), then the blob."""
    if len(database) < _SLOT:
        return
    end = min(struct.unpack_from("<I", database, 12)[0] * _NDB_PAGE, len(database))
    for at in range(2 * _SLOT, end - _SLOT + 1, _SLOT):
        magic, package, block, _ = struct.unpack_from("<4sIII", database, at)
        start = block * _NDB_BLOCK
        if magic == b"Slot" and package and start + _SLOT <= len(database):
            magic, same, _, length = struct.unpack_from("<4sIII", database, start)
            if magic == b"BlbS" and same == package:
                yield database[start + _SLOT : start + _SLOT + length]


def _of_sqlite(database: bytes) -> Iterator[bytes]:
    connection = sqlite3.connect(":memory:")
    try:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, len(database))
        connection.deserialize(_without_wal(database))
        if _is_plain_table(connection):
            for (blob,) in connection.execute("SELECT blob FROM Packages"):
                yield blob if isinstance(blob, bytes) else b""
    except sqlite3.Error:
        return
    finally:
        connection.close()


def _is_plain_table(connection: sqlite3.Connection) -> bool:
    """Whether the packages are in a table, and none of its columns is computed."""
    kinds = [row[2] for row in connection.execute("PRAGMA table_list(Packages)")]
    return kinds == ["table"] and not any(row[6] for row in connection.execute("PRAGMA table_xinfo(Packages)"))


def _without_wal(database: bytes) -> bytes:
    """A database in WAL mode cannot be opened in memory; the mode is in bytes 18 and 19 of its header."""
    return database[:18] + b"\1\1" + database[20:] if database[18:20] == b"\2\2" else database


def parse(blob: bytes) -> RpmHeader | None:
    """One header; None where it is not one."""
    try:
        count, length = struct.unpack_from(">II", blob)
        if count > _MAX_ENTRIES:
            return None
        start = 8 + 16 * count
        data = blob[start : start + length]
        values: dict[int, str] = {}
        for each in range(count):
            tag, kind, offset, _ = struct.unpack_from(">IIII", blob, 8 + 16 * each)
            if tag in _WANTED and tag not in values:
                values[tag] = _value(data, kind, offset)
    except struct.error:
        return None
    if not values.get(_NAME):
        return None
    version = values.get(_VERSION, "") + (f"-{values[_RELEASE]}" if values.get(_RELEASE) else "")
    epoch = f"{values[_EPOCH]}:" if values.get(_EPOCH) else ""
    return RpmHeader(values[_NAME], epoch + version, values.get(_ARCHITECTURE, ""), values.get(_LICENSE, ""))


def _value(data: bytes, kind: int, offset: int) -> str:
    if kind == _INT32:
        return str(struct.unpack_from(">I", data, offset)[0])
    if kind in (_STRING, _I18N) and offset < len(data):
        return data[offset : offset + _MAX_TEXT].split(b"\0", 1)[0].decode(errors="replace")
    return ""
