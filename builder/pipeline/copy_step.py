"""COPY in two halves: :func:`select` says what would be copied, :func:`materialise` writes it.

Between the two stands the cache: ``Selection.digest`` is the leaf of the step's key that stands for all files. Times of
files are no part of it; ``Selection.manifest`` lists one named leaf per file, for "why did this miss".

    with select(spec, tree, cache=store.files, scratch=...) as selection:
        hit = lookup(key(spec, selection.digest, ...))
        if not hit:
            facts = materialise(selection, upper=active.upper, root=rootfs_fd)

An unchanged COPY costs one ``stat`` per file: a digest over everything that ``stat`` says is the name under which the
cache has the selection's digest. Otherwise digests of single files come from the cache too, and what must be read is
copied to the spool by the same read.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import BuildError
from builder.pipeline import bulkcopy
from builder.pipeline.filecopy import Facts, is_racy
from builder.pipeline.ignore import Filter
from builder.pipeline.manifest import is_file, leaf_name, read_manifest, stat_key, write_manifest
from builder.pipeline.permissions import chmod, new_directory_mode, numeric_owner, owner
from builder.pipeline.scanning import Block, Entry, Part, Shape, fingerprint, scan
from builder.store.layout import spread
from runtime.values import dataclass

if TYPE_CHECKING:
    from types import TracebackType

    from builder.pipeline import placing
    from builder.pipeline.filehash import DigestCache, StatKey
    from builder.pipeline.trees import Tree
    from parser.ignorefile import Matcher

SPOOL_FILES = 200
SPOOL_BYTES = 4 << 20
"""From this much on, files that must be read are copied by the same read."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


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
    """Archives among the sources are unpacked (ADD)."""


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
    """Bytes of regular files, hard links counted once. Without those that came out of archives."""
    linked: int
    """How many files came from the earlier layer."""


