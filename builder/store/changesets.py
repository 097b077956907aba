"""A layer directory as a canonical changeset tar: one pass gives the tar, its digests, its size and its list of files.

A layer is an overlay upper directory. The *canonical* tar of it has exactly one form, so that the same files always
give the same ``diff_id``: entries in the order of ``layerwalk``, headers as ``tarheaders`` writes them, no user or
group names, whole seconds (docker and containerd cut them the same way), overlay's whiteouts and opaque directories as
the ``.wh.`` files of the image specification.

Not here: unpacking (``apply``), tars that other tools wrote and whose bytes must come back (``recipes``).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import StoreError
from builder.oci.digests import ContentDigest, DiffID, Digest
from builder.store import recipes, tarheaders
from builder.store.beside import cores
from builder.store.hashing import Sha256
from builder.store.layerwalk import walk
from runtime.values import dataclass

if TYPE_CHECKING:
    from builder.store.layerread import Fields, Read

Sink = Callable[[bytes], object]
"""Takes the next bytes of a stream (``file.write``, ``hash.update``)."""

_BATCH = 1 << 18
"""Small pieces are gathered to this many bytes before they are hashed: a large update lets other threads run."""
_READ = 1 << 20
_MANY = 2000
"""Entries after which the rest is read by a process beside us, which takes some 30 ms to start."""
_EMPTY = hashlib.sha256().digest()


@dataclass(frozen=True, slots=True)
class Changeset:
    """What one layer is, as a tar and as files."""

    diff_id: DiffID
    """sha256 of the uncompressed tar."""
    content_digest: ContentDigest
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
    """One of tar's type flags: 0 file, 1 hard link, 2 symlink, 3 character device, 4 block device, 5 directory, 6
    FIFO.
    """
    mode: int
    uid: int
    gid: int
    size: int
    digest: str
    """sha256 in hex of a regular file's content, else empty."""
    link: bytes
    """Target of a symlink or hard link, else empty."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What can be said of a layer without reading its files again."""

    content_digest: ContentDigest
    content_size: int
    files: int
    recipe_digest: bytes
    """sha256 of the recipe (see ``recipes``) that the canonical tar has."""


class _Output:
    """The tar on its way: gathered, hashed, counted, handed on."""

    def __init__(self, sink: Sink | None, hasher: Sha256) -> None:
        self._sink = sink
        self._hash = hasher
        self._pending = bytearray()
        self.size = 0

    def add(self, data: bytes) -> None:
        if len(data) >= _BATCH:
            self.flush()
            self._give(data)
            return
        self._pending += data
        if len(self._pending) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        if self._pending:
            self._give(bytes(self._pending))
            self._pending.clear()

    def _give(self, data: bytes) -> None:
        self._hash.update(data)
        self.size += len(data)
        if self._sink:
            self._sink(data)

    def digest(self) -> DiffID:
        self.flush()
        return DiffID(Digest("sha256:" + self._hash.hexdigest()))


