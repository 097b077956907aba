"""Detached root file systems: what the layers mean, and both ways of mounting them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtime import rootfs
from runtime.errors import MountFailed
from runtime.spec import Rootfs

pytestmark = pytest.mark.root


def layers(base: Path, count: int) -> tuple[str, ...]:
    """Topmost first; layer N holds the file N, and all hold "who"."""
    found = []
    for number in reversed(range(count)):
        layer = base / f"a layer with : and , in its name {number}"
        layer.mkdir()
        (layer / str(number)).write_text("")
        (layer / "who").write_text(str(number))
        found.append(str(layer))
    return tuple(found)


def read(root: int, name: str) -> str:
    fd = os.open(name, os.O_RDONLY, dir_fd=root)
    with os.fdopen(fd) as file:
        return file.read()


@pytest.mark.parametrize("old_kernel", [False, True])
def test_layers_are_merged_and_writes_go_to_the_upper_directory(tmp_path, old_kernel):
    lowers = layers(tmp_path, 3)
    upper, work = tmp_path / "upper", tmp_path / "work"
    upper.mkdir()
    work.mkdir()
    make = rootfs.overlay_by_mount if old_kernel else rootfs.overlay
    mount = make(lowers, str(upper), str(work), volatile=True, userxattr=False)
    root = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=mount)
    os.close(mount)
    assert read(root, "who") == "2"
    os.unlink("0", dir_fd=root)
    os.rename("1", "new", src_dir_fd=root, dst_dir_fd=root)
    assert sorted(os.listdir(root)) == ["2", "new", "who"]
    os.close(root)
    assert sorted(os.listdir(upper)) == ["0", "1", "new"]
    assert (upper / "0").is_char_device()


def test_a_directory_is_never_redirected(tmp_path):
    """A renamed directory is copied or refused: a layer's archive has no word for "is elsewhere"."""
    lower, upper, work = tmp_path / "lower", tmp_path / "upper", tmp_path / "work"
    for directory in (lower / "old" / "below", upper, work):
        directory.mkdir(parents=True)
    root = rootfs.open_rootfs(Rootfs((str(lower),), str(upper), str(work)))
    with pytest.raises(OSError, match="cross-device"):
        os.rename("old", "new", src_dir_fd=root, dst_dir_fd=root)
    os.close(root)


def test_a_kernel_before_6_5_takes_hundreds_of_layers(tmp_path):
    lowers = layers(tmp_path, 300)
    mount = rootfs.overlay_by_mount(lowers, None, None, volatile=False, userxattr=False)
    assert read(mount, "who") == "299"
    root = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=mount)
    assert len(os.listdir(root)) == 301
    os.close(root)
    os.close(mount)


def test_a_missing_layer_is_named(tmp_path):
    with pytest.raises(MountFailed, match=r"layer directory .*/gone is missing"):
        rootfs.open_rootfs(Rootfs((str(tmp_path / "gone"), str(tmp_path))))


def test_nothing_is_mounted_where_others_see_it(tmp_path):
    before = Path("/proc/self/mountinfo").read_text()
    lowers = layers(tmp_path, 2)
    mounts = [
        rootfs.overlay_by_mount(lowers, None, None, volatile=False, userxattr=False),
        rootfs.open_rootfs(Rootfs(lowers)),
    ]
    assert Path("/proc/self/mountinfo").read_text() == before
    for mount in mounts:
        os.close(mount)
