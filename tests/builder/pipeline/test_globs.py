"""Go's filepath.Match, with the table of its own tests where COPY can meet it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.pipeline.globs import BadPattern, has_wildcards, match, split_wildcards


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("abc", "abc", True),
        ("*", "abc", True),
        ("*c", "abc", True),
        ("a*", "a", True),
        ("a*", "ab/c", False),
        ("a*/b", "abc/b", True),
        ("a*/b", "a/c/b", False),
        ("a*b*c*d*e*/f", "axbxcxdxe/f", True),
        ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", False),
        ("a*b?c*x", "abxbbxdbxebxczzx", True),
        ("ab[c]", "abc", True),
        ("ab[b-d]", "abc", True),
        ("ab[e-g]", "abc", False),
        ("ab[^c]", "abc", False),
        ("ab[^e-g]", "abc", True),
        ("a\\*b", "a*b", True),
        ("a\\*b", "ab", False),
        ("a?b", "a☺b", True),
        ("a[^a]b", "a☺b", True),
        ("a???b", "a☺b", False),
        ("[a-ζ]*", "α", True),
        ("*[a-ζ]", "A", False),
        ("a?b", "a/b", False),
        ("a*b", "a/b", False),
        ("[\\]a]", "]", True),
        ("[\\-x]", "-", True),
        ("[x\\-]", "z", False),
        ("[z-a]", "m", False),
        ("*x", "xxx", True),
        ("a.c", "abc", False),
    ],
)
def test_match(pattern: str, name: str, expected: bool) -> None:
    assert match(pattern, name) is expected


@pytest.mark.parametrize("pattern", ["[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "[", "[^", "[^bc", "a[", "a\\", "[\\"])
def test_what_is_no_pattern(pattern: str) -> None:
    with pytest.raises(BadPattern) as caught:
        match(pattern, "a")
    assert caught.value.pattern == pattern


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a/b", ("/a/b", "")),
        ("/a/*/c", ("/a", "*/c")),
        ("*.txt", ("", "*.txt")),
        ("/a\\*/b", ("/a\\*/b", "")),
        ("/a/b[1]", ("/a", "b[1]")),
    ],
)
def test_split(path: str, expected: tuple[str, str]) -> None:
    assert split_wildcards(path) == expected


@given(st.text(alphabet="ab*?[]\\^-.+$(", max_size=12))
def test_a_quoted_name_matches_itself_alone(name: str) -> None:
    quoted = "".join("\\" + char for char in name)
    assert match(quoted, name)
    assert not match(quoted, name + "x")
    assert not has_wildcards(quoted)


def test_many_stars_cost_nothing() -> None:
    assert not match("*" * 60 + "b", "a" * 200)