class _Leaves:
    """The content digest on its way: one record per entry, each field of a fixed or stated length."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256(b"lamina content 1\n")
        self._pending = bytearray()
        self.files = 0
        self.content_size = 0

    def add(self, entry: Fields, digest: bytes) -> None:
        path, kind, mode, uid, gid, size, _, link, device, xattrs = entry
        self._pending += b"%d:%b%b%o %d:%d %d,%d %d:%b%d%b" % (
            *(len(path), path, kind, mode, uid, gid, *device),
            *(len(link), link, len(xattrs), digest),
        )
        for name, value in xattrs:
            self._pending += b"%d:%b%d:%b" % (len(name), name, len(value), value)
        self.files += 1
        self.content_size += size
        if len(self._pending) >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        self._hash.update(self._pending)
        self._pending = bytearray()

    def digest(self) -> ContentDigest:
        self._flush()
        return ContentDigest(Digest("sha256:" + self._hash.hexdigest()))


def write(
    upper: Path | int,
    sink: Sink | None = None,
    *,
    overlay: bool = True,
    latest_mtime: int | None = None,
    contents: bool = True,
    on_entry: Callable[[Entry], object] | None = None,
    below: bytes = b"",
    last: bool = True,
) -> Changeset:
    """Write the canonical tar of *upper* (a path, or a directory's descriptor) to *sink* (None: only digests are
    wanted).

    *overlay* says that it is an overlay upper directory, with whiteouts; otherwise it is an ordinary tree.
    *latest_mtime* (seconds) replaces every later modification time, as SOURCE_DATE_EPOCH asks. Without *contents*
    nobody asks for a content digest or for those of files, and none that is given is true. Safe to run in a thread:
    large updates of the hash release the interpreter's lock. Sockets are left out, as docker does. *below* (with a
    slash at its end) is the directory of the tar that everything is put in; *last* ends the tar.

    Raises: OSError (the directory cannot be read), StoreError (a file changed its size while being read).
    """
    # The tar is hashed beside us: it has every file's content a second time.
    with Sha256() as hasher:
        output, leaves = _Output(sink, hasher), _Leaves()
        for entry, fd, content in _read(upper, overlay=overlay):
            output.add(_header(_moved(entry, below) if below else entry, latest_mtime))
            digest = b""
            if entry[1] == tarheaders.FILE:
                digest = _EMPTY
                if entry[5]:
                    digest = _copy(entry, fd, content, output, digested=contents)
                    output.add(tarheaders.padding(entry[5]))
            leaves.add(entry, digest)
            if on_entry:
                on_entry(_entry(entry, digest))
        if last:
            output.add(tarheaders.END)
        return Changeset(output.digest(), leaves.digest(), output.size, leaves.content_size, leaves.files)


def _read(upper: Path | int, *, overlay: bool) -> Iterator[Read]:
    """The entries of *upper*. Raises: OSError, StoreError."""
    with closing(walk(upper, overlay=overlay)) as entries:
        for found in islice(entries, _MANY) if cores() > 1 else entries:
            yield found[:10], found.fd, b""
        if next(entries, None) is None:
            return
    from builder.store import layerread

    yield from layerread.read_on(upper, skip=_MANY, overlay=overlay)


def summarise(upper: Path, digests: Mapping[int, bytes]) -> Summary:
    """The facts about a layer whose files were just written and hashed: *digests* maps inode → sha256 of non-empty
    files.

    Raises: OSError, StoreError (a file whose digest is not given).
    """
    leaves, recipe_hash = _Leaves(), hashlib.sha256()
    recipe = recipes.Writer(recipe_hash.update)
    for found in walk(upper):
        entry = found[:10]
        recipe.literal(_header(entry, None))
        digest = b""
        if found.kind == tarheaders.FILE:
            digest = _EMPTY
            if found.size:
                known = digests.get(found.status.st_ino)
                if known is None:
                    raise StoreError(f"layer file {os.fsdecode(found.path)!r} appeared while it was unpacked")
                digest = known
                recipe.file(found.path, found.size)
                recipe.literal(tarheaders.padding(found.size))
        leaves.add(entry, digest)
    recipe.literal(tarheaders.END)
    recipe.close()
    return Summary(leaves.digest(), leaves.content_size, leaves.files, recipe_hash.digest())


def _moved(entry: Fields, below: bytes) -> Fields:
    path, kind, link = entry[0], entry[1], entry[7]
    moved = below + path.removeprefix(b"./"), below + link if kind == tarheaders.HARD_LINK else link
    return (moved[0], *entry[1:7], moved[1], *entry[8:])


def _header(entry: Fields, latest_mtime: int | None) -> bytes:
    path, kind, mode, uid, gid, size, mtime, link, device, xattrs = entry
    if latest_mtime is not None and mtime > latest_mtime:
        mtime = latest_mtime
    # Docker's layers have no attribute but this one: the same files must give the same digest.
    xattrs = [(name, value) for name, value in xattrs if name == b"security.capability"]
    return tarheaders.header(path, kind, mode, (uid, gid), size, mtime, link, xattrs, device)


def _copy(entry: Fields, fd: int, content: bytes, output: _Output, *, digested: bool) -> bytes:
    """Give a file's content to *output*; returns its sha256 if it is to be *digested*."""
    left = entry[5]
    hasher = hashlib.sha256()
    while True:
        # One byte more is asked for than there is to come: where the file ended must be its end, or what was added
        # since would be missing in the tar.
        chunk = os.read(fd, min(left + 1, _READ)) if fd >= 0 else content
        if len(chunk) > left:
            raise StoreError(f"layer file {os.fsdecode(entry[0])!r} became longer while it was read")
        left -= len(chunk)
        if digested:
            hasher.update(chunk)
        output.add(chunk)
        if len(chunk) < _READ and (not left or not chunk or fd < 0):
            break  # less than was asked for: it was the end
    if left:
        raise StoreError(f"layer file {os.fsdecode(entry[0])!r} became shorter while it was read")
    return hasher.digest()


def _entry(entry: Fields, digest: bytes) -> Entry:
    path, kind, mode, uid, gid, size, _, link, _, _ = entry
    return Entry(path.rstrip(b"/"), kind.decode(), mode, uid, gid, size, digest.hex(), link)
