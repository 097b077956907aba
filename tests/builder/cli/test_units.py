"""Sizes and ages look as docker's."""

from datetime import timedelta

import pytest

from builder.cli import units


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0B"), (999, "999B"), (1000, "1kB"), (1_090_000, "1.09MB"), (12_345, "12.3kB"), (2_500_000_000, "2.5GB")],
)
def test_sizes_are_decimal_with_three_digits(count: int, text: str) -> None:
    assert units.size(count) == text


def test_memory_is_binary() -> None:
    assert units.binary_size(1536 * 1024 * 1024) == "1.5GiB"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (150, "2 minutes"),
        (3600, "About an hour"),
        (7200, "2 hours"),
        (86400 * 3, "3 days"),
        (86400 * 15, "2 weeks"),
        (86400 * 90, "3 months"),
        (86400 * 800, "2 years"),
    ],
)
def test_durations_are_rounded_for_people(seconds: int, text: str) -> None:
    assert units.duration(timedelta(seconds=seconds)) == text


def test_long_texts_end_in_an_ellipsis() -> None:
    assert units.ellipsis("abcdef", 4) == "abc…"
    assert units.ellipsis("abc", 4) == "abc"
