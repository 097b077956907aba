"""Trees: merging layers gives what overlay shows, copies keep everything, removal gets rid of anything."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.store import trees
from runtime.rootfs import open_rootfs
from runtime.spec import Rootfs

pytestmark = pytest.mark.root
NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(tuple)
KINDS = st.sampled_from(["file", "directory", "whiteout", "opaque", "link"])
LAYER = st.lists(st.tuples(PATHS, KINDS, st.integers(0, 9)), max_size=6)


def _build(root: Path, entries: list[tuple[tuple[str, ...], str, int]]) -> None:
    for parts, kind, number in entries:
        parent = root.joinpath(*parts[:-1])
        try:
            parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            continue
        path = root.joinpath(*parts)
        if path.is_symlink() or path.exists() or _is_whiteout(path):
            continue
        if kind == "file":
            path.write_text(str(number))
            path.chmod(0o600 + number)
        elif kind == "whiteout":
            os.mknod(path, stat.S_IFCHR, 0)
        elif kind == "link":
            path.symlink_to(str(number))
        else:
            path.mkdir()
            if kind == "opaque":
                os.setxattr(path, "trusted.overlay.opaque", b"y")


def _is_whiteout(path: Path) -> bool:
    try:
        return stat.S_ISCHR(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _listing(root: int) -> list[tuple[str, int, str]]:
    found = []
    for top, directories, files, descriptor in os.fwalk(".", dir_fd=root):
        for name in (*directories, *files):
            try:
                status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            except FileNotFoundError:
                continue  # overlay lists the whiteouts of a directory that only one layer has, and has them not
            content = ""
            if stat.S_ISREG(status.st_mode):
                content = os.read(fd := os.open(name, os.O_RDONLY, dir_fd=descriptor), 100).decode()
                os.close(fd)
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(name, dir_fd=descriptor)
            found.append((f"{top}/{name}", status.st_mode, content))
    return sorted(found)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(LAYER, min_size=2, max_size=4))
def test_merged_layers_are_what_overlay_shows(
    tmp_path: Path, layers: list[list[tuple[tuple[str, ...], str, int]]]
) -> None:
    paths = [tmp_path / str(number) for number in range(len(layers))]
    target = tmp_path / "merged"
    try:
        for path, entries in zip(paths, layers, strict=True):
            path.mkdir()
            _build(path, entries)
        target.mkdir()
        trees.merge([str(path) for path in paths], target)
        overlay = open_rootfs(Rootfs(tuple(str(path) for path in reversed(paths)), readonly=True))
        merged = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
        try:
            assert _listing(merged) == _listing(overlay)
        finally:
            os.close(overlay)
            os.close(merged)
    finally:
        for path in (*paths, target):
            shutil.rmtree(path, ignore_errors=True)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(LAYER, min_size=3, max_size=5), st.integers(1, 2))
def test_stacked_layers_show_the_same_on_top_of_others(
    tmp_path: Path, layers: list[list[tuple[tuple[str, ...], str, int]]], below: int
) -> None:
    paths = [tmp_path / str(number) for number in range(len(layers))]
    target = tmp_path / "stacked"
    try:
        for path, entries in zip(paths, layers, strict=True):
            path.mkdir()
            _build(path, entries)
        target.mkdir()
        trees.stack([str(path) for path in paths[below:]], target)
        whole = open_rootfs(Rootfs(tuple(str(path) for path in reversed(paths)), readonly=True))
        short = open_rootfs(Rootfs((str(target), *(str(path) for path in reversed(paths[:below]))), readonly=True))
        try:
            assert _listing(short) == _listing(whole)
        finally:
            os.close(whole)
            os.close(short)
    finally:
        for path in (*paths, target):
            shutil.rmtree(path, ignore_errors=True)


def test_a_copy_keeps_links_holes_marks_modes_times_and_attributes(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "opaque").mkdir(parents=True)
    os.setxattr(source / "opaque", "trusted.overlay.opaque", b"y")
    os.mknod(source / "gone", stat.S_IFCHR, 0)
    (source / "one").write_text("x")
    os.setxattr(source / "one", "user.mine", b"v")
    os.link(source / "one", source / "two")
    with open(source / "holes", "wb") as file:
        file.truncate(1 << 24)
        file.seek(1 << 20)
        file.write(b"data")
    os.mkfifo(source / "pipe")
    os.chown(source / "one", 1234, 5678)
    os.chmod(source / "one", 0o4755)
    os.utime(source / "one", ns=(1, 2))
    os.utime(source, ns=(3, 4))
    target.mkdir()
    trees.copy(source, target)
    assert os.getxattr(target / "opaque", "trusted.overlay.opaque") == b"y"
    assert os.lstat(target / "gone").st_rdev == 0 and stat.S_ISCHR(os.lstat(target / "gone").st_mode)
    status = os.stat(target / "one")
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (1234, 5678, 0o4755)
    assert (status.st_mtime_ns, os.stat(target).st_mtime_ns) == (2, 4)
    assert os.path.samefile(target / "one", target / "two") and status.st_nlink == 2
    assert os.getxattr(target / "one", "user.mine") == b"v"
    assert (target / "holes").read_bytes() == (source / "holes").read_bytes()
    assert os.stat(target / "holes").st_blocks <= os.stat(source / "holes").st_blocks + 16
    assert stat.S_ISFIFO(os.lstat(target / "pipe").st_mode)


def test_removal_takes_everything_and_follows_nothing(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    top = tmp_path / "top"
    top.mkdir()
    (top / "link").symlink_to(outside)
    (top / "closed").mkdir()
    (top / "closed" / "file").write_text("x")
    (top / "closed").chmod(0)
    os.mknod(top / "device", stat.S_IFCHR, 0)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(top / "socket"))
    trees.remove(top)
    trees.remove(top)
    assert os.listdir(tmp_path) == ["outside"] and os.listdir(outside) == ["kept"]
    (tmp_path / "alias").symlink_to(outside)
    trees.remove(tmp_path / "alias")
    assert os.listdir(tmp_path) == ["outside"] and os.listdir(outside) == ["kept"]


def test_a_very_deep_tree_is_copied_and_removed(tmp_path: Path) -> None:
    top, copy = tmp_path / "deep", tmp_path / "copy"
    top.mkdir()
    copy.mkdir()
    here = os.open(top, os.O_RDONLY)
    for number in range(1000):
        # Far beyond the length that a path may have.
        name = "d" * (1 + number % 40)
        os.mkdir(name, dir_fd=here)
        os.close(os.open("file", os.O_CREAT, dir_fd=here))
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    trees.copy(top, copy)
    assert _depth(copy) == _depth(top) == 1000
    trees.remove(top)
    trees.remove(copy)
    assert os.listdir(tmp_path) == []


def _depth(top: Path) -> int:
    here, depth = os.open(top, os.O_RDONLY), 0
    while names := [name for name in os.listdir(here) if name != "file"]:
        below = os.open(names[0], os.O_RDONLY, dir_fd=here)
        os.close(here)
        here, depth = below, depth + 1
    os.close(here)
    return depth


def test_sizes_count_hard_links_once(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a").write_bytes(b"123")
    os.link(tmp_path / "d" / "a", tmp_path / "d" / "b")
    (tmp_path / "d" / "c").symlink_to("nowhere")
    (tmp_path / "e").write_bytes(b"12345")
    assert trees.size(tmp_path) == 8
    assert trees.size(tmp_path / "e") == 5
    assert trees.size(tmp_path / "none") == 0
