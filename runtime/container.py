"""Starting containers from a command: the client side of ``runtime.launcher``.

A command holds one ``Launcher``. It starts the launcher process at its first use (or at ``warm``), while the command
goes on planning; each container talks to its ``Running`` over a socket pair of its own, so that threads share none.
The end of that socket is the end of the container: a command that is killed leaves nothing behind.

`exec` waits for this module, so it loads little.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # without the enums of signal, which take 4 ms
import _socket
import _thread
import os
import select
import sys

from runtime import cgroups, sync
from runtime.errors import ContainerError, LauncherDied, from_wire
from runtime.linux import mounts
from runtime.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, Self

    from runtime.spec import Process, Resources, Spec

# Run by helpers: no ``-m``, whose machinery takes longer to import than most of what it would start.
_HELPER = "import sys; sys.path.append(sys.argv.pop(1)); __import__(sys.argv.pop(1), fromlist='-').main()"
_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@dataclass(frozen=True, slots=True)
class Usage:
    """What a container consumed: microseconds, bytes. None where this host cannot tell."""

    cpu_user_us: int = 0
    cpu_system_us: int = 0
    peak_memory: int = 0
    read_bytes: int | None = None
    write_bytes: int | None = None
    pids_peak: int | None = None


@dataclass(frozen=True, slots=True)
class Exit:
    """How a container ended. *code* is the shell's: 128+n when *signal* n ended it; *error* when it never ran."""

    code: int
    signal: int | None = None
    oom_killed: bool = False
    usage: Usage = Usage()
    error: ContainerError | None = None


class Running:
    """A container, or a process in one (``exec_``), that was started. Not shared between threads without a lock.

    *pid*: its first process, as the host sees it. *pidfd*: readable when that has ended. *console*: the terminal's
    master side when ``process.terminal``, else None; the caller closes it. *fileno()*: readable when ``wait`` does not
    block.
    """

    def __init__(self, channel: _socket.socket, pid: int, pidfd: int, console: int | None) -> None:
        self.pid, self.pidfd, self.console = pid, pidfd, console
        self._channel = channel
        self._exit: Exit | None = None

    def fileno(self) -> int:
        """The descriptor to select on for the end."""
        return self._channel.fileno()

    def wait(self, timeout: float | None = None) -> Exit:
        """Block until everything of it has ended and is cleaned up. Raises TimeoutError, LauncherDied."""
        if self._exit is None:
            if timeout is not None:
                poller = select.poll()
                poller.register(self._channel.fileno(), select.POLLIN)
                if not poller.poll(timeout * 1000):
                    raise TimeoutError(f"container still runs after {timeout} s")
            message = _receive(self._channel)[0]
            if message[0] == "failed":
                error = from_wire(*message[1:])
                self._exit = Exit(error.code, error=error)
            else:
                self._exit = _exit(message)
            self.close()
        return self._exit

    def kill(self, signal: int) -> None:
        """Send *signal* to the first process; nothing happens when it has ended already."""
        if self.pidfd >= 0:
            _send_signal(self.pidfd, signal)

    def close(self) -> None:
        """Give up interest: what still runs is killed."""
        self._channel.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


