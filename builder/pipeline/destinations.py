"""Where the parts of a COPY land: the destination as written against what the image has there, archives, heredocs.

``placing`` writes files once it is known where; here it is found out whether a file goes into a directory or replaces
something, with symlinks of the image followed inside the image.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import NamedTuple

from builder.errors import BuildError, ContextError
from builder.pipeline import placing
from builder.pipeline.filecopy import key_of, set_owner
from builder.pipeline.manifest import stat_key
from builder.pipeline.scanning import Part, Shape
from builder.pipeline.trees import clean, open_directory, open_file, resolve
from builder.store.diskfaults import from_os_error

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Destination(NamedTuple):
    """The destination of a COPY as the Dockerfile says it."""

    path: str
    """Absolute, symlinks not followed yet."""
    is_directory: bool
    """It is written as one, with a slash at its end."""
    root: int | None
    """The file system that answers what is there; None when there is none (scratch, ``--link``)."""

    def find(self, write: int) -> tuple[tuple[str, ...], bool]:
        """(the real path in the image, whether a file must go *into* it); *write* is the upper directory.

        Raises: BuildError.
        """
        try:
            real = resolve(self.root, self.path)
            status = real.status
            if status is None and (self.root is None or not self.is_directory):
                status = resolve(write, "/".join(real.parts)).status
        except NotADirectoryError as err:
            raise BuildError(f"mkdir {err.filename}: not a directory") from None
        except OSError as err:
            raise BuildError(f"cannot use {self.path} as a destination: {err.strerror}") from err
        return real.parts, self.is_directory or (status is not None and stat.S_ISDIR(status.st_mode))


def destination(dest: str, workdir: str, root: int | None) -> Destination:
    """*dest* as written, below *workdir* when it is relative; ".." takes away what is written before it."""
    is_directory = dest in ("", ".") or dest.endswith(("/", "/."))
    return Destination(clean(dest if dest.startswith("/") else f"{workdir}/{dest}"), is_directory, root)


def put(part: Part, where: Destination, target: placing.Target, earlier: placing.Earlier | None) -> None:
    """Write *part* to its destination. Raises: BuildError, ContextError, StoreError."""
    parts, into = where.find(target.write)
    if part.shape is Shape.ARCHIVE:
        _unpack(part, target, parts)
        return
    if part.shape is Shape.FILE:
        if into:
            target.directory(parts)
            parts = (*parts, part.name)
        elif not parts:
            raise BuildError("cannot replace to directory / with file")
    placing.place(part, target, parts, earlier)


def put_inline(name: str, content: bytes, where: Destination, target: placing.Target) -> None:
    """Write a heredoc's *content* under the last part of *name*. Raises: BuildError, OSError."""
    parts, into = where.find(target.write)
    name = name.rpartition("/")[2]
    if into:
        parts = (*parts, name)
    target.directory(parts[:-1])
    path = "/".join(parts)
    status = target.lookup(path)
    if not parts or (status is not None and stat.S_ISDIR(status.st_mode)):
        raise BuildError(f"cannot replace to directory /{path} with file")
    directory = open_directory(target.write, "/".join(parts[:-1]) or ".")
    try:
        try:
            os.unlink(parts[-1], dir_fd=directory)
        except FileNotFoundError:
            pass
        fd = os.open(parts[-1], _NEW_FILE, 0o600, dir_fd=directory)
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            if target.owner is not None:
                set_owner(fd, *target.owner)
            os.fchmod(fd, target.chmod(stat.S_IFREG | 0o644) if target.chmod is not None else 0o644)
    finally:
        os.close(directory)
    target.tally.files += 1
    target.tally.size += len(content)


def copy_top(root: int, write: int) -> None:
    """The upper directory's own owner and mode are those of "/" in the image that it lies on."""
    below, own = os.fstat(root), os.fstat(write)
    if (below.st_uid, below.st_gid) != (own.st_uid, own.st_gid):
        os.fchown(write, below.st_uid, below.st_gid)
    if stat.S_IMODE(below.st_mode) != stat.S_IMODE(own.st_mode):
        os.fchmod(write, stat.S_IMODE(below.st_mode))


def _unpack(part: Part, target: placing.Target, parts: tuple[str, ...]) -> None:
    from builder.store.apply import extract_archive

    try:
        with os.fdopen(open_source(part), "rb") as stream:
            extract_archive(stream, target.write, "/" + "/".join(parts), owner=target.owner)
    except OSError as err:
        # On a detached overlay the kernel answers EAGAIN for a link to "/..": it stays an error, not an escape.
        raise from_os_error(err, "unpack") or BuildError(f"cannot unpack {part.name}: {err.strerror}") from err


def open_source(part: Part) -> int:
    """The file of a FILE part, which must be what was selected."""
    block = part.blocks[0]
    entry = block.entries[0]
    path = entry.name if block.path == "." else f"{block.path}/{entry.name}"
    try:
        fd = open_file(part.tree.fd, path)
        if key_of(os.fstat(fd), entry.device) != stat_key(entry):
            os.close(fd)
            raise OSError(errno.ESTALE, "it has changed")
    except OSError as err:
        raise ContextError(f'cannot read "/{path}" in {part.tree.label}: {err.strerror}') from err
    return fd
