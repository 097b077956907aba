"""The states of a container, which may follow which, and the state file.

The words are Docker's. Only the supervisor writes ``state.json``; everybody reads it with `read`, which knows that a
container whose supervisor has died is dead too, whatever the file says.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """Docker's words for what a container is doing."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    EXITED = "exited"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class HealthState:
    """``status``: starting, healthy, unhealthy; ``log``: the last five results, oldest first."""

    status: str = "starting"
    failing_streak: int = 0
    log: tuple[HealthResult, ...] = ()


@dataclass(frozen=True, slots=True)
class HealthResult:
    """One run of the check. Times in RFC 3339 with nanoseconds; output cut at 4096 bytes."""

    start: str
    end: str
    exit_code: int
    output: str


@dataclass(frozen=True, slots=True)
class ContainerState:
    """What ``state.json`` says. Times are RFC 3339 with nanoseconds (UTC), empty when it has not happened yet.

    ``pid`` is the host pid of the first process (0 when not running), ``pid_start`` its start time in clock ticks
    (field 22 of /proc/PID/stat), so that a recycled pid is not taken for it.
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
