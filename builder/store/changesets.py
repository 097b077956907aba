"""A layer directory as a canonical changeset tar: one pass gives the tar, its digests, its size and its list of files.

A layer is an overlay upper directory. The *canonical* tar of it has exactly one form, so that the same files always give
the same ``diff_id``: entries in depth-first order with the names of each directory sorted as bytes, ``ustar`` headers with
pax records only for what ustar cannot say, no user or group names, whole seconds (docker and containerd cut them the same
way), overlay's whiteouts and opaque directories as the ``.wh.`` files of the image specification.

Not here: unpacking (``apply``), tars that other tools wrote and whose bytes must come back (``recipes``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    from builder.oci.digests import DiffID, Digest

Sink = Callable[[bytes], object]
"""Takes the next bytes of a stream (``file.write``, ``hash.update``)."""


@dataclass(frozen=True, slots=True)
class Changeset:
    """What one layer is, as a tar and as files."""

    diff_id: DiffID
    """sha256 of the uncompressed tar."""
    content_digest: Digest
    """Digest over path, type, mode, owner, link target, xattrs and content of every entry: no times."""
    size: int
    """Bytes of the uncompressed tar."""
    content_size: int
    """Bytes of all regular files, what docker shows as a layer's size."""
    files: int
    """Entries of the tar."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a changeset, for the index of files that ``blame`` and ``diff`` read."""

    path: bytes
    """Relative to the root, as in the tar but without a trailing slash; whiteouts keep their ``.wh.`` name."""
    kind: str
    """One of tar's type flags: 0 file, 1 hard link, 2 symlink, 3 character device, 4 block device, 5 directory, 6 FIFO."""
    mode: int
    uid: int
    gid: int
    size: int
    digest: str
    """sha256 in hex of a regular file's content, else empty."""
    link: bytes
    """Target of a symlink or hard link, else empty."""


def write(
    upper: Path,
    sink: Sink | None = None,
    *,
    latest_mtime: int | None = None,
    known_digest: Callable[[bytes, os.stat_result], str | None] | None = None,
    on_entry: Callable[[Entry], object] | None = None,
) -> Changeset:
    """Write the canonical tar of *upper* to *sink* (None: only the digests are wanted).

    *latest_mtime* (seconds) replaces every later modification time, as SOURCE_DATE_EPOCH asks. *known_digest* may give the
    sha256 (hex) of a file's content from its path and ``stat``, which saves the second hash over it. Safe to run in a
    thread: large updates of the hash release the interpreter's lock. Sockets are left out, as docker does.

    Raises: OSError (the directory cannot be read), LayerChanged (a file changed its size while being read).
    """
    raise NotImplementedError
