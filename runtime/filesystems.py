"""Every mount of a container but its root: docker's standard ones, the user's, and what hides parts of /proc and /sys.

Called by init, in the container's mount namespace, before pivot_root: sources are host paths, targets are found below
the descriptor of the new root and mounted on as descriptors. Nothing that the image contains is trusted on the way.
"""

from __future__ import annotations

import errno
import os
import stat

from runtime import rootfs, targets
from runtime.errors import MountFailed
from runtime.linux import files, mounts
from runtime.linux.mounts import MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.spec import Mount, Rootfs, Spec

_SAFE = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NODEV
_ATTRIBUTES = {"ro": MOUNT_ATTR_RDONLY, "nosuid": MOUNT_ATTR_NOSUID, "nodev": MOUNT_ATTR_NODEV,
               "noexec": MOUNT_ATTR_NOEXEC, "noatime": mounts.MOUNT_ATTR_NOATIME}  # fmt: skip
_PROPAGATION = {"private": mounts.MS_PRIVATE, "slave": mounts.MS_SLAVE, "shared": mounts.MS_SHARED}

NODES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0))
_LINKS = (("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"),
          ("stderr", "/proc/self/fd/2"), ("ptmx", "pts/ptmx"))  # fmt: skip


class Builder:
    """Mounts on one new root. *root*: a descriptor of it, at first of a base that stands in for it until ``move_to``;
    *place*: a directory in memory, its ``files`` are ours; *replaced*: destinations at which ours are not wanted."""

    def __init__(self, spec: Spec, root: int, place: str, replaced: set[str]) -> None:
        self.spec, self.root, self.place, self.early_replaced = spec, root, place, replaced
        self.scratch = f"{place}/files"
        self.made = targets.Made()
        self.proc = -1
        self._files = 0

    @property
    def replaced(self) -> set[str]:
        """Destinations of the user's mounts."""
        return {clean(mount.destination) for mount in self.spec.mounts}

    def attach(self, mount: int, path: str, *, directory: bool) -> None:
        """Attach a detached mount on *path* in the root, which is made when missing; closes *mount*."""
        try:
            target = targets.locate(self.root, path, directory=directory, made=self.made)
            try:
                if stat.S_ISDIR(os.fstat(target).st_mode) != directory:
                    raise MountFailed(
                        f'cannot mount on "{path}": not a {"directory" if directory else "file"}',
                        hint="are you trying to mount a directory onto a file (or vice-versa)?",
                    )
                if files.fs_type(target) == files.PROC_SUPER_MAGIC:
                    # A symlink of the image's may lead there, whatever the destination looks like.
                    raise MountFailed(f'"{path}" cannot be mounted because it is inside /proc')
                mounts.move_mount(mount, target)
            finally:
                os.close(target)
        except OSError as err:
            raise MountFailed(f'cannot mount on "{path}": {os.strerror(err.errno or 0).lower()}') from err
        finally:
            os.close(mount)

    def attach_plain(self, mount: int, name: str) -> int:
        """Attach on the directory *name* at the top of the root, which must be no symlink (CVE-2023-27561,
        CVE-2026-41579); the descriptor of what is there then."""
        try:
            try:
                os.mkdir(name, 0o755, dir_fd=self.root)
            except FileExistsError:
                pass
            target = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.root)
            mounts.move_mount(mount, target)
            os.close(target)
        except OSError as err:
            raise MountFailed(
                f'"/{name}" in the image must be an ordinary directory: {os.strerror(err.errno or 0).lower()}'
            ) from err
        finally:
            os.close(mount)
        return os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.root)

    def move_to(self, root: int) -> None:
        """From here on work on *root*: what was mounted on the base moves there with all that is mounted in it."""
        base, self.root = self.root, root
        for name in ("proc", "dev", "sys"):
            try:
                mount = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=base)
            except FileNotFoundError:
                continue  # the user mounts his own
            os.close(self.attach_plain(mount, name))
        os.close(base)

    def mount_proc(self) -> None:
        """A fresh /proc; kept open, so that what is written to it later goes to it and nothing else."""
        try:
            mount = rootfs.fresh("proc", (), _SAFE)
        except OSError as err:
            if err.errno != errno.EPERM or self.spec.namespaces.pid != "host":
                raise MountFailed(
                    f"cannot mount /proc: {os.strerror(err.errno or 0).lower()}",
                    hint="an outer container hides parts of its /proc; give it systempaths=unconfined",
                ) from err
            # A new one of a pid namespace is its owner's to make: a user gets the host's own, as with podman.
            mount = rootfs.bind("/proc", recursive=True, attributes=_SAFE)
        self.proc = self.attach_plain(mount, "proc")
        if files.fs_type(self.proc) != files.PROC_SUPER_MAGIC:
            raise MountFailed("/proc is not a proc file system")

    def write_proc(self, path: str, text: str) -> None:
        """Write to a file below our own /proc, through no symlink. Raises OSError."""
        fd = files.openat2(self.proc, path, os.O_WRONLY, 0, files.RESOLVE_BENEATH | files.RESOLVE_NO_SYMLINKS)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)

    def mount_dev(self) -> None:
        """A fresh /dev: no node and no link of the image's is in the way or in use (CVE-2025-31133)."""
        if "/dev" in self.early_replaced:
            return
        tree = rootfs.tmpfs(size="65536k", attributes=MOUNT_ATTR_NOSUID | mounts.MOUNT_ATTR_STRICTATIME)
        dev = self.attach_plain(tree, "dev")
        try:
            for name, major, minor in NODES:
                self._node(dev, name, stat.S_IFCHR | 0o666, major, minor, f"/dev/{name}")
            for name, target in _LINKS:
                os.symlink(target, name, dir_fd=dev)
            if os.path.exists("/proc/kcore"):
                os.symlink("/proc/kcore", "core", dir_fd=dev)
            for name, mount in self._below_dev():
                os.mkdir(name, 0o755, dir_fd=dev)
                self._attach_in(mount, dev, name)
        finally:
            os.close(dev)

    def finish_dev(self) -> None:
        """What of /dev only the whole spec decides: the place of the console, more devices."""
        spec = self.spec
        if "/dev" in self.replaced or not (spec.process.terminal or spec.devices or spec.privileged):
            return
        dev = os.open("dev", os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.root)
        try:
            if spec.process.terminal:
                os.close(os.open("console", os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=dev))
            for device in spec.devices:
                self._device(dev, device.path, device.kind, device.mode, device.major, device.minor)
                if device.path.startswith("/dev/") and (device.uid or device.gid):
                    os.chown(device.path[5:], device.uid, device.gid, dir_fd=dev, follow_symlinks=False)
            if spec.privileged:
                self._host_devices(dev)
        finally:
            os.close(dev)

    def _below_dev(self) -> list[tuple[str, int]]:
        found = []
        if "/dev/pts" not in self.early_replaced:
            options = ("newinstance", "ptmxmode=0666", "mode=0620")
            try:
                mount = rootfs.fresh("devpts", (*options, "gid=5"), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC)
            except OSError:  # the user namespace has no group 5
                mount = rootfs.fresh("devpts", options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC)
            found.append(("pts", mount))
        ipc = self.spec.namespaces.ipc
        if "/dev/shm" not in self.early_replaced:
            if ipc == "host" and os.path.isdir("/dev/shm"):
                found.append(("shm", rootfs.bind("/dev/shm", recursive=True)))
            elif ipc.endswith("/ns/ipc"):
                found.append(("shm", rootfs.bind_of(f"{ipc.removesuffix('ipc')}mnt", "/dev/shm")))
            else:
                found.append(("shm", rootfs.tmpfs(mode="1777", size=str(self.spec.shm_size), attributes=_SAFE)))
        if "/dev/mqueue" not in self.early_replaced:
            try:
                found.append(("mqueue", rootfs.fresh("mqueue", (), _SAFE)))
            except OSError as err:
                if err.errno not in (errno.ENODEV, errno.EPERM):
                    raise
        return found

    def _attach_in(self, mount: int, directory: int, name: str) -> None:
        try:
            mounts.move_mount(mount, directory, name)
        finally:
            os.close(mount)

    def _node(self, dev: int, name: str, mode: int, major: int, minor: int, host: str) -> None:
        try:
            os.mknod(name, mode, os.makedev(major, minor), dir_fd=dev)
            os.chmod(name, mode & 0o7777, dir_fd=dev)
            return
        except FileExistsError:
            return
        except OSError as err:
            if err.errno != errno.EPERM:
                raise
        # In a user namespace nobody makes devices: the host's own is bound, when it is the right one.
        try:
            status = os.lstat(host)
        except OSError:
            return
        if status.st_rdev != os.makedev(major, minor) or stat.S_IFMT(status.st_mode) != stat.S_IFMT(mode):
            return
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=dev))
        self._attach_in(rootfs.bind(host), dev, name)

    def _device(self, dev: int, path: str, kind: str, mode: int, major: int, minor: int) -> None:
        if not path.startswith("/dev/"):
            raise MountFailed(f'device path "{path}" must lie below /dev')
        head, _, name = path[5:].rpartition("/")
        directory = targets.locate(dev, head or "/", directory=True)
        try:
            file_type = stat.S_IFBLK if kind == "b" else stat.S_IFCHR
            self._node(directory, name, file_type | mode, major, minor, path)
        finally:
            os.close(directory)

    def _host_devices(self, dev: int) -> None:
        for name in sorted(os.listdir("/dev")):
            status = os.lstat(f"/dev/{name}")
            if name == "console" or not (stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)):
                continue
            numbers = os.major(status.st_rdev), os.minor(status.st_rdev)
            self._node(dev, name, status.st_mode, *numbers, f"/dev/{name}")

    def mount_sys(self, views: tuple[tuple[str, str], ...]) -> None:
        """A fresh /sys, read-only, with the container's own control groups."""
        if "/sys" in self.early_replaced:
            return
        readonly = 0 if self.spec.privileged else MOUNT_ATTR_RDONLY
        try:
            mount = rootfs.fresh("sysfs", (), _SAFE | readonly)
        except OSError as err:
            if err.errno != errno.EPERM:
                raise
            # The host's network namespace in a user namespace: only the host's own view is to be had.
            mount = rootfs.bind("/sys", recursive=True, readonly=True, attributes=_SAFE)
        sys = self.attach_plain(mount, "sys")
        try:
            if "/sys/fs/cgroup" in self.early_replaced:
                return
            try:
                target = targets.find(sys, "fs/cgroup")
            except OSError:
                return
            os.close(target)
            if not views:
                try:
                    self._attach_in(rootfs.fresh("cgroup2", (), _SAFE | readonly), sys, "fs/cgroup")
                except OSError:
                    return  # no cgroup namespace of our own in a user namespace: nothing to see
                return
            tree = rootfs.tmpfs(attributes=_SAFE)
            top = mounts.open_tree(tree, "", mounts.AT_EMPTY_PATH)
            self._attach_in(tree, sys, "fs/cgroup")
            os.close(top)
            group = targets.find(sys, "fs/cgroup")
            for name, host in views:
                os.mkdir(name, 0o755, dir_fd=group)
                self._attach_in(rootfs.bind(host, attributes=_SAFE | readonly), group, name)
            if readonly:
                mounts.mount_setattr(group, set=MOUNT_ATTR_RDONLY)
            os.close(group)
        finally:
            os.close(sys)

    def prepare(self, mount: Mount) -> tuple[Mount, int]:
        """The detached mount for one of the user's, made while host paths still mean the host."""
        self._check_destination(mount)
        attributes = 0
        recursive = "bind" not in mount.options
        propagation = mounts.MS_PRIVATE
        for option in mount.options:
            attributes |= _ATTRIBUTES.get(option, 0)
            propagation = _PROPAGATION.get(option.removeprefix("r"), propagation)
        if mount.type == "tmpfs":
            return mount, self._tmpfs(mount, attributes)
        if mount.type == "file":
            return mount, self.file(mount.data, _option(mount, "mode", "444"), _option(mount, "uid", "0"),
                                    _option(mount, "gid", "0"), attributes)  # fmt: skip
        if mount.type == "bind":
            if mount.subpath:
                return mount, self._inside(
                    os.open(mount.source, os.O_PATH | os.O_CLOEXEC), mount, attributes, propagation, recursive=recursive
                )
            return mount, rootfs.bind(mount.source, recursive=recursive, attributes=attributes, propagation=propagation)
        if mount.type == "overlay" and mount.rootfs is not None:
            fd = self.overlay_mount(mount.rootfs)
            if mount.subpath:
                # A part of a mount can be bound only when the mount is attached somewhere in our namespace.
                place = f"{self.scratch}/m{self._next()}"
                os.mkdir(place)
                target = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                mounts.move_mount(fd, target)
                os.close(target)
                os.close(fd)
                fd = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                return mount, self._inside(fd, mount, attributes, propagation, recursive=False)
            rootfs.restrict(fd, readonly=False, recursive=False, attributes=attributes)
            return mount, fd
        try:
            return mount, rootfs.fresh(mount.type, (), attributes | _SAFE)
        except OSError as err:
            raise MountFailed(f'cannot mount {mount.type} on "{mount.destination}": {err.strerror}') from err

    def _inside(self, source: int, mount: Mount, attributes: int, propagation: int, *, recursive: bool) -> int:
        """A bind of *mount.subpath*, found inside *source* whatever links it goes over (CVE-2024-1753, -23651)."""
        try:
            target = targets.find(source, mount.subpath)
        except OSError as err:
            raise MountFailed(f'source path "{mount.subpath}" of the mount on "{mount.destination}" not found') from err
        finally:
            os.close(source)
        flags = mounts.OPEN_TREE_CLONE | mounts.AT_EMPTY_PATH | (mounts.AT_RECURSIVE if recursive else 0)
        tree = mounts.open_tree(target, "", flags)
        os.close(target)
        rootfs.restrict(tree, readonly=False, recursive=recursive, attributes=attributes, propagation=propagation)
        return tree

    def overlay_mount(self, layers: Rootfs) -> int:
        """Layers as a mount; writable in memory when they have no upper directory and are not read-only."""
        return layers_in_memory(layers, f"{self.scratch}/o{self._next()}")

    def _next(self) -> int:
        self._files += 1
        return self._files

    def _tmpfs(self, mount: Mount, attributes: int) -> int:
        options = [item for item in mount.options if item.partition("=")[0] in ("uid", "gid", "nr_inodes", "size")]
        for default, flag in (("suid", MOUNT_ATTR_NOSUID), ("dev", MOUNT_ATTR_NODEV), ("exec", MOUNT_ATTR_NOEXEC)):
            if default not in mount.options:
                attributes |= flag
        try:
            return rootfs.tmpfs(mode=_option(mount, "mode", "1777"), attributes=attributes, options=tuple(options))
        except OSError as err:
            raise MountFailed(f'cannot mount tmpfs on "{mount.destination}": {err.strerror}') from err

    def file(self, data: bytes, mode: str, uid: str, gid: str, attributes: int = 0) -> int:
        """A file in memory as a detached mount."""
        path = f"{self.scratch}/f{self._next()}"
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, data)
            os.fchown(fd, int(uid), int(gid))
            os.fchmod(fd, int(mode, 8))
        finally:
            os.close(fd)
        return rootfs.bind(path, attributes=attributes | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)

    def _check_destination(self, mount: Mount) -> None:
        path = clean(mount.destination)
        if path == "/":
            raise MountFailed("invalid mount: destination can't be '/'")
        if (path == "/proc" and mount.type != "proc") or path.startswith("/proc/"):
            # With a false /proc everything that is written there goes astray (CVE-2019-19921).
            raise MountFailed(f'"{mount.destination}" cannot be mounted because it is inside /proc')

    def hide(self, null: int, readonly: list[str], masked: list[str]) -> None:
        """Write-protect and mask paths of the root. *null*: our own /dev/null."""
        empty = rootfs.tmpfs(attributes=MOUNT_ATTR_RDONLY)

        def mask(path: str) -> None:
            try:
                target = targets.find(self.root, path)
            except OSError:
                return  # this kernel has no such thing
            source, flags = (empty, 0) if stat.S_ISDIR(os.fstat(target).st_mode) else (null, 0)
            tree = mounts.open_tree(source, "", mounts.OPEN_TREE_CLONE | mounts.AT_EMPTY_PATH | flags)
            mounts.move_mount(tree, target)
            os.close(tree)
            os.close(target)

        def protect(path: str) -> None:
            try:
                target = targets.find(self.root, path)
            except OSError:
                return
            tree = mounts.open_tree(target, "", mounts.OPEN_TREE_CLONE | mounts.AT_EMPTY_PATH | mounts.AT_RECURSIVE)
            mounts.mount_setattr(tree, set=MOUNT_ATTR_RDONLY, recursive=True)
            mounts.move_mount(tree, target)
            os.close(tree)
            os.close(target)

        for path in readonly:
            targets.each(self.root, path, protect)
        for path in masked:
            targets.each(self.root, path, mask)
        os.close(empty)


def layers_in_memory(layers: Rootfs, scratch: str, lowest: str | None = None) -> int:
    """Mount *layers*; with writes kept in memory below the directory *scratch* when they have no upper directory and
    are not read-only. *lowest*: one more layer beneath all."""
    lowers = layers.lowers if lowest is None else (*layers.lowers, lowest)
    upper, work = layers.upper, layers.work
    if upper is None and not layers.readonly:
        upper, work = f"{scratch}/upper", f"{scratch}/work"
        os.makedirs(upper)
        os.makedirs(work)
    if upper is None and len(lowers) == 1:
        return rootfs.bind(lowers[0], readonly=True)
    if not lowers:
        return rootfs.bind(upper or "")
    return rootfs.overlay(lowers, upper, work, volatile=layers.volatile)


def clean(destination: str) -> str:
    """An absolute path without "..", "." and doubled slashes (normpath keeps two in front)."""
    return os.path.normpath("/" + destination.lstrip("/"))


def _option(mount: Mount, name: str, default: str) -> str:
    for option in mount.options:
        key, _, value = option.partition("=")
        if key == name:
            return value
    return default
