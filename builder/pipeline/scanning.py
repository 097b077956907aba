"""What is there: sources of COPY resolved to files, by looking at names and ``stat`` only. No content is read here.

A source becomes one :class:`Part` per thing that it names (a wildcard may name many). Its files are kept directory by
directory as plain tuples, since there may be a million of them.
"""

from __future__ import annotations

import errno
import hashlib
import marshal
import os
import stat
from collections.abc import Iterator
from enum import Enum
from typing import Any, NamedTuple

from builder.errors import BuildError, ContextError, SourceNotFound
from builder.pipeline import globs
from builder.pipeline.filecopy import Xattrs, kept_xattrs
from builder.pipeline.ignore import Filter, Place
from builder.pipeline.looks import row
from builder.pipeline.trees import Resolved, Tree, clean, open_directory, resolve
from runtime.values import dataclass, field

_DIR, _REG, _LNK, _SOCK = stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK, stat.S_IFSOCK


class Entry(NamedTuple):
    """One thing in a directory; times in ns."""

    name: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    ctime: int
    inode: int
    device: int
    detail: str
    """A symlink's target, a device's "major:minor", for a further hard link the part-relative path of the first."""


class Shape(Enum):
    """How a part is placed at the destination."""

    FILE = "file"
    CONTENTS = "contents"
    """A directory: what is in it lands in the destination."""
    PARENTS = "parents"
    """As CONTENTS, but the directories exist only as ways to what was chosen (``--parents``)."""
    ARCHIVE = "archive"
    """A file that is unpacked into the destination."""


@dataclass(slots=True, eq=False)
class Block:
    """One directory of a part."""

    path: str
    """Its real path in the tree; "." is the top."""
    rel: str
    """Its path below the part; "" for the part itself."""
    meta: Entry | None
    """The directory itself; None for the part's top, whose permissions are not copied."""
    xattrs: Xattrs
    entries: list[Entry]
    """Everything but directories, sorted by name."""
    wanted: bool = True
    digests: list[bytes | None] = field(default_factory=list)
    """Beside ``entries``: the content's digest of regular files that are no further hard links."""
    spooled: set[str] = field(default_factory=set)
    """Names whose content is in the spool directory already."""
    file_xattrs: dict[str, Xattrs] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Part:
    """What one source path names."""

    tree: Tree
    shape: Shape
    name: str
    """The last component as the source names it: a file lands under it in a destination directory."""
    blocks: list[Block]
    """Parents before children. A FILE or ARCHIVE has one block with one entry."""
    spool: str | None = None
    """Where the content of spooled files is: a directory, laid out as the part is."""
    may_unpack: bool = True
    """ADD unpacks it when it is an archive."""


def scan(tree: Tree, source: str, filters: Filter, *, parents: bool = False) -> Iterator[Part]:
    """The parts that *source* names in *tree*, in the order of their paths.

    A wildcard that matches nothing gives nothing. Raises: SourceNotFound, ContextError.
    """
    if parents:
        yield from _scan_parents(tree, source, filters)
        return
    path = clean(source)
    fixed, pattern = globs.split_wildcards(path)
    if not pattern:
        yield _one(tree, path, path, filters, named=True)
        return
    for match in _matches(tree, fixed, pattern, filters):
        yield _one(tree, match, path, filters, named=False)


def fingerprint(parts: list[Part]) -> tuple[bytes, int]:
    """(a digest of everything that ``stat`` says about *parts*, the newest change time in ns)."""
    hasher = hashlib.sha256(b"lamina selection 1\n")
    newest = 0
    for part in parts:
        hasher.update(
            marshal.dumps((part.shape.value, part.name, part.tree.keeps_owner, part.may_unpack, len(part.blocks)), 2)
        )
        for block in part.blocks:
            # Version 2 of marshal writes equal values as equal bytes; later ones depend on reference counts. Lists of
            # NamedTuples are none of its types, so the tuples are written plain.
            plain: list[Any] = [tuple(entry) for entry in block.entries]
            meta: Any = tuple(block.meta) if block.meta is not None else None
            hasher.update(marshal.dumps((block.path, block.rel, meta, block.xattrs, plain), 2))
            if plain:
                newest = max(newest, max([entry[6] for entry in plain]))
    return hasher.digest(), newest


