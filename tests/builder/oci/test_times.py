"""Times with nanoseconds, both ways."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from builder.oci import times

LAST = 253_402_300_799_999_999_999
"""The last nanosecond of the year 9999."""


@given(st.integers(-62_135_596_800_000_000_000, LAST))
def test_text_and_back(moment: int) -> None:
    assert times.parse(times.text(moment)) == moment


@given(st.text(max_size=40) | st.text("0123456789-:TZ+.", max_size=40))
def test_any_text_is_a_time_or_none(text: str) -> None:
    found = times.parse(text)
    assert found is None or isinstance(found, int)


def test_forms() -> None:
    second = 1_000_000_000
    assert times.parse("1970-01-01T00:00:01Z") == second
    assert times.parse("1970-01-01T01:00:01+01:00") == second
    assert times.parse("1970-01-01t00:00:01.000000001z") == second + 1
    assert times.parse("1970-01-01T00:00:60Z") == 59 * second
    assert times.text(second + 500_000_000) == "1970-01-01T00:00:01.5Z"
    assert times.text(0) == "1970-01-01T00:00:00Z"
    for wrong in (
        "",
        "1970-01-01",
        "1970-13-01T00:00:00Z",
        "1970-01-01T00:00:61Z",
        "1970-01-01T00:00:00",
        "٣970-01-01T00:00:00Z",
    ):
        assert times.parse(wrong) is None, wrong
