"""Order, failure and cancelling of what runs side by side."""

import threading

import pytest

from builder.pipeline.schedule import Cancel, StepCancelled, run_all


@pytest.fixture
def cancel():
    flag = Cancel()
    yield flag
    flag.close()


def test_everything_runs_after_what_it_needs(cancel: Cancel) -> None:
    needs = {1: (), 2: (1,), 3: (1,), 4: (2, 3), 5: (), 6: (5, 99)}
    done: list[int] = []
    run_all(needs, done.append, jobs=3, cancel=cancel)
    assert sorted(done) == sorted(needs)
    for number, wanted in needs.items():
        assert all(done.index(one) < done.index(number) for one in wanted if one in needs)


def test_what_is_ready_runs_at_once_but_no_more_than_jobs(cancel: Cancel) -> None:
    meeting = threading.Barrier(2, timeout=30)
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        inside.append(number)
        most.append(len(inside))
        meeting.wait()
        inside.remove(number)

    run_all(dict.fromkeys(range(1, 5), ()), work, jobs=2, cancel=cancel)
    assert max(most) == 2


def test_a_chain_stays_in_the_calling_thread(cancel: Cancel) -> None:
    threads: set[int] = set()
    needs = {number: (number - 1,) for number in range(1, 5001)}
    run_all(needs, lambda number: threads.add(threading.get_ident()), jobs=4, cancel=cancel)
    assert threads == {threading.get_ident()}


def test_the_first_failure_stops_the_others_and_is_raised(cancel: Cancel) -> None:
    stopped: list[int] = []

    def work(number: int) -> None:
        if number == 1:
            raise ValueError("first")
        try:
            cancel.wait(60)
        except StepCancelled:
            stopped.append(number)
            raise

    with pytest.raises(ValueError, match="first"):
        run_all({1: (), 2: (), 3: (1,)}, work, jobs=4, cancel=cancel)
    assert stopped == [2]
