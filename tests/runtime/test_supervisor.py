"""Containers with a supervisor: real processes, from start to what is left after them."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from runtime import defaults, logs, logwriter, states, supervisor_client
from runtime.container import Launcher
from runtime.endpoints import EndpointRequest
from runtime.errors import CommandNotFound, ContainerError, NotRunning, WrongState
from runtime.networks import Networks
from runtime.networkstate import NetworkRequest
from runtime.ports import PortMapping
from runtime.spec import Process, Rootfs
from runtime.states import Status
from runtime.supervised import Config, Health, LogConfig, RestartPolicy
from runtime.supervisor_client import Session

pytestmark = pytest.mark.root


@dataclass
class Kept:
    """A container directory and the layer that its container runs on."""

    directory: Path
    layer: Path
    id: str
    sessions: list[Session] = field(default_factory=list)

    def configure(self, *argv: str, terminal: bool = False, **fields: object) -> Config:
        for name in ("upper", "work"):
            (self.directory / name).mkdir(exist_ok=True)
        rootfs = Rootfs((str(self.layer),), str(self.directory / "upper"), str(self.directory / "work"))
        spec = defaults.container_spec(self.id, rootfs, Process(argv, terminal=terminal))
        config = Config(spec=spec.to_dict(), **fields)  # type: ignore[arg-type]
        self.write(config)
        return config

    def write(self, config: Config) -> None:
        (self.directory / "config.json").write_text(json.dumps(config.to_dict()))

    def start(self) -> None:
        assert supervisor_client.start(self.directory) is None

    def attached(self) -> Session:
        session = supervisor_client.start(self.directory, attach=True)
        assert session is not None
        self.sessions.append(session)
        return session

    def attach(self, **streams: bool) -> Session:
        self.sessions.append(supervisor_client.attach(self.directory, **streams))
        return self.sessions[-1]

    def end(self) -> None:
        for session in self.sessions:
            session.close()
        supervisor_client.stop(self.directory, timeout=0)

    @property
    def state(self) -> states.ContainerState:
        return supervisor_client.state(self.directory)

    def log(self) -> bytes:
        return b"".join(record.data for record in logs.read(self.directory / logwriter.FILE_NAME))

    def supervisor(self) -> int:
        pid: int = json.loads((self.directory / "state.json").read_text())["supervisor_pid"]
        return pid


@pytest.fixture
def kept(busybox: Path, tmp_path: Path) -> Iterator[Kept]:
    directory = tmp_path / "container"
    directory.mkdir()
    container = Kept(directory, busybox, os.urandom(32).hex())
    try:
        yield container
    finally:
        container.end()


def read(session: Session, *, until: bytes | None = None) -> tuple[bytes, bytes, int | None]:
    """(stdout, stderr, exit code) up to the end, or until stdout holds *until*."""
    out, err = bytearray(), bytearray()
    while until is None or until not in out:
        code = session.pump(out.extend, err.extend)
        if code is not None:
            session.close()
            return bytes(out), bytes(err), code
    return bytes(out), bytes(err), None


def test_streams_exit_code_log_and_state(kept: Kept) -> None:
    kept.configure("sh", "-c", "echo out; echo err >&2; exit 3")
    assert read(kept.attached()) == (b"out\n", b"err\n", 3)
    state = kept.state
    assert (state.status, state.exit_code, state.pid, state.supervisor_pid) == (Status.EXITED, 3, 0, 0)
    assert logs.parse_time(state.started_at) < logs.parse_time(state.finished_at)
    written = {(record.stream, record.data) for record in logs.read(kept.directory / logwriter.FILE_NAME)}
    assert written == {("stdout", b"out\n"), ("stderr", b"err\n")}
    assert not states.alive(kept.directory)
    assert not (kept.directory / "attach.sock").exists()


def test_all_output_of_the_last_moment_arrives(kept: Kept) -> None:
    kept.configure("sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x")
    out, _, code = read(kept.attached())
    assert (len(out), code) == (300000, 0)


def test_a_program_that_is_not_there(kept: Kept) -> None:
    kept.configure("nosuch")
    with pytest.raises(CommandNotFound, match="executable file not found"):
        kept.start()
    assert (kept.state.status, kept.state.exit_code) == (Status.CREATED, 127)
    assert "not found" in kept.state.error
    kept.configure("true")
    assert read(kept.attached())[2] == 0


def test_a_second_supervisor_is_refused(kept: Kept) -> None:
    kept.configure("sleep", "1000")
    kept.start()
    with pytest.raises(WrongState, match="already running"):
        kept.start()


def test_stdin_ends_with_the_client_when_it_is_for_once(kept: Kept) -> None:
    kept.configure("cat", stdin_open=True, stdin_once=True)
    session = kept.attached()
    session.send_stdin(b"some text")
    session.close_stdin()
    assert read(session) == (b"some text", b"", 0)


def test_stdin_stays_open_for_the_next_client(kept: Kept) -> None:
    kept.configure("cat", stdin_open=True)
    first = kept.attached()
    first.send_stdin(b"one\n")
    read(first, until=b"one\n")
    first.close_stdin()
    first.close()
    second, third = kept.attach(), kept.attach(stdin=False)
    second.send_stdin(b"two\n")
    assert read(second, until=b"two\n")[0] == read(third, until=b"two\n")[0] == b"two\n"
    third.send_stdin(b"nobody takes this\n")
    supervisor_client.stop(kept.directory, timeout=0)
    assert read(second) == read(third) == (b"", b"", 137)
    assert kept.log() == b"one\ntwo\n"


def test_signals_get_past_input_that_nobody_reads(kept: Kept) -> None:
    kept.configure(
        "sh", "-c", "trap 'exit 9' USR1; echo ready; while :; do read -t 0 x </dev/null; done", stdin_open=True
    )
    session = kept.attached()
    read(session, until=b"ready\n")
    while session.room:
        session.send_stdin(b"x" * 65536)
    session.signal(signal.SIGUSR1)
    assert read(session)[2] == 9


def test_stop_lets_the_container_end_itself(kept: Kept) -> None:
    kept.configure("sh", "-c", "trap 'exit 5' USR2; echo ready; while :; do read -t 1 x; done", stop_signal="SIGUSR2",
                   stdin_open=True)  # fmt: skip
    read(session := kept.attached(), until=b"ready\n")
    supervisor_client.stop(kept.directory)
    assert read(session)[2] == 5
    assert (kept.state.exit_code, kept.state.stopped_by_user) == (5, True)
    supervisor_client.stop(kept.directory)  # it is stopped: no error


def test_stop_kills_what_does_not_listen(kept: Kept) -> None:
    kept.configure("sleep", "1000", stop_timeout=0)
    kept.start()
    supervisor_client.stop(kept.directory)
    assert supervisor_client.wait(kept.directory) == 137


def test_kill(kept: Kept) -> None:
    kept.configure("sh", "-c", "trap 'exit 4' HUP; echo ready; while :; do read -t 1 x; done", stdin_open=True)
    read(session := kept.attached(), until=b"ready\n")
    with pytest.raises(ContainerError, match="invalid signal: SIGNOSUCH"):
        supervisor_client.kill(kept.directory, "SIGNOSUCH")
    supervisor_client.kill(kept.directory, "hup")
    assert read(session)[2] == 4
    with pytest.raises(NotRunning):
        supervisor_client.kill(kept.directory)


def test_pause(kept: Kept) -> None:
    kept.configure("cat", stdin_open=True)
    session = kept.attached()
    supervisor_client.pause(kept.directory)
    assert kept.state.status is Status.PAUSED
    with pytest.raises(WrongState, match="container is paused"):
        supervisor_client.pause(kept.directory)
    session.send_stdin(b"frozen\n")
    supervisor_client.unpause(kept.directory)
    assert kept.state.status is Status.RUNNING
    read(session, until=b"frozen\n")
    supervisor_client.pause(kept.directory)
    supervisor_client.kill(kept.directory)
    assert supervisor_client.wait(kept.directory) == 137


def test_restarts_on_failure_are_counted(kept: Kept) -> None:
    kept.configure("sh", "-c", "echo run; exit 6", restart=RestartPolicy("on-failure", 2))
    session = kept.attached()
    assert read(session)[2] == 6  # who is attached sees the first run
    assert supervisor_client.wait(kept.directory) == 6
    assert (kept.state.status, kept.state.restart_count) == (Status.EXITED, 2)
    assert kept.log() == b"run\n" * 3


def test_a_container_that_always_restarts_can_be_stopped(kept: Kept) -> None:
    kept.configure("true", restart=RestartPolicy("always"))
    assert read(kept.attached())[2] == 0
    supervisor_client.stop(kept.directory)
    assert kept.state.status is Status.EXITED
    assert not states.alive(kept.directory)


def test_a_new_policy_reaches_a_running_supervisor(kept: Kept) -> None:
    config = kept.configure("sh", "-c", "read x; exit 1", stdin_open=True, restart=RestartPolicy("always"))
    session = kept.attached()
    kept.write(replace(config, restart=RestartPolicy("no")))
    supervisor_client.update(kept.directory)
    session.send_stdin(b"\n")
    assert read(session)[2] == 1
    assert supervisor_client.wait(kept.directory) == 1
    assert kept.state.restart_count == 0


def test_a_terminal_has_the_size_that_it_is_given(kept: Kept) -> None:
    kept.configure("sh", "-c", "read x; stty size; echo to-stderr >&2", terminal=True, stdin_open=True)
    session = kept.attached()
    session.resize(33, 77)
    session.send_stdin(b"go\n")
    out, err, code = read(session)
    assert out.replace(b"\r", b"") == b"go\n33 77\nto-stderr\n"
    assert (err, code) == (b"", 0)


def test_a_killed_supervisor_leaves_nothing(kept: Kept, tmp_path: Path) -> None:
    networks = Networks(tmp_path / "networks")
    try:
        kept.configure(
            "sleep", "1000", networks_directory=str(tmp_path / "networks"),
            endpoints=(EndpointRequest("bridge", kept.id),), restart=RestartPolicy("always"),
        )  # fmt: skip
        session = kept.attached()
        process = os.pidfd_open(kept.state.pid)
        assert [endpoint.container for endpoint in networks.endpoints()] == [kept.id]
        os.kill(kept.supervisor(), signal.SIGKILL)
        with pytest.raises(EOFError):
            read(session)
        session.close()
        assert select.select([process], [], [], 20)[0] == [process]
        os.close(process)
        state = kept.state
        assert (state.status, state.exit_code, state.pid) == (Status.EXITED, 137, 0)
        assert supervisor_client.wait(kept.directory) == 137
        with pytest.raises(NotRunning):
            supervisor_client.pause(kept.directory)
        assert networks.endpoints() == ()
        assert kept.state.supervisor_pid == 0
        kept.configure("true")
        assert read(kept.attached())[2] == 0
    finally:
        networks.teardown()


def test_what_is_to_run_at_the_end_runs_once_it_is_over(kept: Kept, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    kept.configure("true", at_exit=("/bin/sh", "-c", f"echo over > {fifo}"))
    kept.start()
    assert fifo.read_text() == "over\n"
    assert not states.alive(kept.directory)


def test_health(kept: Kept) -> None:
    count = "n=$(cat /n 2>/dev/null); n=$((n+1)); echo $n >/n; echo check $n"
    check = f"{count}; [ $n -lt 4 ] || {{ echo > /f; sleep 100; }}; exit 1"
    kept.configure(
        "sh", "-c", "mkfifo /f; cat /f", health=Health(("sh", "-c", check), interval=0.02, timeout=20.0, retries=2)
    )
    read(kept.attached())
    health = kept.state.health
    assert health is not None
    assert health.status == "unhealthy"
    assert health.failing_streak >= 3
    assert (health.log[0].exit_code, health.log[0].output) == (1, "check 1\n")


def test_a_frozen_container_is_not_unhealthy(kept: Kept) -> None:
    health = Health(("sh", "-c", "[ ! -e /go ] || echo > /f"), interval=0.02, timeout=20.0, retries=5)
    main = "mkfifo /f; echo ready; read x; touch /go; cat /f"
    kept.configure("sh", "-c", main, health=health, stdin_open=True)
    read(session := kept.attached(), until=b"ready\n")
    supervisor_client.pause(kept.directory)
    before = kept.state.health
    assert select.select([session], [], [], 0.3)[0] == []  # ten times the interval
    assert kept.state.health == before
    supervisor_client.unpause(kept.directory)
    session.send_stdin(b"\n")
    assert read(session)[2] == 0  # a check has ended it
    assert kept.state.health is not None
    assert kept.state.health.status != "unhealthy"


def test_exec_beside_a_supervised_container(kept: Kept, launcher: Launcher) -> None:
    kept.configure("sleep", "1000")
    kept.start()
    reading, writing = os.pipe()
    running = launcher.exec_(kept.state.pid, Process(("/bin/hostname",)), stdout=writing, stderr=writing)
    os.close(writing)
    with open(reading, "rb") as file:
        assert file.read().decode().strip() == kept.id[:12]
    assert running.wait(20).code == 0


@pytest.mark.parametrize(("driver", "there"), [("none", False), ("json-file", True), ("local", True)])
def test_log_drivers(kept: Kept, driver: str, there: bool) -> None:
    kept.configure("echo", "hi", log=LogConfig(driver))
    assert read(kept.attached())[0] == b"hi\n"
    assert (kept.directory / logwriter.FILE_NAME).exists() is there


def test_a_log_is_rotated(kept: Kept) -> None:
    log = LogConfig(options=(("max-size", "1k"), ("max-file", "2")))
    kept.configure("sh", "-c", "for i in $(seq 100); do echo line $i; done", log=log)
    read(kept.attached())
    path = kept.directory / logwriter.FILE_NAME
    assert sorted(each.name for each in kept.directory.glob("container-json.log*")) == [path.name, f"{path.name}.1"]
    assert path.stat().st_size < 1200
    assert kept.log().endswith(b"line 99\nline 100\n")


def test_a_published_port_answers_on_localhost(kept: Kept, tmp_path: Path) -> None:
    networks = Networks(tmp_path / "networks")
    try:
        kept.configure(
            "sh", "-c", "echo ready; exec nc -l -p 80 -e echo hello", networks_directory=str(tmp_path / "networks"),
            endpoints=(EndpointRequest("bridge", kept.id, ports=(PortMapping(80),)),),
        )  # fmt: skip
        session = kept.attached()
        read(session, until=b"ready\n")
        (endpoint,) = networks.endpoints()
        # The program listens a moment after it says so; until then the container itself refuses.
        while True:
            try:
                with socket.create_connection(("127.0.0.1", endpoint.ports[0].host_port), 20) as connection:
                    assert connection.makefile().read() == "hello\n"
                break
            except ConnectionRefusedError:
                continue
        assert read(session)[2] == 0
        assert networks.endpoints() == ()
    finally:
        networks.teardown()


def test_names_on_a_user_network(kept: Kept, busybox: Path, tmp_path: Path) -> None:
    networks = Networks(tmp_path / "networks")
    other = Kept(tmp_path / "other", busybox, os.urandom(32).hex())
    other.directory.mkdir()
    try:
        network = networks.create(NetworkRequest("mine"), created="")
        kept.configure(
            "sleep", "1000", networks_directory=str(tmp_path / "networks"),
            endpoints=(EndpointRequest("mine", kept.id, name="Web", aliases=("www",)),),
        )  # fmt: skip
        kept.start()
        ip = networks.endpoints()[0].ip
        other.configure(
            "sh", "-c", "for n in web www.mine nosuch.invalid; do nslookup $n || echo none; done",
            networks_directory=str(tmp_path / "networks"), endpoints=(EndpointRequest("mine", other.id, name="asks"),),
            dns=(network.gateway,),  # nobody answers there
        )  # fmt: skip
        out = read(other.attached())[0].decode()
        assert out.count(f"Address: {ip}\n") == 2
        assert out.endswith("none\n")
    finally:
        for each in (kept, other):
            each.end()
        networks.remove("mine")
        networks.teardown()


def test_a_prepared_supervisor_that_is_not_needed_goes(kept: Kept) -> None:
    supervisor_client.prepare(networks=True).cancel()
    kept.configure("true")
    prepared = supervisor_client.prepare()
    session = prepared.start(kept.directory, attach=True)
    assert session is not None
    assert read(session)[2] == 0
