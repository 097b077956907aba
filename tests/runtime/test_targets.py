"""Places inside a root: links stay inside, what is missing is made, and only what is still ours is removed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime import targets


@pytest.fixture
def root(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    (tmp_path / "root/etc").mkdir(parents=True)
    fd = os.open(tmp_path / "root", os.O_RDONLY)
    yield tmp_path / "root", fd
    os.close(fd)


@pytest.mark.parametrize(
    ("link", "target", "path", "lands"),
    [
        ("a", "/x/y", "a/z", "x/y/z"),
        ("a", "../../../../x", "a", "x"),
        ("etc/resolv.conf", "../run/stub", "etc/resolv.conf", "run/stub"),
        ("a", "etc", "a/../b", "b"),
    ],
)
def test_what_is_missing_is_made_inside(root, link, target, path, lands):
    top, fd = root
    (top / link).symlink_to(target)
    made = targets.Made()
    os.close(targets.locate(fd, path, directory=False, made=made))
    assert (top / lands).is_file() and made.entries[-1][0] == f"/{lands}"
    targets.remove_made(fd, made.entries)
    assert sorted(os.listdir(top)) == sorted({"etc", link.split("/")[0]})


def test_links_in_a_circle(root):
    top, fd = root
    (top / "a").symlink_to("b")
    (top / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        targets.locate(fd, "a/c", directory=True)


def test_what_the_container_filled_or_replaced_stays(root):
    top, fd = root
    made = targets.Made()
    os.close(targets.locate(fd, "d/e", directory=True, made=made))
    os.close(targets.locate(fd, "f/g", directory=False, made=made))
    (top / "d/e/own").write_text("x")
    (top / "f/g").unlink()
    (top / "f/g").symlink_to("/etc/passwd")
    targets.remove_made(fd, made.entries)
    assert (top / "d/e/own").exists() and (top / "f/g").is_symlink()


def test_a_star_is_one_component(root):
    top, fd = root
    for name in ("cpu0/t", "cpu1/t", "other/t"):
        (top / "sys" / name).mkdir(parents=True)
    found: list[str] = []
    targets.each(fd, "/sys/cpu*/t", found.append)
    assert found == ["/sys/cpu0/t", "/sys/cpu1/t"]
