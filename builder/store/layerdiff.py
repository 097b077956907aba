"""Two layers, entry by entry: what differs, by name. `verify` shows it; nothing is written.

Both are read in the canonical order of their tars, side by side, so memory does not grow with them. Contents are read
only where everything else is equal.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from builder.store import tarheaders
from builder.store.layerwalk import OPAQUE_MARKER, WHITEOUT_PREFIX, Found, walk

_READ = 1 << 20
_SHOWN = 24
"""Bytes shown around the first difference of two contents."""
_KINDS = {
    tarheaders.FILE: "file",
    tarheaders.HARD_LINK: "hard link",
    tarheaders.SYMLINK: "symlink",
    tarheaders.CHARACTER: "character device",
    tarheaders.BLOCK_DEVICE: "block device",
    tarheaders.DIRECTORY: "directory",
    tarheaders.FIFO: "pipe",
}


class Difference(NamedTuple):
    """One attribute of one path, with both values; "" for what one of them has not."""

    path: str
    attribute: str
    first: str
    second: str


def differences(one: Path, two: Path) -> Iterator[Difference]:
    """What differs between the layer directories `one` and `two`, in the order of their paths. Raises OSError."""
    left, right = walk(one), walk(two)
    a, b = next(left, None), next(right, None)
    while a is not None or b is not None:
        if b is None or (a is not None and _order(a) < _order(b)):
            assert a is not None
            yield Difference(_shown(a), "existence", _KINDS[a.kind], "")
            a = next(left, None)
        elif a is None or _order(b) < _order(a):
            yield Difference(_shown(b), "existence", "", _KINDS[b.kind])
            b = next(right, None)
        else:
            yield from _entry(a, b)
            a, b = next(left, None), next(right, None)


def _order(found: Found) -> tuple[tuple[bytes, int], ...]:
    """Where the walk comes to an entry: a whiteout at the name that it hides, a marker right after its directory."""
    *above, name = found.path.rstrip(b"/").split(b"/")
    hidden = name.startswith(WHITEOUT_PREFIX)
    if name == OPAQUE_MARKER:
        name = b""
    elif hidden:
        name = name.removeprefix(WHITEOUT_PREFIX)
    return (*((each, 0) for each in above), (name, int(hidden)))


def _shown(found: Found) -> str:
    path = found.path.rstrip(b"/")
    return "/" + ("" if path == b"." else path.decode("utf-8", "backslashreplace"))


def _entry(a: Found, b: Found) -> Iterator[Difference]:
    path = _shown(a)
    if a.kind != b.kind:
        yield Difference(path, "type", _KINDS[a.kind], _KINDS[b.kind])
        return
    pairs = (
        ("mode", f"{a.mode:04o}", f"{b.mode:04o}"),
        ("owner", f"{a.uid}:{a.gid}", f"{b.uid}:{b.gid}"),
        ("mtime", str(a.mtime), str(b.mtime)),
        ("link", os.fsdecode(a.link), os.fsdecode(b.link)),
        ("device", ":".join(map(str, a.device)), ":".join(map(str, b.device))),
        ("size", str(a.size), str(b.size)),
    )
    for attribute, first, second in pairs:
        if first != second:
            yield Difference(path, attribute, first, second)
    mine, theirs = dict(a.xattrs), dict(b.xattrs)
    for name in sorted({*mine, *theirs}):
        if mine.get(name) != theirs.get(name):
            values = (mine.get(name), theirs.get(name))
            yield Difference(path, f"xattr {os.fsdecode(name)}", *("" if one is None else one.hex() for one in values))
    if a.fd >= 0 and b.fd >= 0:
        yield from _contents(path, a, b)


def _contents(path: str, a: Found, b: Found) -> Iterator[Difference]:
    """The first place where the contents differ, and what stands there."""
    offset = 0
    while True:
        one, two = os.read(a.fd, _READ), os.read(b.fd, _READ)
        if one != two:
            break
        if not one:
            return
        offset += len(one)
    at = next((at for at, (x, y) in enumerate(zip(one, two, strict=False)) if x != y), min(len(one), len(two)))
    # From where the line begins, if that is near: the words before say what it is.
    start = max(one.rfind(b"\n", 0, at) + 1, at - _SHOWN)
    first, second = (_excerpt(data[start : at + _SHOWN]) for data in (one, two))
    yield Difference(path, f"content at byte {offset + at}", first, second)
    sums = []
    for found in (a, b):
        hasher = hashlib.sha256()
        os.lseek(found.fd, 0, os.SEEK_SET)
        while data := os.read(found.fd, _READ):
            hasher.update(data)
        sums.append(hasher.hexdigest())
    yield Difference(path, "sha256", *sums)


def _excerpt(data: bytes) -> str:
    text = data.decode("utf-8", "backslashreplace")
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)
