"""When a container that has ended starts again, and after how long. Pure; docker's rules (moby restartmanager)."""

from __future__ import annotations

_FIRST, _LONGEST, _STEADY = 0.1, 60.0, 10.0


def wanted(name: str, maximum: int, *, code: int, count: int, stopped: bool) -> bool:
    """Whether to start again. *name* and *maximum* are the policy, *count* the restarts so far."""
    if stopped:
        return False
    if name == "on-failure":
        return code != 0 and (maximum == 0 or count < maximum)
    return name in ("always", "unless-stopped")


def delay(previous: float, ran: float) -> float:
    """Seconds to wait: 0.1, doubled each time up to a minute; from the start again after a run of ten seconds.

    *previous* is what was waited last (0 at first), *ran* how long the container then ran.
    """
    if ran >= _STEADY or not previous:
        return _FIRST
    return min(previous * 2, _LONGEST)