class Selection:
    """What a COPY would write. Fixed once made; 50,000 files are about 25 MB.

    Owns the trees that were opened for it alone: close it, or use it as a context manager. The tree that it was made
    from must stay open until :func:`materialise` is done.
    """

    def __init__(
        self,
        spec: CopySpec,
        parts: Sequence[Part],
        *,
        cache: DigestCache | None = None,
        scratch: Callable[[], Path] | None = None,
        now: int | None = None,
        owned: ExitStack | None = None,
        label: str = "",
    ) -> None:
        """*now*: unix ns from before the first file was looked at. *label* goes into the digest (a checksum, a
        commit)."""
        self.spec = spec
        self.parts = tuple(parts)
        self.owned = owned or ExitStack()
        self.files = sum(is_file(entry) for part in parts for block in part.blocks for entry in block.entries)
        self._cache = cache
        self._scratch = scratch
        self._now = time.time_ns() if now is None else now
        self._label = label
        self._manifest: bytes | None = None
        self.digest = self._find_digest()
        """"sha256:…" over all leaves: equal exactly when type, mode, owner, path and content of everything are
        equal."""

    def close(self) -> None:
        """Close what was opened for this selection."""
        self.owned.close()

    def __enter__(self) -> Selection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def manifest(self) -> bytes:
        """All leaves as ``name NUL value NUL``, in the order of the sources; see :func:`read_manifest`.

        Reads the files whose digests are not known yet. Raises: ContextError.
        """
        if self._manifest is None:
            self._digest_files()
            self._manifest = self._write_manifest()
        return self._manifest

    def _find_digest(self) -> str:
        stats, newest = fingerprint(list(self.parts))
        for one in self.spec.inline:
            stats += hashlib.sha256(one.name.encode("utf-8", "surrogateescape") + b"\0" + one.content).digest()
        key = hashlib.sha256(stats + self._label.encode()).digest()
        known = self._cache.get_selection(key) if self._cache is not None else None
        if known is not None:
            return f"sha256:{known.hex()}"
        changed = self._digest_files()
        self._manifest = self._write_manifest()
        digest = hashlib.sha256(b"lamina copy 1\0" + self._label.encode() + b"\0" + self._manifest)
        if self._cache is not None and not changed and not is_racy(newest, self._now):
            self._cache.put_selection(key, digest.digest())
        return f"sha256:{digest.hexdigest()}"

    def _write_manifest(self) -> bytes:
        lines = write_manifest(self.parts)
        for one in self.spec.inline:
            name = one.name.encode("utf-8", "surrogateescape")
            lines += b"<<" + name + b"\0" + hashlib.sha256(one.content).hexdigest().encode() + b"\0"
        return bytes(lines)

    def _digest_files(self) -> bool:
        """Fill in ``Block.digests``; says whether a file was not what the scan saw (its entry is put right)."""
        wanted = [
            (part, block, position)
            for part in self.parts
            for block in part.blocks
            if not block.digests
            for position, entry in enumerate(block.entries)
            if is_file(entry) and not entry.detail
        ]
        for part in self.parts:
            for block in part.blocks:
                if not block.digests:
                    block.digests = [None] * len(block.entries)
        known = self._cache.get_files([stat_key(b.entries[i]) for _, b, i in wanted]) if self._cache and wanted else {}
        missing = []
        for one in wanted:
            _, block, position = one
            digest = known.get(stat_key(block.entries[position]))
            if digest is None:
                missing.append(one)
            else:
                block.digests[position] = digest
        return self._read(missing) if missing else False

    def _read(self, missing: Sequence[tuple[Part, Block, int]]) -> bool:
        """Read the files (part, block, position), and spool them when they are many."""
        fresh: dict[StatKey, bytes] = {}
        changed = False
        spool = self._spool(missing)
        for part in self.parts:
            own = [one for one in missing if one[0] is part]
            if not own:
                continue
            spooling = spool is not None and not self.spec.unpack
            goal = -1
            if spool is not None and spooling:
                directory = spool / str(self.parts.index(part))
                directory.mkdir(mode=0o755)
                spread(directory)
                part.spool = str(directory)
                goal = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                batches = self._batches(own, spooling=spooling)
                to = goal if goal >= 0 else None
                for number, facts in bulkcopy.run(part.tree.fd, to, batches, digest=True, label=part.tree.label):
                    _, block, position = own[number]
                    held = self._note(part, block, position, facts, spooled=spooling)
                    changed = changed or not held
                    if held and not facts.racy and not facts.xattrs and facts.digest is not None:
                        fresh[stat_key(block.entries[position])] = facts.digest
            finally:
                if goal >= 0:
                    os.close(goal)
        if fresh and self._cache is not None:
            self._cache.put_files(fresh)
        return changed

    def _note(self, part: Part, block: Block, position: int, facts: Facts, *, spooled: bool) -> bool:
        """Keep what reading a file gave; False when it was not what the scan saw."""
        entry = block.entries[position]
        mode, uid, gid, size, mtime, ctime, inode, device = facts.status
        owner = (uid, gid) if part.tree.keeps_owner else (0, 0)
        seen = Entry(
            entry.name, mode, *owner, size, mtime, ctime, inode, 0 if part.tree.overlay else device, entry.detail
        )
        block.digests[position] = facts.digest
        if facts.xattrs:
            block.file_xattrs[entry.name] = facts.xattrs
        if seen == entry:
            if spooled:
                block.spooled.add(entry.name)
            return True
        block.entries[position] = seen
        return False

    def _spool(self, missing: Sequence[tuple[Part, Block, int]]) -> Path | None:
        if self._scratch is None or (self.spec.chown is not None and numeric_owner(self.spec.chown) is None):
            return None
        size = sum(block.entries[position].size for _, block, position in missing)
        return self._scratch() if len(missing) >= SPOOL_FILES or size >= SPOOL_BYTES else None

    def _batches(self, own: Sequence[tuple[Part, Block, int]], *, spooling: bool) -> list[bulkcopy.Batch]:
        permissions = chmod(self.spec.chmod) if self.spec.chmod is not None else None
        given = numeric_owner(self.spec.chown) if self.spec.chown is not None else None
        batches: list[bulkcopy.Batch] = []
        items: list[bulkcopy.Item] = []
        last: Block | None = None
        for number, (_, block, position) in enumerate(own):
            if block is not last:
                items = []
                batches.append(bulkcopy.Batch(block.path, (block.rel or ".") if spooling else None, items))
                last = block
            entry = block.entries[position]
            mode = permissions(entry.mode) if permissions is not None else stat.S_IMODE(entry.mode)
            uid, gid = given or (entry.uid, entry.gid)
            if (uid, gid) == (0, 0):
                uid = gid = -1
            items.append((number, entry.name, entry.name, mode, uid, gid, entry.size, None))
        return batches


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

    Raises: SourceNotFound; ContextError (not readable, changes while it is read, …); BuildError (a flag that cannot be
    meant); StoreError (disk full).
    """
    check(spec)
    check_local(spec.sources)
    now = time.time_ns()
    parts = list(local_parts(spec, tree))
    return Selection(spec, parts, cache=cache, scratch=scratch, now=now)


def check(spec: CopySpec) -> None:
    """Raise BuildError for flags that mean nothing, before anything is read."""
    if spec.chmod is not None:
        chmod(spec.chmod)
    if spec.chown is not None:
        numeric_owner(spec.chown)


def check_local(sources: Sequence[str]) -> None:
    """Raise BuildError for a source of COPY that only ADD knows."""
    for source in sources:
        if ":" not in source:
            continue
        from builder.pipeline import remote

        if remote.git_source(source) is not None:
            raise BuildError("source can't be a git ref for COPY", hint="ADD takes it")
        if remote.is_url(source):
            raise BuildError("source can't be a URL for COPY", hint="ADD takes it")


def excluding(spec: CopySpec) -> Matcher | None:
    """What ``--exclude`` leaves out."""
    if not spec.exclude:
        return None
    from parser.ignorefile import Matcher

    return Matcher(spec.exclude)


def local_parts(spec: CopySpec, tree: Tree | None) -> Iterator[Part]:
    """The parts of all of ``spec.sources`` in *tree*."""
    if not spec.sources:
        return
    if tree is None:
        raise BuildError(f'no build context to copy "{spec.sources[0]}" from', hint="give a directory: lamina build .")
    filters = Filter(hide=tree.matcher, exclude=excluding(spec))
    for source in spec.sources:
        yield from scan(tree, source, filters, parents=spec.parents)


def materialise(
    selection: Selection,
    *,
    upper: Path,
    root: int | None,
    earlier: Earlier | None = None,
    writable: Callable[[], int] | None = None,
    users: int | None = None,
) -> CopyFacts:
    """Write the selection into the overlay upper directory *upper* (empty so far).

    *root* is the descriptor of the parents' file system (``runtime.rootfs.open_rootfs``, without *upper*), which
    answers whether the destination is a directory or a symlink, and has the passwd and group files. It is None for
    ``FROM scratch`` and ``--link``; with ``--link``, *users* may say where ``--chown`` looks names up. *writable* gives
    a descriptor of the parents with *upper* on top (``open_rootfs`` with upper and work); it is called, and closed,
    only when an archive is unpacked, whose entries may meet anything. Without it archives are unpacked into *upper*
    alone.

    Raises: BuildError (the destination does not fit, no such user), ContextError (a source has changed), StoreError.
    """
    from builder.pipeline import destinations, placing

    spec = selection.spec
    given = owner(spec.chown, root if users is None else users) if spec.chown is not None else None
    permissions = chmod(spec.chmod) if spec.chmod is not None else None
    selection.manifest()  # every digest: what is copied must be what was selected
    _note_archives(selection)
    with ExitStack() as undo:
        merged = writable is not None and any(part.shape is Shape.ARCHIVE for part in selection.parts)
        write = writable() if merged and writable is not None else os.open(upper, _DIRECTORY)
        undo.callback(os.close, write)
        target = placing.Target(write, None if merged else root, given, permissions, new_directory_mode(spec.chmod))
        if root is not None and not merged:
            destinations.copy_top(root, write)
        old = _open_earlier(earlier, selection, undo) if not merged else None
        where = destinations.destination(spec.dest, spec.workdir, write if merged else root)
        for part in selection.parts:
            destinations.put(part, where, target, old)
        for one in spec.inline:
            destinations.put_inline(one.name, one.content, where, target)
        target.finish()
        tally = target.tally
    return CopyFacts(tally.files, tally.size, tally.linked)


def _note_archives(selection: Selection) -> None:
    """Mark the files that ADD unpacks, by their content."""
    if not selection.spec.unpack:
        return
    from builder.pipeline.destinations import open_source
    from builder.store.apply import is_archive

    for part in selection.parts:
        if part.may_unpack and part.shape is Shape.FILE and is_file(part.blocks[0].entries[0]):
            with os.fdopen(open_source(part), "rb") as stream:
                if is_archive(stream):
                    part.shape = Shape.ARCHIVE


def _open_earlier(earlier: Earlier | None, selection: Selection, undo: ExitStack) -> placing.Earlier | None:
    """*earlier*, if the files of *selection* are under the same names there: a layer that was made of several sources
    may have another's file under a name, of the same size and time."""
    from builder.pipeline import placing

    if earlier is None or len(selection.parts) != 1:
        return None
    old, new = read_manifest(earlier.manifest), read_manifest(selection.manifest())
    (part,) = selection.parts
    if not _all_of(part, old):
        return None
    try:
        root = os.open(earlier.path, _DIRECTORY)
    except OSError:
        return None  # collected since: everything is copied
    undo.callback(os.close, root)
    return placing.Earlier(root, dict(new.items() - old.items()))


def _all_of(part: Part, names: Iterable[str]) -> bool:
    """Whether *names* of leaves are all below *part*."""
    top = part.blocks[0]
    if part.shape is Shape.FILE:
        return set(names) == {leaf_name(top, top.entries[0])}
    below = "/" if top.path == "." else f"/{top.path}/"
    return all(name.startswith(below) for name in names)


__all__ = [
    "CopyFacts",
    "CopySpec",
    "Earlier",
    "InlineFile",
    "Selection",
    "check",
    "local_parts",
    "materialise",
    "read_manifest",
    "select",
]
