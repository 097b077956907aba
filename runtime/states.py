"""The states of a container, which may follow which, and the state file.

The words are Docker's. Only the supervisor writes ``state.json``; everybody reads it with `read`, which knows that a
container whose supervisor has died is dead too, whatever the file says.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from enum import StrEnum
from os import PathLike
from typing import Any

from runtime.errors import ContainerError, WrongState
from runtime.statefile import alive, process_start
from runtime.values import dataclass, replace


class Status(StrEnum):
    """Docker's words for what a container is doing."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    EXITED = "exited"
    DEAD = "dead"


KILLED = 137

# Which may follow which. A container starts again from exited; dead is one whose removal failed half way.
ALLOWED: Mapping[Status, frozenset[Status]] = {
    Status.CREATED: frozenset({Status.RUNNING, Status.CREATED, Status.EXITED, Status.DEAD}),
    Status.RUNNING: frozenset({Status.PAUSED, Status.RESTARTING, Status.EXITED}),
    Status.PAUSED: frozenset({Status.RUNNING, Status.RESTARTING, Status.EXITED}),
    Status.RESTARTING: frozenset({Status.RUNNING, Status.EXITED}),
    Status.EXITED: frozenset({Status.RUNNING, Status.EXITED, Status.DEAD}),
    Status.DEAD: frozenset(),
}

RUNNING = frozenset({Status.RUNNING, Status.PAUSED, Status.RESTARTING})


@dataclass(frozen=True, slots=True)
class HealthResult:
    """One run of the check. Times in RFC 3339 with nanoseconds; output cut at 4096 bytes."""

    start: str
    end: str
    exit_code: int
    output: str


@dataclass(frozen=True, slots=True)
class HealthState:
    """``status``: starting, healthy, unhealthy; ``log``: the last five results, oldest first."""

    status: str = "starting"
    failing_streak: int = 0
    log: tuple[HealthResult, ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerState:
    """What ``state.json`` says. Times are RFC 3339 with nanoseconds (UTC), empty when it has not happened yet.

    ``pid`` is the host pid of the first process (0 when not running), ``pid_start`` its start time in clock ticks
    (field 22 of /proc/PID/stat), so that a recycled pid is not taken for it. ``supervisor_pid`` is 0 after a proper
    end: not so when the supervisor was killed.
    """

    status: Status = Status.CREATED
    pid: int = 0
    pid_start: int = 0
    supervisor_pid: int = 0
    exit_code: int = 0
    oom_killed: bool = False
    error: str = ""
    started_at: str = ""
    finished_at: str = ""
    restart_count: int = 0
    stopped_by_user: bool = False
    health: HealthState | None = None
    cgroup: str = ""


def check(now: Status, wanted: Status) -> None:
    """Raise WrongState unless *wanted* may follow *now*."""
    if wanted not in ALLOWED[now]:
        raise WrongState(f"a container that is {now} cannot become {wanted}")


def read(directory: str | PathLike[str]) -> ContainerState:
    """The state in *directory*: ``created`` when there is no file; exited with 137 when its supervisor has died."""
    path = os.fspath(directory)
    state = _load(path)
    if state.status in RUNNING and not alive(path):
        # The supervisor may have ended properly between the two looks.
        state = _load(path)
        if state.status in RUNNING and not alive(path):
            return replace(
                state, status=Status.EXITED, pid=0, pid_start=0, exit_code=KILLED, error="", finished_at=_modified(path)
            )
    return state


def process_alive(pid: int, start: int) -> bool:
    """Whether the process that had this pid and start time still exists."""
    return pid > 0 and start > 0 and process_start(pid) == start


def _load(directory: str) -> ContainerState:
    path = os.path.join(directory, "state.json")
    try:
        with open(path, "rb") as file:
            data: dict[str, Any] = json.load(file)
        return from_dict(data)
    except FileNotFoundError:
        return ContainerState()
    except (ValueError, TypeError, KeyError) as err:
        raise ContainerError(f"{path} is damaged: {err}", hint="remove the container") from err


def from_dict(data: Mapping[str, Any]) -> ContainerState:
    """The value that ``dataclasses.asdict`` made plain."""
    health = data.get("health")
    if health is not None:
        results = tuple(HealthResult(**result) for result in health["log"])
        health = HealthState(health["status"], health["failing_streak"], results)
    return ContainerState(**{**data, "status": Status(data["status"]), "health": health})


def _modified(directory: str) -> str:
    from runtime.logwriter import rfc3339nano

    return rfc3339nano(os.stat(os.path.join(directory, "state.json")).st_mtime_ns)