def _resolve(tree: Tree, path: str) -> Resolved:
    """`resolve` in *tree*, noted in its looks."""
    real = resolve(tree.fd, path)
    if tree.looks is not None:
        if real.status is None or clean(path) != "/" + "/".join(real.parts):
            tree.looks.give_up()
            return real
        for count in range(1, len(real.parts)):
            way = "/".join(real.parts[:count])
            tree.looks.passed(way, os.stat(way, dir_fd=tree.fd, follow_symlinks=False))
        if not stat.S_ISDIR(real.status.st_mode):
            tree.looks.taken(real.path, real.status)
    return real


def _matches(tree: Tree, fixed: str, pattern: str, filters: Filter) -> Iterator[str]:
    """The paths below *fixed* that *pattern* matches as a whole. A directory that matches is not looked into."""
    try:
        start = _resolve(tree, fixed)
        compiled = globs.compiled(pattern)
    except globs.BadPattern as err:
        raise BuildError(str(err), hint="see the wildcards of COPY: * ? [a-z] [^a-z] and \\ to quote") from err
    except OSError as err:
        raise _unreadable(tree, fixed, err) from err
    if start.status is None or not stat.S_ISDIR(start.status.st_mode):
        return
    depth = pattern.count("/")
    todo: list[tuple[str, str, Place]] = [(start.path, "", filters.top(start.path).place)]
    found: list[str] = []
    while todo:
        path, rel, place = todo.pop()
        for entry in _list(tree, path):
            name = entry.name
            child_rel = f"{rel}/{name}" if rel else name
            child = _join(path, name)
            verdict = filters.look(child, child_rel, place) if filters.hide is not None else None
            if (
                verdict is not None
                and not verdict.wanted
                and not (entry.is_dir(follow_symlinks=False) and verdict.descend)
            ):
                continue
            if compiled.fullmatch(child_rel):
                if verdict is None or verdict.wanted or _has_wanted(tree, child, filters):
                    found.append(child)
            elif entry.is_dir(follow_symlinks=False) and child_rel.count("/") < depth:
                todo.append((child, child_rel, verdict.place if verdict else place))
    yield from sorted(found, key=lambda path: path.split("/"))


def _has_wanted(tree: Tree, path: str, filters: Filter) -> bool:
    """Whether a hidden directory has something that is taken in again."""
    return any(block.entries or block.wanted for block in _walk(tree, path, Filter(hide=filters.hide)))


def _one(tree: Tree, path: str, source: str, filters: Filter, *, named: bool) -> Part:
    """The part that is at *path*, symlinks followed. *named*: it must not be hidden by .dockerignore."""
    shown = path if path.startswith("/") else "/" + path
    try:
        real = _resolve(tree, path)
    except NotADirectoryError:
        raise SourceNotFound(shown, where=tree.label) from None
    except OSError as err:
        raise _unreadable(tree, path, err) from err
    name = path.rstrip("/").rpartition("/")[2]
    if real.status is None:
        raise SourceNotFound(shown, where=tree.label, hint=_hint(tree, shown))
    top = filters.top(real.path)
    if named and not top.wanted and not top.descend:
        raise SourceNotFound(shown, where=tree.label, hint=_hidden(tree, real.path))
    kind = stat.S_IFMT(real.status.st_mode)
    if kind == _DIR:
        blocks = _walk(tree, real.path, filters)
        if not blocks or (not top.wanted and real.path != "." and not any(b.entries or b.wanted for b in blocks)):
            raise SourceNotFound(shown, where=tree.label, hint=_hidden(tree, real.path))
        return Part(tree, Shape.CONTENTS, name, blocks)
    if not top.wanted:
        raise SourceNotFound(shown, where=tree.label, hint=_hidden(tree, real.path))
    if kind == _SOCK and tree.overlay:
        raise ContextError(f'"{shown}" in {tree.label} is a socket, which cannot be copied')
    entry = _entry(tree, real.parts[-1], real.status, "")
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        entry = entry._replace(detail=_device(real.status))
    directory = "/".join(real.parts[:-1]) or "."
    return Part(tree, Shape.FILE, name, [Block(directory, "", None, (), [entry])])


