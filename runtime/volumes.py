"""Named and anonymous volumes: directories that outlive containers. Driver ``local`` only.

Layout: ``DIR/<name>/_data`` (the files), ``DIR/<name>/volume.json`` (labels, options, creation time), ``DIR/.lock``
(flock: making, filling and removing exclude each other). Knows no image and no container: who uses a volume is asked by
callback. The options ``type=none,o=bind,device=DIR`` of docker's driver make a volume of an existing directory; other
file systems would have to be mounted on the host, where nothing of ours is ever mounted.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike

from runtime.errors import VolumeError, VolumeInUse, VolumeNotFound
from runtime.values import dataclass

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_RULE = "[a-zA-Z0-9][a-zA-Z0-9_.-]"
_FILLING = "filling"


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
    """The volumes under one directory. Cheap to make: nothing is read before the first call."""

    def __init__(self, directory: str | PathLike[str]) -> None:
        self._directory = os.path.abspath(os.fspath(directory))

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
        if driver != "local":
            raise VolumeError(f'volume driver "{driver}" not found', hint="only the driver local is supported")
        anonymous = not name
        name = name or os.urandom(32).hex()
        _check_name(name)
        _source(options or {})
        with self._locked():
            try:
                return self.get(name)
            except VolumeNotFound:
                pass
            facts = {
                "created": created,
                "labels": dict(labels or {}),
                "options": dict(options or {}),
                "anonymous": anonymous,
            }
            # Made beside and renamed: a volume is there whole or not at all.
            temporary = self._path(f".new-{os.urandom(8).hex()}")
            os.mkdir(temporary, 0o701)
            os.mkdir(f"{temporary}/_data")
            os.chmod(f"{temporary}/_data", 0o755)
            with open(f"{temporary}/volume.json", "w", encoding="utf-8") as file:
                json.dump(facts, file)
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, self._path(name))
        return self.get(name)

    def get(self, name: str) -> Volume:
        """Raises VolumeNotFound."""
        path = self._path(name)
        try:
            if not _NAME.fullmatch(name):
                raise FileNotFoundError
            with open(f"{path}/volume.json", "rb") as file:
                facts = json.load(file)
            options = {str(key): str(value) for key, value in facts["options"].items()}
            return Volume(
                name=name,
                mountpoint=_source(options) or f"{path}/_data",
                created=facts["created"],
                labels=tuple(facts["labels"].items()),
                options=tuple(options.items()),
                anonymous=facts["anonymous"],
            )
        except (FileNotFoundError, NotADirectoryError):
            raise VolumeNotFound(f"get {name}: no such volume", hint="list them with: volume ls") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise VolumeError(
                f"{path}/volume.json is damaged: {error}", hint="the files are in _data beside it"
            ) from error

    def list(self) -> tuple[Volume, ...]:
        """All volumes by name."""
        try:
            names = sorted(name for name in os.listdir(self._directory) if not name.startswith("."))
        except FileNotFoundError:
            return ()
        found = []
        for name in names:
            try:
                found.append(self.get(name))
            except VolumeNotFound:
                continue  # removed meanwhile
        return tuple(found)

    def remove(self, name: str, *, in_use: Callable[[str], tuple[str, ...]], force: bool = False) -> bool:
        """Remove; whether there was anything. *in_use* gives the ids of the containers that use a name; raises
        VolumeInUse when there are any, VolumeNotFound (not with *force*)."""
        with self._locked():
            try:
                self.get(name)
            except VolumeNotFound:
                if force:
                    return False
                raise
            users = in_use(name)
            if users:
                raise VolumeInUse(
                    f"remove {name}: volume is in use - [{', '.join(users)}]", hint="remove these containers first"
                )
            gone = self._path(f".gone-{os.urandom(8).hex()}")
            os.rename(self._path(name), gone)
        _delete(gone)
        return True

    def prune(
        self,
        *,
        in_use: Callable[[str], tuple[str, ...]],
        everything: bool = False,
        select: Callable[[Volume], bool] = lambda volume: True,
    ) -> tuple[tuple[str, int], ...]:
        """Remove unused anonymous volumes (all unused with *everything*); returns (name, bytes freed)."""
        removed = []
        for volume in self.list():
            if not (everything or volume.anonymous) or not select(volume):
                continue
            size = _size(f"{self._path(volume.name)}/_data")
            try:
                if self.remove(volume.name, in_use=in_use, force=True):
                    removed.append((volume.name, size))
            except VolumeInUse:
                continue
        if os.path.isdir(self._directory):
            with self._locked():
                for name in os.listdir(self._directory):
                    if name.startswith((".gone-", ".new-")):
                        _delete(self._path(name))
        return tuple(removed)

    def populate(self, name: str, rootfs: int, path: str) -> None:
        """First use: copy what the image has at *path* into the volume if that is empty.

        *rootfs* is a directory descriptor (`runtime.rootfs.open_rootfs`). Owner, mode, times, xattrs and hard links
        are kept; the volume's root takes the directory's owner and mode. No effect on a volume that has files.
        """
        from runtime import targets, volumecopy

        volume = self.get(name)
        marker = f"{self._path(name)}/{_FILLING}"
        with self._locked():
            unfinished = os.path.exists(marker)
            if os.listdir(volume.mountpoint) and not unfinished:
                return
            try:
                source = targets.find(rootfs, path)
            except OSError:
                return  # the image has nothing there
            try:
                if not os.path.isdir(f"/proc/self/fd/{source}"):
                    return
                # Whoever is killed in the middle leaves the marker, and the next one starts again.
                os.close(os.open(marker, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
                if unfinished:
                    for entry in os.listdir(volume.mountpoint):
                        _delete(os.path.join(volume.mountpoint, entry))
                volumecopy.copy_tree(source, volume.mountpoint)
                os.unlink(marker)
            finally:
                os.close(source)

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        os.makedirs(self._directory, mode=0o701, exist_ok=True)
        lock = os.open(self._path(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _check_name(name: str) -> None:
    if len(name) == 1:
        raise VolumeError("volume name is too short, names should be at least two alphanumeric characters")
    if not _NAME.fullmatch(name):
        raise VolumeError(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only "{_RULE}" are allowed.'
            " If you intended to pass a host directory, use absolute path"
        )


def _source(options: Mapping[str, str]) -> str:
    """The directory that the driver options name; "" without options. Raises VolumeError."""
    unknown = set(options) - {"type", "device", "o"}
    if unknown:
        raise VolumeError(f'invalid option: "{min(unknown)}"', hint="type=none, o=bind, device=DIRECTORY are supported")
    if not options:
        return ""
    device, flags = options.get("device", ""), options.get("o", "").split(",")
    if not device:
        raise VolumeError('missing required option: "device"')
    if options.get("type", "none") not in ("none", "bind", "") or not {"bind", "rbind"} & set(flags):
        raise VolumeError(
            f"volumes of type {options.get('type') or 'none'} cannot be mounted",
            hint="o=bind with device=DIRECTORY works; --tmpfs gives a tmpfs",
        )
    if not os.path.isabs(device):
        raise VolumeError(f'invalid device "{device}"', hint="give an absolute path")
    return device


def _size(path: str) -> int:
    """Bytes of all files, each inode once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for directory, _, files in os.walk(path):
        for name in files:
            status = os.lstat(os.path.join(directory, name))
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                total += status.st_size
    return total


def _delete(path: str) -> None:
    import shutil

    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        os.unlink(path)
