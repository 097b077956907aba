"""Platforms in normal form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import InvalidPlatform
from builder.oci import platforms
from builder.oci.platforms import Platform


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("linux/x86_64", "linux/amd64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/arm/6", "linux/arm/v6"),
        ("Linux/AMD64", "linux/amd64"),
        ("macos/arm64", "darwin/arm64"),
        ("arm64", "linux/arm64"),
        ("windows", "windows/amd64"),
        ("linux/riscv64", "linux/riscv64"),
    ],
)
def test_many_spellings_have_one_normal_form(text: str, normal: str) -> None:
    assert str(platforms.parse(text)) == normal
    assert str(platforms.parse(normal)) == normal


@given(st.text(max_size=20) | st.text("abcdxl0189/._-", max_size=20))
def test_any_text_is_a_platform_or_refused(text: str) -> None:
    try:
        found = platforms.parse(text)
    except InvalidPlatform as err:
        assert err.text == text
        return
    assert platforms.parse(str(found)) == found


@pytest.mark.parametrize("text", ["", "linux/", "a/b/c/d", "linux/am d", "nonsense", "linux//v7"])
def test_wrong_platforms_are_refused(text: str) -> None:
    with pytest.raises(InvalidPlatform):
        platforms.parse(text)


def test_parts_are_completed_from_the_default() -> None:
    default = Platform("linux", "arm", "v7")
    assert platforms.parse("linux", default=default) == default
    assert platforms.parse("amd64", default=default) == Platform("linux", "amd64")


def test_an_older_arm_runs_on_a_newer_one_and_not_the_other_way() -> None:
    v6, v7 = platforms.parse("linux/arm/v6"), platforms.parse("linux/arm/v7")
    assert v7.matches(v6) and not v6.matches(v7)
    assert not platforms.host("x86_64").matches(v7)
    assert platforms.host("x86_64").matches(Platform("linux", "amd64"))


def test_what_the_platform_flag_says_is_taken_once_each_and_refused_in_dockers_words() -> None:
    host = platforms.parse("linux/amd64")
    found = platforms.parse_all(["linux/x86_64", "aarch64", "local", "linux/arm64", "linux/arm"], host=host)
    assert list(map(str, found)) == ["linux/amd64", "linux/arm64", "linux/arm/v7"]
    for text, message in (
        ("nothing", '"nothing": unknown operating system or architecture: invalid argument'),
        ("a/b/c/d", '"a/b/c/d": cannot parse platform specifier: invalid argument'),
        (
            "linux/",
            '"" is an invalid component of "linux/": platform specifier component must match '
            '"^[A-Za-z0-9_.-]+$": invalid argument',
        ),
    ):
        with pytest.raises(InvalidPlatform) as caught:
            platforms.parse_all(["linux/amd64", text], host=host)
        assert caught.value.message == message
