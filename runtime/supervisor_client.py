"""How commands talk to a container's supervisor: start, attach, stop, kill, wait, pause, resize.

A container directory holds ``config.json`` (a `runtime.supervised.Config`, written by the caller before start),
``state.json`` (written by the supervisor only, atomic rename), ``lock`` (flock held while the supervisor lives),
``attach.sock`` (protocol in `runtime.supervisor_protocol`), and the log files.
"""

from __future__ import annotations

import _socket
import json
import marshal
import os
from collections.abc import Callable
from os import PathLike
from struct import pack, unpack

from runtime import states, supervisor_protocol
from runtime.errors import ContainerError, NetworkError, NotRunning, WrongState
from runtime.states import ContainerState
from runtime.supervisor_protocol import FLAG_STDERR, FLAG_STDIN, FLAG_STDOUT

Directory = str | PathLike[str]

_ALL = FLAG_STDIN | FLAG_STDOUT | FLAG_STDERR


class Prepared:
    """A supervisor process that has been started early and waits to be told its directory: hides its start-up time."""

    def __init__(self, sock: _socket.socket, pid: int) -> None:
        self._sock, self._pid = sock, pid

    def start(self, directory: Directory, *, attach: bool = False) -> Session | None:
        """Run the container of *directory*; returns when it runs.

        With *attach* a Session connected before the first byte of output is returned. Raises ContainerError with the
        container's own start failure (exit codes 126, 127, 125 as docker's).
        """
        path = os.path.abspath(directory)
        with open(f"{path}/config.json", "rb") as file:
            config = json.load(file)
        request = marshal.dumps((path, config, _ALL if attach else 0))
        try:
            try:
                self._sock.sendall(supervisor_protocol.frame(supervisor_protocol.START, request))
            finally:
                os.waitpid(self._pid, 0)  # it is only the parent of the one that goes on
            _answer(self._sock)
        except (OSError, EOFError) as error:
            self._sock.close()
            raise ContainerError(
                "the supervisor ended before the container ran", hint=f"see {path}/supervisor.log"
            ) from error
        except BaseException:
            self._sock.close()
            raise
        if attach:
            return Session(self._sock)
        self._sock.close()
        return None

    def cancel(self) -> None:
        """End the waiting process; nothing was started."""
        self._sock.close()
        os.waitpid(self._pid, 0)


def prepare(*, networks: bool = False) -> Prepared:
    """Start a supervisor process now (a few ms to spawn; it imports beside the caller's own work, and makes ready what
    a container with docker's defaults needs).

    *networks*: it will join some; what that needs is loaded as well.
    """
    from runtime import defaults
    from runtime.container import spawn_helper
    from runtime.spec import Process, Rootfs

    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        pid = spawn_helper("runtime.supervisor", ("--networks",) if networks else (), {3: theirs.fileno()})
    finally:
        theirs.close()
    likely = defaults.container_spec("likely", Rootfs(), Process(()))
    try:
        ours.sendall(supervisor_protocol.frame(supervisor_protocol.PREPARE, marshal.dumps(likely.to_dict())))
    except OSError:
        pass  # told when it is to start
    return Prepared(ours, pid)


def start(directory: Directory, *, attach: bool = False) -> Session | None:
    """`prepare` and `Prepared.start` in one."""
    return prepare().start(directory, attach=attach)


class Session:
    """One attached client. Not thread-safe; `fileno` is readable when `pump` has something to do."""

    def __init__(self, sock: _socket.socket) -> None:
        self._sock = sock
        self._heard = bytearray()
        self._under_way = 0

    def fileno(self) -> int:
        """The socket, for a selectors loop."""
        return self._sock.fileno()

    @property
    def room(self) -> bool:
        """Whether the container keeps up with its stdin. Send none before this is true again (after a `pump`), or
        `signal` and `resize` wait behind it."""
        return self._under_way < supervisor_protocol.WINDOW

    def send_stdin(self, data: bytes) -> None:
        """Bytes for the container's stdin."""
        self._under_way += len(data)
        self._send(supervisor_protocol.STDIN, data)

    def close_stdin(self) -> None:
        """End of the client's stdin."""
        self._send(supervisor_protocol.STDIN_END)

    def resize(self, rows: int, columns: int) -> None:
        """New size of the terminal, in characters."""
        self._send(supervisor_protocol.RESIZE, pack("=HH", rows, columns))

    def signal(self, signal: int) -> None:
        """Send a signal to the container's first process (``--sig-proxy``)."""
        self._send(supervisor_protocol.SIGNAL, bytes((signal,)))

    def pump(self, stdout: Callable[[bytes], object], stderr: Callable[[bytes], object]) -> int | None:
        """Take one batch of frames; returns the exit code when the container has exited, else None.

        Raises EOFError when the supervisor is gone without an exit frame (killed): read `state` then.
        """
        try:
            data = self._sock.recv(1 << 18)
        except ConnectionResetError:
            data = b""
        if not data:
            raise EOFError("the supervisor is gone")
        self._heard += data
        for kind, payload in supervisor_protocol.cut(self._heard):
            if kind == supervisor_protocol.STDOUT:
                stdout(payload)
            elif kind == supervisor_protocol.STDERR:
                stderr(payload)
            elif kind == supervisor_protocol.TAKEN:
                self._under_way -= unpack("=I", payload)[0]
            elif kind == supervisor_protocol.EXIT:
                code: int = unpack("=i", payload)[0]
                return code
        return None

    def close(self) -> None:
        """Detach."""
        self._sock.close()

    def _send(self, kind: int, payload: bytes = b"") -> None:
        try:
            self._sock.sendall(supervisor_protocol.frame(kind, payload))
        except (BrokenPipeError, ConnectionResetError):
            return  # it has ended; what it said last is still to be read


