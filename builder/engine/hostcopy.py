"""cp with a file or directory of the host on the other side: docker's rules for what the copy is called.

A source that ends in `/.` means its contents. A target directory takes the source under its own name; one that
does not exist gives the copy its name.
"""

from __future__ import annotations

import os
import posixpath
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, cast

from builder.engine import copying
from builder.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from builder.engine.session import Engine


def receive(engine: Engine, name: str, path: str, target: Path, *, follow: bool, keep_owner: bool) -> None:
    """Copy `path` of a container to `target`. Raises NotFound, InvalidInput."""
    from builder.store import apply

    contents = path.endswith("/.")
    base = posixpath.basename(posixpath.normpath("/" + path)) or "."
    owner = None if keep_owner else (os.geteuid(), os.getegid())
    with tempfile.TemporaryFile() as spool:
        copying.read(engine, name, path, cast("BinaryIO", spool), follow=follow)
        spool.seek(0)
        if target.is_dir():
            directory, rename = target, ""
        else:
            directory, rename = target.parent, target.name
            if contents:
                target.mkdir()
                directory, rename = target, ""
        # unpacked beside the target and moved: an archive cannot name anything outside of its scratch directory
        with tempfile.TemporaryDirectory(dir=directory, prefix=".lamina-cp-") as scratch:
            root = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                apply.extract_archive(spool, root, "/", owner=owner)
            finally:
                os.close(root)
            if contents:
                for child in os.listdir(scratch):
                    _place(Path(scratch) / child, directory / child)
            else:
                _place(Path(scratch) / base, directory / (rename or base))


def _place(source: Path, target: Path) -> None:
    if source.is_dir() and not source.is_symlink():
        if target.is_dir() and not target.is_symlink():
            for child in os.listdir(source):
                _place(source / child, target / child)
            return
        if target.exists() or target.is_symlink():
            raise InvalidInput(f"cannot overwrite non-directory {str(target)!r} with directory")
    elif target.is_dir() and not target.is_symlink():
        raise InvalidInput(f"cannot overwrite directory {str(target)!r} with non-directory")
    os.rename(source, target)


def send(engine: Engine, source: Path, spelled: str, name: str, path: str, *, follow: bool, to_user: bool) -> None:
    """Copy a file or directory of the host to `path` of a container, where it has the owner that it has here, or the
    container's user (`to_user`, docker's -a). Raises NotFound, InvalidInput."""
    import tarfile

    if not os.path.lexists(source):
        raise NotFound(f"lstat {os.path.abspath(source)}: no such file or directory")
    kind = copying.kind(engine, name, path)
    if kind != "directory":
        path = copying.behind_link(engine, name, path)  # the file is written, the link stays
    is_directory = source.is_dir()
    if kind == "directory":
        parent, called = path, os.path.basename(os.path.abspath(source))
        if spelled.endswith(("/.", os.sep + ".")) or spelled == ".":
            called = "."
    else:
        if path.endswith("/") and not is_directory:
            raise InvalidInput(f'destination directory "{path}" must exist')
        if kind == "file" and is_directory:
            raise InvalidInput("cannot copy directory to a file", hint=f"{path} is a file in the container")
        parent, called = posixpath.dirname(path.rstrip("/")) or "/", posixpath.basename(path.rstrip("/"))
    with tempfile.TemporaryFile() as spool:
        with tarfile.open(
            fileobj=cast("IO[bytes]", spool), mode="w", format=tarfile.PAX_FORMAT, dereference=follow
        ) as tar:
            tar.add(source.resolve() if follow else source, arcname=called)
        spool.seek(0)
        copying.write(engine, name, parent, spool, owner=copying.user(engine, name) if to_user else None)
