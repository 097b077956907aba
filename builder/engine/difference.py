"""diff: what a container added, changed and deleted, from its upper directory alone."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from builder.engine import containers, rootfs
from builder.store import trees
from runtime.values import dataclass

if TYPE_CHECKING:
    from builder.engine.session import Engine


@dataclass(frozen=True, slots=True)
class Change:
    """`kind` is A, C or D; `path` as the container sees it."""

    kind: str
    path: str


def changes(engine: Engine, name: str) -> tuple[Change, ...]:
    """The changes of a container, sorted by path. Raises ContainerNotFound."""
    container = containers.find(engine, name)
    snapshot = rootfs.active(engine, container)
    below = rootfs.image_root(engine, container)
    try:
        return tuple(sorted(_walk(snapshot.upper, "", below), key=lambda change: change.path))
    finally:
        os.close(below)


def _walk(directory: Path, path: str, below: int) -> Iterator[Change]:
    for entry in os.scandir(directory):
        name = f"{path}/{entry.name}"
        status = entry.stat(follow_symlinks=False)
        before = _status(below, name)
        if trees.is_whiteout(entry.path, status):
            yield Change("D", name)
        elif before is None:
            yield Change("A", name)
        else:
            yield Change("C", name)
        if stat.S_ISDIR(status.st_mode):
            yield from _walk(Path(entry.path), name, below)


def _status(root: int, path: str) -> os.stat_result | None:
    """The entry of the image at `path`; no link is followed on the way, as none was in the upper directory."""
    at = os.dup(root)
    try:
        *parents, last = path.strip("/").split("/")
        for parent in parents:
            further = os.open(parent, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=at)
            os.close(at)
            at = further
        return os.stat(last, dir_fd=at, follow_symlinks=False)
    except OSError:
        return None
    finally:
        os.close(at)
