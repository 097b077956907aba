"""Volumes on disk: made whole, filled once, removed when unused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtime.errors import VolumeError, VolumeInUse, VolumeNotFound
from runtime.volumes import Volumes

pytestmark = pytest.mark.root

TIME = "2026-01-02T03:04:05Z"


@pytest.fixture
def volumes(tmp_path: Path) -> Volumes:
    return Volumes(tmp_path / "volumes")


def nobody(_: str) -> tuple[str, ...]:
    return ()


def test_create_is_idempotent(volumes: Volumes) -> None:
    made = volumes.create("data", created=TIME, labels={"a": "b"})
    assert volumes.create("data", created="later", labels={"x": "y"}) == made == volumes.get("data")
    assert (made.labels, made.created, made.anonymous) == ((("a", "b"),), TIME, False)
    assert os.listdir(made.mountpoint) == []
    anonymous = volumes.create(created=TIME)
    assert len(anonymous.name) == 64
    assert anonymous.anonymous
    assert {volume.name for volume in volumes.list()} == {"data", anonymous.name}


@pytest.mark.parametrize("name", ["x", "../up", "a/b", ".hidden", "-v", "a b", """ a"""])
def test_bad_names(volumes: Volumes, name: str) -> None:
    with pytest.raises(VolumeError):
        volumes.create(name, created=TIME)
    with pytest.raises(VolumeNotFound):
        volumes.get(name)


def test_options_of_the_driver(volumes: Volumes, tmp_path: Path) -> None:
    made = volumes.create("bound", created=TIME, options={"type": "none", "o": "bind", "device": str(tmp_path)})
    assert made.mountpoint == str(tmp_path)
    for options in ({"type": "nfs", "device": ":/x"}, {"device": "rel", "o": "bind"}, {"o": "bind"}, {"size": "1g"}):
        with pytest.raises(VolumeError):
            volumes.create("other", created=TIME, options=options)
    assert volumes.remove("bound", in_use=nobody)
    assert tmp_path.is_dir()


def test_remove_and_use(volumes: Volumes) -> None:
    volumes.create("data", created=TIME)
    with pytest.raises(VolumeInUse, match=r"volume is in use - \[one, two\]"):
        volumes.remove("data", in_use=lambda name: ("one", "two") if name == "data" else ())
    assert volumes.remove("data", in_use=nobody)
    with pytest.raises(VolumeNotFound):
        volumes.remove("data", in_use=nobody)
    assert not volumes.remove("data", in_use=nobody, force=True)


def test_prune_takes_the_anonymous_ones_first(volumes: Volumes) -> None:
    volumes.create("named", created=TIME)
    used, unused = volumes.create(created=TIME), volumes.create(created=TIME)
    Path(unused.mountpoint, "file").write_bytes(b"12345")
    os.link(Path(unused.mountpoint, "file"), Path(unused.mountpoint, "again"))

    def users(name: str) -> tuple[str, ...]:
        return ("c",) if name == used.name else ()

    assert volumes.prune(in_use=users) == ((unused.name, 5),)
    assert volumes.prune(in_use=users, everything=True) == (("named", 0),)
    assert [volume.name for volume in volumes.list()] == [used.name]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A root with a directory that holds one of everything."""
    data = tmp_path / "image" / "var" / "data"
    data.mkdir(parents=True)
    (data / "file").write_bytes(b"content")
    os.chown(data / "file", 1000, 50)
    (data / "file").chmod(0o4755)
    os.link(data / "file", data / "hard")
    (data / "deep").mkdir()
    os.link(data / "file", data / "deep" / "hard")
    (data / "link").symlink_to("/etc/passwd")
    os.setxattr(data / "file", "user.note", b"kept")
    os.setxattr(data / "file", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    os.mkfifo(data / "fifo", 0o640)
    os.mknod(data / "null", 0o020666, os.makedev(1, 3))
    (data / "deep").chmod(0o2750)
    os.utime(data / "file", ns=(1_000_000_001, 2_000_000_002))
    os.utime(data / "deep", ns=(3_000_000_003, 4_000_000_004))
    os.chown(data, 7, 8)
    data.chmod(0o1777)
    (tmp_path / "image" / "short").symlink_to("/var/data")
    return tmp_path / "image"


def facts(root: Path) -> dict[str, tuple[object, ...]]:
    found = {}
    for path in [root, *root.rglob("*")]:
        status = path.lstat()
        names = os.listxattr(path, follow_symlinks=False)
        found[str(path.relative_to(root))] = (
            oct(status.st_mode), status.st_uid, status.st_gid, status.st_rdev, status.st_nlink, status.st_mtime_ns,
            [(name, os.getxattr(path, name, follow_symlinks=False)) for name in sorted(names)],
            os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else b"",
        )  # fmt: skip
    return found


@pytest.mark.parametrize("path", ["/var/data", "/short", "var/../var/data/"])
def test_the_first_use_takes_everything_of_the_image(volumes: Volumes, image: Path, path: str) -> None:
    volume = volumes.create("data", created=TIME)
    root = os.open(image, os.O_PATH)
    volumes.populate("data", root, path)
    expected = facts(image / "var/data")
    assert facts(Path(volume.mountpoint)) == expected
    assert os.stat(f"{volume.mountpoint}/hard").st_ino == os.stat(f"{volume.mountpoint}/deep/hard").st_ino
    # Once filled, never again.
    os.unlink(f"{volume.mountpoint}/fifo")
    volumes.populate("data", root, path)
    assert not os.path.exists(f"{volume.mountpoint}/fifo")
    os.close(root)


def test_a_fill_that_was_interrupted_begins_again(volumes: Volumes, image: Path) -> None:
    volume = volumes.create("data", created=TIME)
    root = os.open(image, os.O_PATH)
    Path(volume.mountpoint, "half").write_bytes(b"")
    Path(volume.mountpoint, "..", "filling").resolve().touch()
    volumes.populate("data", root, "/var/data")
    assert facts(Path(volume.mountpoint)) == facts(image / "var/data")
    os.close(root)


@pytest.mark.parametrize("path", ["/nosuch", "/var/data/file", "/var/data/link/x"])
def test_nothing_to_take(volumes: Volumes, image: Path, path: str) -> None:
    volume = volumes.create("data", created=TIME)
    root = os.open(image, os.O_PATH)
    volumes.populate("data", root, path)
    assert os.listdir(volume.mountpoint) == []
    os.close(root)
