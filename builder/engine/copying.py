"""cp and export: a container's files as tar streams, in both directions.

Every path of the container is resolved with openat2 inside of its root: a link that points out of it, or that a process
of the container swaps meanwhile, leads nowhere else. No program of the image is ever run for it.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO

from builder.engine import containers, rootfs
from builder.engine.options.mounts import MountType
from builder.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from builder.engine.session import Engine
    from builder.store.tarstream import Readable


def export(engine: Engine, name: str, sink: Callable[[bytes], object]) -> int:
    """The whole file system of a container as a tar; returns its bytes."""
    from builder.transfer import importer

    root = rootfs.merged_root(engine, containers.find(engine, name))
    try:
        return importer.export(root, sink)
    finally:
        os.close(root)


def read(engine: Engine, name: str, path: str, out: BinaryIO, *, follow: bool = False) -> None:
    """Write `path` of a container as a tar whose entries start with its last name. Raises NotFound."""
    import tarfile

    clean = _clean(path)
    root, within = _open_root(engine, name, clean)
    try:
        base = posixpath.basename(clean) or "."
        fd = _resolve(root, within, follow=follow or path.endswith(("/", "/.")), name=name, shown=path)
        try:
            with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:
                _add(archive, fd, "." if path.endswith("/.") else base)
        finally:
            os.close(fd)
    finally:
        os.close(root)


def _add(archive: object, fd: int, name: str) -> None:
    import tarfile

    assert isinstance(archive, tarfile.TarFile)
    status = os.fstat(fd)
    info = tarfile.TarInfo(name)
    info.mode, info.uid, info.gid, info.mtime = stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, 0
    info.mtime = int(status.st_mtime)
    if stat.S_ISLNK(status.st_mode):
        info.type, info.linkname = tarfile.SYMTYPE, os.readlink("", dir_fd=fd)
        archive.addfile(info)
    elif stat.S_ISREG(status.st_mode):
        info.size = status.st_size
        with open(f"/proc/self/fd/{fd}", "rb") as file:
            archive.addfile(info, file)
    elif stat.S_ISDIR(status.st_mode):
        info.type = tarfile.DIRTYPE
        archive.addfile(info)
        directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
        try:
            for child in sorted(os.listdir(directory)):
                inner = os.open(child, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
                try:
                    _add(archive, inner, f"{name}/{child}")
                finally:
                    os.close(inner)
        finally:
            os.close(directory)
    elif stat.S_ISFIFO(status.st_mode):
        info.type = tarfile.FIFOTYPE
        archive.addfile(info)


def write(engine: Engine, name: str, path: str, stream: Readable, *, owner: tuple[int, int] | None) -> None:
    """Unpack a tar into the directory `path` of a container. Raises NotFound, ArchiveError."""
    from builder.store import apply

    root, within = _open_root(engine, name, _clean(path), write=True)
    try:
        fd = _resolve(root, within, follow=True, name=name, shown=path)
        directory = stat.S_ISDIR(os.fstat(fd).st_mode)
        os.close(fd)
        if not directory:
            raise InvalidInput(f"extraction point is not a directory: {path}")
        apply.extract_archive(stream, root, within, owner=owner)
    finally:
        os.close(root)


def kind(engine: Engine, name: str, path: str) -> str:
    """ "directory", "file", "other" or "" (nothing there): what `path` of a container is, links followed."""
    root, within = _open_root(engine, name, _clean(path))
    try:
        fd = _resolve(root, within, follow=True, name=name, shown=path)
    except NotFound:
        return ""
    finally:
        os.close(root)
    mode = os.fstat(fd).st_mode
    os.close(fd)
    return "directory" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"


def user(engine: Engine, name: str) -> tuple[int, int] | None:
    """(uid, gid) of the user that the container runs as, None when none was named. Raises UserNotFound."""
    from runtime import users

    wanted = containers.definition(containers.find(engine, name)).user
    if not wanted:
        return None
    root, _ = _open_root(engine, name, "/")
    try:
        who = users.resolve(root, wanted, ())
    finally:
        os.close(root)
    return who.uid, who.gid


def behind_link(engine: Engine, name: str, path: str) -> str:
    """Where the link `path` of a container leads, one step as docker goes; `path` itself when it is no link."""
    clean = _clean(path)
    root, within = _open_root(engine, name, clean)
    try:
        fd = _resolve(root, within, follow=False, name=name, shown=path)
        try:
            return posixpath.join(posixpath.dirname(clean), os.readlink("", dir_fd=fd))
        finally:
            os.close(fd)
    except (NotFound, OSError):
        return path
    finally:
        os.close(root)


def _clean(path: str) -> str:
    return posixpath.normpath("/" + path.lstrip("/"))  # two slashes in front would stay


def _open_root(engine: Engine, name: str, path: str, *, write: bool = False) -> tuple[int, str]:
    """Where the absolute `path` of a container is: a root directory, and a path in it.

    A running container's own root has its volumes. One that does not run has its layers, and each directory that is
    to be mounted is a root of its own. Raises InvalidInput when it is to `write` what the container may only read.
    """
    from runtime.rootfs import open_rootfs

    container = containers.find(engine, name)
    definition = containers.definition(container)
    inside = [each for each in definition.mounts if f"{path}/".startswith(f"{each.request.target}/")]
    mount = max(inside, key=lambda each: len(each.request.target), default=None)
    if write and (mount.request.readonly if mount is not None else definition.request.security.readonly_root):
        what = "mounted volume" if mount is not None else "container rootfs"
        raise InvalidInput(f"{what} is marked read-only")
    state = containers.state(engine, container)
    if state.pid:
        return os.open(f"/proc/{state.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), path
    if mount is not None and mount.request.type in (MountType.BIND, MountType.VOLUME) and os.path.isdir(mount.source):
        root = os.open(mount.source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return root, f"/{mount.request.subpath}" + path.removeprefix(mount.request.target)
    return open_rootfs(rootfs.rootfs(engine, container)), path


def _resolve(root: int, path: str, *, follow: bool, name: str, shown: str) -> int:
    from runtime.linux import files

    flags = os.O_PATH | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    resolve = files.RESOLVE_IN_ROOT | files.RESOLVE_NO_MAGICLINKS
    try:
        return files.openat2(root, path.lstrip("/") or ".", flags, 0, resolve)
    except OSError as err:
        raise NotFound(f"Could not find the file {shown} in container {name}") from err
