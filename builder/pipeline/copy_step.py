"""COPY in two halves: :func:`select` says what would be copied (pure reading), :func:`materialise` writes it.

Between the two stands the cache: ``Selection.digest`` is the leaf of the step's key that stands for all files. Times of
files are no part of it; ``Selection.manifest`` lists one named leaf per file, for "why did this miss".

    selection = select(spec, tree, cache=store.files, scratch=...)
    hit = lookup(key(spec, selection.digest, ...))
    if not hit:
        facts = materialise(selection, upper=active.upper, root=rootfs_fd)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builder.pipeline.context import Tree
    from builder.pipeline.filehash import DigestCache


@dataclass(frozen=True, slots=True)
class InlineFile:
    """A heredoc as a source: its name becomes the file's name."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class CopySpec:
    """One COPY (or the local half of an ADD) after expansion of its variables."""

    sources: tuple[str, ...]
    """Paths or globs, relative to the tree's root, as written."""
    dest: str
    """As written: a trailing slash says "directory"; relative to *workdir* when not absolute."""
    workdir: str = "/"
    chown: str | None = None
    chmod: str | None = None
    parents: bool = False
    link: bool = False
    exclude: tuple[str, ...] = ()
    inline: tuple[InlineFile, ...] = ()
    unpack: bool = False
    """Local archives among the sources are unpacked (ADD)."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One named leaf of a selection: *name* is "/path/in/context", *value* "type mode uid:gid digest"."""

    name: str
    value: str


class Selection:
    """What a COPY would write: frozen, in a compact form (50,000 files are about 20 MB)."""

    digest: str
    """"sha256:…" over all leaves: equal exactly when type, mode, owner, path and content of everything are equal."""
    files: int
    size: int

    def manifest(self) -> bytes:
        """One line per leaf, sorted by name: ``name NUL value NL``. See :func:`read_manifest`."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Earlier:
    """The layer that the same step made in an earlier build: unchanged files are hard-linked from there."""

    path: Path
    """The layer's directory."""
    manifest: bytes
    """The manifest of the selection that it was made from."""


@dataclass(frozen=True, slots=True)
class CopyFacts:
    """What :func:`materialise` did."""

    files: int
    size: int
    """Bytes of regular files."""
    linked: int
    """How many files came from the earlier layer."""


def select(
    spec: CopySpec,
    tree: Tree | None,
    *,
    cache: DigestCache | None = None,
    scratch: Callable[[], Path] | None = None,
) -> Selection:
    """Find the sources and digest them; *tree* may be None when all sources are inline.

    *scratch* gives an empty directory on the store's file system. It is called only when many files have to be read:
    they are copied there by the same read that digests them, and :func:`materialise` moves them on. The caller removes
    the directory in the end.

    Raises: CopyError (no such file, not readable, changes while it is read, …).
    """
    raise NotImplementedError


def materialise(selection: Selection, *, upper: Path, root: int | None, earlier: Earlier | None = None) -> CopyFacts:
    """Write the selection into the overlay upper directory *upper* (empty so far).

    *root* is the descriptor of the parents' file system (``runtime.rootfs.open_rootfs``), which answers whether the
    destination is a directory or a symlink, and has the passwd and group files; None for ``FROM scratch`` and ``--link``.

    Raises: CopyError.
    """
    raise NotImplementedError


def read_manifest(manifest: bytes) -> dict[str, str]:
    """Manifest → {name: value}; what differs between two of them is why a COPY missed."""
    raise NotImplementedError
