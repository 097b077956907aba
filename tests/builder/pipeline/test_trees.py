"""Paths inside a tree: every link is followed inside, nothing leads out."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.pipeline.trees import MAX_LINKS, clean, open_directory, open_file, resolve


@pytest.fixture
def top(tmp_path: Path) -> Path:
    inside = tmp_path / "inside"
    (inside / "a/b").mkdir(parents=True)
    (inside / "a/b/file").write_text("mine")
    (tmp_path / "secret").write_text("theirs")
    return inside


@pytest.fixture
def root(top: Path) -> Iterator[int]:
    fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize(
    ("target", "path", "expected"),
    [
        ("/a/b", "link/file", "a/b/file"),
        ("a/../a/b", "link/./file", "a/b/file"),
        ("../../../../a", "link/b", "a/b"),
        ("/", "link/a", "a"),
        (".", "link/link/link/a", "a"),
        ("/a", "a/../link/../a/b", "a/b"),
        ("../secret", "link", "secret"),
        ("missing", "link/x/../y", "missing/y"),
        ("a/b", "../../link", "a/b"),
    ],
)
def test_links_stay_inside(top: Path, root: int, target: str, path: str, expected: str) -> None:
    (top / "link").symlink_to(target)
    assert resolve(root, path).path == expected


def test_what_is_not_there(root: int) -> None:
    found = resolve(root, "/a/b/c/d")
    assert (found.parts, found.status, found.found) == (("a", "b", "c", "d"), None, 2)
    assert resolve(None, "x/../y/z").parts == ("y", "z")


def test_a_file_is_no_directory(root: int) -> None:
    with pytest.raises(NotADirectoryError) as caught:
        resolve(root, "a/b/file/below")
    assert caught.value.filename == "/a/b/file"


def test_loops_end(top: Path, root: int) -> None:
    (top / "one").symlink_to("two")
    (top / "two").symlink_to("one")
    with pytest.raises(OSError) as caught:
        resolve(root, "one")
    assert caught.value.errno == errno.ELOOP


def test_as_many_links_as_allowed(top: Path, root: int) -> None:
    (top / "n0").symlink_to("a/b")
    for number in range(1, MAX_LINKS + 1):
        (top / f"n{number}").symlink_to(f"n{number - 1}")
    assert resolve(root, f"n{MAX_LINKS - 1}").path == "a/b"
    with pytest.raises(OSError):
        resolve(root, f"n{MAX_LINKS}")


@pytest.mark.parametrize("open_it", [open_directory, open_file])
@pytest.mark.parametrize("target", ["../secret", "/etc", "a", "/proc/self/root"])
def test_opening_follows_no_link(top: Path, root: int, open_it: object, target: str) -> None:
    (top / "link").symlink_to(target)
    for path in ("link", "link/passwd", "../secret"):
        with pytest.raises(OSError):
            open_it(root, path)  # type: ignore[operator]


def test_only_regular_files_are_opened(top: Path, root: int) -> None:
    os.mkfifo(top / "fifo")
    before = len(os.listdir("/proc/self/fd"))
    for path in ("fifo", "a"):
        with pytest.raises(OSError):
            open_file(root, path)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("path", "expected"), [("a/./b//c", "/a/b/c"), ("../../x", "/x"), ("", "/"), ("a/b/../../..", "/")]
)
def test_clean(path: str, expected: str) -> None:
    assert clean(path) == expected
