"""The three sets of patterns together, against the matcher asked about every path by itself."""

import posixpath
from collections.abc import Iterator, Mapping

from hypothesis import given
from hypothesis import strategies as st

from builder.pipeline.ignore import Filter, Place, could_match_below
from parser.ignorefile import Matcher

TREE: Mapping[str, tuple[str, ...]] = {
    ".": ("a", "b", "f"),
    "a": ("a", "b", "f"),
    "b": ("f",),
    "a/a": ("f",),
    "a/b": ("a", "f"),
    "a/b/a": ("f",),
}
ALL = sorted(posixpath.normpath(f"{directory}/{name}") for directory, names in TREE.items() for name in names)
PATTERNS = st.lists(
    st.builds(
        lambda negated, parts: ("!" if negated else "") + "/".join(parts),
        st.booleans(),
        st.lists(st.sampled_from(["a", "b", "f", "*", "**", "?"]), min_size=1, max_size=3),
    ),
    min_size=1,
    max_size=4,
)


def walked(filters: Filter, path: str = ".", place: Place | None = None) -> Iterator[str]:
    """What a walk that prunes finds."""
    for name in TREE.get(path, ()):
        child = posixpath.normpath(f"{path}/{name}")
        verdict = filters.look(child, child, filters.top(".").place if place is None else place)
        if verdict.wanted:
            yield child
        if child in TREE and verdict.descend:
            yield from walked(filters, child, verdict.place)


@given(PATTERNS)
def test_a_walk_hides_what_each_path_by_itself_would(patterns: list[str]) -> None:
    matcher = Matcher(tuple(patterns))
    expected = [path for path in ALL if not matcher.matches(path)]
    assert sorted(walked(Filter(hide=matcher))) == expected
    assert sorted(walked(Filter(exclude=matcher))) == expected


@given(PATTERNS)
def test_a_walk_takes_what_each_path_by_itself_would(patterns: list[str]) -> None:
    matcher = Matcher(tuple(patterns))
    plain = tuple(pattern for pattern in patterns if not pattern.startswith("!"))
    found = sorted(walked(Filter(include=matcher, include_patterns=plain)))
    for path in ALL:
        # Below a directory that is taken whole everything is asked as well, so nothing may be missing.
        assert (path in found) == matcher.matches(path), path


def test_the_source_itself() -> None:
    filters = Filter(hide=Matcher(("a", "!a/b/f")))
    top = filters.top("a")
    assert (top.wanted, top.descend) == (False, True)
    assert not filters.top("a/a").descend
    assert filters.top("b").wanted
    assert filters.top(".").wanted


def test_what_can_match_below() -> None:
    assert could_match_below(("a/*/c",), "a/b")
    assert not could_match_below(("a/*/c",), "b")
    assert not could_match_below(("a",), "a")
    assert could_match_below(("**/x",), "any/where")
    assert could_match_below(("a/[",), "a")
