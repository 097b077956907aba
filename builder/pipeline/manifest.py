"""The leaves of a selection: one name and one text per file, which the digest of a COPY is made of.

The text says type, mode, owner and content and never a time. Two manifests compared tell which file made a COPY miss.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Sequence
from typing import TYPE_CHECKING

from builder.pipeline.scanning import Block, Entry, Part, Shape

if TYPE_CHECKING:
    from builder.pipeline.filecopy import StatKey

_KINDS = {
    stat.S_IFREG: "f",
    stat.S_IFLNK: "l",
    stat.S_IFIFO: "p",
    stat.S_IFCHR: "c",
    stat.S_IFBLK: "b",
}


def write_manifest(parts: Sequence[Part]) -> bytearray:
    """All leaves of *parts*, whose digests are known, as ``name NUL value NUL``."""
    lines = bytearray()
    for part in parts:
        for block in part.blocks:
            if block.meta is not None:
                value = f"d {stat.S_IMODE(block.meta.mode):04o} {block.meta.uid}:{block.meta.gid}"
                value += _xattrs_text(block.xattrs)
                lines += f"/{block.path}\0{value}\0".encode("utf-8", "surrogateescape")
            for entry, digest in zip(block.entries, block.digests, strict=True):
                lines += "\0".join((*leaf(part, block, entry, digest), "")).encode("utf-8", "surrogateescape")
    return lines


def read_manifest(manifest: bytes) -> dict[str, str]:
    """Manifest → {name: value}; what differs between two of them is why a COPY missed."""
    fields = manifest.decode("utf-8", "surrogateescape").split("\0")
    return dict(zip(fields[0:-1:2], fields[1::2], strict=False))


def leaf(part: Part, block: Block, entry: Entry, digest: bytes | None) -> tuple[str, str]:
    """(path from the tree's top, "type mode uid:gid what"): one named leaf of a selection."""
    kind = _KINDS.get(entry.mode & 0o170000, "?")
    what = digest.hex() if digest is not None else entry.detail
    if kind == "f" and digest is None:
        kind = "h"
    value = f"{kind} {entry.mode & 0o7777:04o} {entry.uid}:{entry.gid} {what}"
    if entry.name in block.file_xattrs:
        value += _xattrs_text(block.file_xattrs[entry.name])
    if part.shape is Shape.FILE and part.name != entry.name:
        value += f" as {part.name}"
    return leaf_name(block, entry), value


def leaf_name(block: Block, entry: Entry) -> str:
    """The path of *entry* from the tree's top."""
    return f"/{entry.name}" if block.path == "." else f"/{block.path}/{entry.name}"


def is_file(entry: Entry) -> bool:
    """Whether *entry* is a regular file."""
    return entry.mode & 0o170000 == stat.S_IFREG


def stat_key(entry: Entry) -> StatKey:
    """What the digest of *entry* is remembered under."""
    return entry.device, entry.inode, entry.size, entry.mtime, entry.ctime


def _xattrs_text(xattrs: Sequence[tuple[str, bytes]]) -> str:
    return "".join(f" {name}={hashlib.sha256(value).hexdigest()}" for name, value in xattrs)
