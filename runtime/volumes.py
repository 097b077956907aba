"""Named and anonymous volumes: directories that outlive containers. Driver ``local`` only.

Layout: ``DIR/<name>/_data`` (the files), ``DIR/<name>/volume.json`` (name, labels, options, creation time).
Knows no image and no container: who uses a volume is asked by callback.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike


@dataclass(frozen=True, slots=True)
class Volume:
    """One volume. ``mountpoint`` is the directory to bind; ``options`` are driver options (type, device, o)."""

    name: str
    mountpoint: str
    created: str
    driver: str = "local"
    labels: tuple[tuple[str, str], ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    anonymous: bool = False


class Volumes:
    """The volumes under one directory."""

    def __init__(self, directory: str | PathLike[str]) -> None:
        raise NotImplementedError

    def create(
        self,
        name: str = "",
        *,
        created: str,
        driver: str = "local",
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
    ) -> Volume:
        """Make a volume, or return the one that has the name (docker: create is idempotent). Empty name: anonymous,
        64 hex digits. Raises VolumeError."""
        raise NotImplementedError

    def get(self, name: str) -> Volume:
        """Raises VolumeNotFound."""
        raise NotImplementedError

    def list(self) -> tuple[Volume, ...]:
        """All volumes by name."""
        raise NotImplementedError

    def remove(self, name: str, *, in_use: Callable[[str], tuple[str, ...]], force: bool = False) -> bool:
        """Remove. *in_use* gives the ids of the containers that use a name; raises VolumeInUse when there are any."""
        raise NotImplementedError

    def prune(
        self,
        *,
        in_use: Callable[[str], tuple[str, ...]],
        everything: bool = False,
        select: Callable[[Volume], bool] = lambda volume: True,
    ) -> tuple[tuple[str, int], ...]:
        """Remove unused anonymous volumes (all unused with *everything*); returns (name, bytes freed)."""
        raise NotImplementedError

    def populate(self, name: str, rootfs: int, path: str) -> None:
        """First use: copy what the image has at *path* into the volume if that is empty.

        *rootfs* is a directory descriptor (`runtime.rootfs.open_rootfs`). Owner, mode, times, xattrs and hard links
        are kept; the volume's root takes the directory's owner and mode. No effect on a volume that has files.
        """
        raise NotImplementedError
