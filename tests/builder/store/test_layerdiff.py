"""Two layers, entry by entry: every attribute that can differ is named with both values, and nothing else is."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.store.layerdiff import Difference, differences
from builder.store.layerwalk import walk

pytestmark = pytest.mark.root


def tree(root: Path) -> Path:
    root.mkdir()
    (root / "d").mkdir()
    (root / "d-").write_text("sorts between d and d/f as bytes, not as a path")
    (root / "d" / "f").write_text("one\ntwo three\n")
    (root / "l").symlink_to("f")
    os.mknod(root / "gone", stat.S_IFCHR, 0)
    for top, directories, files in os.walk(root):
        for name in (*directories, *files):
            os.utime(os.path.join(top, name), (1, 1), follow_symlinks=False)
    return root


def written(path: Path, text: str) -> None:
    path.write_text(text)
    os.utime(path, (1, 1))


def removed(path: Path) -> None:
    parent = os.stat(path.parent).st_mtime_ns
    path.unlink()
    os.utime(path.parent, ns=(parent, parent))


CHANGES: list[tuple[Callable[[Path], object], list[tuple[str, str, str, str]]]] = [
    (lambda root: None, []),
    (lambda root: (root / "d" / "f").chmod(0o4755), [("/d/f", "mode", "0644", "4755")]),
    (lambda root: os.chown(root / "d", 1, 2), [("/d", "owner", "0:0", "1:2")]),
    (lambda root: os.utime(root / "d-", (1, 9)), [("/d-", "mtime", "1", "9")]),
    (lambda root: removed(root / "d-"), [("/d-", "existence", "file", "")]),
    (lambda root: removed(root / "gone"), [("/.wh.gone", "existence", "file", "")]),
    (lambda root: written(root / "new", ""), [("/new", "existence", "", "file")]),
    (lambda root: os.setxattr(root / "d" / "f", "user.k", b"v"), [("/d/f", "xattr user.k", "", "76")]),
    (lambda root: (root / "d").chmod(0o700), [("/d", "mode", "0755", "0700")]),
]


@pytest.mark.parametrize(("change", "expected"), CHANGES)
def test_each_change_is_named(
    change: Callable[[Path], object], expected: list[tuple[str, str, str, str]], tmp_path: Path
) -> None:
    one, two = tree(tmp_path / "one"), tree(tmp_path / "two")
    change(two)
    assert list(differences(one, two)) == [Difference(*each) for each in expected]


def test_contents_are_shown_where_they_begin_to_differ(tmp_path: Path) -> None:
    one, two = tree(tmp_path / "one"), tree(tmp_path / "two")
    written(two / "d" / "f", "one\ntwo THREE\n")
    found = list(differences(one, two))
    assert [each.attribute for each in found] == ["content at byte 8", "sha256"]
    assert found[0][2:] == ("two three\\n", "two THREE\\n") and found[1].first != found[1].second
    written(two / "d" / "f", "one\ntwo three\nmore\x00")
    found = list(differences(one, two))
    assert [each.attribute for each in found] == ["size", "content at byte 14", "sha256"]
    assert found[1][2:] == ("", "more\\x00")


def test_another_type_is_told_alone(tmp_path: Path) -> None:
    one, two = tree(tmp_path / "one"), tree(tmp_path / "two")
    (two / "l").unlink()
    written(two / "l", "f")
    assert [each[:2] for each in differences(one, two)] == [("/l", "type")]


NAMES = st.sampled_from(["a", "b", "a-", "b.c"])
ENTRIES = st.lists(
    st.tuples(st.lists(NAMES, min_size=1, max_size=3), st.sampled_from(["f", "d", "w", "o"])), max_size=8
)


def made(root: Path, entries: list[tuple[list[str], str]]) -> Path:
    root.mkdir()
    for parts, kind in entries:
        path = root.joinpath(*parts)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(path):
                continue
            if kind == "f":
                path.write_text("x")
            elif kind == "w":
                os.mknod(path, stat.S_IFCHR, 0)
            else:
                path.mkdir()
                if kind == "o":
                    os.setxattr(path, "trusted.overlay.opaque", b"y")
        except (FileExistsError, NotADirectoryError):
            continue
    for top, directories, files in os.walk(root):
        for name in (*directories, *files):
            os.utime(os.path.join(top, name), (1, 1), follow_symlinks=False)
    return root


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(ENTRIES, ENTRIES)
def test_what_only_one_has_is_found_whatever_the_names(
    tmp_path: Path, left: list[tuple[list[str], str]], right: list[tuple[list[str], str]]
) -> None:
    try:
        one, two = made(tmp_path / "one", left), made(tmp_path / "two", right)
        assert list(differences(one, one)) == []
        found = {each.path: bool(each.first) for each in differences(one, two) if each.attribute == "existence"}
        mine, theirs = ({"/" + os.fsdecode(each.path.rstrip(b"/")) for each in walk(root)} for root in (one, two))
        assert found == {**dict.fromkeys(mine - theirs, True), **dict.fromkeys(theirs - mine, False)}
    finally:
        for name in ("one", "two"):
            shutil.rmtree(tmp_path / name, ignore_errors=True)