def _scan_parents(tree: Tree, source: str, filters: Filter) -> Iterator[Part]:
    """``--parents``: what is behind a "/./" keeps its directories; without one, everything does."""
    base, pivot, pattern = source.partition("/./")
    if not pivot:
        base, pattern = "/", source
    pattern = clean(pattern).lstrip("/")
    top = clean(base)
    if pivot and not pattern:
        raise SourceNotFound(top, where=tree.label, hint='"/./" must be followed by what is to be copied')
    fixed, wild = globs.split_wildcards(top)
    if not wild:
        yield _below(tree, top, pattern, filters, named=not globs.has_wildcards(pattern))
        return
    for match in _matches(tree, fixed, wild, filters):
        status = _resolve(tree, match).status
        if status is not None and stat.S_ISDIR(status.st_mode):
            yield _below(tree, match, pattern, filters, named=False)


def _below(tree: Tree, top: str, pattern: str, filters: Filter, *, named: bool) -> Part:
    """What *pattern* chooses below the directory *top*. *named*: it must be there."""
    from parser.ignorefile import Matcher

    try:
        real = _resolve(tree, top)
    except OSError as err:
        raise _unreadable(tree, top, err) from err
    if real.status is None or not stat.S_ISDIR(real.status.st_mode):
        raise SourceNotFound(top, where=tree.label)
    include = Matcher((pattern,)) if pattern else None
    chosen = Filter(filters.hide, filters.exclude, include, (pattern,))
    blocks = _walk(tree, real.path, chosen)
    if named and pattern and len(blocks) == 1 and not blocks[0].entries:
        raise SourceNotFound(clean(f"{top}/{pattern}"), where=tree.label, hint=_hint(tree, clean(pattern)))
    return Part(tree, Shape.PARENTS, "", blocks)


def _walk(tree: Tree, top: str, filters: Filter) -> list[Block]:
    """The directory *top* and everything below it that *filters* want, parents first."""
    blocks: list[Block] = []
    links: dict[tuple[int, int], str] = {}
    verdict = filters.top(top)
    todo: list[tuple[str, str, Entry | None, bool, Place]] = [(top, "", None, verdict.wanted, verdict.place)]
    active = filters.active
    while todo:
        path, rel, meta, wanted, place = todo.pop()
        block, below, many = _read_block(tree, path, rel, meta, filters if active else None, place)
        block.wanted = wanted
        if many:
            block.entries = [_linked(entry, rel, links) if entry.name in many else entry for entry in block.entries]
        blocks.append(block)
        todo += below
    return _pruned(blocks) if active else blocks


_Below = tuple[str, str, Entry | None, bool, Place]


