"""The first process of a container: from fork to the user's program in one straight line.

``spawn`` is called by single-threaded processes only (the launcher, a supervisor) and returns a ``Child``, which they
poll and steer. In the child ``_main`` runs; what goes wrong there is sent to the parent, and the child ends.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C part of signal, without its enums; typeshed has none
import fcntl
import os
import stat
import struct
from _socket import AF_INET, AF_UNIX, SOCK_DGRAM, SOCK_STREAM, socket, socketpair

from runtime import become, cgroups, filesystems, rootfs, seccomp, sync, targets, users
from runtime.errors import ContainerError, LauncherDied, MountFailed, from_wire
from runtime.linux import mounts
from runtime.linux import process as kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from runtime.cgroups import Cgroup
    from runtime.spec import Namespaces, Spec

_FLAGS = {"network": kernel.CLONE_NEWNET, "pid": kernel.CLONE_NEWPID, "ipc": kernel.CLONE_NEWIPC,
          "uts": kernel.CLONE_NEWUTS, "time": kernel.CLONE_NEWTIME, "cgroup": kernel.CLONE_NEWCGROUP}  # fmt: skip
_SIGKILL = 9
# Directories that hold nothing a container's set-up needs: one of them carries the scratch memory for a moment.
_COVERED = ("/mnt", "/srv", "/media", "/opt", "/boot", "/home", "/run", "/tmp")
_TIOCSPTLCK, _TIOCGPTPEER, _TIOCSCTTY, _TIOCSWINSZ = 0x40045431, 0x5441, 0x540E, 0x5414


class Child:
    """A container between fork and its end, as its parent sees it.

    *pid*, *pidfd* (readable at its end), *sock* (readable when ``receive`` has something to tell), *console* (the
    terminal's master, once received). ``receive`` until it returns True; ``finish`` after the pidfd became readable.
    """

    def __init__(self, pid: int, pidfd: int, sock: socket, group: Cgroup, spec: Spec | None) -> None:
        self.pid, self.pidfd, self.sock, self.group, self.spec = pid, pidfd, sock, group, spec
        self.console: int | None = None
        self.error: ContainerError | None = None
        self.executed = False
        self.made: list[tuple[str, int, int, bool]] = []

    def proceed(self) -> None:
        """The network is there: execute the program."""
        try:
            sync.send(self.sock, ("go",))
        except OSError:
            return  # it ended; its message says why

    def receive(self) -> bool:
        """Take one message from init; True when there are no more: executed, or failed with *error*."""
        got = sync.receive(self.sock)
        if got is None:
            self.executed = self.error is None
            return True
        message, fds = got
        if message[0] == "made":
            self.made = message[1]
        elif message[0] == "console":
            self.console = fds[0]
        elif message[0] == "error":
            self.error = from_wire(*message[1:])
        return False

    def wait_executed(self) -> None:
        """Block until the program was executed. Raises the ContainerError that prevented it, after ``finish``."""
        while not self.receive():
            pass
        if self.error is not None:
            self.finish()
            raise self.error

    def finish(self) -> tuple[int, tuple[int, int, int, int | None, int | None, int | None], bool]:
        """Reap and clean up: (wait status, usage as ``Cgroup.usage`` with rusage filled in, killed for lack of memory).

        Blocks until the first process has ended; kills it when it has not and the error tells that it never ran.
        """
        _, status, rusage = os.wait4(self.pid, 0)
        if self.spec is not None and self.spec.namespaces.pid != "private":
            self.group.kill()  # no pid namespace of its own: what it left behind is still there
        user, system, peak, reads, writes, most = self.group.usage()
        oom = self.group.oom_killed()
        usage = (
            user or int(rusage.ru_utime * 1e6),
            system or int(rusage.ru_stime * 1e6),
            peak or rusage.ru_maxrss * 1024,
            reads,
            writes,
            most,
        )
        self.group.remove()
        self.sock.close()
        os.close(self.pidfd)
        if self.spec is not None:
            self._clean_layer(self.spec)
        return status, usage, oom

    def kill(self) -> None:
        """End it now."""
        try:
            _signal.pidfd_send_signal(self.pidfd, _SIGKILL)
        except ProcessLookupError:
            pass
        if self.spec is not None and self.spec.namespaces.pid != "private":
            self.group.kill()

    def _clean_layer(self, spec: Spec) -> None:
        layers = spec.rootfs
        if layers.upper is None:
            return
        if self.made and not layers.keep_mount_points:
            try:
                upper = os.open(layers.upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError:
                return
            targets.remove_made(upper, self.made)
            os.close(upper)
        if layers.volatile and layers.work is not None:
            rootfs.forget_volatile(layers.work)


def spawn(spec: Spec, stdin: int, stdout: int, stderr: int, *, hook: bool) -> Child:
    """Fork a container's first process into its namespaces and let it prepare everything.

    *hook*: it waits for ``Child.proceed`` before it executes the program. Raises ContainerError when not even the
    process could be made; what fails later is in ``Child.error``.
    """
    program = seccomp.program(spec.seccomp, spec.process.capabilities)
    group = cgroups.create(spec.id, spec.cgroup_parent)
    try:
        group.limit(spec.resources)
        group.allow_devices(spec.devices, everything=spec.privileged)
        entries = group.entry_fds() if group.birth_fd() < 0 else ()
        ours, theirs = socketpair(AF_UNIX, SOCK_STREAM)
        views = group.views()
        parent = os.getpid()
        try:
            _join_pid_namespace(spec.namespaces.pid)
            pid, pidfd = kernel.clone3(_clone_flags(spec.namespaces, v2=not views), group.birth_fd())
        except OSError as err:
            raise ContainerError(
                f"cannot make namespaces: {err.strerror}",
                hint="a container needs root or an unprivileged user namespace (sysctl user.max_user_namespaces)",
            ) from err
        if pid == 0:
            run_child(
                lambda: _main(spec, theirs, (stdin, stdout, stderr), entries, views, program, parent, hook), theirs
            )
    except BaseException:
        group.remove()
        raise
    if spec.namespaces.pid.startswith("/"):
        _join_pid_namespace("/proc/self/ns/pid")
    theirs.close()
    for fd in entries:
        os.close(fd)
    child = Child(pid, pidfd, ours, group, spec)
    if spec.namespaces.uid_maps:
        from runtime import idmap

        idmap.write(pid, spec.namespaces.uid_maps, spec.namespaces.gid_maps)
        sync.send(ours, ("mapped",))
    return child


def _clone_flags(namespaces: Namespaces, *, v2: bool) -> int:
    flags = kernel.CLONE_NEWNS
    for name, flag in _FLAGS.items():
        if name == "cgroup" and not v2:
            continue  # version 1 shows its own groups by bind mounts, as docker does
        if getattr(namespaces, name) in ("private", "none"):
            flags |= flag
    if namespaces.uid_maps:
        flags |= kernel.CLONE_NEWUSER
    return flags


def _join_pid_namespace(path: str) -> None:
    """The pid namespace counts for children only, so it is joined before the fork, and left after it."""
    if path.startswith("/"):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            kernel.setns(fd, kernel.CLONE_NEWPID)
        finally:
            os.close(fd)


def run_child(run: Callable[[], NoReturn], sock: socket) -> NoReturn:
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


def _main(
    spec: Spec,
    sock: socket,
    stdio: tuple[int, int, int],
    entries: tuple[int, ...],
    views: tuple[tuple[str, str], ...],
    program: bytes | None,
    parent: int,
    hook: bool,  # noqa: FBT001
) -> NoReturn:
    isolate(sock, stdio, entries)
    if spec.namespaces.uid_maps:
        _expect(sock, "mapped")
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    join_namespaces(spec.namespaces, parent)

    # Sources of mounts are host paths: they are opened before anything changes what paths mean. Detached, private.
    made = targets.Made()
    layers = spec.rootfs
    scratch = _scratch((*layers.lowers, layers.upper or "/", layers.work or "/"), spec)
    for name in ("files", "skeleton", "root"):
        os.mkdir(f"{scratch}/{name}")
    builder = filesystems.Builder(spec, -1, f"{scratch}/files", made)
    prepared = [builder.prepare(mount) for mount in sorted(spec.mounts, key=_depth)]
    # From here on nothing that we mount reaches the host, and nothing of the host's reaches us.
    mounts.mount(None, "/", None, mounts.MS_REC | mounts.MS_PRIVATE)

    # Mount points that the image lacks come from a lowest layer in memory, so that they are in no layer of the image.
    _skeleton(f"{scratch}/skeleton", spec)
    tree = filesystems.layers_in_memory(layers, f"{scratch}/files", f"{scratch}/skeleton")
    place = os.open(f"{scratch}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    mounts.move_mount(tree, place)
    os.close(tree)
    os.close(place)
    root = os.open(f"{scratch}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    builder.root = root

    # /proc first: what follows is written through it, and it must be ours.
    builder.mount_proc()
    for name, value in spec.sysctls:
        _sysctl(builder, name, value)
    if spec.hostname and spec.namespaces.uts == "private":
        kernel.sethostname(spec.hostname)
        if spec.domainname:
            kernel.setdomainname(spec.domainname)
    if spec.process.oom_score_adj is not None:
        try:
            builder.write_proc(f"{os.getpid()}/oom_score_adj", str(spec.process.oom_score_adj))
        except OSError:
            pass  # lowering it needs CAP_SYS_RESOURCE: a preference, not a limit
    builder.mount_dev()
    builder.mount_sys(views)
    for path, text in _files(spec):
        if path not in builder.replaced:
            builder.attach(builder.file(text.encode(), "644", "0", "0"), path, directory=False)
    for mount, fd in prepared:
        builder.attach(fd, mount.destination, directory=stat.S_ISDIR(os.fstat(fd).st_mode))
    _hide(builder, root)
    console = _console(spec, root, sock) if spec.process.terminal else None
    if made.entries:
        sync.send(sock, ("made", made.entries))
    enter_made = not layers.readonly
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
    if spec.namespaces.network in ("none", "private"):
        _loopback_up()
    who = users.resolve(root, spec.process.user, spec.process.additional_groups)
    become.enter_directory(root, spec.process.cwd, make=enter_made)
    os.close(root)
    become.set_rlimits(spec.process.rlimits)
    if console is not None:
        take_terminal(console, spec.process.console_size, who.uid)
    if hook:
        _expect(sock, "go")
    become.execute(spec.process, who, program, (lambda: reaper(sock)) if spec.init else (lambda: None))


def isolate(sock: socket, stdio: tuple[int, int, int], entries: tuple[int, ...]) -> None:
    """Leave everything of the parent's behind: session, signals, descriptors; join the control groups."""
    kernel.set_dumpable(dumpable=False)  # before anybody in the container's pid namespace can look (CVE-2019-5736)
    kernel.set_parent_death_signal(_SIGKILL)
    os.setsid()
    for number in _signal.valid_signals():
        try:
            _signal.signal(number, _signal.SIG_DFL)
        except (OSError, ValueError):
            continue
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    for fd in entries:
        os.write(fd, b"0")
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    # High copies first: a given descriptor may be 0, 1 or 2 itself.
    copies = [fcntl.fcntl(null if fd < 0 else fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in stdio]
    for number, fd in enumerate(copies):
        os.dup2(fd, number, inheritable=True)
    keep = sock.fileno()
    if keep > 3:
        kernel.close_range(3, keep - 1)
    kernel.close_range(keep + 1)


def join_namespaces(namespaces: Namespaces, parent: int) -> None:
    """Join the existing namespaces that were given as paths."""
    for name, flag in _FLAGS.items():
        value = getattr(namespaces, name)
        if value.startswith("/") and name != "pid":
            fd = os.open(value, os.O_RDONLY | os.O_CLOEXEC)
            kernel.setns(fd, flag)
            os.close(fd)


def _scratch(taken: tuple[str, ...], spec: Spec) -> str:
    """Memory for files, attached over a directory that is not in use, in our own mount namespace only."""
    used = [*taken, *(mount.source for mount in spec.mounts)]
    for mount in spec.mounts:
        if mount.rootfs is not None:
            used.extend((*mount.rootfs.lowers, mount.rootfs.upper or "/"))
    for path in _COVERED:
        if os.path.isdir(path) and not any(item == path or item.startswith(f"{path}/") for item in used):
            mounts.mount(None, "/", None, mounts.MS_REC | mounts.MS_SLAVE)
            tree = rootfs.tmpfs(mode="755")
            place = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            mounts.move_mount(tree, place)
            os.close(place)
            os.close(tree)
            return path
    raise MountFailed("no directory is free to prepare the container in")


def _depth(mount: Any) -> int:
    return len([part for part in mount.destination.split("/") if part])


def _files(spec: Spec) -> list[tuple[str, str]]:
    found = []
    if spec.hosts is not None:
        found.append(("/etc/hosts", spec.hosts))
    if spec.resolv_conf is not None:
        found.append(("/etc/resolv.conf", spec.resolv_conf))
    if spec.hostname:
        found.append(("/etc/hostname", f"{spec.hostname}\n"))
    return found


def _skeleton(directory: str, spec: Spec) -> None:
    paths = ["/proc/", "/dev/", "/sys/", *(path for path, _ in _files(spec))]
    if not spec.rootfs.keep_mount_points:
        for mount in spec.mounts:
            single = mount.type == "file" or (
                mount.type == "bind" and not mount.subpath and os.path.isfile(mount.source)
            )
            paths.append(filesystems.clean(mount.destination) + ("" if single else "/"))
    for path in paths:
        head, _, name = path.rpartition("/")
        os.makedirs(directory + head, exist_ok=True)
        if name:
            os.close(os.open(directory + path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def _sysctl(builder: filesystems.Builder, name: str, value: str) -> None:
    path = name if "/" in name else name.replace(".", "/")
    try:
        builder.write_proc(f"sys/{path}", value)
    except OSError as err:
        if name in ("net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range"):
            return  # docker's own defaults; a user namespace may lack the ids
        raise ContainerError(f'cannot set sysctl "{name}": {os.strerror(err.errno or 0).lower()}') from err


def _hide(builder: filesystems.Builder, root: int) -> None:
    spec = builder.spec
    if not spec.masked_paths and not spec.readonly_paths:
        return
    null = targets.find(root, "/dev/null")
    if os.fstat(null).st_rdev != os.makedev(1, 3):
        raise MountFailed("/dev/null in the container is not the null device")  # CVE-2025-31133
    builder.hide(null)
    os.close(null)


def _console(spec: Spec, root: int, sock: socket) -> int:
    """A terminal of the container's own devpts; opened by descriptor, since names can be exchanged (CVE-2025-52565)."""
    slave = open_terminal(root, sock)
    tree = mounts.open_tree(slave, "", mounts.OPEN_TREE_CLONE | mounts.AT_EMPTY_PATH)
    target = targets.locate(root, "/dev/console", directory=False)
    mounts.move_mount(tree, target)
    os.close(target)
    os.close(tree)
    return slave


def open_terminal(root: int, sock: socket) -> int:
    """A new terminal of the devpts in *root*: its master is sent to the parent, its slave returned."""
    master = targets.find(root, "/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
    fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
    slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    sync.send(sock, ("console",), (master,))
    os.close(master)
    return slave


def take_terminal(slave: int, size: tuple[int, int] | None, uid: int) -> None:
    """Make *slave* the controlling terminal and the three standard descriptors."""
    if size is not None:
        fcntl.ioctl(slave, _TIOCSWINSZ, struct.pack("HHHH", size[0], size[1], 0, 0))
    fcntl.ioctl(slave, _TIOCSCTTY, 0)
    try:
        os.fchown(slave, uid, -1)
    except OSError:
        pass  # an id the user namespace does not have
    for fd in (0, 1, 2):
        os.dup2(slave, fd, inheritable=True)
    os.close(slave)


def _make_cwd(root: int, cwd: str) -> None:
    try:
        os.close(targets.locate(root, cwd, directory=True))
    except OSError:
        return  # told when going there


def _loopback_up() -> None:
    with_socket = socket(AF_INET, SOCK_DGRAM)
    try:
        # struct ifreq, SIOCSIFFLAGS: IFF_UP | IFF_RUNNING
        fcntl.ioctl(with_socket.fileno(), 0x8914, struct.pack("16sH22x", b"lo", 0x41))
    finally:
        with_socket.close()


def _expect(sock: socket, name: str) -> None:
    got = sync.receive(sock)
    if got is None or got[0][0] != name:
        raise LauncherDied("the process that starts this container went away")


def reaper(sock: socket) -> None:
    """docker's --init: fork; the child returns and executes the program, we stay PID 1, pass signals on and reap."""
    everything = _signal.valid_signals()
    _signal.pthread_sigmask(_signal.SIG_BLOCK, everything)
    child = os.fork()
    if child == 0:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        return
    sock.close()
    while True:
        number = _signal.sigwait(everything)
        if number != 17:  # SIGCHLD
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
