"""Forking the first process of a container and steering it, as its parent sees it.

``spawn`` is called by single-threaded processes only (the launcher, a supervisor) and returns a ``Child``, which they
poll and steer. ``prepare`` forks one ahead of time: a ``Spare``, ready in namespaces and control groups of its own, for
the next container of the same shape. What they do inside is in ``runtime.boot``.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C part of signal, without its enums; typeshed has none
import errno
import os
from _socket import AF_UNIX, SOCK_STREAM, socket, socketpair

from runtime import boot, cgroups, filesystems, seccomp, sync, targets
from runtime.errors import ContainerError, from_wire
from runtime.linux import process as kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, NoReturn

    from runtime.cgroups import Cgroup
    from runtime.spec import Namespaces, Spec

_SIGKILL = 9


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
        """``collect`` and ``release``."""
        collected = self.collect()
        self.release()
        return collected

    def collect(self) -> tuple[int, tuple[int, int, int, int | None, int | None, int | None], bool]:
        """Reap, and clean the layer: (wait status, usage as ``Cgroup.usage`` with rusage filled in, killed for lack of
        memory). Blocks until the first process has ended.
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
        if self.spec is not None:
            self._clean_layer(self.spec)
        return status, usage, oom

    def release(self) -> None:
        """Remove the control group and close the descriptors, after ``collect``."""
        self.group.remove()
        self.sock.close()
        os.close(self.pidfd)

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


class Spare:
    """A process that is prepared for a container that is not known yet, and waits.

    One that is not taken is removed by ``discard``; it dies with its parent anyway, and its group is reaped later.
    """

    def __init__(self, child: Child, plain: Mapping[str, Any], spec: Spec, place: str) -> None:
        self._child, self._plain, self._spec, self._place = child, plain, spec, place
        self._shape = boot.shape(spec)

    def adapted(self, plain: Mapping[str, Any]) -> Spec:
        """As ``sync.as_spec``; what is as it was in the spec that this was prepared for need not be made again."""
        return sync.adapted(self._spec, self._changed(plain))

    def fits(self, spec: Spec) -> bool:
        """Whether a container of *spec* can become of it."""
        return boot.shape(spec) == self._shape and not boot.uses(spec, self._place) and boot.standard_mounts(spec)

    def take(
        self, plain: Mapping[str, Any], spec: Spec, stdin: int, stdout: int, stderr: int, *, hook: bool
    ) -> Child | None:
        """Make it the container of *spec*, whose plain form is *plain*; None when it has died meanwhile.

        Raises ContainerError; then it is gone.
        """
        child = self._child
        try:
            program = seccomp.program(spec.seccomp, spec.process.capabilities)
            child.group.limit(spec.resources)
            if spec.devices:
                child.group.allow_devices(spec.devices, everything=spec.privileged)
            null = -1
            if min(stdin, stdout, stderr) < 0:
                null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
            fds = tuple(null if fd < 0 else fd for fd in (stdin, stdout, stderr))
            try:
                sync.send(child.sock, ("start", self._changed(plain), program, hook), fds)
            finally:
                if null >= 0:
                    os.close(null)
        except OSError:
            self.discard()
            return None
        except BaseException:
            self.discard()
            raise
        child.spec = spec
        return child

    def discard(self) -> None:
        """End and remove it."""
        self._child.kill()
        self._child.finish()

    def _changed(self, plain: Mapping[str, Any]) -> dict[str, Any]:
        return {name: item for name, item in plain.items() if item != self._plain[name]}


def spawn(spec: Spec, stdin: int, stdout: int, stderr: int, *, hook: bool) -> Child:
    """Fork a container's first process into its namespaces and let it prepare everything.

    *hook*: it waits for ``Child.proceed`` before it executes the program. Raises ContainerError when not even the
    process could be made; what fails later is in ``Child.error``.
    """
    program = seccomp.program(spec.seccomp, spec.process.capabilities)
    replaced = {filesystems.clean(mount.destination) for mount in spec.mounts}
    place = boot.place_for(spec)

    def run(sock: socket, entries: tuple[int, ...], views: tuple[tuple[str, str], ...]) -> NoReturn:
        boot.isolate(sock, entries, (stdin, stdout, stderr))
        builder = boot.prepare(spec, sock, place, views, replaced)
        boot.run(spec, sock, builder, program, hook=hook)

    child = _fork(spec, spec.id, run, limited=True)
    child.spec = spec
    return child


