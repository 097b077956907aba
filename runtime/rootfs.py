"""Root file systems from layers: overlay mounts that are attached nowhere, and bind mounts of paths inside them.

``open_rootfs`` is for whoever reads or writes a container's files from outside (copy, commit, cp, export); init
makes the container's own root with ``overlay``. Nothing here ever appears in the host's mount table.
"""

from __future__ import annotations

import errno
import os
from _socket import AF_UNIX, SOCK_STREAM, socketpair

from runtime import sync
from runtime.errors import KernelUnsupported, MountFailed
from runtime.linux import mounts, process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.spec import Rootfs

# With index or metacopy a reused upper directory on other layers fails to mount (ESTALE) or has no contents of its own.
_FLAGS = (("index", "off"), ("metacopy", "off"), ("redirect_dir", "off"))


def open_rootfs(rootfs: Rootfs, *, userxattr: bool = False) -> int:
    """A directory descriptor on the merged layers: a detached mount, unmounted when the descriptor is closed.

    Writable when *rootfs* has an upper directory and is not readonly; writes then go there, as overlay whiteouts where
    something is deleted. Without an upper directory it is read-only. *userxattr*: in a user namespace, where overlay
    keeps its marks in user.overlay.*; found out by itself when the kernel refuses the other. Raises MountFailed,
    KernelUnsupported.
    """
    mount = mount_rootfs(rootfs, userxattr=userxattr)
    try:
        # What fsmount returns is an O_PATH descriptor; an ordinary one keeps the mount as well and can be listed.
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=mount)
    finally:
        os.close(mount)


def mount_rootfs(rootfs: Rootfs, *, userxattr: bool = False) -> int:
    """As ``open_rootfs``, but the mount itself (an O_PATH descriptor), which can be attached."""
    lowers, upper = rootfs.lowers, rootfs.upper
    writable = upper is not None and not rootfs.readonly
    if not lowers and upper is None:
        raise MountFailed("a root file system needs a layer or an upper directory")
    if not lowers or (len(lowers) == 1 and upper is None):
        # Overlay wants a lower layer, and two of them without an upper one: a bind mount shows the same.
        return bind(upper if upper is not None else lowers[0], readonly=not writable)
    if upper is not None and not writable:
        return overlay((upper, *lowers), None, None, userxattr=userxattr)
    return overlay(lowers, upper, rootfs.work, volatile=rootfs.volatile, userxattr=userxattr)


def overlay(
    lowers: tuple[str, ...], upper: str | None, work: str | None, *, volatile: bool = False, userxattr: bool = False
) -> int:
    """A detached overlay mount of *lowers* (topmost first) below *upper*. Raises MountFailed, KernelUnsupported."""
    try:
        return _configure(lowers, upper, work, volatile=volatile, userxattr=userxattr)
    except OSError as err:
        if err.errno == errno.ENODEV:
            raise KernelUnsupported("this kernel has no overlay file system", hint="modprobe overlay") from err
        if err.errno == errno.EPERM and not userxattr:
            return overlay(lowers, upper, work, volatile=volatile, userxattr=True)
        missing = [path for path in (*lowers, upper, work) if path is not None and not os.path.isdir(path)]
        if missing:
            raise MountFailed(f"layer directory {missing[0]} is missing or unreadable") from err
        raise MountFailed(f"cannot mount the layers: {err.strerror}") from err


def _configure(lowers: tuple[str, ...], upper: str | None, work: str | None, *, volatile: bool, userxattr: bool) -> int:
    context = mounts.fsopen("overlay")
    try:
        mounts.fsconfig_string(context, "source", "overlay")
        for key, value in _FLAGS:
            if not (userxattr and key == "redirect_dir"):  # userxattr implies nofollow and refuses anything else
                mounts.fsconfig_string(context, key, value)
        if userxattr:
            mounts.fsconfig_flag(context, "userxattr")
        for lower in lowers:
            try:
                mounts.fsconfig_string(context, "lowerdir+", lower)
            except OSError as err:
                if err.errno != errno.EINVAL or lower is not lowers[0]:
                    raise
                return overlay_by_mount(lowers, upper, work, volatile=volatile, userxattr=userxattr)
        if upper is not None and work is not None:
            mounts.fsconfig_string(context, "upperdir", upper)
            mounts.fsconfig_string(context, "workdir", work)
            forget_volatile(work)
            if volatile:
                mounts.fsconfig_flag(context, "volatile")
        mounts.fsconfig_create(context)
        return mounts.fsmount(context)
    finally:
        os.close(context)


