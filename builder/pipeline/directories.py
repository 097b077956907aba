"""Directories that a step needs before anything else: WORKDIR's, and those where the kernel's file systems go."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from builder.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from builder.pipeline.steps import WorkdirStep
    from builder.store.snapshots import Active

_SYSTEM = ("dev", "proc", "sys")


def ground(active: Active) -> None:
    """/dev, /proc and /sys stay in the layer of the first RUN when nothing below has them, as with runc."""
    for name in _SYSTEM:
        if not _in_lowers(active.lowers, name):
            os.mkdir(active.upper / name, 0o755)
            os.chmod(active.upper / name, 0o755)


def make_workdir(work: WorkdirStep, active: Active) -> None:
    """WORKDIR: what is missing of the path, through the parents' symlinks and never out of them."""
    from builder.pipeline.permissions import owner
    from builder.pipeline.trees import resolve
    from runtime.rootfs import open_rootfs
    from runtime.spec import Rootfs

    root = open_rootfs(Rootfs(tuple(map(str, active.lowers)), str(active.upper), str(active.work)))
    try:
        found = resolve(root, work.path)
        who = owner(work.user, root) if work.user else None
        for count in range(found.found + 1, len(found.parts) + 1):
            path = "/".join(found.parts[:count])
            os.mkdir(path, 0o755, dir_fd=root)
            os.chmod(path, 0o755, dir_fd=root)
            if who is not None:
                os.chown(path, who[0], who[1], dir_fd=root, follow_symlinks=False)
        if found.parts and not stat.S_ISDIR(os.lstat("/".join(found.parts), dir_fd=root).st_mode):
            raise NotADirectoryError
    except NotADirectoryError as err:
        raise BuildError(f"mkdir {work.path}: not a directory", hint="a file stands in its way") from err
    finally:
        os.close(root)


def _in_lowers(lowers: Sequence[Path], name: str) -> bool:
    """Whether the merged directory of *lowers* (topmost first) has *name* at its top."""
    for lower in lowers:
        try:
            status = os.lstat(f"{lower}/{name}")
        except FileNotFoundError:
            continue
        return not (stat.S_ISCHR(status.st_mode) and status.st_rdev == 0)
    return False
