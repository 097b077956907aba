"""Docker's restart policies as rules."""

from __future__ import annotations

import pytest

from runtime import restarts


@pytest.mark.parametrize(
    ("name", "maximum", "code", "count", "stopped", "expected"),
    [
        ("no", 0, 1, 0, False, False),
        ("on-failure", 0, 1, 99, False, True),
        ("on-failure", 0, 0, 0, False, False),
        ("on-failure", 2, 1, 1, False, True),
        ("on-failure", 2, 1, 2, False, False),
        ("always", 0, 0, 5, False, True),
        ("always", 0, 0, 5, True, False),
        ("unless-stopped", 0, 137, 5, False, True),
        ("unless-stopped", 0, 137, 5, True, False),
        ("on-failure", 0, 137, 0, True, False),
    ],
)
def test_wanted(name: str, maximum: int, code: int, count: int, stopped: bool, expected: bool) -> None:
    assert restarts.wanted(name, maximum, code=code, count=count, stopped=stopped) is expected


def test_the_wait_doubles_up_to_a_minute_and_starts_again_after_a_good_run() -> None:
    waits = [restarts.delay(0.0, 0.0)]
    while len(waits) < 12:
        waits.append(restarts.delay(waits[-1], 9.9))
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 60, 60])
    assert restarts.delay(60.0, 10.0) == pytest.approx(0.1)
