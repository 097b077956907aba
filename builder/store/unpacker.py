"""One member of an archive at a time into a file system, which it cannot leave. ``apply`` decides what to do with
which.

Every parent directory is opened with ``openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)``, every last component without
following links, and owner, mode, times and attributes are set on descriptors, so that no name is looked up twice.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import suppress

from builder.errors import ArchiveInvalid
from builder.store.dirtimes import DirectoryTimes
from builder.store.layerwalk import keep_xattr
from builder.store.tarstream import Member
from runtime.linux.files import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, openat2, start_writing_back

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CACHED = 64
"""Directories kept open: archives name the entries of a directory one after the other."""
_BIG = 1 << 20
_PATH_STEP = 2048
"""Longer paths are opened in pieces; the kernel takes 4096 bytes."""
_NAME_MAX = 255
_PATH_MAX = 1 << 14
"""Four times what the kernel takes in one step: each level costs time and memory, and nobody has such paths."""


class Unpacker:
    """Writes members below the directory *root* (a descriptor that stays the caller's). A context manager.

    *owner* overrides the archive's. With *keep_links*, an entry for a directory leaves a symlink to
    one as it is (packages of Debian name /bin, which is a link to usr/bin).
    """

    def __init__(
        self, root: int, *, owner: tuple[int, int] | None = None, track: bool = False, keep_links: bool = False
    ) -> None:
        self._root = root
        self._owner = owner
        self._directories: dict[bytes, int] = {}
        self._times = DirectoryTimes()
        self._track = track
        self._keep_links = keep_links
        self._confined = not initial_namespace()
        self.digests: dict[int, bytes] = {}
        """With *track*: inode → sha256 of every file with content."""
        self.replaced = False
        """Whether an entry took the place of an earlier one that was not a directory."""

    def __enter__(self) -> Unpacker:
        return self

    def __exit__(self, *exc: object) -> None:
        self._forget()

    # --- directories ---

    def directory(self, parts: list[bytes], mtime: int = 0) -> int:
        """The directory at *parts*, made with its parents (0755) where it is missing. The descriptor stays ours."""
        try:
            return self._enter(b"/".join(parts))
        except FileNotFoundError:
            fd = self._missing(parts, mtime)
        except OSError as err:
            if err.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            fd = self._over_whiteout(parts, mtime)
        return self._cache(b"/".join(parts), fd)

    def _enter(self, key: bytes) -> int:
        """The directory at *key*, kept open. Raises OSError."""
        if not key:
            return self._root
        fd = self._directories.get(key)
        if fd is not None:
            return fd
        above, _, name = key.rpartition(b"/")
        parent = self._directories.get(above) if above else self._root
        if parent is not None:
            try:
                return self._cache(key, os.open(name, _OPEN_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent))
            except OSError as err:
                # A link, maybe to a directory: the kernel resolves it from the root.
                if err.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
        return self._cache(key, self._open(key))

    def _cache(self, key: bytes, fd: int) -> int:
        while len(self._directories) >= _CACHED:
            os.close(self._directories.pop(next(iter(self._directories))))
        self._directories[key] = fd
        return fd

    def _open(self, path: bytes) -> int:
        fd = self._root
        flags = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
        try:
            while len(path) > _PATH_STEP:
                cut = path.rindex(b"/", 0, _PATH_STEP)
                step = openat2(fd, path[:cut], _OPEN_DIRECTORY, resolve=flags)
                if fd != self._root:
                    os.close(fd)
                # Deeper pieces have another root, where a link would mean something else.
                fd, path, flags = step, path[cut + 1 :], RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS
            return openat2(fd, path, _OPEN_DIRECTORY, resolve=flags)
        finally:
            if fd != self._root:
                os.close(fd)

    def _missing(self, parts: list[bytes], mtime: int) -> int:
        """Make what is missing of *parts*. Searched by halves: a path of thousands of levels costs a few openings."""
        there, fd, missing = 0, os.dup(self._root), len(parts)
        try:
            while missing - there > 1:
                middle = (there + missing) // 2
                try:
                    found = self._open(b"/".join(parts[:middle]))
                except FileNotFoundError:
                    missing = middle
                else:
                    os.close(fd)
                    there, fd = middle, found
            for at in range(there, len(parts)):
                try:
                    os.mkdir(parts[at], 0o700, dir_fd=fd)
                except FileExistsError:
                    text = f"{_show(parts[: at + 1])} is a link to nowhere, and the archive goes through it"
                    raise ArchiveInvalid(text) from None
                child = os.open(parts[at], _OPEN_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
                os.close(fd)
                fd = child
                self._chown(fd, self._owner or (0, 0))
                os.fchmod(fd, 0o755)
            self._times.add(b"/".join(parts), os.fstat(fd).st_ino, mtime, len(parts) - there)
            return fd
        except BaseException:
            os.close(fd)
            raise

    def _over_whiteout(self, parts: list[bytes], mtime: int) -> int:
        """A directory where the same layer deleted the name: what was below is gone, so the new one is opaque."""
        for count in range(1, len(parts) + 1):
            parent, name = self.directory(parts[: count - 1], mtime), parts[count - 1]
            if self.is_whiteout(parent, name):
                os.unlink(name, dir_fd=parent)
                os.mkdir(name, 0o755, dir_fd=parent)
                fd = os.open(name, _OPEN_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
                try:
                    self.set_opaque(fd)
                    self._remember(parts[:count], fd, mtime)
                finally:
                    os.close(fd)
                return self._open(b"/".join(parts)) if count == len(parts) else self.directory(parts, mtime)
        raise ArchiveInvalid(f"{_show(parts)} is not a directory, and the archive goes through it")

    def is_whiteout(self, parent: int, name: bytes) -> bool:
        """Whether overlay's sign of a deletion stands at *name*."""
        try:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0

    def set_opaque(self, fd: int) -> None:
        """Hide what lower layers have in the directory *fd*."""
        os.setxattr(fd, "user.overlay.opaque" if self._confined else "trusted.overlay.opaque", b"y")

    # --- members ---

    def make(self, parts: list[bytes], member: Member, chunks: Iterator[bytes], target: list[bytes]) -> None:
        """Create what *member* describes at *parts* (at least one); *target* is the normalised path of a hard link's
        target.
        """
        parent, name = self.directory(parts[:-1], member.mtime), parts[-1]
        match member.kind:
            case b"0":
                self._file(parent, name, member, chunks)
            case b"1":
                self._hard_link(parent, name, member, target)
            case b"2":
                if not member.link or b"\0" in member.link:
                    raise ArchiveInvalid(f"{_show(parts)} is a symlink without a target")
                self._clear(parent, name)
                os.symlink(member.link, name, dir_fd=parent)
                self._attributes_of_name(parent, name, member)
            case b"5":
                self._directory(parts, parent, name, member)
            case _:
                self._node(parent, name, member)

    def attributes(self, fd: int, member: Member) -> None:
        """Owner, mode and extended attributes, in the order in which none of them undoes another."""
        self._chown(fd, self._owner or (member.uid, member.gid))
        os.fchmod(fd, member.mode)
        for raw, value in member.xattrs:
            name = os.fsdecode(raw)
            if not keep_xattr(name):
                continue
            try:
                os.setxattr(fd, name, value)
            except OSError as err:
                # As docker does: a file system without attributes is no reason to refuse an image.
                if err.errno not in (errno.EOPNOTSUPP, errno.EPERM, errno.EINVAL):
                    raise

    def finish(self) -> None:
        """Set the times of directories, which their later entries have changed. Call once, after the last member."""
        for key, inode, mtime, implied in self._times:
            try:
                if implied:
                    self._date_implied(key.split(b"/"), mtime, implied)
                    continue
                fd = self._enter(key)
            except OSError:
                continue  # It was replaced by a later entry.
            if os.fstat(fd).st_ino == inode:
                os.utime(fd, ns=(mtime, mtime))

    def _date_implied(self, parts: list[bytes], mtime: int, count: int) -> None:
        fd = self._open(b"/".join(parts[:-count])) if parts[:-count] else os.dup(self._root)
        try:
            for name in parts[-count:]:
                child = os.open(name, _OPEN_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
                os.close(fd)
                fd = child
                os.utime(fd, ns=(mtime, mtime))
        finally:
            os.close(fd)

    def _file(self, parent: int, name: bytes, member: Member, chunks: Iterator[bytes]) -> None:
        try:
            fd = os.open(name, _CREATE, 0o600, dir_fd=parent)
        except FileExistsError:
            self._clear(parent, name)
            fd = os.open(name, _CREATE, 0o600, dir_fd=parent)
        try:
            if member.sparse is not None:
                self._sparse(fd, member, chunks)
            elif member.size:
                hasher = hashlib.sha256() if self._track else None
                for chunk in chunks:
                    if hasher:
                        hasher.update(chunk)
                    _write(fd, chunk)
                if hasher:
                    self.digests[os.fstat(fd).st_ino] = hasher.digest()
                if member.size >= _BIG:
                    with suppress(OSError):  # only so that the disk is not idle until all must be on it
                        start_writing_back(fd)
            self.attributes(fd, member)
            os.utime(fd, ns=(member.mtime, member.mtime))
        finally:
            os.close(fd)

    def _sparse(self, fd: int, member: Member, chunks: Iterator[bytes]) -> None:
        data = b""
        for offset, length in member.sparse or ():
            os.lseek(fd, offset, os.SEEK_SET)
            while length:
                data = data or next(chunks)
                _write(fd, data[:length])
                length, data = length - len(data[:length]), data[length:]
        for _ in chunks:
            pass
        os.ftruncate(fd, member.size)
        if self._track and member.size:
            hasher = hashlib.sha256()
            os.lseek(fd, 0, os.SEEK_SET)
            while chunk := os.read(fd, 1 << 20):
                hasher.update(chunk)
            self.digests[os.fstat(fd).st_ino] = hasher.digest()

    def _hard_link(self, parent: int, name: bytes, member: Member, target: list[bytes]) -> None:
        if not target:
            raise ArchiveInvalid(f"hard link {name!r} has no target")
        try:
            # Not through self.directory: looking for a target makes no directories.
            source = self._open(b"/".join(target[:-1])) if target[:-1] else os.dup(self._root)
        except OSError as err:
            raise ArchiveInvalid(f"hard link {name!r} to {_show(target)}, which the archive does not have") from err
        try:
            status = os.stat(target[-1], dir_fd=source, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode) or (stat.S_ISCHR(status.st_mode) and not status.st_rdev):
                raise ArchiveInvalid(f"hard link {name!r} to {_show(target)}, which is not a file")
            if self._same(parent, name, status):
                return
            self._clear(parent, name)
            # link(2) does not follow a link at the end: a hard link to a symlink is one.
            os.link(target[-1], name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError as err:
            raise ArchiveInvalid(f"hard link {name!r} to {_show(target)}, which the archive does not have") from err
        finally:
            os.close(source)

    def _same(self, parent: int, name: bytes, status: os.stat_result) -> bool:
        try:
            there = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) == (status.st_dev, status.st_ino)

    def _directory(self, parts: list[bytes], parent: int, name: bytes, member: Member) -> None:
        opaque = False
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if self._keep_links and stat.S_ISLNK(status.st_mode):
                self.directory(parts)
                return
            if not stat.S_ISDIR(status.st_mode):
                opaque = self.is_whiteout(parent, name)
                self._clear(parent, name)
                os.mkdir(name, 0o700, dir_fd=parent)
        fd = os.open(name, _OPEN_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        try:
            if opaque:
                self.set_opaque(fd)
            self.attributes(fd, member)
            self._remember(parts, fd, member.mtime)
        finally:
            os.close(fd)

    def _node(self, parent: int, name: bytes, member: Member) -> None:
        kinds = {b"3": stat.S_IFCHR, b"4": stat.S_IFBLK, b"6": stat.S_IFIFO}
        kind = kinds.get(member.kind)
        if kind is None:
            raise ArchiveInvalid(f"tar entry {member.path!r} has an unknown type {member.kind!r}")
        if kind == stat.S_IFCHR and member.device == (0, 0):
            raise ArchiveInvalid(f"tar entry {member.path!r} is a device 0:0, overlay's sign of a deletion")
        self._clear(parent, name)
        try:
            os.mknod(name, kind | 0o600, os.makedev(*member.device), dir_fd=parent)
        except PermissionError:
            if not self._confined or kind == stat.S_IFIFO:
                raise
            return  # No user namespace may make devices; every container gets its /dev anyway.
        self._attributes_of_name(parent, name, member)

    def _attributes_of_name(self, parent: int, name: bytes, member: Member) -> None:
        """Owner, mode and time of what cannot be opened; it was made just now, in a directory that only we write to."""
        uid, gid = self._owner or (member.uid, member.gid)
        try:
            os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)
        except OSError as err:
            self._tolerate(err)
        if member.kind != b"2":
            os.chmod(name, member.mode, dir_fd=parent)
        os.utime(name, ns=(member.mtime, member.mtime), dir_fd=parent, follow_symlinks=False)

    def _chown(self, fd: int, owner: tuple[int, int]) -> None:
        try:
            os.fchown(fd, *owner)
        except OSError as err:
            self._tolerate(err)

    def _tolerate(self, err: OSError) -> None:
        # A user namespace may lack the id (EINVAL) or have one id only (EPERM).
        if not (self._confined and err.errno in (errno.EPERM, errno.EINVAL)):
            raise err

    def _remember(self, parts: list[bytes], fd: int, mtime: int) -> None:
        self._times.add(b"/".join(parts), os.fstat(fd).st_ino, mtime, 0)

    def _clear(self, parent: int, name: bytes) -> None:
        """Remove what stands at *name*, with everything below it."""
        try:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return
        if stat.S_ISDIR(status.st_mode):
            self._forget(keep=parent)
            remove_tree(parent, name)
            self.replaced = True
        else:
            if not (stat.S_ISCHR(status.st_mode) and status.st_rdev == 0):
                self.replaced = True
            if stat.S_ISLNK(status.st_mode):
                self._forget(keep=parent)
            os.unlink(name, dir_fd=parent)

    def _forget(self, keep: int = -1) -> None:
        """Close the directories kept open: some of them may have gone."""
        kept = {key: fd for key, fd in self._directories.items() if fd == keep}
        for fd in self._directories.values():
            if fd != keep:
                os.close(fd)
        self._directories = kept


def split(path: bytes, *, confined: bool = False) -> list[bytes]:
    """The components of a path of an archive, without "." and with ".." worked out; absolute ones start at the root.

    *confined*: what climbs stays at the root, as in docker's ADD and ``cp``, which unpack in a root of their own.
    Raises: ArchiveInvalid for a path that climbs out of the root, or has a component that no file system takes.
    """
    if len(path) > _PATH_MAX:
        raise ArchiveInvalid(f"tar has a path of {len(path)} bytes, more than {_PATH_MAX}")
    parts: list[bytes] = []
    for part in path.split(b"/"):
        if part in (b"", b"."):
            continue
        if part == b"..":
            if not parts and not confined:
                raise ArchiveInvalid(f"tar entry {path[:100]!r} is outside of the root")
            del parts[-1:]
            continue
        if len(part) > _NAME_MAX or b"\0" in part:
            raise ArchiveInvalid(f"tar entry {path[:100]!r} has a name that no file system takes")
        parts.append(part)
    return parts


def remove_tree(parent: int, name: bytes) -> None:
    """Remove a directory and all below it, following no link, whatever its depth."""
    fd = os.open(name, _OPEN_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    names = [name]
    try:
        while True:
            below = None
            for entry in os.listdir(fd):
                try:
                    os.unlink(entry, dir_fd=fd)
                except IsADirectoryError:
                    below = os.fsencode(entry)
                    break
            if below is not None:
                child = os.open(below, _OPEN_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
                names.append(below)
            else:
                done = names.pop()
                if not names:
                    break
                child = os.open("..", _OPEN_DIRECTORY, dir_fd=fd)
                os.rmdir(done, dir_fd=child)
            os.close(fd)
            fd = child
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=parent)


def initial_namespace() -> bool:
    """Whether this process is in the first user namespace, where every id exists and trusted attributes may be set."""
    try:
        with open("/proc/self/uid_map", encoding="ascii") as file:
            return file.read().split() == ["0", "0", "4294967295"]
    except FileNotFoundError:
        return True


def _write(fd: int, data: bytes) -> None:
    done = os.write(fd, data)
    while done < len(data):
        done += os.write(fd, data[done:])


def _show(parts: list[bytes]) -> str:
    return repr(os.fsdecode(b"/".join(parts))[:100])
