"""Unpacking of tars that nobody vouches for: layers into overlay upper directories, archives of ADD into a file system.

Nothing in the archive can reach outside of the root (``unpacker``), what it may cost is bounded by :class:`Limits`, it
is read by ``tarstream``, and no path or content of it is ever given to another program.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path

from builder.errors import ArchiveInvalid, DigestMismatch, EngineError
from builder.oci.digests import DiffID, Digest
from builder.store import changesets, recipes
from builder.store.changesets import Changeset
from builder.store.hashing import Sha256
from builder.store.layerwalk import OPAQUE_MARKER, WHITEOUT_PREFIX
from builder.store.tarstream import Member, Readable, TarReader
from builder.store.unpack import unpack
from builder.store.unpacker import Unpacker, split
from runtime.values import dataclass

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Limits:
    """What one archive may cost."""

    bytes: int = 1 << 40
    """Uncompressed bytes."""
    entries: int = 5_000_000
    ratio: int = 200
    """Uncompressed by compressed bytes."""
    ratio_after: int = 4 << 30
    """Bytes that may come out before the ratio counts: a file of zeros packs as well as any bomb, and people have
    those.
    """
    window_log: int = 27
    """The largest zstd window, as a power of two: 128 MiB."""


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Applied:
    """A layer that was unpacked."""

    changeset: Changeset
    """``diff_id`` and ``size`` are those of the tar that was read; the other facts are of the files that it left."""
    exact: bool
    """The canonical tar of the directory is, byte for byte, the tar that was read: no recipe is needed."""
    reproducible: bool
    """The recipe and the directory give the tar back. False for sparse files and entries that overwrite earlier
    ones.
    """


def extract(
    stream: Readable,
    upper: Path,
    *,
    limits: Limits = DEFAULT_LIMITS,
    recipe: Callable[[bytes], object] | None = None,
    expected: DiffID | None = None,
) -> Applied:
    """Unpack a layer (a tar, plain or packed with gzip, bzip2, xz or zstd) into the empty directory *upper*.

    Whiteouts become overlay's (a character device 0:0), opaque directories its xattr: ``trusted.overlay.opaque`` as
    root of the first user namespace, ``user.overlay.opaque`` elsewhere. *recipe* gets the bytes of the layer's recipe
    (see ``recipes``), which together with the directory gives the same tar again. *expected* is compared at the end.

    Raises: ArchiveInvalid (hostile, broken), LimitExceeded, DigestMismatch, OSError (full disk …). The directory is
    then in an undefined state; remove it.
    """
    recipe_hash = hashlib.sha256()

    def note(data: bytes) -> None:
        recipe_hash.update(data)
        if recipe:
            recipe(data)

    writer = recipes.Writer(note)
    reproducible = True
    root = os.open(upper, _DIRECTORY)
    try:
        with Sha256() as tar_hash, Unpacker(root, track=True) as unpacker:
            reader = _reader(stream, limits, observe=tar_hash.update, literal=writer.literal)
            while (member := reader.next()) is not None:
                if member.kind == b"g":
                    continue
                parts = split(member.path)
                if member.stored:
                    # Noted before the content is read: padding follows it in the recipe.
                    reproducible &= _recorded(writer, parts, member)
                if not _whiteout(unpacker, parts, member):
                    _make(unpacker, root, parts, member, reader, [])
            reader.drain()
            writer.close()
            unpacker.finish()
            diff_id = DiffID(Digest("sha256:" + tar_hash.hexdigest()))
            if expected is not None and diff_id != expected:
                raise DigestMismatch("layer", expected, diff_id)
            if not reader.entries and not reader.size:
                raise ArchiveInvalid("layer is empty, not even an empty tar")
            summary = changesets.summarise(upper, unpacker.digests)
            reproducible &= not unpacker.replaced
    finally:
        os.close(root)
    changeset = Changeset(diff_id, summary.content_digest, reader.size, summary.content_size, summary.files)
    return Applied(changeset, reproducible and summary.recipe_digest == recipe_hash.digest(), reproducible)


def extract_archive(
    stream: Readable,
    root: int,
    dest: str,
    *,
    owner: tuple[int, int] | None = None,
    limits: Limits = DEFAULT_LIMITS,
    keep_links: bool = False,
) -> int:
    """Unpack an archive that a user gave (ADD, ``cp``) below *dest* in the file system *root*; returns the entries
    written.

    *root* is a directory descriptor, usually of a detached overlay (``runtime.rootfs.open_rootfs`` with an upper
    directory): symlinks that are already there are followed inside of *root*, directories that exist keep what the
    archive does not name. Names starting with ``.wh.`` have no meaning here. *owner* (uid, gid) overrides the
    archive's. A name with ``..`` that would climb out starts at *dest* instead. Missing directories of *dest* are
    made with 0755 root:root, or *owner*. *keep_links*: an entry for a directory leaves a symlink to a directory there
    as it is, instead of replacing it.

    Raises: ArchiveInvalid, LimitExceeded, OSError.
    """
    base = split(os.fsencode(dest))
    with Unpacker(root, owner=owner, keep_links=keep_links) as unpacker:
        top = os.dup(unpacker.directory(base)) if base else os.dup(root)
        try:
            # A second one, so that nothing in the archive means a place outside of *dest*, except through links there.
            reader = _reader(stream, limits)
            while (member := reader.next()) is not None:
                parts = split(member.path, confined=True)
                # Docker passes over a file without a name, too; a layer with one could not be written again.
                if member.kind != b"g" and (parts or member.kind != b"0"):
                    _make(unpacker, top, base + parts, member, reader, base)
            reader.drain()
            unpacker.finish()
        finally:
            os.close(top)
    return reader.entries


def is_archive(source: bytes | Readable) -> bool:
    """Whether *source* (a stream, or a file's first bytes) is a tar, plain or packed.

    Packed data counts only if what comes out of it is a tar: ADD copies a lone ``.gz`` file as it is. With bytes only,
    a bzip2 or xz block that does not end in them cannot be judged and counts as no archive: give the stream.
    """
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        return TarReader(unpack(stream)).next() is not None
    except EngineError:
        return False


def _reader(
    stream: Readable,
    limits: Limits,
    observe: Callable[[bytes], object] | None = None,
    literal: Callable[[bytes], object] | None = None,
) -> TarReader:
    return TarReader(
        unpack(stream, window_log=limits.window_log, ratio=limits.ratio, ratio_after=limits.ratio_after),
        max_bytes=limits.bytes,
        max_entries=limits.entries,
        ratio=limits.ratio,
        ratio_after=limits.ratio_after,
        observe=observe,
        literal=literal,
    )


def _make(
    unpacker: Unpacker, top: int, parts: list[bytes], member: Member, reader: TarReader, base: list[bytes]
) -> None:
    if len(parts) > len(base):
        target = base + split(member.link) if member.kind == b"1" else []
        unpacker.make(parts, member, reader.chunks(), target)
    elif member.kind == b"5":
        unpacker.attributes(top, member)
    else:
        raise ArchiveInvalid("tar has an entry that would replace the root directory")


def _whiteout(unpacker: Unpacker, parts: list[bytes], member: Member) -> bool:
    """Whether *member* was one of the image specification's signs for a deletion, and what it says has been done."""
    marked = [part for part in parts if part.startswith(WHITEOUT_PREFIX)]
    if not marked:
        return False
    if marked[0].startswith(WHITEOUT_PREFIX * 2) and marked[0] != OPAQUE_MARKER:
        return True  # Left by aufs: its own book-keeping.
    if len(marked) > 1 or marked[0] != parts[-1]:
        raise ArchiveInvalid(f"tar entry {member.path[:100]!r} is below a whiteout")
    parent = unpacker.directory(parts[:-1], member.mtime)
    if parts[-1] == OPAQUE_MARKER:
        unpacker.set_opaque(parent)
        return True
    name = parts[-1].removeprefix(WHITEOUT_PREFIX)
    if name in (b"", b".", b".."):
        raise ArchiveInvalid(f"tar entry {member.path[:100]!r} is a whiteout of nothing")
    try:
        os.mknod(name, 0o20000, 0, dir_fd=parent)
    except FileExistsError:
        # A whiteout is about lower layers only: what this layer has under the name stays, without what was below it.
        try:
            fd = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        except OSError:
            return True
        try:
            unpacker.set_opaque(fd)
        finally:
            os.close(fd)
    return True


def _recorded(writer: recipes.Writer, parts: list[bytes], member: Member) -> bool:
    """Note the content of *member* in the recipe; False when no file of the layer will have just that content."""
    path = b"/".join(parts)
    marked = any(part.startswith(WHITEOUT_PREFIX) for part in parts)
    if member.kind != b"0" or member.sparse is not None or marked or len(path) > recipes.PATH_MAX:
        return False
    writer.file(path, member.size)
    return True