def attach(directory: Directory, *, stdin: bool = True, stdout: bool = True, stderr: bool = True) -> Session:
    """Attach to a running container. Raises NotRunning."""
    flags = FLAG_STDIN * stdin | FLAG_STDOUT * stdout | FLAG_STDERR * stderr
    sock = _connect(directory)
    try:
        sock.sendall(supervisor_protocol.frame(supervisor_protocol.ATTACH, bytes((flags,))))
        _answer(sock)
    except (OSError, EOFError):
        sock.close()
        raise _not_running() from None
    except BaseException:
        sock.close()
        raise
    return Session(sock)


def state(directory: Directory) -> ContainerState:
    """The container's state as it is: one whose supervisor has died reads as exited with 137.

    The first who sees that writes it down and clears away what the supervisor left: control groups and addresses.
    """
    found = states.read(directory)
    if found.supervisor_pid and found.status is states.Status.EXITED:
        _settle(os.fspath(directory), found)
    return found


def stop(directory: Directory, *, timeout: int | None = None, signal: str = "") -> None:
    """Stop signal, *timeout* seconds (None: the configured one; -1: for ever), then SIGKILL; returns when exited."""
    seconds = supervisor_protocol.AS_CONFIGURED if timeout is None else timeout
    try:
        _until_exit(directory, supervisor_protocol.STOP, pack("=i", seconds) + signal.encode())
    except NotRunning:
        return


def kill(directory: Directory, signal: str = "SIGKILL") -> None:
    """Send a signal. Raises NotRunning."""
    _ask(directory, supervisor_protocol.KILL, signal.encode())


def wait(directory: Directory) -> int:
    """Block until the container has exited for good (restarts included); its exit code."""
    try:
        return _until_exit(directory, supervisor_protocol.WAIT, b"")
    except NotRunning:
        return state(directory).exit_code


def pause(directory: Directory) -> None:
    """Freeze all processes. Raises WrongState."""
    _ask(directory, supervisor_protocol.PAUSE)


def unpause(directory: Directory) -> None:
    """Thaw. Raises WrongState."""
    _ask(directory, supervisor_protocol.UNPAUSE)


def resize(directory: Directory, rows: int, columns: int) -> None:
    """Set the terminal's size without attaching."""
    _ask(directory, supervisor_protocol.RESIZE, pack("=HH", rows, columns))


def update(directory: Directory) -> None:
    """Tell a running supervisor to read its config.json again (restart policy, name, health)."""
    _ask(directory, supervisor_protocol.UPDATE)


def _connect(directory: Directory) -> _socket.socket:
    try:
        here = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise _not_running() from None
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        # A socket's path may have 107 bytes; the way over /proc is always short enough.
        sock.connect(f"/proc/self/fd/{here}/{supervisor_protocol.SOCKET_NAME}")
    except (FileNotFoundError, ConnectionRefusedError):
        sock.close()
        raise _not_running() from None
    finally:
        os.close(here)
    return sock


def _not_running() -> NotRunning:
    return NotRunning("the container is not running", hint="start it first")


def _ask(directory: Directory, kind: int, payload: bytes = b"") -> None:
    sock = _connect(directory)
    try:
        sock.sendall(supervisor_protocol.frame(kind, payload))
        _answer(sock)
    except (OSError, EOFError):
        raise _not_running() from None
    finally:
        sock.close()


def _until_exit(directory: Directory, kind: int, payload: bytes) -> int:
    sock = _connect(directory)
    try:
        sock.sendall(supervisor_protocol.frame(kind, payload))
        answer, body = _frame(sock)
    except (OSError, EOFError):
        return state(directory).exit_code
    finally:
        sock.close()
    if answer == supervisor_protocol.ERROR:
        raise supervisor_protocol.decode_error(body)
    code: int = unpack("=i", body)[0]
    return code


def _answer(sock: _socket.socket) -> None:
    kind, payload = _frame(sock)
    if kind == supervisor_protocol.ERROR:
        raise supervisor_protocol.decode_error(payload)


def _frame(sock: _socket.socket) -> tuple[int, bytes]:
    """One frame and not a byte more. Raises EOFError."""
    header = sock.recv(supervisor_protocol.HEADER, _socket.MSG_WAITALL)
    if len(header) < supervisor_protocol.HEADER:
        raise EOFError("the supervisor is gone")
    kind, length = unpack("=BI", header)
    payload = sock.recv(length, _socket.MSG_WAITALL) if length else b""
    if len(payload) < length:
        raise EOFError("the supervisor is gone")
    return kind, payload


def _settle(directory: str, found: ContainerState) -> None:
    from runtime import cgroups, statefile
    from runtime.values import asdict

    try:
        lock = statefile.lock(directory)
    except (WrongState, FileNotFoundError):
        return  # started again meanwhile, or removed
    try:
        cgroups.reap()
        with open(f"{directory}/config.json", "rb") as file:
            config = json.load(file)
        if config["endpoints"]:
            from runtime.networks import Networks

            try:
                Networks(config["networks_directory"]).release(config["spec"]["id"])
            except NetworkError:
                pass  # a full disk is no reason not to say how the container is
        statefile.write(directory, {**asdict(found), "supervisor_pid": 0})
    finally:
        os.close(lock)