def overlay_by_mount(
    lowers: tuple[str, ...], upper: str | None, work: str | None, *, volatile: bool, userxattr: bool
) -> int:
    """As ``overlay`` for kernels before 6.5, which take the layers in one option: of 255 bytes in the mount API, of a
    page in mount(2). Layers are named by descriptors, so that a page holds several hundred. Raises OSError.

    mount(2) attaches what it mounts: that happens in a mount namespace of a thread of its own, which is gone at once.
    """
    import _thread

    done = _thread.allocate_lock()
    done.acquire()
    result: list[int] = []
    failure: list[OSError] = []

    def run() -> None:
        opened: list[int] = []

        def name(path: str) -> str:
            opened.append(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
            return str(opened[-1])

        try:
            process.unshare(process.CLONE_NEWNS)  # and with it this thread's working directory
            mounts.mount(None, "/", None, mounts.MS_REC | mounts.MS_PRIVATE)
            os.chdir("/proc/self/fd")
            options = [f"{key}={value}" for key, value in _FLAGS if not (userxattr and key == "redirect_dir")]
            options += ["userxattr"] if userxattr else []
            options.append("lowerdir=" + ":".join(name(lower) for lower in lowers))
            if upper is not None and work is not None:
                forget_volatile(work)
                options += [f"upperdir={name(upper)}", f"workdir={name(work)}", *(["volatile"] if volatile else [])]
            place = lowers[0]  # covered in this thread's namespace only
            mounts.mount("overlay", place, "overlay", 0, ",".join(options))
            result.append(mounts.open_tree(mounts.AT_FDCWD, place, mounts.OPEN_TREE_CLONE))
        except OSError as err:
            failure.append(err)
        finally:
            for fd in opened:
                os.close(fd)
            done.release()

    _thread.start_new_thread(run, ())
    done.acquire()
    if failure:
        raise failure[0]
    return result[0]


def forget_volatile(work: str) -> None:
    """Remove the mark by which overlay refuses to mount an upper directory again after a volatile mount."""
    mark = f"{work}/work/incompat/volatile"
    try:
        os.unlink(f"{mark}/dirty")
    except OSError:
        pass  # no mark, or one of an older kernel
    try:
        os.rmdir(mark)
        os.rmdir(os.path.dirname(mark))
    except OSError:
        return


def bind(
    path: str,
    *,
    readonly: bool = False,
    recursive: bool = False,
    attributes: int = 0,
    propagation: int = mounts.MS_PRIVATE,
) -> int:
    """A detached bind mount of a host path. *attributes*: MOUNT_ATTR_* to set. Raises MountFailed."""
    flags = mounts.OPEN_TREE_CLONE | (mounts.AT_RECURSIVE if recursive else 0)
    try:
        fd = mounts.open_tree(mounts.AT_FDCWD, path, flags)
    except OSError as err:
        raise MountFailed(
            f"bind source path does not exist: {path}"
            if err.errno == errno.ENOENT
            else f"cannot mount {path}: {err.strerror}"
        ) from err
    try:
        restrict(fd, readonly=readonly, recursive=recursive, attributes=attributes, propagation=propagation)
    except OSError as err:
        os.close(fd)
        raise MountFailed(f"cannot mount {path}: {err.strerror}") from err
    return fd


def bind_of(namespace: str, path: str) -> int:
    """A detached bind mount of *path* as it is in another mount *namespace* (a file of nsfs). Raises MountFailed.

    Only a process inside may copy a mount: a child goes there and hands the copy out. For single-threaded callers.
    """
    ours, theirs = socketpair(AF_UNIX, SOCK_STREAM)
    child = os.fork()
    if child == 0:
        code = errno.EIO
        try:
            fd = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
            process.setns(fd, process.CLONE_NEWNS)
            flags = mounts.OPEN_TREE_CLONE | mounts.AT_SYMLINK_NOFOLLOW
            sync.send(theirs, ("mount",), (mounts.open_tree(mounts.AT_FDCWD, path, flags),))
            code = 0
        except OSError as err:
            code = err.errno or code
        finally:
            os._exit(code)
    theirs.close()
    got = sync.receive(ours)
    ours.close()
    _, status = os.waitpid(child, 0)
    if got is None:
        raise MountFailed(f"cannot share {path}: {os.strerror(os.waitstatus_to_exitcode(status)).lower()}")
    return got[1][0]


def restrict(fd: int, *, readonly: bool, recursive: bool, attributes: int = 0, propagation: int = 0) -> None:
    """Set attributes and propagation of a detached mount, and of all below it when *recursive*."""
    wanted = attributes | (mounts.MOUNT_ATTR_RDONLY if readonly else 0)
    if not wanted and not propagation:
        return
    try:
        mounts.mount_setattr(fd, set=wanted, propagation=propagation, recursive=recursive)
    except OSError as err:
        # A mount below it may be locked in a user namespace: then at least the top is as wanted.
        if err.errno != errno.EPERM or not recursive or not wanted:
            raise
        mounts.mount_setattr(fd, set=wanted)
        if propagation:
            mounts.mount_setattr(fd, propagation=propagation, recursive=True)


def tmpfs(*, mode: str = "755", size: str | None = None, attributes: int = 0, options: tuple[str, ...] = ()) -> int:
    """A detached, empty file system in memory. *options*: further "key=value"."""
    return fresh("tmpfs", (f"mode={mode}", *((f"size={size}",) if size else ()), *options), attributes)


def fresh(filesystem: str, options: tuple[str, ...] = (), attributes: int = 0) -> int:
    """A detached new mount of a file system type without a device. Raises OSError."""
    context = mounts.fsopen(filesystem)
    try:
        mounts.fsconfig_string(context, "source", filesystem)
        for option in options:
            key, has_value, value = option.partition("=")
            if has_value:
                mounts.fsconfig_string(context, key, value)
            else:
                mounts.fsconfig_flag(context, key)
        mounts.fsconfig_create(context)
        return mounts.fsmount(context, attributes)
    finally:
        os.close(context)
