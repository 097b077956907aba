"""Values that travel: configs, states, frames, signals, the judgement of health."""

from __future__ import annotations

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import healthcheck, signals, statefile, states, supervisor_protocol
from runtime.endpoints import EndpointRequest
from runtime.errors import CommandNotFound, ContainerError, WrongState
from runtime.ports import PortMapping
from runtime.states import ContainerState, Status
from runtime.supervised import Config, Health, LogConfig, RestartPolicy

CONFIG = Config(
    spec={"id": "x"},
    restart=RestartPolicy("on-failure", 3),
    log=LogConfig("local", (("max-size", "1m"),)),
    health=Health(("true",), retries=7),
    endpoints=(EndpointRequest("bridge", "x", aliases=("a",), ports=(PortMapping(80),)),),
    hosts=(("web", "10.0.0.1"),),
    dns=("1.1.1.1",),
    at_exit=("a", "b"),
)


def test_a_config_survives_json() -> None:
    assert Config.from_dict(json.loads(json.dumps(CONFIG.to_dict()))) == CONFIG


@pytest.mark.parametrize("change", [{"nosuch": 1}, {"restart": {"bad": 1}}, {"endpoints": [{}]}, {"hosts": ["abc"]}])
def test_a_damaged_config(change: dict[str, object]) -> None:
    with pytest.raises(ContainerError, match="damaged"):
        Config.from_dict({**CONFIG.to_dict(), **change})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(json_values)
def test_json_of_the_state_file(value: object) -> None:
    assert json.loads(statefile.encode(value)) == value


@given(st.dictionaries(st.text(), json_values))
def test_plain_values_are_read_as_the_json_module_reads_them(value: dict[str, object]) -> None:
    with TemporaryDirectory() as directory:
        for text in (json.dumps(value), json.dumps(value, indent=1, ensure_ascii=False) + "\n"):
            Path(directory, "x.json").write_bytes(text.encode("utf-8", "surrogatepass"))
            try:
                text.encode()
            except UnicodeEncodeError:
                with pytest.raises(ContainerError, match="damaged"):
                    statefile.read(directory, "x.json")
            else:
                assert statefile.read(directory, "x.json") == value


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"a": 1} x', '{"a": }', '{"a": "\n"}', "\xff"])
def test_a_file_that_is_no_object(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text, encoding="latin-1")
    with pytest.raises(ContainerError, match="damaged"):
        statefile.read(tmp_path, "x.json")
    assert statefile.read(tmp_path, "missing.json") == {}


def test_a_state_without_its_supervisor(tmp_path: Path) -> None:
    assert states.read(tmp_path) == ContainerState()
    lock = statefile.lock(tmp_path)
    statefile.write(tmp_path, {"status": "running", "pid": 5, "exit_code": 0})
    assert states.read(tmp_path).status is Status.RUNNING
    with pytest.raises(WrongState):
        statefile.lock(tmp_path)
    os.close(lock)
    assert (states.read(tmp_path).status, states.read(tmp_path).exit_code) == (Status.EXITED, 137)
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(ContainerError, match="damaged"):
        states.read(tmp_path)


@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=30))), st.integers(1, 7))
def test_frames_come_out_as_they_went_in(frames: list[tuple[int, bytes]], step: int) -> None:
    data = b"".join(supervisor_protocol.frame(kind, payload) for kind, payload in frames)
    buffer, found = bytearray(), []
    for at in range(0, len(data), step):
        buffer += data[at : at + step]
        found += supervisor_protocol.cut(buffer)
    assert (found, buffer) == (frames, b"")


def test_a_frame_that_cannot_be() -> None:
    with pytest.raises(ContainerError):
        supervisor_protocol.cut(bytearray(b"\x01\xff\xff\xff\xff"))


def test_errors_travel() -> None:
    payload = supervisor_protocol.encode_error(CommandNotFound("text", hint="hint"))
    error = supervisor_protocol.decode_error(payload)
    assert (type(error), error.message, error.hint) == (CommandNotFound, "text", "hint")


@pytest.mark.parametrize(
    ("text", "number"), [("SIGTERM", 15), ("term", 15), ("9", 9), ("SIGRTMIN+3", 37), ("RTMAX-1", 63), ("64", 64)]
)
def test_signals(text: str, number: int) -> None:
    assert signals.number(text) == number


@pytest.mark.parametrize("text", ["", "0", "65", "SIGNOSUCH", "SIG_DFL", "TERM+1", "RTMIN+40", "-9"])
def test_no_signals(text: str) -> None:
    with pytest.raises(ContainerError):
        signals.number(text)


def test_health_is_judged_as_docker_does() -> None:
    state: dict[str, object] = {"status": "starting", "failing_streak": 0, "log": []}
    seen = []
    for code, starting in [(1, True), (1, False), (1, False), (1, False), (0, False), (1, True), (-1, True)]:
        state = healthcheck.judge(state, {"exit_code": code}, retries=3, starting=starting)
        seen.append((state["status"], state["failing_streak"]))
    assert seen == [
        ("starting", 0), ("starting", 1), ("starting", 2), ("unhealthy", 3), ("healthy", 0), ("healthy", 1),
        ("healthy", 2),
    ]  # fmt: skip
    log = state["log"]
    assert isinstance(log, list)
    assert [result["exit_code"] for result in log] == [1, 1, 0, 1, -1]
