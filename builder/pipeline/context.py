"""Where the files of COPY and ADD come from: the build context, named contexts, other stages and images.

All of them end as a :class:`Tree`: an open directory with the rules for reading it. A local directory is read in place,
and only what a step asks for is read; nothing is sent or copied anywhere first. Archives and git repositories are unpacked into a scratch
directory, which then is a directory like any other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from parser.ignorefile import Matcher
    from types import TracebackType


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

    def close(self) -> None:
        """Close the descriptor. Once only."""

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """The main build context with its Dockerfile: what ``lamina build -f FILE CONTEXT`` names."""

    tree: Tree
    dockerfile: bytes
    """The Dockerfile's text, read once."""
    dockerfile_name: str
    """For messages and records: "Dockerfile", "build/app.Dockerfile", "-"."""
    ignore_name: str | None = None
    """Which ignore file holds (".dockerignore", "app.Dockerfile.dockerignore"), or None."""

    def close(self) -> None:
        """Close the tree."""


@dataclass(frozen=True, slots=True)
class ImageSource:
    """A named context ``docker-image://REFERENCE``: the caller resolves it with the store."""

    reference: str


@dataclass(frozen=True, slots=True)
class LayoutSource:
    """A named context ``oci-layout://PATH[:TAG][@DIGEST]``: the caller loads it into the store."""

    path: Path
    tag: str | None
    digest: str | None


@dataclass(frozen=True, slots=True)
class StageSource:
    """A named context ``target:NAME``, as bake gives it: another target of the same run."""

    name: str


def open_context(
    source: str,
    *,
    dockerfile: str | None,
    stdin: BinaryIO | None,
    scratch: Callable[[], Path],
    cwd: Path,
    build_args: dict[str, str] | None = None,
) -> Context:
    """Open what the user typed: a directory, ``-``, a git or http URL; *dockerfile* is the value of ``-f``.

    *scratch* gives a new empty directory for things that must be unpacked; the caller removes it after the build.

    Raises: ContextError.
    """
    raise NotImplementedError


def open_named(name: str, value: str, *, scratch: Callable[[], Path], cwd: Path) -> Tree | ImageSource | LayoutSource | StageSource:
    """What ``--build-context name=value`` means. Raises: ContextError."""
    raise NotImplementedError


def rootfs_tree(fd: int, label: str) -> Tree:
    """A stage's or image's file system (descriptor of ``runtime.rootfs.open_rootfs``) as a source; takes *fd* over."""
    return Tree(fd, label, keeps_owner=True)