class Launcher:
    """Starts containers. Thread-safe. ``with Launcher() as launcher: launcher.start(spec, ...).wait()``."""

    def __init__(self) -> None:
        self._lock = _thread.allocate_lock()
        self._main: _socket.socket | None = None
        self._pid = -1
        self._idle = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def warm(self, like: Spec | None = None) -> None:
        """Start the launcher process now, without waiting for it, if it does not run yet.

        *like*: get ready for containers of this kind; what counts of it is in ``boot.shape``.
        """
        with self._lock:
            main = self._start()
            if like is not None:
                self._idle = False
                try:
                    sync.send(main, ("prepare", like.to_dict()))
                except OSError:
                    return  # whoever starts a container will be told

    def stir(self) -> None:
        """`warm`, for an ``exec_`` that comes as soon as its container is found: see ``cgroups.stir``."""
        with self._lock:
            try:
                sync.send(self._start(), ("stir",))
            except OSError:
                return  # whoever executes something will be told

    def start(
        self,
        spec: Spec,
        *,
        stdin: int | None = None,
        stdout: int,
        stderr: int,
        network: Callable[[int], None] | None = None,
        another: bool = False,
    ) -> Running:
        """Start a container and return once its program was executed.

        *stdin* None is /dev/null. The descriptors stay the caller's and are ignored with ``process.terminal``.
        *another*: one of the same kind follows soon, and is prepared beside this one.
        *network* is called with the pid when the namespaces exist (/proc/PID/ns/net) and before the program runs; what
        it raises is raised here, after the container was removed. Raises ContainerError (docker's texts and codes).
        """
        message = ("start", spec.to_dict(), network is not None, another)
        return self._begin(message, stdin, stdout, stderr, network)

    def exec_(
        self,
        pid: int,
        process: Process | Mapping[str, Any],
        *,
        stdin: int | None = None,
        stdout: int,
        stderr: int,
        seccomp: str = "default",
    ) -> Running:
        """Execute *process* (or its plain form) in the namespaces of the container whose first process is *pid*,
        equally hardened."""
        plain: object = process
        if not isinstance(process, dict):
            from runtime.spec import to_plain

            plain = to_plain(process)
        return self._begin(("exec", pid, plain, seccomp), stdin, stdout, stderr, None)

    def leave(self, running: Running) -> None:
        """Let what runs go on without this process: its output is lost, and nobody can wait for it.

        *running* and every other one of this launcher is given up; the next start makes a new launcher.
        """
        with self._lock:
            assert self._main is not None
            sync.send(self._main, ("leave",), () if running.console is None else (running.console,))
            self._main.close()
            self._main = None

    def close(self) -> None:
        """End the launcher, and with it every container that still runs."""
        with self._lock:
            if self._main is None:
                return
            self._main.close()
            self._main = None
            if self._idle:
                os.kill(self._pid, signal.SIGKILL)  # it has nothing that it would have to clean up
            os.waitpid(self._pid, 0)

    def _begin(
        self,
        message: tuple[Any, ...],
        stdin: int | None,
        stdout: int,
        stderr: int,
        network: Callable[[int], None] | None,
    ) -> Running:
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        stdio = tuple(null if fd is None or fd < 0 else fd for fd in (stdin, stdout, stderr))
        try:
            with self._lock:
                main = self._start()
                self._idle = False
                sync.send(main, message, (*stdio, theirs.fileno()))
        except OSError as err:
            ours.close()
            raise LauncherDied("the process that starts containers went away") from err
        finally:
            theirs.close()
            os.close(null)
        try:
            return self._started(ours, network)
        except BaseException:
            ours.close()
            raise

    def _started(self, channel: _socket.socket, network: Callable[[int], None] | None) -> Running:
        pid, pidfd = -1, -1
        try:
            while True:
                got, fds = _receive(channel)
                if got[0] == "created":
                    pid, pidfd = got[1], fds[0]
                    if network is not None:
                        try:
                            network(pid)
                        except BaseException:
                            channel.shutdown(_socket.SHUT_WR)  # kills it; gone when the other end closes as well
                            while sync.receive(channel) is not None:
                                pass
                            raise
                        try:
                            sync.send(channel, ("go",))
                        except BrokenPipeError:
                            pass  # it has failed already, which is the next that we are told
                elif got[0] == "started":
                    return Running(channel, pid, pidfd, fds[0] if fds else None)
                elif got[0] == "failed":
                    raise from_wire(*got[1:])
                else:
                    raise LauncherDied("the container was killed before it ran")
        except BaseException:
            if pidfd >= 0:
                os.close(pidfd)
            raise

    def _start(self) -> _socket.socket:
        if self._main is None:
            ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
            self._pid = spawn_helper("runtime.launcher", (str(theirs.fileno()),), {theirs.fileno(): theirs.fileno()})
            theirs.close()
            self._main, self._idle = ours, True
        return self._main


def spawn_helper(
    module: str, arguments: Sequence[str], fds: Mapping[int, int], *, env: Mapping[str, str] | None = None
) -> int:
    """Start the ``main`` of one of our own modules in a clean interpreter and a session of its own; the pid.

    No environment, no site-packages: the module sees the standard library and ``runtime`` only, and its *arguments* as
    ``sys.argv[1:]``. *fds*: number in the helper → our descriptor. The interpreter is executed through a read-only
    mount of its own that is attached nowhere: a container that gets hold of /proc/PID/exe cannot write to it
    (CVE-2019-5736).
    """
    tree = -1
    path = sys.executable
    try:
        tree = mounts.open_tree(mounts.AT_FDCWD, path, mounts.OPEN_TREE_CLONE)
        mounts.mount_setattr(tree, set=mounts.MOUNT_ATTR_RDONLY)
        path = f"/proc/self/fd/{tree}"
    except OSError:
        pass  # a plain user, before the user namespace is entered: the file is not his to write to
    actions = [(os.POSIX_SPAWN_DUP2, ours, number) for number, ours in fds.items()]
    try:
        return os.posix_spawn(
            path,
            [sys.executable, "-I", "-S", "-c", _HELPER, _OURS, module, *arguments],
            env or {},
            file_actions=actions,
            setsid=True,
            setsigmask=(),
            setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGQUIT),
        )
    finally:
        if tree >= 0:
            os.close(tree)


def freeze(pid: int) -> None:
    """Pause every process of the container whose first process is *pid*. Raises ResourceUnavailable."""
    cgroups.of_process(pid).freeze()


def thaw(pid: int) -> None:
    """Undo ``freeze``."""
    cgroups.of_process(pid).thaw()


def update(pid: int, resources: Resources) -> None:
    """Change the limits of a running container. Raises ResourceUnavailable."""
    cgroups.of_process(pid).limit(resources)


def processes(pid: int) -> Sequence[int]:
    """The pids in the container, as the host sees them."""
    return cgroups.of_process(pid).processes()


def exit_of(status: int, usage: tuple[int, int, int, int | None, int | None, int | None], *, oom: bool) -> Exit:
    """An Exit from a wait status and what ``Child.finish`` tells."""
    code = os.waitstatus_to_exitcode(status)
    return Exit(code if code >= 0 else 128 - code, -code if code < 0 else None, oom, Usage(*usage))


def _exit(message: tuple[Any, ...]) -> Exit:
    return exit_of(message[1], message[2], oom=message[3])


def _receive(channel: _socket.socket) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    got = sync.receive(channel)
    if got is None:
        raise LauncherDied("the process that starts containers went away")
    return got


def _send_signal(pidfd: int, number: int) -> None:
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return
