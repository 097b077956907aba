"""Where the files of COPY and ADD come from: the build context and named contexts, as the user types them.

All of them end as a `Tree`: an open directory with the rules for reading it. A local directory is read in place, and
only what a step asks for is read; nothing is sent or copied anywhere first. Archives and git repositories are unpacked
into a scratch directory, which then is a directory like any other.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from builder.errors import ContextError, DockerfileNotFound
from builder.pipeline.looks import Looks
from builder.pipeline.trees import Tree, open_directory
from runtime.linux.files import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, openat2
from runtime.values import dataclass, replace

if TYPE_CHECKING:
    from builder.pipeline.remote import Fetched, GitSource
    from parser.ignorefile import Matcher

__all__ = [
    "Context",
    "ImageSource",
    "LayoutSource",
    "StageSource",
    "Tree",
    "open_context",
    "open_named",
    "rootfs_tree",
]

IGNOREFILE = ".dockerignore"
LARGEST_DOCKERFILE = 64 << 20
LARGEST_IGNOREFILE = 4 << 20
_HEAD = 1 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


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
    epoch: int | None = None
    """When what was fetched was made, in unix seconds: a git commit's time, a download's Last-Modified or else the
    newest file in it. None for what is here: its times say nothing."""
    dockerfile_origin: Fetched | None = None
    """Where the Dockerfile came from, if from elsewhere than its context."""

    def close(self) -> None:
        """Close the tree."""
        self.tree.close()


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
    build_args: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Context:
    """Open what the user typed: a directory, ``-``, a git or http URL; *dockerfile* is the value of ``-f``.

    *scratch* gives a new empty directory for things that must be unpacked; the caller removes it after the build.
    *environment* is for what is fetched: see ``remote``.

    Raises: ContextError, DockerfileNotFound, DownloadFailed, ArchiveInvalid.
    """
    if source == "-" and dockerfile == "-":
        raise ContextError("invalid argument: can't use stdin for both build context and dockerfile")
    if source.startswith("github.com/") and not (cwd / source).exists():
        source = _github(source)
    if source != "-" and ":" not in source and ":" not in (dockerfile or ""):
        return _local(source, dockerfile, stdin, cwd)  # spares the common case the modules for what is elsewhere
    from builder.pipeline import remote

    git = remote.git_source(source)
    if git is not None:
        keep = (build_args or {}).get("BUILDKIT_CONTEXT_KEEP_GIT_DIR", "0") not in ("", "0", "false")
        directory = scratch()
        opened = _inside(_git_tree(git, directory, environment, keep_git_dir=keep), dockerfile, stdin)
        return replace(opened, epoch=int(os.stat(directory).st_mtime))
    if remote.is_url(source):
        path, digest = remote.download(source, scratch(), environment=environment)
        with open(path, "rb") as file:
            opened = _from_stream(file, source, dockerfile, scratch)
        tree = replace(opened.tree, origin=remote.fetched_file(source, digest))
        return replace(opened, tree=tree, epoch=int(os.stat(path).st_mtime) or _newest(tree))
    if source == "-":
        if stdin is None:
            raise ContextError("nothing stands on standard input", hint="give a directory, or redirect a file or a tar")
        return _from_stream(stdin, "standard input", dockerfile, scratch)
    if dockerfile is not None and remote.is_url(dockerfile):
        path, digest = remote.download(dockerfile, scratch(), environment=environment)
        opened = _local(source, "-", BytesIO(_read_path(path, dockerfile)), cwd)
        return replace(opened, dockerfile_origin=remote.fetched_file(dockerfile, digest))
    return _local(source, dockerfile, stdin, cwd)


def open_named(
    name: str,
    value: str,
    *,
    scratch: Callable[[], Path],
    cwd: Path,
    environment: Mapping[str, str] | None = None,
) -> Tree | ImageSource | LayoutSource | StageSource:
    """What ``--build-context name=value`` means. Raises as `open_context`."""
    from builder.pipeline import remote

    label = f"context {name}"
    if value.startswith("docker-image://"):
        return ImageSource(value.removeprefix("docker-image://"))
    if value.startswith("oci-layout://"):
        text, _, digest = value.removeprefix("oci-layout://").partition("@")
        place, _, tag = text.partition(":")
        return LayoutSource(cwd / place, tag or None, digest or None)
    if value.startswith("target:"):
        return StageSource(value.removeprefix("target:"))
    git = remote.git_source(value)
    if git is not None:
        return _git_tree(git, scratch(), environment, keep_git_dir=False, label=label)
    if remote.is_url(value):
        path, digest = remote.download(value, scratch(), environment=environment)
        with open(path, "rb") as file:
            return replace(_unpacked(file, scratch(), label), origin=remote.fetched_file(value, digest))
    directory = cwd / value
    try:
        fd = os.open(directory, _DIRECTORY)
    except OSError as err:
        raise ContextError(f"failed to get build context {name}: {directory}: {err.strerror}") from err
    try:
        matcher, _ = _ignore(fd, None)
    except BaseException:
        os.close(fd)
        raise
    return Tree(fd, label, keeps_owner=False, matcher=matcher, path=directory)


def rootfs_tree(fd: int, label: str) -> Tree:
    """A stage's or image's file system (descriptor of ``runtime.rootfs.open_rootfs``) as a source; takes *fd* over."""
    return Tree(fd, label, keeps_owner=True, overlay=True)


# the kinds of contexts


def _github(source: str) -> str:
    """The old short form "github.com/owner/name" of a context as a URL that is known for a repository's."""
    base, mark, fragment = source.partition("#")
    return f"https://{base.removesuffix('.git')}.git{mark}{fragment}"