def _read_block(
    tree: Tree, path: str, rel: str, meta: Entry | None, filters: Filter | None, place: Place
) -> tuple[Block, list[_Below], set[str]]:
    """(one directory, its subdirectories last first, the names with more than one link)."""
    entries: list[Entry] = []
    below: list[_Below] = []
    many: set[str] = set()
    left_out: list[str] = []
    reset, overlay = not tree.keeps_owner, tree.overlay
    prefix = f"{rel}/" if rel else ""
    above = "" if path == "." else f"{path}/"
    try:
        fd = open_directory(tree.fd, path)
    except OSError as err:
        raise _unreadable(tree, path, err) from err
    try:
        own = os.fstat(fd)
        xattrs = kept_xattrs(fd)
        with os.scandir(fd) as found:
            for one in found:
                name = one.name
                try:
                    status = one.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # gone since it was listed
                mode = status.st_mode
                kind = mode & 0o170000
                wanted = descend = True
                inside = place
                if filters is not None:
                    wanted, descend, inside = filters.look(above + name, prefix + name, place)
                    if not wanted and (kind != _DIR or not descend):
                        left_out.append(name)
                        continue
                detail = ""
                if kind == _REG:
                    if status.st_nlink > 1:
                        many.add(name)
                elif kind == _LNK:
                    detail = os.readlink(name, dir_fd=fd)
                elif kind == _SOCK:
                    if overlay:
                        left_out.append(name)
                        continue  # no layer has it; that of a context becomes an empty file, as docker sends it
                elif kind != _DIR and kind != stat.S_IFIFO:
                    detail = _device(status)
                entry = Entry(
                    name,
                    mode,
                    0 if reset else status.st_uid,
                    0 if reset else status.st_gid,
                    status.st_size,
                    status.st_mtime_ns,
                    status.st_ctime_ns,
                    status.st_ino,
                    0 if overlay else status.st_dev,
                    detail,
                )
                if kind == _DIR:
                    below.append((above + name, prefix + name, entry, wanted, inside))
                else:
                    entries.append(entry)
    except OSError as err:
        raise _unreadable(tree, path, err) from err
    finally:
        os.close(fd)
    if tree.looks is not None:
        seen = [*entries, *(entry for _, _, entry, _, _ in below if entry is not None)]
        tree.looks.listed(path, own, left_out, [row(e[0], e[1], *e[4:9]) for e in seen])
        tree.looks.aged(max([e[6] for e in entries], default=0))
    entries.sort()
    below.sort(key=lambda one: one[0], reverse=True)
    return Block(path, rel, meta, xattrs, entries), below, many


def _linked(entry: Entry, rel: str, links: dict[tuple[int, int], str]) -> Entry:
    """*entry*, as a further hard link if its inode was seen before."""
    own = f"{rel}/{entry.name}" if rel else entry.name
    first = links.setdefault((entry.device, entry.inode), own)
    return entry if first == own else entry._replace(detail=first)


def _pruned(blocks: list[Block]) -> list[Block]:
    """Without the directories that were only looked into."""
    needed: set[str] = {""}
    for block in reversed(blocks):
        if block.wanted or block.entries or block.rel in needed:
            rel = block.rel
            while rel and rel not in needed:
                needed.add(rel)
                rel = rel.rpartition("/")[0]
    return [block for block in blocks if block.rel in needed]


def _list(tree: Tree, path: str) -> list[os.DirEntry[str]]:
    try:
        fd = open_directory(tree.fd, path)
        try:
            if tree.looks is not None:
                own = os.fstat(fd)
                # only names count here: what of them is taken is noted by itself
                tree.looks.listed(path, own, os.listdir(fd), [])
            with os.scandir(fd) as found:
                entries = list(found)
                for entry in entries:
                    entry.is_dir(follow_symlinks=False)
                return entries
        finally:
            os.close(fd)
    except OSError as err:
        raise _unreadable(tree, path, err) from err


def _entry(tree: Tree, name: str, status: os.stat_result, detail: str) -> Entry:
    owner = (status.st_uid, status.st_gid) if tree.keeps_owner else (0, 0)
    return Entry(
        name,
        status.st_mode,
        *owner,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_ino,
        0 if tree.overlay else status.st_dev,
        detail,
    )


def _device(status: os.stat_result) -> str:
    return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"


def _join(path: str, name: str) -> str:
    return name if path == "." else f"{path}/{name}"


def _unreadable(tree: Tree, path: str, err: OSError) -> ContextError:
    shown = "/" if path == "." else "/" + path.lstrip("/")
    hint = None
    if err.errno in (errno.ELOOP, errno.EXDEV, errno.ENOENT, errno.ENOTDIR):
        hint = "it changed while it was read"
    elif err.errno in (errno.EACCES, errno.EPERM):
        hint = "give yourself access to it, or name it in .dockerignore"
    return ContextError(f'cannot read "{shown}" in {tree.label}: {err.strerror}', hint=hint)


def _hidden(tree: Tree, path: str) -> str | None:
    found = tree.matcher.reason(path) if tree.matcher is not None else None
    return f'{found[1]} leaves it out: "{found[0]}"' if found else None


def _hint(tree: Tree, path: str) -> str | None:
    if tree.keeps_owner:
        return None
    return "sources are looked up in the build context, not in the directory of the Dockerfile"
