"""The process that stays with one container: starts it, holds its streams, notes its end, starts it again.

``runtime.supervisor_client`` starts it with a socket as descriptor 3, over which it is told its directory and its
config. It is single-threaded: one poll loop over the container's pidfd and streams, the clients, the health check and
the name server. It forks the container itself, so that its own death is the container's. It imports little, since
everybody who starts a container waits for it.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C part of signal, without its enums; typeshed has none
import marshal
import os
import sys
import time
from _socket import AF_UNIX, MSG_WAITALL, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM, socket
from struct import unpack

from runtime import cgroups, init, logwriter, restarts, signals, statefile, supervisor_protocol, sync
from runtime.errors import ContainerError, WrongState
from runtime.loop import Loop
from runtime.supervisor_network import Wiring
from runtime.supervisor_output import Output
from runtime.supervisor_streams import Client, Input

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from runtime.healthcheck import Checker
    from runtime.init import Child, Spare

_SIGKILL = 9


class Supervisor:
    """All of one container's life. *directory* and *config* (``runtime.supervised.Config`` as a dictionary)."""

    def __init__(self, directory: str, config: dict[str, Any], starter: Client, spare: Spare | None) -> None:
        self.directory, self.config, self.starter, self.spare = directory, config, starter, spare
        self.loop = Loop()
        self.lock = statefile.lock(directory)
        self.clients: set[Client] = set()
        self.child: Child | None = None
        self.output = Output(self.loop, directory, self.clients)
        self.input = Input(self.loop)
        self.wiring = Wiring(self.loop)
        self.health: Checker | None = None
        self.listener: socket | None = None
        self.answered = self.ended = False
        self.waited = 0.0
        self.started = 0.0
        # The fields of runtime.states.ContainerState.
        self.state: dict[str, Any] = {
            "status": "created", "pid": 0, "pid_start": 0, "supervisor_pid": os.getpid(), "exit_code": 0,
            "oom_killed": False, "error": "", "started_at": "", "finished_at": "", "restart_count": 0,
            "stopped_by_user": False, "health": None, "cgroup": "",
        }  # fmt: skip

    def begin(self) -> None:
        """Start the container for the first time; the starter is told how it went."""
        self.waited = 0.0
        self._launch_or_fail()

    def _launch_or_fail(self) -> None:
        try:
            self.launch()
        except ContainerError as error:
            self._failed(error)
        except OSError as error:
            self._failed(ContainerError(f"cannot start the container: {error}"))

    def launch(self) -> None:
        """Fork the container; ``progress`` hears of the rest. Raises ContainerError; all is given back then."""
        self.config["spec"]["namespaces"] = statefile.rejoin(self.config["spec"]["namespaces"], self.config["joined"])
        spec = dict(self.config["spec"])
        try:
            spec["hosts"], spec["resolv_conf"] = self.wiring.reserve(self.config)
            self.output.begin(self.config["log"])
            given = self.output.open(terminal=spec["process"]["terminal"])
            if self.config["stdin_open"] and not spec["process"]["terminal"]:
                stdin, ours = os.pipe2(os.O_CLOEXEC)
                os.set_blocking(ours, False)
                self.input.open(ours)
                given = (stdin, *given[1:])
            try:
                self.child = child = self._spawn(spec, given)
            finally:
                for fd in {fd for fd in given if fd >= 0}:
                    os.close(fd)
            if self.wiring.wanted:
                try:
                    self.wiring.attach(child.pid)
                except (FileNotFoundError, ProcessLookupError):
                    pass  # it died while it was made: its own message says why
                except BaseException:
                    child.kill()
                    child.finish()
                    self.child = None
                    raise
                child.proceed()
        except BaseException:
            self.wiring.release()
            raise
        self.loop.watch(child.sock.fileno(), self.progress)

    def _spawn(self, plain: dict[str, Any], given: tuple[int, int, int]) -> Child:
        spec = sync.as_spec(plain)
        spare, self.spare = self.spare, None
        if spare is not None:
            if spare.fits(spec):
                child = spare.take(plain, spec, *given, hook=self.wiring.wanted)
                if child is not None:
                    return child
            else:
                spare.discard()
        return init.spawn(spec, *given, hook=self.wiring.wanted)

    def progress(self, _: int) -> None:
        """A message from init: the program was executed, or why it could not be."""
        child = self._child()
        if not child.receive():
            return
        self.loop.forget(child.sock.fileno())
        if child.executed:
            self._running(child)
            return
        error = child.error or ContainerError("the container was killed before it ran")
        child.finish()
        self.child = None
        self.wiring.release()
        self._failed(error)

    def _running(self, child: Child) -> None:
        self.started = time.monotonic()
        if child.console is not None:
            os.set_blocking(child.console, False)
            self.output.terminal(child.console)
            if self.config["stdin_open"]:
                self.input.open(os.dup(child.console))
        self._save(
            status="running", pid=child.pid, pid_start=statefile.process_start(child.pid), exit_code=0, error="",
            oom_killed=False, started_at=_now(), stopped_by_user=False, health=None,
        )  # fmt: skip
        self._listen()
        if self.config["health"] is not None:
            self._check_health(child)
        if not self.answered:
            self.answered = True
            self.starter.send(supervisor_protocol.OK)
        self.output.watch()
        self.loop.watch(child.pidfd, lambda _: self._exited())

    def _check_health(self, child: Child) -> None:
        from runtime.healthcheck import Checker

        spec = self.config["spec"]
        self.health = Checker(
            self.loop,
            self.config["health"],
            spec["process"],
            spec["seccomp"],
            child.pid,
            lambda state: self._save(health=state),
        )
        self._save(health=self.health.state)
        self.health.begin()

    def _exited(self) -> None:
        child = self._child()
        self.loop.forget(child.pidfd)
        self.loop.cancel("kill")
        if self.health is not None:
            self.health.end()
        status, _, oom = child.collect()
        self.output.drain()
        self._close_streams()
        child.release()
        self.child = None
        self.wiring.release()
        code = os.waitstatus_to_exitcode(status)
        code = code if code >= 0 else 128 - code
        facts = {"pid": 0, "pid_start": 0, "exit_code": code, "oom_killed": oom, "finished_at": _now()}
        policy = self.config["restart"]
        if restarts.wanted(
            policy["name"], policy["maximum"], code=code, count=self.state["restart_count"],
            stopped=self.state["stopped_by_user"],
        ):  # fmt: skip
            self.waited = restarts.delay(self.waited, time.monotonic() - self.started)
            self._save(status="restarting", restart_count=self.state["restart_count"] + 1, **facts)
            for client in tuple(self.clients):
                if client.streams:
                    client.finish(code)
            self.loop.at("restart", self.waited, self._launch_or_fail)
            return
        self._over(status="exited", **facts)

    def _failed(self, error: ContainerError) -> None:
        """It could not be started: told to whoever started it, and the end."""
        self._close_streams()
        if self.answered:
            self._over(
                status="exited", exit_code=error.code, error=error.message, finished_at=_now(), pid=0, pid_start=0
            )
            return
        self.answered = True
        self._end(status=self.state["status"], exit_code=error.code, error=error.message)
        self.starter.send(supervisor_protocol.ERROR, supervisor_protocol.encode_error(error))
        self.starter.finish(None)

    def _over(self, **facts: Any) -> None:
        self._end(**facts)
        if self.config["at_exit"]:
            os.posix_spawn(self.config["at_exit"][0], self.config["at_exit"], {}, setsid=True)
        for client in tuple(self.clients):
            client.finish(self.state["exit_code"])

    def _end(self, **facts: Any) -> None:
        """After this nothing in the directory is ours: it may be started again, or removed."""
        self._save(supervisor_pid=0, **facts)
        if self.listener is not None:
            self.loop.forget(self.listener.fileno())
            os.unlink(f"{self.directory}/{supervisor_protocol.SOCKET_NAME}")
            self.listener.close()
            self.listener = None
        self.output.end()
        os.close(self.lock)
        self.ended = True

    def caught_up(self) -> None:
        """A client has taken what it was sent."""
        self.output.caught_up()

    def _close_streams(self) -> None:
        self.input.close()
        self.output.close()
        console, child = self._console(), self.child
        if child is not None and console >= 0:
            self.loop.forget(console)
            os.close(console)
            child.console = None

    def _console(self) -> int:
        return -1 if self.child is None or self.child.console is None else self.child.console

    def _child(self) -> Child:
        if self.child is None:
            raise WrongState("the container does not run")
        return self.child

    def _listen(self) -> None:
        if self.listener is not None:
            return
        path = f"{self.directory}/{supervisor_protocol.SOCKET_NAME}"
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        self.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK)
        # A socket's path may have 107 bytes; the way over /proc is always short enough.
        here = os.open(self.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.listener.bind(f"/proc/self/fd/{here}/{supervisor_protocol.SOCKET_NAME}")
        os.close(here)
        self.listener.listen(64)
        self.loop.watch(self.listener.fileno(), self._accept)

    def _accept(self, _: int) -> None:
        if self.listener is None:
            return
        try:
            fd, _ = self.listener._accept()  # type: ignore[attr-defined]
        except (BlockingIOError, ConnectionAbortedError):
            return
        os.set_blocking(fd, False)
        os.set_inheritable(fd, False)  # noqa: FBT003
        self.join(Client(self, socket(AF_UNIX, SOCK_STREAM, 0, fd)))

    def join(self, client: Client) -> None:
        """A new client; it is heard from now on."""
        self.clients.add(client)
        client.watch()

    def leave(self, client: Client) -> None:
        """A client is gone."""
        self.clients.discard(client)
        self.output.caught_up()
        if client.streams & supervisor_protocol.FLAG_STDIN:
            self._end_input()

    def heard(self, client: Client, kind: int, payload: bytes) -> None:
        """One frame of a client."""
        if kind == supervisor_protocol.STDIN:
            if client.streams & supervisor_protocol.FLAG_STDIN:
                self.input.feed(client, payload)
        elif kind == supervisor_protocol.STDIN_END:
            self._end_input()
        elif kind == supervisor_protocol.SIGNAL:
            self._signal(payload[0])
        elif kind == supervisor_protocol.RESIZE and client.streams:
            self._resize(payload)
        else:
            try:
                self._request(client, kind, payload)
            except ContainerError as error:
                client.send(supervisor_protocol.ERROR, supervisor_protocol.encode_error(error))

    def _request(self, client: Client, kind: int, payload: bytes) -> None:
        if kind == supervisor_protocol.WAIT:
            client.waits = True
            return
        if kind == supervisor_protocol.STOP:
            (timeout,) = unpack("=i", payload[:4])
            client.waits = True
            self._stop(timeout, payload[4:].decode())
            return
        if kind == supervisor_protocol.ATTACH:
            client.streams = payload[0]
        elif kind == supervisor_protocol.KILL:
            self._kill(payload.decode())
        elif kind in (supervisor_protocol.PAUSE, supervisor_protocol.UNPAUSE):
            self._pause(frozen=kind == supervisor_protocol.PAUSE)
        elif kind == supervisor_protocol.RESIZE:
            self._resize(payload)
        elif kind == supervisor_protocol.UPDATE:
            self._update()
        client.send(supervisor_protocol.OK)

    def _end_input(self) -> None:
        if self.config["stdin_once"] and not self.config["spec"]["process"]["terminal"]:
            self.input.end()

    def _signal(self, number: int) -> None:
        if self.child is not None and number:
            try:
                _signal.pidfd_send_signal(self.child.pidfd, number)
            except ProcessLookupError:
                return  # it has just ended

    def _kill(self, text: str) -> None:
        number = signals.number(text)
        self._child()
        # Docker, too, takes these two for a stop that no policy overrules, and lets a paused container hear them.
        if number in (_SIGKILL, signals.number(self.config["stop_signal"])):
            self._save(stopped_by_user=True)
            self._signal(number)
            self._thaw()
        else:
            self._signal(number)

    def _stop(self, timeout: int, text: str) -> None:
        number = signals.number(text or self.config["stop_signal"])
        self._save(stopped_by_user=True)
        if self.child is None:
            self.loop.cancel("restart")
            self._over(status="exited")
            return
        if timeout == supervisor_protocol.AS_CONFIGURED:
            timeout = self.config["stop_timeout"]
        if timeout:
            self._signal(number)
        if timeout >= 0:
            self.loop.at("kill", timeout, lambda: self._signal(_SIGKILL))
        self._thaw()

    def _pause(self, *, frozen: bool) -> None:
        child = self._child()
        now = self.state["status"]
        if now != ("running" if frozen else "paused"):
            raise WrongState(f"container is {now}")
        if frozen:
            child.group.freeze()
            if self.health is not None:
                self.health.hold()
            self._save(status="paused")
        else:
            self._thaw()

    def _thaw(self) -> None:
        if self.state["status"] == "paused":
            self._child().group.thaw()
            if self.health is not None:
                self.health.go_on()
            self._save(status="running")

    def _resize(self, payload: bytes) -> None:
        console = self._console()
        if console >= 0:
            from runtime.terminal import resize

            rows, columns = unpack("=HH", payload)
            resize(console, rows, columns)

    def _update(self) -> None:
        import json

        with open(f"{self.directory}/config.json", "rb") as file:
            self.config = json.load(file)
        if self.child is not None:
            try:
                self.wiring.refresh(self.config, self.child.pid)
            except OSError as error:
                raise ContainerError(f"cannot answer for names in the container: {error}") from error

    def _save(self, **facts: Any) -> None:
        self.state.update(facts)
        statefile.write(self.directory, self.state)

    def serve(self) -> NoReturn:
        """Until the container has ended for good and every client has what is its."""
        while not self.ended or self.clients:
            self.loop.turn()
        os._exit(0)


def _now() -> str:
    return logwriter.rfc3339nano(time.time_ns())


def _receive(sock: socket) -> tuple[int, Any] | None:
    """One of the frames that come before a supervisor has clients; None when the other end is gone."""
    try:
        header = sock.recv(supervisor_protocol.HEADER, MSG_WAITALL)
        kind, length = unpack("=BI", header) if len(header) == supervisor_protocol.HEADER else (0, 0)
        payload = sock.recv(length, MSG_WAITALL) if length else b""
    except ConnectionResetError:
        return None
    return (kind, marshal.loads(payload)) if length and len(payload) == length else None


def _told(sock: socket, *, networks: bool) -> tuple[str, dict[str, Any], int, Spare | None]:
    """Wait to be told what to do: directory, config, flags; and what could be prepared until then. *networks*: what
    they need is loaded while the prepared process makes itself ready."""
    spare: Spare | None = None
    while True:
        got = _receive(sock)
        if got is None:
            if spare is not None:
                spare.discard()
            os._exit(0)
        kind, message = got
        if kind == supervisor_protocol.START:
            directory, config, flags = message
            return directory, config, flags, spare
        if spare is None:
            try:
                spare = init.prepare(message)
            except (ContainerError, OSError):
                continue  # told when the container is started
            finally:
                if networks:
                    import runtime.networks  # noqa: F401


def main() -> None:
    """Wait to be told what to do, and do it. ``--networks`` as an argument: what networks need is loaded meanwhile."""
    # Away from whoever started us: not his child, his terminal, his directory.
    if os.fork():
        os._exit(0)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for fd in (0, 1, 2):
        os.dup2(null, fd, inheritable=True)
    os.close(null)
    os.chdir("/")
    os.set_inheritable(3, False)  # noqa: FBT003
    sock = socket(AF_UNIX, SOCK_STREAM, 0, 3)
    directory, config, flags, spare = _told(sock, networks="--networks" in sys.argv)
    errors = os.open(f"{directory}/supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.dup2(errors, 2, inheritable=True)
    os.close(errors)
    starter = Client(None, sock)
    try:
        supervisor = Supervisor(directory, config, starter, spare)
    except ContainerError as error:
        if spare is not None:
            spare.discard()
        sock.sendall(supervisor_protocol.frame(supervisor_protocol.ERROR, supervisor_protocol.encode_error(error)))
        os._exit(0)
    os.set_blocking(3, False)
    starter.join(supervisor, flags)
    supervisor.begin()
    # Others wait for what short-lived containers say; what killed supervisors left does not run away.
    supervisor.loop.at("reap", 1.0, _reap)
    supervisor.serve()


def _reap() -> None:
    try:
        cgroups.reap()
    except OSError:
        return  # somebody else is at it, or we may not


if __name__ == "__main__":
    main()
