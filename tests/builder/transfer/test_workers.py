"""Several things at once: all are done, the first error ends the rest, and who cannot be ended is left behind."""

import threading

import pytest

from builder.transfer import workers


def test_all_are_done_and_several_at_once() -> None:
    together, done = threading.Barrier(3), set()

    def work(item: int) -> None:
        together.wait(30)
        done.add(item)

    workers.each(range(6), work, threads=3, abort=lambda: None)
    assert done == set(range(6))


def test_the_first_error_ends_what_is_under_way_and_begins_nothing_else() -> None:
    stop, begun = threading.Event(), []

    def work(item: str) -> None:
        begun.append(item)
        if item == "bad":
            raise ValueError(item)
        assert stop.wait(30)
        raise workers.Stopped

    with pytest.raises(ValueError, match="bad"):
        workers.each(("slow", "bad", "never"), work, threads=2, abort=stop.set)
    assert begun == ["slow", "bad"]


def test_what_cannot_be_ended_is_left_behind() -> None:
    release = threading.Event()

    def work(item: str) -> None:
        if item == "bad":
            raise ValueError(item)
        release.wait(30)

    try:
        with pytest.raises(ValueError, match="bad"):
            workers.each(("stuck", "bad"), work, threads=2, abort=lambda: None, patience=0.01)
    finally:
        release.set()
