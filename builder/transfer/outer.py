"""The outer archive of ``load``: its members by name, read where they lie.

Before anything is believed, ``tarstream`` walks over the whole archive once: bounded headers, counts and sizes. Then
``tarsafe`` opens it and members are read one by one. Nothing is extracted to a name that the archive chose, so
tarsafe's check of all members for each extraction (quadratic, and it refuses the symlinks of older docker archives) is
never needed. What cannot seek or is packed is spooled to the store's own disk first, unnamed.
"""

from __future__ import annotations

import io
import os
import posixpath
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from builder.errors import ArchiveInvalid, DigestMismatch, LimitExceeded
from builder.oci import digests
from builder.store import apply
from builder.store.diskfaults import disk_errors
from builder.store.tarstream import Readable, TarReader
from builder.store.unpack import HEAD, Peekable, compression, unpack

if TYPE_CHECKING:
    from builder.oci.descriptors import Descriptor
    from builder.store import Store
    from builder.store.apply import Limits

LEAVE_OUT = "leave out --platform to take what the archive has"
_MEMBERS = 100_000
"""An image has at most a few hundred members in its archive."""
_LINKS = 8


class _Window:
    """Part of a file, read without moving the file's position."""

    def __init__(self, fd: int, offset: int, size: int) -> None:
        self._fd = fd
        self._at = offset
        self._end = offset + size

    def read(self, size: int, /) -> bytes:
        data = os.pread(self._fd, min(size, self._end - self._at), self._at)
        self._at += len(data)
        return data


class Archive:
    """Members by normalised name."""

    def __init__(self, file: BinaryIO, members: dict[str, Any]) -> None:
        self._file = file
        self._members = members

    def __contains__(self, name: str) -> bool:
        return posixpath.normpath(name) in self._members

    def open_blob(self, descriptor: Descriptor) -> Readable:
        """A blob of an OCI layout, to be checked by its reader; its size is checked. Raises ArchiveInvalid."""
        return self.open(self._described(descriptor))

    def open(self, name: str) -> Readable:
        """The content of a member; symlinks between members are followed. Raises ArchiveInvalid."""
        member = self._find(name)
        return _Window(self._file.fileno(), member.offset_data, member.size)

    def read(self, name: str, limit: int) -> bytes:
        """All of a member. Raises ArchiveInvalid, LimitExceeded."""
        member = self._find(name)
        if member.size > limit:
            raise LimitExceeded(f"archive member {name[:100]!r} is larger than {limit} bytes")
        data = os.pread(self._file.fileno(), member.size, member.offset_data)
        if len(data) != member.size:
            raise ArchiveInvalid(f"archive member {name[:100]!r} is cut off")
        return data

    def blob(self, descriptor: Descriptor, limit: int) -> bytes:
        """A blob of an OCI layout, checked. Raises ArchiveInvalid, LimitExceeded, DigestMismatch."""
        return checked(self.read(self._described(descriptor), limit), descriptor)

    def _described(self, descriptor: Descriptor) -> str:
        name = blob_name(descriptor.digest)
        size = self._find(name).size
        if size != descriptor.size:
            raise ArchiveInvalid(f"blob {descriptor.digest} has {size} bytes, its descriptor says {descriptor.size}")
        return name

    def _find(self, name: str) -> Any:
        path = posixpath.normpath(name)
        for _ in range(_LINKS):
            member = self._members.get(path)
            if member is None or path.startswith(("/", "..")):
                raise ArchiveInvalid(f"archive has no {name[:200]!r}, which its manifest names")
            if member.issym():
                path = posixpath.normpath(posixpath.join(posixpath.dirname(path), member.linkname))
            elif member.islnk():
                path = posixpath.normpath(member.linkname)
            elif member.isreg() and not member.issparse():
                return member
            else:
                raise ArchiveInvalid(f"archive member {name[:200]!r} is not a file")
        raise ArchiveInvalid(f"archive member {name[:200]!r} is a circle of links")


class Blobs(Protocol):
    """The blobs of an OCI layout, wherever they are."""

    def blob(self, descriptor: Descriptor, limit: int, /) -> bytes:
        """All of a blob, checked."""

    def open_blob(self, descriptor: Descriptor, /) -> Readable:
        """A blob, to be checked by its reader; its size is checked."""


class LayoutFiles(Blobs, Protocol):
    """An OCI layout that need not have all the blobs that it names."""

    def __contains__(self, name: str, /) -> bool:
        """Whether it has a file of that name."""


def checked(data: bytes, descriptor: Descriptor) -> bytes:
    """*data*, which is what *descriptor* says. Raises DigestMismatch."""
    if digests.of(data) != descriptor.digest:
        raise DigestMismatch("blob", descriptor.digest, digests.of(data))
    return data


def blob_name(digest: str) -> str:
    """Where an OCI layout has the blob. Raises InvalidDigest."""
    return "blobs/" + digests.parse(digest).replace(":", "/")


@contextmanager
def open_archive(stream: Readable, store: Store, limits: Limits | None) -> Iterator[Archive]:
    """The archive in *stream*, open for the block.

    Raises: ArchiveInvalid, LimitExceeded, OSError.
    """
    import tarfile

    import tarsafe

    bounds = limits or apply.DEFAULT_LIMITS
    with ExitStack() as undo:
        file = _seekable(stream, store, bounds, undo)
        start = file.tell()
        reader = TarReader(
            file, max_bytes=bounds.bytes, max_entries=_MEMBERS, skip=lambda count: file.seek(count, os.SEEK_CUR)
        )
        if reader.next() is None:
            raise ArchiveInvalid("archive is empty")
        while reader.next() is not None:
            pass
        if start + reader.size > os.fstat(file.fileno()).st_size:
            raise ArchiveInvalid("archive is cut off")
        file.seek(start)
        members: dict[str, Any] = {}
        try:
            opened = undo.enter_context(tarsafe.TarSafe.open(fileobj=file, mode="r:"))
            for member in opened:
                members[posixpath.normpath(member.name)] = member
        except (tarfile.TarError, tarsafe.TarSafeException, ValueError, OverflowError) as err:
            raise ArchiveInvalid(f"archive is damaged: {err}") from err
        yield Archive(file, members)


def _seekable(stream: Readable, store: Store, bounds: Limits, undo: ExitStack) -> BinaryIO:
    """*stream* itself if it is an unpacked file, else an unnamed copy of what is in it."""
    source = Peekable(stream)
    if isinstance(stream, io.BufferedReader) and stream.seekable():
        start = stream.tell()
        head = source.peek(HEAD)
        stream.seek(start)
        if not compression(head):
            return stream
        source = Peekable(stream)
    directory = undo.enter_context(store.scratch())
    spool: BinaryIO = undo.enter_context(tempfile.TemporaryFile(dir=directory))  # noqa: SIM115
    packed = unpack(source, window_log=bounds.window_log, ratio=bounds.ratio, ratio_after=bounds.ratio_after)
    total = 0
    while data := packed.read(1 << 20):
        total += len(data)
        if total > bounds.bytes:
            raise LimitExceeded(f"archive is larger than {bounds.bytes} bytes")
        with disk_errors("unpack the archive"):
            spool.write(data)
    with disk_errors("unpack the archive"):
        spool.flush()
    spool.seek(0)
    return spool