def _local(source: str, dockerfile: str | None, stdin: BinaryIO | None, cwd: Path) -> Context:
    directory = cwd / source
    try:
        fd = os.open(directory, _DIRECTORY)
    except FileNotFoundError as err:
        raise ContextError(
            f'unable to prepare context: path "{source}" not found',
            hint="the context is the directory with the files to copy",
        ) from err
    except NotADirectoryError as err:
        raise ContextError(f"unable to prepare context: context must be a directory: {source}") from err
    except OSError as err:
        raise ContextError(f"unable to prepare context: {source}: {err.strerror}") from err
    looks = Looks(time.time_ns())
    try:
        text, name, beside = _local_dockerfile(fd, dockerfile, stdin, cwd)
        if beside is not None:
            # the Dockerfile's own stands beside it; without -f that is in the context
            _note(looks, fd, str(_own_ignore(Path(name) if dockerfile is None else beside)))
        _note(looks, fd, IGNOREFILE)
        matcher, ignore_name = _ignore(fd, beside)
    except BaseException:
        os.close(fd)
        raise
    tree = Tree(fd, "context", keeps_owner=False, matcher=matcher, path=directory, looks=looks)
    return Context(tree, text, name, ignore_name)


def _local_dockerfile(
    fd: int, dockerfile: str | None, stdin: BinaryIO | None, cwd: Path
) -> tuple[bytes, str, Path | None]:
    """(text, name, path on the host) of a local context's Dockerfile."""
    if dockerfile == "-":
        if stdin is None:
            raise ContextError("nothing stands on standard input", hint="redirect the Dockerfile: -f - < Dockerfile")
        return _bounded(stdin, "-"), "Dockerfile", None
    if dockerfile is not None:
        return _read_path(cwd / dockerfile, dockerfile), dockerfile, cwd / dockerfile
    for name in ("Dockerfile", "dockerfile"):
        place = Path(f"/proc/self/fd/{fd}/{name}")
        if place.exists() or place.is_symlink():
            return _read_path(place, name), name, place
    raise DockerfileNotFound("Dockerfile")


def _from_stream(stream: BinaryIO, label: str, dockerfile: str | None, scratch: Callable[[], Path]) -> Context:
    """A tar is a context; anything else is a Dockerfile without one."""
    from builder.store.apply import is_archive

    head = stream.read(_HEAD)
    if not head.strip():
        raise ContextError(f"{label} is empty: a Dockerfile or a tar was expected")
    whole = _Prefixed(head, stream)
    if is_archive(head) or _packed(head):
        return _inside(_unpacked(whole, scratch(), "context"), dockerfile, None)
    text = _bounded(whole, label)
    empty = os.open(scratch(), _DIRECTORY)
    return Context(Tree(empty, "context", keeps_owner=False), text, "Dockerfile")


def _inside(tree: Tree, dockerfile: str | None, stdin: BinaryIO | None) -> Context:
    """A context that came whole: its Dockerfile is looked for inside of it, and nothing in it leads outside."""
    try:
        if dockerfile == "-":
            if stdin is None:
                raise ContextError("nothing stands on standard input")
            text, name = _bounded(stdin, "-"), "Dockerfile"
        else:
            name = dockerfile or "Dockerfile"
            found = _read_inside(tree.fd, name, LARGEST_DOCKERFILE)
            if found is None and dockerfile is None:
                found = _read_inside(tree.fd, "dockerfile", LARGEST_DOCKERFILE)
            if found is None:
                raise DockerfileNotFound(name)
            text = found
        matcher, ignore_name = _ignore(tree.fd, None, name)
    except BaseException:
        tree.close()
        raise
    return Context(replace(tree, matcher=matcher), text, name, ignore_name)


def _unpacked(stream: BinaryIO | _Prefixed, directory: Path, label: str) -> Tree:
    from builder.store.apply import extract_archive

    fd = os.open(directory, _DIRECTORY)
    try:
        extract_archive(stream, fd, "/")
    except BaseException:
        os.close(fd)
        raise
    return Tree(fd, label, keeps_owner=True, path=directory)


