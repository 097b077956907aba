"""The inside of a container's first process, from the fork to the user's program.

``prepare`` does everything that is the same for all containers of a shape (``shape``): control groups, a place for
files in memory, /proc, /dev, /sys. A process may wait after it, ready for whatever container comes next; ``run`` does
the rest. Both run in the container's namespaces; what goes wrong is sent to the parent, and the process ends.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C part of signal, without its enums; typeshed has none
import fcntl
import os
import stat
from _socket import AF_INET, SOCK_DGRAM, socket

from runtime import become, filesystems, rootfs, sync, targets, users
from runtime.console import mount_console, open_terminal, take_terminal
from runtime.errors import ContainerError, LauncherDied, MountFailed
from runtime.linux import mounts
from runtime.linux import process as kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from runtime.spec import Mount, Namespaces, Spec

FLAGS = {"network": kernel.CLONE_NEWNET, "pid": kernel.CLONE_NEWPID, "ipc": kernel.CLONE_NEWIPC,
         "uts": kernel.CLONE_NEWUTS, "time": kernel.CLONE_NEWTIME, "cgroup": kernel.CLONE_NEWCGROUP}  # fmt: skip
_SIGKILL, _SIGCHLD = 9, 17
# Directories that hold nothing a container's set-up needs: one of them carries the scratch memory for a moment.
_COVERED = ("/mnt", "/srv", "/media", "/opt", "/boot", "/home", "/run", "/tmp")
_EARLY = ("/proc/", "/sys/")


def shape(spec: Spec) -> tuple[Any, ...]:
    """What ``prepare`` depends on: two specs with the same one can take the same prepared process."""
    names = spec.namespaces
    kinds = tuple("private" if getattr(names, name) == "none" else getattr(names, name) for name in FLAGS)
    return (
        kinds, tuple(names.uid_maps), tuple(names.gid_maps), spec.cgroup_parent, spec.privileged, spec.shm_size,
        spec.masked_paths, spec.readonly_paths, spec.sysctls,
    )  # fmt: skip


def place_for(spec: Spec) -> str:
    """A directory of the host's that the container of *spec* needs nothing of. Raises MountFailed."""
    for path in _COVERED:
        if os.path.isdir(path) and not uses(spec, path):
            return path
    raise MountFailed("no directory is free to prepare the container in")


def uses(spec: Spec, place: str) -> bool:
    """Whether some path of the host's that *spec* names lies below *place*."""
    layers = [spec.rootfs, *(mount.rootfs for mount in spec.mounts if mount.rootfs is not None)]
    paths = [mount.source for mount in spec.mounts]
    for item in layers:
        paths.extend((*item.lowers, item.upper or "/", item.work or "/"))
    return any(path == place or path.startswith(f"{place}/") for path in paths)


def standard_mounts(spec: Spec) -> bool:
    """Whether *spec* leaves docker's own mounts (/proc, /dev, /sys and what lies in them) alone."""
    for mount in spec.mounts:
        path = filesystems.clean(mount.destination)
        if path in ("/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys") or path.startswith(_EARLY):
            return False
    return True


def guarded(run: Callable[[], NoReturn], sock: socket) -> NoReturn:
    """The edge: whatever happens is told to the parent, and nothing of the parent's code runs on in the child."""
    try:
        run()
    except ContainerError as err:
        sync.send(sock, ("error", *err.to_wire()))
    except OSError as err:
        sync.send(sock, ("error", "ContainerError", f"container set-up failed: {err}", None))
    except BaseException as err:  # noqa: BLE001
        sync.send(sock, ("error", "ContainerError", f"container set-up failed: {type(err).__name__}: {err}", None))
    finally:
        os._exit(127)


def isolate(sock: socket, entries: tuple[int, ...], keep: tuple[int, ...] = ()) -> None:
    """Leave everything of the parent's behind: session, signals, descriptors (but 0, 1, 2 and *keep*, which become
    those); join the control groups."""
    kernel.set_dumpable(dumpable=False)  # before anybody in the container's pid namespace can look (CVE-2019-5736)
    kernel.set_parent_death_signal(_SIGKILL)
    os.setsid()
    for number in _signal.valid_signals():
        if _signal.getsignal(number) not in (None, _signal.SIG_DFL):
            _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    for fd in entries:
        os.write(fd, b"0")
    take_stdio(keep or (-1, -1, -1))
    ours = sock.fileno()
    if ours > 3:
        kernel.close_range(3, ours - 1)
    kernel.close_range(ours + 1)


