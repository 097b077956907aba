"""Jobs behind the steps: their order, what waits for them, what they raise."""

from __future__ import annotations

import threading

import pytest

from builder.errors import EngineError
from builder.pipeline.behind import Behind


def test_jobs_start_in_order_and_may_wait_for_those_before_them() -> None:
    behind, done = Behind(3), []

    def job(number: int) -> None:
        if number:
            behind.wait(str(number - 1))
        done.append(number)

    for number in range(50):
        behind.add(str(number), lambda number=number: job(number))  # type: ignore[misc]
    behind.wait("49")
    assert done == list(range(50))
    behind.close()


def test_close_waits_for_all_and_nothing_is_busy_then() -> None:
    behind, go, done = Behind(2), threading.Event(), []

    def job() -> None:
        go.wait()
        done.append(1)

    for number in range(4):
        behind.add(str(number), job)
    assert behind.busy()
    go.set()
    behind.close()
    assert (len(done), behind.busy()) == (4, False)


def test_an_unknown_job_is_not_waited_for() -> None:
    behind = Behind(1)
    behind.wait("nobody")
    assert not behind.busy()
    behind.close()


def test_what_a_job_raises_comes_out_where_somebody_waits() -> None:
    behind = Behind(1)

    def fail() -> None:
        raise EngineError("first")

    behind.add("a", fail)
    behind.add("b", lambda: None)
    with pytest.raises(EngineError, match="first"):
        behind.wait("a")
    with pytest.raises(EngineError, match="first"):
        behind.wait("b")
    with pytest.raises(EngineError, match="first"):
        behind.check()
    behind.close()
