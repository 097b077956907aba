"""Reads the package headers of rpm's SQLite database (rpm 4.16 and later), without rpm.

A row's blob is a header as rpm's documentation of its file format has it, without the leading magic: two big-endian
32-bit numbers (count of index entries, bytes of data), the entries (tag, type, offset, count; 16 bytes each), the data.

The database is somebody else's. A schema is a program (a view may never end, a column may be computed), so only a plain
table is asked, and no more is taken from it than the file has bytes: pages that point at each other could give any
number of rows.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator

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


@dataclass(frozen=True, slots=True)
class RpmHeader:
    """What is used of a header; `version` is [epoch:]version-release."""

    name: str
    version: str
    architecture: str
    license: str


def headers(database: bytes) -> Iterator[RpmHeader]:
    """The packages of a database given as the bytes of its file; nothing where it cannot be read."""
    if not database.startswith(b"SQLite format 3\0"):
        return
    connection = sqlite3.connect(":memory:")
    left = len(database)
    try:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, left)
        connection.deserialize(_without_wal(database))
        if not _is_plain_table(connection):
            return
        for (blob,) in connection.execute("SELECT blob FROM Packages"):
            left -= _ROW + (len(blob) if isinstance(blob, bytes | str) else 0)
            if left < 0:
                return
            header = parse(blob) if isinstance(blob, bytes) else None
            # Keys of repositories are kept as packages without a build.
            if header is not None and header.name != "gpg-pubkey":
                yield header
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
