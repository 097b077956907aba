"""Unpacking of tars that nobody vouches for: layers into overlay upper directories, archives of ADD into a root file system.

Nothing in the archive can reach outside of the root: every parent directory is opened with ``openat2`` and
``RESOLVE_IN_ROOT``, every last component without following links, and all effects happen on descriptors. What an archive
may cost is bounded by :class:`Limits`. No path or content of the archive is ever given to another program.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from builder.oci.digests import DiffID
    from builder.store.changesets import Changeset


class Readable(Protocol):
    """A stream of bytes: a file, a pipe, a member of another archive."""

    def read(self, size: int, /) -> bytes:
        """At most *size* bytes, empty at the end."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """What one archive may cost."""

    bytes: int = 1 << 40
    """Uncompressed bytes."""
    entries: int = 5_000_000
    ratio: int = 2_000
    """Uncompressed by compressed bytes, looked at after the first 64 MiB."""
    window_log: int = 27
    """The largest zstd window, as a power of two: 128 MiB."""


@dataclass(frozen=True, slots=True)
class Applied:
    """A layer that was unpacked."""

    changeset: Changeset
    """``diff_id`` and ``size`` are those of the tar that was read; the other facts are of the files that it left."""
    exact: bool
    """The canonical tar of the directory is, byte for byte, the tar that was read: no recipe is needed."""
    reproducible: bool
    """The recipe and the directory give the tar back. False for sparse files and entries that overwrite earlier ones."""


def extract(
    stream: Readable,
    upper: Path,
    *,
    limits: Limits = Limits(),  # noqa: B008
    recipe: Callable[[bytes], object] | None = None,
    expected: DiffID | None = None,
) -> Applied:
    """Unpack a layer (a tar, plain or packed with gzip, bzip2, xz or zstd) into the empty directory *upper*.

    Whiteouts become overlay's (a character device 0:0), opaque directories its xattr: ``trusted.overlay.opaque`` as root
    of the first user namespace, ``user.overlay.opaque`` elsewhere. *recipe* gets the bytes of the layer's recipe (see
    ``recipes``), which together with the directory gives the same tar again. *expected* is compared at the end.

    Raises: ArchiveError (hostile, broken, too big, or another digest than expected), OSError (full disk …). The directory
    is then in an undefined state; remove it.
    """
    raise NotImplementedError


def extract_archive(
    stream: Readable,
    root: int,
    dest: str,
    *,
    owner: tuple[int, int] | None = None,
    limits: Limits = Limits(),  # noqa: B008
) -> int:
    """Unpack an archive that a user gave (ADD, ``cp``) below *dest* in the file system *root*; returns the entries written.

    *root* is a directory descriptor, usually of a detached overlay (``runtime.rootfs.open_rootfs`` with an upper directory):
    symlinks that are already there are followed inside of *root*, directories that exist keep what the archive does not
    name. Names starting with ``.wh.`` have no meaning here. *owner* (uid, gid) overrides the archive's. Missing
    directories of *dest* are made with 0755 root:root, or *owner*.

    Raises: ArchiveError, OSError.
    """
    raise NotImplementedError


def is_archive(head: bytes) -> bool:
    """Whether a file starting with *head* (give at least 1024 bytes of it when it has them) is a tar, plain or packed.

    Packed files count only if what comes out of the first block is a tar: ADD copies a lone ``.gz`` file as it is.
    """
    raise NotImplementedError
