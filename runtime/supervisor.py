"""The process that stays with one container: starts it, holds its streams, notes its end, starts it again.

``runtime.supervisor_client`` starts it with a socket as descriptor 3, over which it is told its directory and its
config. It is single-threaded: one poll loop over the container's pidfd and streams, the clients, the health check and
the name server. It forks the container itself, so that its own death is the container's. It imports little, since
everybody who starts a container waits for it.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C part of signal, without its enums; typeshed has none
import errno
import marshal
import os
import select
import sys
import time
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM, socket
from struct import unpack

from runtime import cgroups, init, logwriter, names, restarts, signals, statefile, supervisor_protocol, sync
from runtime.errors import ContainerError, WrongState
from runtime.supervisor_streams import Client, Input

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from runtime.healthcheck import Checker
    from runtime.init import Child
    from runtime.networks import Networks
    from runtime.resolver import Resolver

_READ = 1 << 16
_SIGKILL = 9
_BEHIND = 1 << 20


class Loop:
    """Who is to be called when a descriptor is ready or a time has come. Times are ``time.monotonic`` seconds."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._timers: dict[str, tuple[float, Callable[[], None]]] = {}

    def watch(self, fd: int, handler: Callable[[int], None], events: int = select.POLLIN) -> None:
        """Call *handler* with poll's events; replaces the descriptor's former handler."""
        self._handlers[fd] = handler
        self._poll.register(fd, events)

    def forget(self, fd: int) -> None:
        """Stop watching; no effect when nobody does."""
        if self._handlers.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def at(self, name: str, seconds: float, handler: Callable[[], None]) -> None:
        """Call *handler* in *seconds*; replaces the timer of that name."""
        self._timers[name] = (time.monotonic() + seconds, handler)

    def cancel(self, name: str) -> None:
        """Forget a timer; no effect when there is none."""
        self._timers.pop(name, None)

    def turn(self) -> None:
        """Wait for the next thing to happen and handle it."""
        wait = None
        if self._timers:
            wait = max(0.0, min(when for when, _ in self._timers.values()) - time.monotonic()) * 1000 + 0.5
        for fd, events in self._poll.poll(wait):
            handler = self._handlers.get(fd)
            if handler is not None:
                handler(events)
        if self._timers:
            now = time.monotonic()
            for name, (when, call) in sorted(self._timers.items(), key=lambda item: item[1][0]):
                if when <= now and self._timers.get(name, (0.0, None))[1] is call:
                    del self._timers[name]
                    call()


