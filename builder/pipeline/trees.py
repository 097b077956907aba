"""Open directories that COPY reads from, and paths inside them that cannot leave them.

A :class:`Tree` is a context, a stage, an image or an unpacked archive. Symlinks are followed as if the tree were the
root of the file system ("/" is its top, ".." stops there); whatever is opened in the end is opened by ``openat2``, so a
name that somebody swaps for a link meanwhile gives an error and never a file from outside.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.linux.files import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, openat2
from runtime.values import dataclass

if TYPE_CHECKING:
    from types import TracebackType

    from builder.pipeline.looks import Looks
    from builder.pipeline.remote import Fetched
    from parser.ignorefile import Matcher

MAX_LINKS = 255
"""Symlinks followed on the way to one path; BuildKit has the same bound."""

_PLAIN = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """An open directory that COPY reads from. Owns the descriptor ``fd``: use as a context manager or ``close()``."""

    fd: int
    label: str
    """For messages: "context", "stage build", "image busybox"."""
    keeps_owner: bool
    """False for a local directory, whose files become 0:0; True for stages, images and unpacked archives."""
    matcher: Matcher | None = None
    """The .dockerignore rules that hide files, or None."""
    path: Path | None = None
    """The directory's path on the host, for messages and ``context ls``; None for stages and images."""
    overlay: bool = False
    """A detached overlay: its device number means nothing beyond this process, so digests are remembered without it."""
    looks: Looks | None = None
    """Where scans note what they looked at; None where nobody asks."""
    origin: Fetched | None = None
    """What it was unpacked or checked out from; None for what is here."""

    def close(self) -> None:
        """Close the descriptor. Once only."""
        os.close(self.fd)

    def __enter__(self) -> Tree:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Resolved:
    """A path with all its symlinks followed."""

    parts: tuple[str, ...]
    """The real path from the root. When ``status`` is None its end does not exist, from component ``found`` on."""
    status: os.stat_result | None
    found: int
    """How many leading components exist."""

    @property
    def path(self) -> str:
        """Relative to the root; "." for the root itself."""
        return "/".join(self.parts) or "."


def resolve(root: int | None, path: str) -> Resolved:
    """Follow *path* inside the directory *root*, every symlink as if *root* were "/"; None is an empty root.

    What does not exist is kept as written (".." takes the last component away). Raises OSError: ELOOP, ENOTDIR when a
    file stands in the middle, ENAMETOOLONG.
    """
    todo = _components(path)[::-1]
    done: list[str] = []
    found = 0
    links = 0
    status = os.fstat(root) if root is not None else None
    while todo:
        part = todo.pop()
        if part == "..":
            if done:
                done.pop()
                found = min(found, len(done))
                status = _lstat(root, done) if found == len(done) else None
            continue
        if found < len(done):
            done.append(part)
            continue
        if status is not None and not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), "/" + "/".join(done))
        status = _lstat(root, [*done, part])
        if status is not None and stat.S_ISLNK(status.st_mode):
            links += 1
            if links > MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            target = os.readlink("/".join([*done, part]), dir_fd=root)
            if target.startswith("/"):
                done.clear()
            found = len(done)
            todo.extend(_components(target)[::-1])
            status = _lstat(root, done)
            continue
        done.append(part)
        if status is not None:
            found = len(done)
    return Resolved(tuple(done), status if found == len(done) else None, found)


def open_directory(root: int, path: str) -> int:
    """A readable descriptor of the directory *path*, which must be real (no symlink anywhere in it).

    Raises OSError: ELOOP or EXDEV when a component has become a link, ENOTDIR.
    """
    return openat2(root, path, os.O_RDONLY | os.O_DIRECTORY, resolve=_PLAIN)


def open_file(root: int, path: str) -> int:
    """A readable descriptor of the regular file at the real path *path*; anything else is EINVAL, without waiting.

    NONBLOCK: should a FIFO stand there, opening must not wait for its writer.
    """
    fd = openat2(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, resolve=_PLAIN)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return fd


def clean(path: str) -> str:
    """*path* from the root, without ".", ".." and doubled slashes: "../a//b/." → "/a/b"."""
    done: list[str] = []
    for part in _components(path):
        if part != "..":
            done.append(part)
        elif done:
            done.pop()
    return "/" + "/".join(done)


def _components(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _lstat(root: int | None, parts: Sequence[str]) -> os.stat_result | None:
    if root is None:
        return None
    try:
        return os.stat("/".join(parts) or ".", dir_fd=root, follow_symlinks=False)
    except FileNotFoundError:
        return None
