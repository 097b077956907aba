"""A container's health: a command that runs in it every so often, and docker's rules for what its results mean."""

from __future__ import annotations

import os
import time

from runtime import enter, sync
from runtime.errors import ContainerError
from runtime.logwriter import rfc3339nano

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from runtime.loop import Loop

_OUTPUT = 4096
_RESULTS = 5


def judge(state: Mapping[str, Any], result: Mapping[str, Any], *, retries: int, starting: bool) -> dict[str, Any]:
    """The state after *result*. *starting*: within the start period, where failures do not count. Pure."""
    log = [*state["log"], result][-_RESULTS:]
    if result["exit_code"] == 0:
        return {"status": "healthy", "failing_streak": 0, "log": log}
    if starting and state["status"] == "starting":
        return {"status": "starting", "failing_streak": 0, "log": log}
    streak = state["failing_streak"] + 1
    return {"status": "unhealthy" if streak >= retries else state["status"], "failing_streak": streak, "log": log}


class Checker:
    """Runs the check of one running container. *changed* is told each new state (a plain HealthState)."""

    def __init__(
        self, loop: Loop, health: Mapping[str, Any], process: Mapping[str, Any], seccomp: str, pid: int,
        changed: Callable[[dict[str, Any]], None],
    ) -> None:  # fmt: skip
        self._loop, self._health, self._pid, self._changed = loop, health, pid, changed
        self._process = {**process, "argv": health["argv"], "terminal": False}
        self._seccomp = seccomp
        self.state: dict[str, Any] = {"status": "starting", "failing_streak": 0, "log": []}
        self._begun = time.monotonic()
        self._child: enter.Entered | None = None
        self._read = -1
        self._output = b""
        self._start_ns = 0
        self._late = False

    def begin(self) -> None:
        """Set the time of the next run."""
        self._loop.at(
            "health", self._health["start_interval"] if self._starting() else self._health["interval"], self._run
        )

    def hold(self) -> None:
        """The container is frozen: no run, and none is late."""
        self._loop.cancel("health")

    def go_on(self) -> None:
        """The container is thawed."""
        if self._child is None:
            self.begin()
        else:
            self._loop.at("health", self._health["timeout"], self._too_late)

    def end(self) -> None:
        """No more runs; one that is under way has died with the container or is killed."""
        self._loop.cancel("health")
        if self._child is not None:
            self._child.kill()
            self._collect()

    def _starting(self) -> bool:
        early = time.monotonic() - self._begun < self._health["start_period"]
        return early and bool(self.state["status"] == "starting")

    def _run(self) -> None:
        self._start_ns, self._late, self._output = time.time_ns(), False, b""
        self._read, write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._read, False)
        try:
            self._child = child = enter.spawn(
                self._pid, sync.as_process(self._process), -1, write, write, seccomp_profile=self._seccomp
            )
        except ContainerError as error:
            if isinstance(error.__cause__, ProcessLookupError):
                self._close()  # the container is just ending
                self.begin()
                return
            self._result(-1, error.message)
            return
        finally:
            os.close(write)
        self._loop.watch(self._read, lambda _: self._drain())
        self._loop.watch(child.pidfd, lambda _: self._done())
        self._loop.at("health", self._health["timeout"], self._too_late)

    def _too_late(self) -> None:
        self._late = True
        if self._child is not None:
            self._child.kill()

    def _drain(self) -> None:
        while True:
            try:
                data = os.read(self._read, 1 << 16)
            except BlockingIOError:
                return
            if not data:
                self._loop.forget(self._read)
                return
            self._output = (self._output + data)[:_OUTPUT]

    def _collect(self) -> tuple[int, str]:
        child = self._child
        if child is None:
            return -1, ""
        self._child = None
        self._loop.forget(child.pidfd)
        while not child.receive():
            pass
        status, _, _ = child.finish()
        self._drain()
        self._loop.forget(self._read)
        os.close(self._read)
        self._read = -1
        if child.error is not None:
            return child.error.code, child.error.message
        code = os.waitstatus_to_exitcode(status)
        return (code if code >= 0 else 128 - code), self._output.decode(errors="replace")

    def _done(self) -> None:
        code, text = self._collect()
        if self._late:
            code, text = -1, f"Health check exceeded timeout ({self._health['timeout']:g}s)"
        self._result(code, text)

    def _close(self) -> None:
        if self._read >= 0:
            os.close(self._read)
            self._read = -1

    def _result(self, code: int, text: str) -> None:
        self._close()
        result = {
            "start": rfc3339nano(self._start_ns), "end": rfc3339nano(time.time_ns()), "exit_code": code, "output": text,
        }  # fmt: skip
        self.state = judge(self.state, result, retries=self._health["retries"], starting=self._starting())
        self._changed(self.state)
        self.begin()