class Supervisor:
    """All of one container's life. *directory* and *config* (``runtime.supervised.Config`` as a dictionary)."""

    def __init__(self, directory: str, config: dict[str, Any], starter: Client) -> None:
        self.directory, self.config, self.starter = directory, config, starter
        self.loop = Loop()
        self.lock = statefile.lock(directory)
        self.clients: set[Client] = set()
        self.child: Child | None = None
        self.streams: dict[int, str] = {}
        self.splitters: dict[str, logwriter.Splitter] = {}
        self.log: logwriter.Writer | None = None
        self.input = Input(self.loop)
        self.networks: Networks | None = None
        self.resolver: Resolver | None = None
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

    # -- the container ------------------------------------------------------------------------------------------------

    def launch(self) -> None:
        """Fork the container; ``progress`` hears of the rest. Raises ContainerError; all is given back then."""
        spec = dict(self.config["spec"])
        try:
            endpoints = self._reserve()
            self._name_files(spec, endpoints)
            given, self.streams = self._pipes(terminal=spec["process"]["terminal"])
            try:
                self.child = child = init.spawn(sync.as_spec(spec), *given, hook=bool(endpoints))
            finally:
                for fd in {fd for fd in given if fd >= 0}:
                    os.close(fd)
            if endpoints and self.networks is not None:
                try:
                    for endpoint in endpoints:
                        self.networks.attach(endpoint, child.pid)
                    self._serve_names(endpoints, child.pid)
                except BaseException:
                    child.kill()
                    child.finish()
                    self.child = None
                    raise
                child.proceed()
        except BaseException:
            self._let_go()
            raise
        self.loop.watch(child.sock.fileno(), self.progress)

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
        self._let_go()
        self._failed(error)

    def _running(self, child: Child) -> None:
        self.started = time.monotonic()
        if child.console is not None:
            os.set_blocking(child.console, False)  # noqa: FBT003
            self.streams = {child.console: "stdout"}
            if self.config["stdin_open"]:
                self.input.open(os.dup(child.console))
        self.splitters = {name: logwriter.Splitter(name) for name in ("stdout", "stderr")}
        self._save(
            status="running", pid=child.pid, pid_start=statefile.process_start(child.pid), exit_code=0, error="",
            oom_killed=False, started_at=_now(), stopped_by_user=False, health=None,
        )  # fmt: skip
        self._open_log()
        self._listen()
        if self.config["health"] is not None:
            self._check_health(child)
        if not self.answered:
            self.answered = True
            self.starter.send(supervisor_protocol.OK)
        for fd in self.streams:
            self._watch_output(fd)
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
        for fd in tuple(self.streams):
            while self._output(fd):
                pass
        self._close_streams()
        child.release()
        self.child = None
        self._let_go()
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
        if self.log is not None:
            self.log.close()
            self.log = None
        os.close(self.lock)
        self.ended = True

    def _child(self) -> Child:
        if self.child is None:
            raise WrongState("the container does not run")
        return self.child

    # -- networks and names -------------------------------------------------------------------------------------------

    def _reserve(self) -> list[Any]:
        if not self.config["endpoints"]:
            return []
        from runtime.networks import EndpointRequest, Networks
        from runtime.ports import PortMapping

        self.networks = Networks(self.config["networks_directory"])
        found = []
        for wanted in self.config["endpoints"]:
            ports = tuple(PortMapping(**port) for port in wanted["ports"])
            request = EndpointRequest(**{**wanted, "ports": ports, "aliases": tuple(wanted["aliases"])})
            found.append(self.networks.reserve(request))
        return found

    def _name_files(self, spec: dict[str, Any], endpoints: list[Any]) -> None:
        network = spec["namespaces"]["network"]
        if network.startswith("/"):
            pid = network.split("/")[2]
            spec["hosts"] = _read(f"/proc/{pid}/root/etc/hosts")
            spec["resolv_conf"] = _read(f"/proc/{pid}/root/etc/resolv.conf")
            return
        config = self.config
        gateway = endpoints[0].gateway if endpoints else ""
        extra = names.extra_hosts([(name, ip) for name, ip in config["hosts"]], gateway)
        host = _read("/etc/resolv.conf")
        given = {"search": config["dns_search"], "options": config["dns_options"]}
        if network == "host":
            spec["hosts"] = _read("/etc/hosts") + "".join(f"{ip}\t{name}\n" for ip, name in extra)
            asked = config["dns"] or config["dns_search"] or config["dns_options"]
            servers = names.parse_resolv_conf(host)["nameserver"]
            spec["resolv_conf"] = names.resolv_conf(host, servers=config["dns"] or servers, **given) if asked else host
            return
        own = [(endpoint.ip, names.own_names(spec["hostname"], spec["domainname"])) for endpoint in endpoints]
        spec["hosts"] = names.hosts_file(extra, own)
        if any(endpoint.network != "bridge" for endpoint in endpoints):
            spec["resolv_conf"] = names.embedded_resolv_conf(host, **given)
        else:
            spec["resolv_conf"] = names.resolv_conf(host, servers=config["dns"], **given)

    def _serve_names(self, endpoints: list[Any], pid: int) -> None:
        if not any(endpoint.network != "bridge" for endpoint in endpoints) or self.networks is None:
            return
        from runtime.resolver import Resolver

        # Who is on internal networks only is told nothing from outside.
        open_ = any(not endpoint.internal for endpoint in endpoints)
        upstream = names.upstream_servers(_read("/etc/resolv.conf"), self.config["dns"]) if open_ else ()
        self.resolver = Resolver(self.loop, self.networks, self.config["spec"]["id"], upstream, pid)

    def _let_go(self) -> None:
        if self.resolver is not None:
            self.resolver.close()
            self.resolver = None
        if self.networks is not None:
            # The kernel removes the interfaces with the namespace, faster than we could.
            self.networks.release(self.config["spec"]["id"], unwire=False)
            self.networks = None

    # -- streams ------------------------------------------------------------------------------------------------------

    def _pipes(self, *, terminal: bool) -> tuple[tuple[int, int, int], dict[int, str]]:
        """(the container's stdin, stdout, stderr), and our ends of the last two."""
        if terminal:
            return (-1, -1, -1), {}
        stdin = -1
        if self.config["stdin_open"]:
            stdin, ours = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(ours, False)  # noqa: FBT003
            self.input.open(ours)
        out, stdout = os.pipe2(os.O_CLOEXEC)
        err, stderr = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(out, False)  # noqa: FBT003
        os.set_blocking(err, False)  # noqa: FBT003
        return (stdin, stdout, stderr), {out: "stdout", err: "stderr"}

    def _watch_output(self, fd: int) -> None:
        def ready(_: int) -> None:
            self._output(fd)

        self.loop.watch(fd, ready)

    def _output(self, fd: int) -> bool:
        """Pass on what is there; False when there is nothing now."""
        name = self.streams.get(fd)
        if name is None:
            return False
        try:
            data = os.read(fd, _READ)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            data = b""  # the last process has closed the terminal
        if not data:
            self.loop.forget(fd)
            del self.streams[fd]
            self._record(self.splitters[name].finish(time.time_ns()))
            if fd != self._console():
                os.close(fd)
            return False
        self._record(self.splitters[name].feed(data, time.time_ns()))
        kind, flag = (
            (supervisor_protocol.STDOUT, supervisor_protocol.FLAG_STDOUT)
            if name == "stdout"
            else (supervisor_protocol.STDERR, supervisor_protocol.FLAG_STDERR)
        )
        for client in tuple(self.clients):
            if client.streams & flag:
                client.send(kind, data)
        if any(client.behind > _BEHIND for client in self.clients):
            for each in self.streams:
                self.loop.forget(each)  # docker, too, lets the container wait for a reader; caught_up goes on
        return True

    def caught_up(self) -> None:
        """A client has taken what it was sent."""
        child = self.child
        if child is None or not child.executed or any(client.behind > _BEHIND for client in self.clients):
            return
        for fd in self.streams:
            self._watch_output(fd)

    def _console(self) -> int:
        return -1 if self.child is None or self.child.console is None else self.child.console

    def _close_streams(self) -> None:
        self.input.close()
        console = self._console()
        for fd in {*self.streams, console} - {-1}:
            self.loop.forget(fd)
            os.close(fd)
        for splitter in self.splitters.values():
            self._record(splitter.finish(time.time_ns()))
        self.streams, self.splitters = {}, {}
        if self.child is not None:
            self.child.console = None

    def _open_log(self) -> None:
        log = self.config["log"]
        if self.log is not None or log["driver"] == "none":
            return
        size, files = (20 << 20, 5) if log["driver"] == "local" else (0, 1)
        if log["options"]:
            from runtime.logs import Limits

            limits = Limits.parse(tuple((name, value) for name, value in log["options"]))
            size, files = limits.size or size, max(limits.files, 1) if dict(log["options"]).get("max-file") else files
        self.log = logwriter.Writer(f"{self.directory}/{logwriter.FILE_NAME}", size=size, files=files)

    def _record(self, records: list[logwriter.Record]) -> None:
        if self.log is None or not records:
            return
        try:
            self.log.write(records)
        except OSError as error:  # a full disk loses lines of the log, not the container
            sys.stderr.write(f"cannot write the log: {error}\n")

    # -- clients ------------------------------------------------------------------------------------------------------

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
        os.set_blocking(fd, False)  # noqa: FBT003
        os.set_inheritable(fd, False)  # noqa: FBT003
        self.join(Client(self, socket(AF_UNIX, SOCK_STREAM, 0, fd)))

    def join(self, client: Client) -> None:
        """A new client; it is heard from now on."""
        self.clients.add(client)
        client.watch()

    def leave(self, client: Client) -> None:
        """A client is gone."""
        self.clients.discard(client)
        self.caught_up()
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
            self._save(status="paused")
        else:
            self._thaw()

    def _thaw(self) -> None:
        if self.state["status"] == "paused":
            self._child().group.thaw()
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


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def _receive(sock: socket) -> tuple[int, bytes] | None:
    """The first frame, whole; None when the other end is gone."""
    buffer = bytearray()
    while True:
        try:
            part = sock.recv(1 << 20)
        except ConnectionResetError:
            return None
        if not part:
            return None
        buffer += part
        frames = supervisor_protocol.cut(buffer)
        if frames:
            return frames[0]


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
    if "--networks" in sys.argv:
        import runtime.networks  # noqa: F401
    os.set_inheritable(3, False)  # noqa: FBT003
    sock = socket(AF_UNIX, SOCK_STREAM, 0, 3)
    got = _receive(sock)
    if got is None:
        os._exit(0)
    directory, config, flags = marshal.loads(got[1])
    errors = os.open(f"{directory}/supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.dup2(errors, 2, inheritable=True)
    os.close(errors)
    try:
        cgroups.reap()
    except OSError:
        pass  # somebody else is at it, or we may not: no reason not to start
    try:
        starter = Client(None, sock)
        supervisor = Supervisor(directory, config, starter)
    except ContainerError as error:
        sock.sendall(supervisor_protocol.frame(supervisor_protocol.ERROR, supervisor_protocol.encode_error(error)))
        os._exit(0)
    os.set_blocking(3, False)  # noqa: FBT003
    starter.join(supervisor, flags)
    supervisor.begin()
    supervisor.serve()


if __name__ == "__main__":
    main()