def prepare(plain: Mapping[str, Any]) -> Spare | None:
    """A spare for containers of the shape of the spec *plain*; None when that shape cannot be made in advance.

    Raises ContainerError, OSError.
    """
    like = sync.as_spec(plain)
    names = like.namespaces
    if names.uid_maps or any(getattr(names, name).startswith("/") for name in boot.FLAGS):
        return None  # what they are mapped to or join need not exist any more when it is taken
    place = boot.place_for(like)

    def run(sock: socket, entries: tuple[int, ...], views: tuple[tuple[str, str], ...]) -> NoReturn:
        boot.isolate(sock, entries)
        builder = boot.prepare(like, sock, place, views, set())
        got = sync.receive(sock)
        if got is None:
            os._exit(0)
        (_, changed, program, hook), fds = got
        boot.take_stdio(fds)
        for fd in fds:
            os.close(fd)
        boot.run(sync.adapted(like, changed), sock, builder, program, hook=hook)

    return Spare(_fork(like, f"spare-{os.urandom(16).hex()}", run, limited=False), plain, like, place)


def _fork(
    spec: Spec,
    name: str,
    run: Callable[[socket, tuple[int, ...], tuple[tuple[str, str], ...]], NoReturn],
    *,
    limited: bool,
) -> Child:
    group = cgroups.create(name, spec.cgroup_parent)
    try:
        if limited:
            group.limit(spec.resources)
        group.allow_devices(spec.devices if limited else (), everything=spec.privileged)
        entries = group.entry_fds() if group.birth_fd() < 0 else ()
        ours, theirs = socketpair(AF_UNIX, SOCK_STREAM)
        views = group.views()
        joined = -1
        try:
            if spec.namespaces.pid.startswith("/"):
                joined = os.open(spec.namespaces.pid, os.O_RDONLY | os.O_CLOEXEC)
            pid, pidfd = fork(
                lambda: boot.guarded(lambda: run(theirs, entries, views), theirs),
                _clone_flags(spec.namespaces, v2=not views),
                cgroup=group.birth_fd(),
                pid_namespace=joined,
            )
        except OSError as err:
            raise ContainerError(
                f"cannot make namespaces: {err.strerror}",
                hint="a container needs root or an unprivileged user namespace (sysctl user.max_user_namespaces)",
            ) from err
        finally:
            if joined >= 0:
                os.close(joined)
    except BaseException:
        group.remove()
        raise
    theirs.close()
    for fd in entries:
        os.close(fd)
    child = Child(pid, pidfd, ours, group, None)
    if spec.namespaces.uid_maps:
        from runtime import idmap

        idmap.write(pid, spec.namespaces.uid_maps, spec.namespaces.gid_maps)
        sync.send(ours, ("mapped",))
    return child


def _clone_flags(namespaces: Namespaces, *, v2: bool) -> int:
    flags = kernel.CLONE_NEWNS
    for name, flag in boot.FLAGS.items():
        if name == "cgroup" and not v2:
            continue  # version 1 shows its own groups by bind mounts, as docker does
        if getattr(namespaces, name) in ("private", "none"):
            flags |= flag
    if namespaces.uid_maps:
        flags |= kernel.CLONE_NEWUSER
    return flags


def fork(run: Callable[[], NoReturn], flags: int, *, cgroup: int = -1, pid_namespace: int = -1) -> tuple[int, int]:
    """Run *run* in a child: its (pid, pidfd). *flags* and *cgroup* as for ``clone3``; *pid_namespace*: a descriptor of
    one, or a pidfd, whose namespace it lives in. Raises OSError."""
    if pid_namespace < 0:
        pid, pidfd = kernel.clone3(flags, cgroup)
        if pid == 0:
            run()
        return pid, pidfd
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        # The pid namespace counts for children only: joined here for one fork, and left again, where we may do that.
        try:
            kernel.setns(own, kernel.CLONE_NEWPID)
        except PermissionError:
            return _fork_through(run, flags, cgroup, pid_namespace)
        kernel.setns(pid_namespace, kernel.CLONE_NEWPID)
        try:
            pid, pidfd = kernel.clone3(flags, cgroup)
            if pid == 0:
                run()
        finally:
            kernel.setns(own, kernel.CLONE_NEWPID)
        return pid, pidfd
    finally:
        os.close(own)


def _fork_through(run: Callable[[], NoReturn], flags: int, cgroup: int, pid_namespace: int) -> tuple[int, int]:
    """As ``fork`` in a user namespace, whose root may not come back to the host's pid namespace: a process in between
    stays there, and makes a child of ours."""
    ours, theirs = socketpair(AF_UNIX, SOCK_STREAM)
    between = os.fork()
    if between == 0:
        try:
            kernel.setns(pid_namespace, kernel.CLONE_NEWPID)
            pid, pidfd = kernel.clone3(flags | kernel.CLONE_PARENT, cgroup)
            if pid == 0:
                run()
            sync.send(theirs, ("forked", pid), (pidfd,))
        except OSError as err:
            sync.send(theirs, ("failed", err.errno))
        finally:
            os._exit(0)
    theirs.close()
    got = sync.receive(ours)
    ours.close()
    os.waitpid(between, 0)
    if got is None or got[0][0] == "failed":
        code = errno.EIO if got is None else got[0][1]
        raise OSError(code, os.strerror(code))
    return got[0][1], got[1][0]
