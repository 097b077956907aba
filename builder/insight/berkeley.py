"""Reads the values of a Berkeley DB hash database, without its library: rpm's `Packages` before rpm 4.16.

The layout is that of Berkeley DB 4 and 5 (db_page.h). Page 0 says the byte order and the size of pages. A page of the
table has the offsets of its items after its head, a key and a value in turn, which lie from its end downwards; what is
too long for a page is in a chain of others. Buckets are not followed: the pages of all of them are in the file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from runtime.values import dataclass

_MAGIC = struct.pack("<I", 0x061561)
_HEAD = 26
"""Bytes before a page's offsets, or before the part of a long value."""
_TABLE = frozenset((2, 13))
"""Kinds of pages that have items, as they come or sorted."""
_LONG = 7
"""The kind of a page with a part of a value."""
_HERE, _ELSEWHERE = 1, 3
"""Kinds of items: the bytes themselves, or the first page and the length of a long value."""


def is_database(data: bytes) -> bool:
    """Whether a file is such a database, of a machine of either byte order."""
    return data[12:16] in (_MAGIC, _MAGIC[::-1])


def values(data: bytes) -> Iterator[bytes]:
    """The values of a database given as the bytes of its file, one at a time; what is damaged is left out."""
    order = "<" if data[12:16] == _MAGIC else ">"
    (size,) = struct.unpack_from(f"{order}I", data, 20) if len(data) >= 24 else (0,)
    if size not in (1 << each for each in range(9, 17)):
        return
    file = _File(data, size, order)
    for page in range(1, len(data) // size):
        yield from file.items(page * size)


@dataclass(frozen=True, slots=True)
class _File:
    """A database: `size` is that of a page in bytes, `order` what struct calls its byte order."""

    data: bytes
    size: int
    order: str

    def _number(self, form: str, at: int) -> int:
        return int(struct.unpack_from(self.order + form, self.data, at)[0])

    def items(self, at: int) -> Iterator[bytes]:
        """The values on the page that begins `at` this byte."""
        count = self._number("H", at + 20)
        first = _HEAD + 2 * count
        if self.data[at + 25] not in _TABLE or first > self.size:
            return
        offsets = struct.unpack_from(f"{self.order}{count}H", self.data, at + _HEAD)
        for key, value in zip(offsets[::2], offsets[1::2], strict=False):
            if first <= value < key <= self.size:
                found = self._item(at + value, at + key)
                if found is not None:
                    yield found

    def _item(self, start: int, end: int) -> bytes | None:
        kind = self.data[start]
        if kind == _HERE:
            return self.data[start + 1 : end]
        if kind == _ELSEWHERE and end - start >= 12:
            return self._chain(self._number("I", start + 4), self._number("I", start + 8))
        return None

    def _chain(self, page: int, length: int) -> bytes | None:
        if length > len(self.data):
            return None
        parts, left = [], length
        while left > 0:
            at = page * self.size
            if page == 0 or at + self.size > len(self.data) or self.data[at + 25] != _LONG:
                return None
            part = self.data[at + _HEAD : at + self.size][: self._number("H", at + 22)][:left]
            if not part:
                return None
            parts.append(part)
            left -= len(part)
            page = self._number("I", at + 16)
        return b"".join(parts)
