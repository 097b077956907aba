"""Parts of a selection written to their destination: the second half of COPY.

New files go straight into an overlay upper directory, the image below is only looked at. What the kernel's overlay
would do by itself is done here by hand: a directory that exists below is made again with its owner, mode and
attributes. With ``Target.merged`` the destination is a mounted overlay (or an image without layers) and the kernel does
it.

The rules are BuildKit's: contents of directories merge; a file replaces a file or link, never a directory; a directory
never replaces anything else; directories made on the way are 0755 and belong to root, or to ``--chown``.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Container, Sequence
from contextlib import suppress
from typing import NamedTuple

from builder.errors import BuildError
from builder.pipeline import bulkcopy
from builder.pipeline.filecopy import kept_xattrs, set_owner, set_xattrs
from builder.pipeline.manifest import leaf_name
from builder.pipeline.permissions import Chmod, Owner
from builder.pipeline.scanning import Block, Entry, Part, Shape
from builder.pipeline.trees import open_directory
from builder.store.diskfaults import from_os_error
from runtime.values import dataclass, field


class Earlier(NamedTuple):
    """The layer that the same step made before, opened: unchanged files are linked from there."""

    root: int
    changed: Container[str]
    """Names of the leaves that the layer was not made from."""


@dataclass(slots=True, eq=False)
class Tally:
    """What was written so far."""

    files: int = 0
    size: int = 0
    linked: int = 0


@dataclass(slots=True, eq=False)
class Target:
    """Where files are written."""

    write: int
    """Descriptor of the upper directory, or of a writable overlay."""
    read: int | None
    """Descriptor of the image below the upper directory; None when there is nothing below, or with ``merged``."""
    owner: Owner | None
    """``--chown``; None keeps what the parts say."""
    chmod: Chmod | None
    directory_mode: int = 0o755
    """What directories get in the end that are made on the way to the destination."""
    tally: Tally = field(default_factory=Tally)
    made: list[str] = field(default_factory=list)
    """Those directories, outer ones first."""

    def lookup(self, path: str) -> os.stat_result | None:
        """What is at the real path *path* now."""
        for root in (self.write, self.read):
            if root is not None:
                try:
                    return os.stat(path or ".", dir_fd=root, follow_symlinks=False)
                except (FileNotFoundError, NotADirectoryError):
                    continue
        return None

    def directory(self, parts: Sequence[str]) -> bool:
        """Have the directory *parts* in the upper directory, and say whether it is new to the image. Raises
        BuildError."""
        made = False
        for index in range(len(parts)):
            made = self._step("/".join(parts[: index + 1]))
        return made

    def _step(self, path: str) -> bool:
        with suppress(FileNotFoundError):
            status = os.stat(path, dir_fd=self.write, follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode):
                raise BuildError(f"mkdir /{path}: not a directory")
            return False
        below = self.lookup(path)
        if below is not None and not stat.S_ISDIR(below.st_mode):
            raise BuildError(f"mkdir /{path}: not a directory")
        os.mkdir(path, 0o755, dir_fd=self.write)
        fd = open_directory(self.write, path)
        try:
            if below is None:
                if self.owner is not None:
                    set_owner(fd, *self.owner)
                os.fchmod(fd, 0o755)
                self.made.append(path)
            else:
                self.copy_up(path, below, fd)
        finally:
            os.close(fd)
        return below is None

    def finish(self) -> None:
        """Give the new directories their mode, which may be one that nobody can write with."""
        if self.directory_mode != 0o755:
            for path in reversed(self.made):
                os.chmod(path, self.directory_mode, dir_fd=self.write)

    def copy_up(self, path: str, below: os.stat_result, fd: int) -> None:
        """Give the new directory *fd* what the directory *path* of the image has."""
        assert self.read is not None
        if (below.st_uid, below.st_gid) != (0, 0):
            set_owner(fd, below.st_uid, below.st_gid)
        os.fchmod(fd, stat.S_IMODE(below.st_mode))
        source = open_directory(self.read, path)
        try:
            set_xattrs(fd, kept_xattrs(source))
        finally:
            os.close(source)

    def permissions(self, entry: Entry) -> int:
        """The mode that *entry* gets."""
        return self.chmod(entry.mode) if self.chmod is not None else stat.S_IMODE(entry.mode)

    def owner_of(self, entry: Entry) -> Owner:
        """The owner that *entry* gets."""
        return self.owner if self.owner is not None else (entry.uid, entry.gid)


def place(part: Part, target: Target, parts: tuple[str, ...], earlier: Earlier | None) -> None:
    """Write *part* at the real path *parts*: for a FILE its own path, otherwise the directory of its contents.

    Raises: BuildError, ContextError, StoreError.
    """
    try:
        _Placing(part, target, parts, earlier).run()
    except OSError as err:
        translated = from_os_error(err, "copy")
        raise translated or BuildError(f"cannot write /{'/'.join(parts)}: {err.strerror}") from err


_TAKING = threading.Lock()


class _Placing:
    """One part on its way."""

    def __init__(self, part: Part, target: Target, parts: tuple[str, ...], earlier: Earlier | None) -> None:
        self.part = part
        self.target = target
        self.base = "/".join(parts[:-1] if part.shape is Shape.FILE else parts)
        self.name = parts[-1] if part.shape is Shape.FILE and parts else ""
        self.parts = parts
        self.earlier = earlier
        self.spool = -1
        self.spooled_in = ""
        self.moved: set[str] = set()
        self.batches: list[bulkcopy.Batch] = []
        self.entries: list[Entry] = []
        self.links: list[tuple[str, str]] = []
        self.times: list[tuple[str, int]] = []

    def run(self) -> None:
        part, target = self.part, self.target
        # Two equal COPY steps share a selection: the first moves the spooled files, the other reads them again.
        with _TAKING:
            spool, part.spool = part.spool, None
        self.spooled_in = spool or ""
        if spool is not None:
            self.spool = os.open(spool, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for block in part.blocks:
                self.block(block)
        finally:
            if self.spool >= 0:
                os.close(self.spool)
        if self.batches:
            done = bulkcopy.run(part.tree.fd, target.write, self.batches, digest=False, label=part.tree.label)
            for _ in done:
                pass
        for name, first in self.links:
            os.link(first, name, src_dir_fd=target.write, dst_dir_fd=target.write, follow_symlinks=False)
        for path, mtime in reversed(self.times):
            os.utime(path, ns=(mtime, mtime), dir_fd=target.write, follow_symlinks=False)

    def block(self, block: Block) -> None:
        path = _join(self.base, block.rel)
        fresh = self.make_directory(block, path)
        fd = open_directory(self.target.write, path or ".")
        try:
            self.contents(block, path, fd, fresh=fresh)
        finally:
            os.close(fd)

    def make_directory(self, block: Block, path: str) -> bool:
        """Have the directory for *block*; True when nothing but what we moved can be in it."""
        target, meta = self.target, block.meta
        if meta is None:
            where = self.parts[:-1] if self.part.shape is Shape.FILE else self.parts
            if self.spool >= 0 and self.part.shape is Shape.CONTENTS and where and target.lookup(path) is None:
                # The whole spool becomes the destination: one rename for all files.
                target.directory(where)
                os.rename(self.spooled_in, path, dst_dir_fd=target.write)
                self.moved.add("")
                self.finish_directory(path, self.target.owner or (0, 0), 0o755, ())
                return True
            return target.directory(where)
        above = block.rel.rpartition("/")[0]
        if above in self.moved:
            self.moved.add(block.rel)
            with suppress(FileExistsError):
                os.mkdir(path, 0o700, dir_fd=target.write)
            self.finish(block, path, meta)
            return True
        status = target.lookup(path)
        if status is not None and not stat.S_ISDIR(status.st_mode):
            raise BuildError(f"cannot copy to non-directory: /{path}")
        if status is None:
            if self.spool >= 0 and _is_dir(self.spool, block.rel):
                os.rename(block.rel, path, src_dir_fd=self.spool, dst_dir_fd=target.write)
                self.moved.add(block.rel)
            else:
                os.mkdir(path, 0o700, dir_fd=target.write)
            self.finish(block, path, meta)
            return True
        target.directory(path.split("/"))
        if self.part.shape is Shape.CONTENTS:
            self.finish(block, path, meta)
        return False

    def finish(self, block: Block, path: str, meta: Entry) -> None:
        self.finish_directory(path, self.target.owner_of(meta), self.target.permissions(meta), block.xattrs)
        self.times.append((path, meta.mtime))

    def finish_directory(self, path: str, owner: Owner, mode: int, xattrs: tuple[tuple[str, bytes], ...]) -> None:
        fd = open_directory(self.target.write, path)
        try:
            status = os.fstat(fd)
            if owner != (status.st_uid, status.st_gid):  # it may be the image's own
                set_owner(fd, *owner)
            os.fchmod(fd, mode)
            set_xattrs(fd, xattrs)
        finally:
            os.close(fd)

    def contents(self, block: Block, path: str, fd: int, *, fresh: bool) -> None:
        tally = self.target.tally
        moved = block.rel in self.moved
        items: list[bulkcopy.Item] = []
        earlier = self.open_earlier(path)
        try:
            for entry, digest in zip(block.entries, block.digests, strict=True):
                name = self.name or entry.name
                kind = entry.mode & 0o170000
                if kind != stat.S_IFREG:
                    if not fresh:
                        self.make_room(path, name, fd)
                    self.special(entry, kind, name, path, fd)
                    continue
                tally.files += 1
                if not entry.detail:
                    tally.size += entry.size
                if moved and entry.name in block.spooled:
                    continue
                if not fresh or moved:
                    self.make_room(path, name, fd)
                if entry.detail:
                    self.links.append((_join(path, name), _join(self.base, entry.detail)))
                elif self.spool >= 0 and entry.name in block.spooled:
                    os.rename(_join(block.rel, entry.name), name, src_dir_fd=self.spool, dst_dir_fd=fd)
                elif earlier >= 0 and self.link_earlier(block, entry, digest, name, earlier, fd):
                    tally.linked += 1
                else:
                    items.append(self.item(entry, name))
        finally:
            if earlier >= 0:
                os.close(earlier)
        if items:
            self.batches.append(bulkcopy.Batch(block.path, path or ".", items))

    def item(self, entry: Entry, name: str) -> bulkcopy.Item:
        uid, gid = self.target.owner_of(entry)
        if (uid, gid) == (0, 0):
            uid = gid = -1
        expected = (entry.device, entry.inode, entry.size, entry.mtime, entry.ctime)
        return 0, entry.name, name, self.target.permissions(entry), uid, gid, entry.size, expected

    def make_room(self, path: str, name: str, fd: int) -> None:
        """Take away what would be replaced. Raises BuildError when that is a directory."""
        status = self.target.lookup(_join(path, name))
        if status is None:
            return
        if stat.S_ISDIR(status.st_mode):
            raise BuildError(f"cannot replace to directory /{_join(path, name)} with file")
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=fd)

    def special(self, entry: Entry, kind: int, name: str, path: str, fd: int) -> None:
        owner = self.target.owner_of(entry)
        if kind == stat.S_IFLNK:
            os.symlink(entry.detail, name, dir_fd=fd)
        elif kind == stat.S_IFSOCK:
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=fd))
        else:
            major, _, minor = entry.detail.partition(":")
            device = os.makedev(int(major), int(minor)) if entry.detail else 0
            if kind == stat.S_IFCHR and not device:
                raise BuildError(f"cannot copy device 0:0 to /{_join(path, name)}", hint="to overlay it means deleted")
            try:
                os.mknod(name, kind | 0o600, device, dir_fd=fd)
            except PermissionError as err:
                raise BuildError(
                    f"cannot make device /{_join(path, name)}: {err.strerror}", hint="devices need a build as root"
                ) from err
        if owner != (0, 0):
            try:
                os.chown(name, *owner, dir_fd=fd, follow_symlinks=False)
            except OSError as err:
                if err.errno != errno.EINVAL:
                    raise
        if kind != stat.S_IFLNK:
            os.chmod(name, self.target.permissions(entry), dir_fd=fd)
        os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=fd, follow_symlinks=False)

    # files from the layer that this step made before

    def open_earlier(self, path: str) -> int:
        if self.earlier is None:
            return -1
        try:
            return open_directory(self.earlier.root, path or ".")
        except OSError:
            return -1

    def link_earlier(self, block: Block, entry: Entry, digest: bytes | None, name: str, earlier: int, fd: int) -> bool:
        """Link an unchanged file; False when it must be copied.

        Two layers then share an inode. That is safe because a layer is never written (overlay copies up before it
        changes anything), and a changeset looks for hard links only among the names of its own layer. What shows is
        the link count in ``stat``, one higher per layer that shares the file.
        """
        assert self.earlier is not None
        if block.file_xattrs.get(entry.name) or digest is None or leaf_name(block, entry) in self.earlier.changed:
            return False
        try:
            status = os.stat(name, dir_fd=earlier, follow_symlinks=False)
            if (
                not stat.S_ISREG(status.st_mode)
                or (status.st_size, status.st_mtime_ns) != (entry.size, entry.mtime)
                or (status.st_uid, status.st_gid) != self.target.owner_of(entry)
                or stat.S_IMODE(status.st_mode) != self.target.permissions(entry)
            ):
                return False
            os.link(name, name, src_dir_fd=earlier, dst_dir_fd=fd, follow_symlinks=False)
        except OSError as err:
            # Gone, too many links, another file system, not allowed for a plain user: copy it then.
            if err.errno in (errno.ENOENT, errno.EMLINK, errno.EXDEV, errno.EPERM, errno.EACCES):
                return False
            raise
        return True


def _is_dir(root: int, path: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(path, dir_fd=root, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _join(base: str, rest: str) -> str:
    return f"{base}/{rest}" if base and rest else base or rest