def take_stdio(fds: tuple[int, ...]) -> None:
    """Make *fds* the standard descriptors; -1 is /dev/null."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    # High copies first: a given descriptor may be 0, 1 or 2 itself.
    copies = [fcntl.fcntl(null if fd < 0 else fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in fds]
    for number, fd in enumerate(copies):
        os.dup2(fd, number, inheritable=True)
        os.close(fd)
    os.close(null)


def prepare(
    spec: Spec, sock: socket, place: str, views: tuple[tuple[str, str], ...], replaced: set[str]
) -> filesystems.Builder:
    """Everything that ``shape`` decides. *replaced*: destinations of mounts that stand in for ours."""
    if spec.namespaces.uid_maps:
        expect(sock, "mapped")
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    _join_namespaces(spec.namespaces)
    mounts.mount(None, "/", None, mounts.MS_REC | mounts.MS_SLAVE)
    tree = rootfs.tmpfs(mode="755")
    covered = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    mounts.move_mount(tree, covered)
    os.close(covered)
    os.close(tree)
    for name in ("files", "skeleton", "root", "base"):
        os.mkdir(f"{place}/{name}")
    base = os.open(f"{place}/base", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    builder = filesystems.Builder(spec, base, place, replaced)
    # /proc first: what follows is written through it, and it must be ours.
    builder.mount_proc()
    for name, value in spec.sysctls:
        _sysctl(builder, name, value)
    builder.mount_dev()
    builder.mount_sys(views)
    if _hidden_early(replaced):
        _hide(builder, [path for path in spec.readonly_paths if path.startswith(_EARLY)],
              [path for path in spec.masked_paths if path.startswith(_EARLY)])  # fmt: skip
    if spec.namespaces.network in ("none", "private"):
        _loopback_up()
    return builder


def run(spec: Spec, sock: socket, builder: filesystems.Builder, program: bytes | None, *, hook: bool) -> NoReturn:
    """From a prepared process to the user's program; docker's order of things. Raises ContainerError, OSError."""
    builder.spec = spec
    scratch, layers = builder.place, spec.rootfs
    # Sources of mounts are host paths: they are opened before anything changes what paths mean. Detached, private.
    prepared = [builder.prepare(mount) for mount in sorted(spec.mounts, key=_depth)]
    # From here on nothing that we mount reaches the host, and nothing of the host's reaches us.
    mounts.mount(None, "/", None, mounts.MS_REC | mounts.MS_PRIVATE)

    # Mount points that the image lacks come from a lowest layer in memory, so that they are in no layer of the image.
    _skeleton(f"{scratch}/skeleton", spec, prepared)
    tree = filesystems.layers_in_memory(layers, f"{scratch}/files", f"{scratch}/skeleton")
    place = os.open(f"{scratch}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    mounts.move_mount(tree, place)
    os.close(tree)
    os.close(place)
    root = os.open(f"{scratch}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    builder.move_to(root)

    if spec.hostname and spec.namespaces.uts == "private":
        kernel.sethostname(spec.hostname)
        if spec.domainname:
            kernel.setdomainname(spec.domainname)
    if spec.process.oom_score_adj is not None:
        try:
            builder.write_proc(f"{os.getpid()}/oom_score_adj", str(spec.process.oom_score_adj))
        except OSError:
            pass  # lowering it needs CAP_SYS_RESOURCE: a preference, not a limit
    builder.finish_dev()
    if not layers.keep_mount_points:
        _attach_files(builder, spec)
    for mount, fd in prepared:
        builder.attach(fd, mount.destination, directory=stat.S_ISDIR(os.fstat(fd).st_mode))
    if layers.keep_mount_points:  # also on a volume for /etc
        _attach_files(builder, spec)
    early = _EARLY if _hidden_early(builder.early_replaced) else ()
    _hide(builder, [path for path in spec.readonly_paths if not path.startswith(early)],
          [path for path in spec.masked_paths if not path.startswith(early)])  # fmt: skip
    console = None
    if spec.process.terminal:
        console = open_terminal(root, sock)
        mount_console(root, console)
    if builder.made.entries:
        sync.send(sock, ("made", builder.made.entries))
    if layers.readonly:
        _make_cwd(root, spec.process.cwd)
        mounts.mount_setattr(root, set=mounts.MOUNT_ATTR_RDONLY)

    # No chroot: pivot_root leaves no way back, and the old root is then unmounted from on top of the new one.
    os.fchdir(root)
    mounts.pivot_root(".", ".")
    mounts.umount2(".", mounts.MNT_DETACH)
    os.chdir("/")
    os.close(root)
    os.close(builder.proc)

    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    who = users.resolve(root, spec.process.user, spec.process.additional_groups)
    become.enter_directory(root, spec.process.cwd, make=not layers.readonly)
    os.close(root)
    become.set_rlimits(spec.process.rlimits)
    if console is not None:
        take_terminal(console, spec.process.console_size, who.uid)
    if hook:
        expect(sock, "go")
    become.execute(
        spec.process, who, program, (lambda: _reaper(sock, spec.process.argv)) if spec.init else (lambda: None)
    )


def expect(sock: socket, name: str) -> None:
    """Wait for one message without content. Raises LauncherDied when the parent is gone."""
    got = sync.receive(sock)
    if got is None or got[0][0] != name:
        raise LauncherDied("the process that starts this container went away")


def _hidden_early(replaced: set[str]) -> bool:
    """Whether /proc, /dev/null and /sys are ours to hide parts of before the user's mounts are there."""
    return not any(path == "/dev" or path == "/sys" or path.startswith("/sys/") for path in replaced)


