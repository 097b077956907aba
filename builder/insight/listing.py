"""An image's merged files: one entry for each path, and the bytes of single files, read through an open directory.

The directory is an overlay that is attached nowhere (``runtime.rootfs.open_rootfs``): all layers are seen as a
container would see them, whiteouts applied. No symlink leads out of it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from builder.pipeline import trees
from builder.store import layerwalk, tarheaders
from runtime.values import dataclass

KINDS = {
    tarheaders.FILE: "file",
    tarheaders.DIRECTORY: "directory",
    tarheaders.SYMLINK: "symlink",
    tarheaders.HARD_LINK: "file",
    tarheaders.CHARACTER: "character device",
    tarheaders.BLOCK_DEVICE: "block device",
    tarheaders.FIFO: "fifo",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One path: `mode` without the type's bits, `size` of a regular file in bytes, else 0."""

    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    link: bytes
    device: tuple[int, int]
    xattrs: tuple[tuple[bytes, bytes], ...]
    identity: tuple[int, int, int]
    """(inode, mtime ns, ctime ns): equal in two images of one store only when it is the same file of the same layer."""


@dataclass(frozen=True, slots=True)
class Listing:
    """All entries below an open directory, whose descriptor `root` belongs to the caller."""

    root: int
    entries: Mapping[str, Entry]
    """By path from the root, with a leading slash; the root itself is not among them."""

    def read(self, path: str, limit: int) -> bytes | None:
        """The bytes of a regular file (symlinks followed inside the root), None when it is none or over `limit`."""
        try:
            found = trees.resolve(self.root, path)
            if found.status is None or found.status.st_size > limit:
                return None
            file = trees.open_file(self.root, found.path)
        except OSError:
            return None
        with open(file, "rb") as stream:
            data = stream.read(limit + 1)
        return data if len(data) <= limit else None


def listing(root: int) -> Listing:
    """List everything below the open directory `root`. Raises OSError."""
    entries: dict[str, Entry] = {}
    for found in layerwalk.walk(root, overlay=False):
        path = "/" + os.fsdecode(found.path).rstrip("/")
        if path == "/.":
            continue
        first = entries.get("/" + os.fsdecode(found.link)) if found.kind == tarheaders.HARD_LINK else None
        entries[path] = Entry(
            kind=KINDS[found.kind] if first is None else first.kind,
            mode=found.mode,
            uid=found.uid,
            gid=found.gid,
            size=found.size if first is None else first.size,
            link=found.link if found.kind == tarheaders.SYMLINK else b"",
            device=found.device,
            xattrs=tuple(found.xattrs) if first is None else first.xattrs,
            identity=(found.status.st_ino, found.status.st_mtime_ns, found.status.st_ctime_ns),
        )
    return Listing(root, entries)
