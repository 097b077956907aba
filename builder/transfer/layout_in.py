"""OCI layouts that are directories: all images of one (``load``), or the one that ``--build-context
name=oci-layout://…`` names.

Nothing in the directory is believed: files are opened inside of it only, sizes and digests are checked. Archives are
read by ``docker_archive``.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from builder.errors import ArchiveInvalid, ContextError, LimitExceeded
from builder.oci import digests, documents
from builder.oci.descriptors import INDEX_TYPES
from builder.oci.manifests import Index
from builder.oci.platforms import Platform
from builder.transfer import docker_archive
from builder.transfer.layout import IMAGE_NAME, REF_NAME
from builder.transfer.outer import blob_name, checked
from runtime.linux.files import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, openat2

if TYPE_CHECKING:
    from builder.oci.descriptors import Descriptor
    from builder.oci.digests import Digest
    from builder.store import Store
    from builder.store.apply import Limits
    from builder.store.tarstream import Readable
    from builder.transfer.docker_archive import Loaded

_DOCUMENT_MAX = 8 << 20
_DEEPEST = 4
"""Indexes in indexes."""
_HASHED = 16 << 30
"""Bytes of a blob that are read to see whether it is damaged: a file with holes can have any size."""
_INSIDE = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS


def read_image(
    store: Store,
    path: Path,
    *,
    tag: str | None,
    digest: str | None,
    platform: Platform,
    limits: Limits | None = None,
) -> Digest:
    """The id of the image that *digest* or *tag* ("latest" if neither) names in the layout *path*, put into the store.

    A layout of one image needs no name. Of an index the first image for *platform* is taken.

    Raises: ContextError (no layout, no such image), ArchiveInvalid, DigestMismatch, InvalidDocument, StoreError.
    """
    with opened(path) as layout:
        found = _chosen(layout.index(), path, tag or "latest", digest)
        for _ in range(_DEEPEST):
            if found.media_type not in INDEX_TYPES:
                return docker_archive.read_image(store, layout, found, limits=limits)
            below = Index.from_json(layout.blob(found, _DOCUMENT_MAX), media_type=found.media_type)
            fitting = [one for one in below.manifests if one.platform is None or platform.matches(one.platform)]
            if not fitting:
                raise ContextError(f"{path} has no image for {platform}", hint="choose another with --platform")
            found = fitting[0]
    raise ArchiveInvalid(f"{path} has indexes in indexes, more than {_DEEPEST} deep")


def load(
    store: Store,
    path: Path,
    *,
    platforms: Sequence[Platform] = (),
    limits: Limits | None = None,
    emit: Callable[[Loaded], object],
) -> tuple[Loaded, ...]:
    """Store and tag all images of the layout *path*. Raises ContextError, and as `docker_archive.load`."""
    with opened(path) as layout:
        listed = layout.index().manifests
        return docker_archive.load_listed(store, layout, listed, platforms=platforms, limits=limits, emit=emit)


def _chosen(index: Index, path: Path, tag: str, digest: str | None) -> Descriptor:
    if digest is not None:
        for one in index.manifests:
            if one.digest == digest:
                return one
        raise ContextError(f"{path} has no image with digest {digest}", hint=_names(index))
    for one in index.manifests:
        if tag in (one.annotations.get(REF_NAME), one.annotations.get(IMAGE_NAME)):
            return one
    if len(index.manifests) == 1:
        return index.manifests[0]
    raise ContextError(f'{path} has no image called "{tag}"', hint=_names(index))


def _names(index: Index) -> str:
    found = sorted(one.annotations.get(REF_NAME) or str(one.digest) for one in index.manifests)
    return "there is " + (", ".join(found[:10]) or "none")


class LayoutDirectory:
    """The files of a layout by what they are."""

    def __init__(self, root: int, path: Path) -> None:
        self._root = root
        self._path = path
        self._streams: list[_Blob] = []

    def index(self) -> Index:
        """What the layout has. Raises ContextError when it is none, InvalidDocument, LimitExceeded."""
        try:
            data = self._read("oci-layout", _DOCUMENT_MAX)
        except ArchiveInvalid as err:
            raise ContextError(f"{self._path} is not an OCI layout: it has no oci-layout file") from err
        version = documents.load(data, "oci-layout")
        if version.string("imageLayoutVersion") != "1.0.0":
            version.fail("imageLayoutVersion", "must be 1.0.0")
        return Index.from_json(self._read("index.json", _DOCUMENT_MAX))

    def __contains__(self, name: str) -> bool:
        """Whether it has a file of that name."""
        try:
            os.close(self._open(name))
        except ArchiveInvalid:
            return False
        return True

    def blob(self, described: Descriptor, limit: int) -> bytes:
        """A blob, checked. Raises ArchiveInvalid, LimitExceeded, DigestMismatch."""
        self._check(described)
        return checked(self._read(blob_name(described.digest), limit), described)

    def open_blob(self, described: Descriptor) -> Readable:
        """A blob, to be checked by its reader. Raises ArchiveInvalid."""
        self._check(described)
        blob = _Blob(self._open(blob_name(described.digest)))
        self._streams.append(blob)
        return blob

    def drop_damaged(self, described: Descriptor) -> None:
        """Remove a blob that has other bytes than its descriptor says; what is no file, or outside, stays."""
        name = blob_name(described.digest)
        folder, _, base = name.rpartition("/")
        try:
            with open(self._open(name), "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size == described.size and (size > _HASHED or hashed(file) == described.digest):
                    return
            above = openat2(self._root, folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, resolve=_INSIDE)
        except (ArchiveInvalid, OSError):
            return
        try:
            os.unlink(base, dir_fd=above)
        except OSError:
            pass
        finally:
            os.close(above)

    def close(self) -> None:
        """Close what was opened."""
        for blob in self._streams:
            blob.close()

    def _check(self, described: Descriptor) -> None:
        fd = self._open(blob_name(described.digest))
        size = os.fstat(fd).st_size
        os.close(fd)
        if size != described.size:
            raise ArchiveInvalid(f"blob {described.digest} has {size} bytes, its descriptor says {described.size}")

    def _read(self, name: str, limit: int) -> bytes:
        with open(self._open(name), "rb") as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise LimitExceeded(f"{name} of {self._path} is larger than {limit} bytes")
        return data

    def _open(self, name: str) -> int:
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            fd = openat2(self._root, name, flags, resolve=_INSIDE)
        except OSError as err:
            raise ArchiveInvalid(f"cannot read {name} of {self._path}: {err.strerror}") from err
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise ArchiveInvalid(f"{name} of {self._path} is not a file")
        return fd


class _Blob(io.FileIO):
    """A file that is closed as soon as its end was read: a layout may have more blobs than a process files."""

    def read(self, size: int | None = -1, /) -> bytes:
        data = b"" if self.closed else super().read(size)
        if not data and size:
            self.close()
        return data or b""


def hashed(file: BinaryIO) -> Digest:
    """The digest of what a file has from here on."""
    return digests.of_chunks(iter(lambda: file.read(1 << 20), b""))


@contextmanager
def opened(path: Path) -> Iterator[LayoutDirectory]:
    """The layout in a directory, open for the block. Raises ContextError."""
    try:
        root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as err:
        raise ContextError(f"cannot read the OCI layout {path}: {err.strerror}") from err
    layout = LayoutDirectory(root, path)
    try:
        yield layout
    finally:
        layout.close()
        os.close(root)