def _join_namespaces(namespaces: Namespaces) -> None:
    """Join the existing namespaces that were given as paths; the pid namespace was joined before the fork."""
    for name, flag in FLAGS.items():
        value = getattr(namespaces, name)
        if value.startswith("/") and name != "pid":
            fd = os.open(value, os.O_RDONLY | os.O_CLOEXEC)
            kernel.setns(fd, flag)
            os.close(fd)


def _depth(mount: Any) -> int:
    return len([part for part in mount.destination.split("/") if part])


def _files(spec: Spec) -> list[tuple[str, str]]:
    found = []
    if spec.hosts is not None:
        found.append(("/etc/hosts", spec.hosts))
    if spec.resolv_conf is not None:
        found.append(("/etc/resolv.conf", spec.resolv_conf))
    if spec.hostname and spec.rootfs.keep_mount_points:  # a build step sees the image's
        found.append(("/etc/hostname", f"{spec.hostname}\n"))
    return found


def _attach_files(builder: filesystems.Builder, spec: Spec) -> None:
    # BuildKit lets no step write to them: what is written there would be lost without a word
    attributes = 0 if spec.rootfs.keep_mount_points and not spec.rootfs.readonly else mounts.MOUNT_ATTR_RDONLY
    for path, text in _files(spec):
        if path not in builder.replaced:
            builder.attach(builder.file(text.encode(), "644", "0", "0", attributes), path, directory=False)


def _skeleton(directory: str, spec: Spec, prepared: list[tuple[Mount, int]]) -> None:
    paths = ["/proc/", "/dev/", "/sys/", *(path for path, _ in _files(spec))]
    if not spec.rootfs.keep_mount_points:
        for mount, fd in prepared:
            paths.append(filesystems.clean(mount.destination) + ("/" if stat.S_ISDIR(os.fstat(fd).st_mode) else ""))
    for path in paths:
        head, _, name = path.rpartition("/")
        os.makedirs(directory + head, exist_ok=True)
        if name:
            os.close(os.open(directory + path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    if spec.rootfs.keep_mount_points:
        # What programs look for to know that they are in a container, and where old ones look for mounts.
        os.close(os.open(f"{directory}/.dockerenv", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o755))
        if not os.path.lexists(f"{directory}/etc/mtab"):
            os.makedirs(f"{directory}/etc", exist_ok=True)
            os.symlink("/proc/mounts", f"{directory}/etc/mtab")


def _sysctl(builder: filesystems.Builder, name: str, value: str) -> None:
    path = name if "/" in name else name.replace(".", "/")
    try:
        builder.write_proc(f"sys/{path}", value)
    except OSError as err:
        if name in ("net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range"):
            return  # docker's own defaults; a user namespace may lack the ids
        raise ContainerError(f'cannot set sysctl "{name}": {os.strerror(err.errno or 0).lower()}') from err


def _hide(builder: filesystems.Builder, readonly: list[str], masked: list[str]) -> None:
    if not masked and not readonly:
        return
    null = targets.find(builder.root, "/dev/null")
    if os.fstat(null).st_rdev != os.makedev(1, 3):
        raise MountFailed("/dev/null in the container is not the null device")  # CVE-2025-31133
    builder.hide(null, readonly, masked)
    os.close(null)


def _make_cwd(root: int, cwd: str) -> None:
    try:
        os.close(targets.locate(root, cwd, directory=True))
    except OSError:
        return  # told when going there


def _loopback_up() -> None:
    with_socket = socket(AF_INET, SOCK_DGRAM)
    try:
        # struct ifreq, SIOCSIFFLAGS: IFF_UP | IFF_RUNNING
        fcntl.ioctl(with_socket.fileno(), 0x8914, b"lo".ljust(16, b"\0") + b"\x41\0".ljust(24, b"\0"))
    finally:
        with_socket.close()


def _reaper(sock: socket, argv: tuple[str, ...]) -> None:
    """docker's --init: fork; the child returns and executes *argv*, we stay PID 1, pass signals on and reap. Our user,
    capabilities and seccomp filter are the program's, our name is no path of the host's."""
    everything = _signal.valid_signals()
    _signal.pthread_sigmask(_signal.SIG_BLOCK, everything)
    child = os.fork()
    if child == 0:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        return
    sock.close()
    if os.geteuid():
        kernel.capset(0, 0, 0)  # as exec does to the program of who is not root
    kernel.set_name("lamina-init")
    kernel.set_title((b"/sbin/lamina-init", b"--", *map(os.fsencode, argv)))
    while True:
        number = _signal.sigwait(everything)
        if number != _SIGCHLD:
            try:
                os.kill(child, number)
            except ProcessLookupError:
                pass
            continue
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
                os._exit(code if code >= 0 else 128 - code)