def _newest(tree: Tree) -> int | None:
    """The latest time of a file, in unix seconds; None without any."""
    times = [
        int(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mtime)
        for _, _, files, fd in os.fwalk(".", dir_fd=tree.fd)
        for name in files
    ]
    return max(times, default=None)


def _git_tree(
    source: GitSource,
    directory: Path,
    environment: Mapping[str, str] | None,
    *,
    keep_git_dir: bool,
    label: str = "context",
) -> Tree:
    from builder.pipeline import remote

    if keep_git_dir:
        source = replace(source, keep_git_dir=True)
    origin = remote.fetched_commit(source, remote.fetch_git(source, directory, environment=environment))
    top = os.open(directory, _DIRECTORY)
    if not source.subdir.strip("/"):
        return Tree(top, label, keeps_owner=False, path=directory, origin=origin)
    try:
        fd = open_directory(top, source.subdir.strip("/"))
    except OSError as err:
        raise ContextError(f"the repository has no directory {source.subdir}: {err.strerror}") from err
    finally:
        os.close(top)
    return Tree(fd, label, keeps_owner=False, path=directory / source.subdir.strip("/"), origin=origin)


# reading


def _note(looks: Looks, fd: int, path: str) -> None:
    """Note whether there is such an ignore file, and which."""
    try:
        status = os.stat(path, dir_fd=fd, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        looks.taken(path, None)
        return
    except OSError:
        looks.give_up()
        return
    if stat.S_ISREG(status.st_mode):
        looks.taken(path, status)
    else:
        looks.give_up()


def _own_ignore(dockerfile: Path) -> Path:
    return dockerfile.with_name(dockerfile.name + ".dockerignore")


def _ignore(fd: int, beside: Path | None, inside: str | None = None) -> tuple[Matcher | None, str | None]:
    """(rules, name) of the ignore file that holds: the Dockerfile's own, else the context's."""
    found: bytes | None = None
    name = IGNOREFILE
    if beside is not None:
        own = _own_ignore(beside)
        try:
            found = _read_path(own, own.name, LARGEST_IGNOREFILE)
            name = own.name
        except DockerfileNotFound:
            pass
    elif inside is not None:
        found = _read_inside(fd, f"{inside}.dockerignore", LARGEST_IGNOREFILE)
        if found is not None:
            name = f"{inside}.dockerignore"
    if found is None:
        found = _read_inside(fd, IGNOREFILE, LARGEST_IGNOREFILE)
    if found is None:
        return None, None
    from parser.errors import DockerfileError
    from parser.ignorefile import Matcher, read_lines

    lines = read_lines(found)
    try:
        return (Matcher(lines, name=name) if lines else None), name
    except DockerfileError as err:
        raise ContextError(f"error reading {err.message}", hint=err.hint) from err


def _read_path(path: Path, name: str, largest: int = LARGEST_DOCKERFILE) -> bytes:
    """A file of the host, which the user named."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as err:
        raise DockerfileNotFound(name) from err
    except OSError as err:
        raise ContextError(f"failed to read dockerfile: open {name}: {err.strerror}") from err
    return _read_fd(fd, name, largest)


def _read_inside(root: int, name: str, largest: int) -> bytes | None:
    """A file of a directory, its links followed inside; None when there is none."""
    try:
        fd = openat2(
            root,
            name,
            os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC,
            resolve=RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as err:
        raise ContextError(f"cannot read {name} of the context: {err.strerror}") from err
    return _read_fd(fd, name, largest)


def _read_fd(fd: int, name: str, largest: int) -> bytes:
    kind = os.fstat(fd).st_mode
    if not stat.S_ISREG(kind):
        os.close(fd)
        what = "is a directory" if stat.S_ISDIR(kind) else "not a regular file"
        raise ContextError(f"failed to read dockerfile: read {name}: {what}")
    with os.fdopen(fd, "rb") as file:
        data = file.read(largest + 1)
    if len(data) > largest:
        raise ContextError(f"{name} is larger than {largest >> 20} MiB")
    return data


def _bounded(stream: BinaryIO | _Prefixed, name: str) -> bytes:
    pieces = []
    size = 0
    while block := stream.read(_HEAD):
        pieces.append(block)
        size += len(block)
        if size > LARGEST_DOCKERFILE:
            raise ContextError(f"the Dockerfile of {name} is larger than {LARGEST_DOCKERFILE >> 20} MiB")
    return b"".join(pieces)


def _packed(head: bytes) -> bool:
    """Whether the bytes begin as gzip, bzip2, xz or zstd do: no Dockerfile begins so."""
    return head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"))


class _Prefixed:
    """A stream whose first bytes were read already."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head = head
        self._rest = rest

    def read(self, size: int = -1, /) -> bytes:
        """Up to *size* bytes; all of them when negative."""
        if size < 0:
            data, self._head = self._head + self._rest.read(), b""
        elif self._head:
            data, self._head = self._head[:size], self._head[size:]
        else:
            data = self._rest.read(size)
        return data
