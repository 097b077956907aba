"""Where things are below the root of a store, and the modes that keep other users out.

    lamina.db       everything with a row
    reserve         zeros: room for removing things when the disk is full
    layers/ID       committed layers: overlay upper directories, read-only by promise
    active/KEY/     upper and work of containers and running steps
    failed/KEY      upper directories of failed steps, kept for a while
    flat/KEY        many layers merged into one directory, for stacks deeper than overlay mounts
    content/        blobs by digest
    logs/BUILD/     output of the steps of a build
    containers/ID/  what runtime.supervisor keeps of a container
    volumes/ networks/ caches/   given to runtime and to cache mounts; nothing here looks into them
    leases/ locks/ tmp/          files of living processes
    empty           the one lower directory of FROM scratch

Everything is 0700. Other users must not even pass through: a layer may hold a vulnerable setuid program that they could
start by its path (CVE-2021-41091). Processes in containers come in through mounts and need no permission here.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from builder.errors import StoreUnreadable
from builder.store.diskfaults import disk_errors
from runtime.values import dataclass

if TYPE_CHECKING:
    from pathlib import Path

DIRECTORIES = (
    "layers",
    "active",
    "failed",
    "flat",
    "content",
    "logs",
    "containers",
    "volumes",
    "networks",
    "caches",
    "leases",
    "locks",
    "tmp",
    "empty",
)
_SPREAD = ("layers", "active", "flat", "tmp")


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one store."""

    root: Path

    @property
    def database(self) -> Path:
        """The database file."""
        return self.root / "lamina.db"

    def directory(self, name: str) -> Path:
        """One of DIRECTORIES."""
        assert name in DIRECTORIES, name
        return self.root / name

    def create(self) -> bool:
        """Make what is missing; whether anything was. Raises StoreReadOnly, StoreUnreadable, DiskFull."""
        with disk_errors("open the store"):
            try:
                there = os.listdir(self.root)
            except FileNotFoundError:
                there = []
            except NotADirectoryError:
                raise StoreUnreadable(
                    f"store {self.root} is not a directory", hint="choose another store with --root"
                ) from None
            except PermissionError:
                raise StoreUnreadable(
                    f"store {self.root} belongs to somebody else", hint="choose another store with --root"
                ) from None
            # Also what somebody has removed by hand, tmp/ for instance.
            missing = [name for name in DIRECTORIES if name not in there]
            if not missing:
                return False
            self.root.mkdir(parents=True, exist_ok=True)
            if not there:
                self.root.chmod(0o700)
            elif "layers" not in there and self.database.name not in there:
                # --root pointed at a directory full of something else: 14 new directories are the last thing wanted.
                raise StoreUnreadable(
                    f"{self.root} is neither empty nor a store", hint="choose another store with --root"
                )
            for name in missing:
                (self.root / name).mkdir(mode=0o755 if name == "empty" else 0o700, exist_ok=True)
                if name in _SPREAD:
                    spread(self.root / name)
            return True


def spread(path: Path) -> None:
    """Have directories made in *path* lie apart from each other on the disk, where the file system can do that.

    ext4 does not give the inode of a deleted file away for minutes, and looks at each such inode whenever a file is
    made in the same block group: after 100,000 deletions nearby, making a file costs 0.5 ms, in a fresh group 0.01 ms.
    """
    import errno

    from runtime.linux.files import spread_directories

    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        spread_directories(fd)
    except OSError as err:
        if err.errno not in (errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM, errno.EACCES, errno.ENOSYS):
            raise
    finally:
        os.close(fd)
