"""Files in a directory of the user's: what is kept, and that nothing outside of it is ever touched."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.errors import InvalidInput, OutputInTheWay
from builder.store import Store
from builder.store.snapshots import LayerID
from builder.transfer import filesout

pytestmark = pytest.mark.root


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        yield opened


def layers(store: Store) -> tuple[LayerID, ...]:
    """Two layers with one of everything."""
    below = store.snapshots.prepare(())
    (below.upper / "d").mkdir(mode=0o500)
    (below.upper / "d" / "f").write_text("old")
    (below.upper / "gone").write_text("gone")
    one = store.snapshots.commit(below)
    above = store.snapshots.prepare([one.id])
    (above.upper / "d").mkdir(mode=0o500)
    (above.upper / "d" / "f").write_text("text")
    os.chown(above.upper / "d" / "f", 7, 8)
    (above.upper / "d" / "f").chmod(0o4751)  # after chown, which takes setuid away
    os.utime(above.upper / "d" / "f", ns=(5, 1_500_000_000_123_456_789))
    os.link(above.upper / "d" / "f", above.upper / "d" / "hard")
    (above.upper / "link").symlink_to("/etc/passwd")
    os.mkfifo(above.upper / "pipe")
    os.mknod(above.upper / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(above.upper / "gone", stat.S_IFCHR, 0)
    with open(above.upper / "holes", "wb") as file:
        file.truncate(1 << 22)
        file.seek(1 << 21)
        file.write(b"data")
    two = store.snapshots.commit(above)
    return one.id, two.id


def layer(store: Store, name: str) -> tuple[LayerID, ...]:
    """One layer with the file d/NAME."""
    active = store.snapshots.prepare(())
    (active.upper / "d").mkdir()
    (active.upper / "d" / name).write_text(name)
    return (store.snapshots.commit(active).id,)


def test_a_directory_gets_files_modes_times_and_links_but_no_owner(store: Store, tmp_path: Path) -> None:
    dest = tmp_path / "new" / "out"
    filesout.write_directory(store, [("", layers(store))], dest)
    assert sorted(os.listdir(dest)) == ["d", "holes", "link", "null", "pipe"]
    status = os.stat(dest / "d" / "f")
    assert (dest / "d" / "f").read_text() == "text" and stat.S_IMODE(status.st_mode) == 0o4751
    assert (status.st_uid, status.st_gid, status.st_mtime_ns) == (os.getuid(), os.getgid(), 1_500_000_000_123_456_789)
    assert os.path.samefile(dest / "d" / "f", dest / "d" / "hard")
    assert stat.S_IMODE(os.stat(dest / "d").st_mode) == 0o500 and stat.S_IMODE(os.stat(dest).st_mode) == 0o700
    assert os.readlink(dest / "link") == "/etc/passwd"
    assert stat.S_ISFIFO(os.stat(dest / "pipe").st_mode) and os.stat(dest / "null").st_rdev == os.makedev(1, 3)
    assert os.stat(dest / "holes").st_size == 1 << 22 and os.stat(dest / "holes").st_blocks * 512 < 1 << 20
    # again over itself: the same
    filesout.write_directory(store, [("", layers(store))], dest)
    assert (dest / "d" / "f").read_text() == "text"


def test_symlinks_in_the_destination_are_replaced_and_never_followed(store: Store, tmp_path: Path) -> None:
    outside, dest = tmp_path / "outside", tmp_path / "out"
    outside.mkdir()
    (outside / "f").write_text("mine")
    dest.mkdir()
    (dest / "d").symlink_to(outside)
    (dest / "holes").symlink_to(outside / "f")
    (dest / "own").write_text("kept")
    filesout.write_directory(store, [("", layers(store))], dest)
    assert os.listdir(outside) == ["f"] and (outside / "f").read_text() == "mine"
    assert not (dest / "d").is_symlink() and (dest / "own").read_text() == "kept"


def test_a_directory_of_the_users_is_never_removed(store: Store, tmp_path: Path) -> None:
    (tmp_path / "out" / "holes" / "work").mkdir(parents=True)
    with pytest.raises(OutputInTheWay, match="holes is a directory"):
        filesout.write_directory(store, [("", layers(store))], tmp_path / "out")
    assert (tmp_path / "out" / "holes" / "work").is_dir()


def test_a_tar_keeps_owners(store: Store) -> None:
    data = io.BytesIO()
    assert filesout.write_tar(store, [("", layers(store))], data.write) == len(data.getvalue())
    with tarfile.open(fileobj=io.BytesIO(data.getvalue())) as archive:
        member = archive.getmember("d/f")
        assert (member.uid, member.gid, member.mode) == (7, 8, 0o4751)
        assert archive.getmember("d/hard").linkname == "d/f"
        assert archive.getnames() == ["d", "d/f", "d/hard", "holes", "link", "null", "pipe"]


def test_each_platform_gets_a_directory_in_which_everything_is_as_alone(store: Store, tmp_path: Path) -> None:
    both = [("linux_amd64", layers(store)), ("linux_arm_v7", layers(store))]
    dest, outside, data = tmp_path / "out", tmp_path / "outside", io.BytesIO()
    outside.mkdir()
    dest.mkdir()
    (dest / "linux_arm_v7").symlink_to(outside)
    filesout.write_directory(store, both, dest)
    assert sorted(os.listdir(dest)) == ["linux_amd64", "linux_arm_v7"] and os.listdir(outside) == []
    for name in os.listdir(dest):
        assert sorted(os.listdir(dest / name)) == ["d", "holes", "link", "null", "pipe"]
    assert filesout.write_tar(store, both, data.write) == len(data.getvalue())
    alone = io.BytesIO()
    filesout.write_tar(store, [("", layers(store))], alone.write)
    data.seek(0)
    alone.seek(0)
    with tarfile.open(fileobj=data) as archive, tarfile.open(fileobj=alone) as single:
        names = single.getnames()
        assert archive.getnames() == [
            *("linux_amd64", *(f"linux_amd64/{name}" for name in names)),
            *("linux_arm_v7", *(f"linux_arm_v7/{name}" for name in names)),
        ]
        hard = archive.getmember("linux_arm_v7/d/hard")
        assert hard.islnk() and hard.linkname == "linux_arm_v7/d/f"


def test_files_of_platforms_that_are_not_kept_apart_must_have_other_names(store: Store, tmp_path: Path) -> None:
    dest = tmp_path / "out"
    assert filesout.write_directory(store, [("", layer(store, "a")), ("", layer(store, "b"))], dest) == 4
    assert sorted(os.listdir(dest / "d")) == ["a", "b"]
    for write, target in ((filesout.write_directory, dest), (filesout.write_tar, io.BytesIO().write)):
        with pytest.raises(InvalidInput, match="cannot overwrite d/a of another platform when split option is"):
            write(store, [("", layer(store, "a")), ("", layer(store, "a"))], target)  # type: ignore[arg-type]


def test_what_is_no_layers_stands_beside_the_files_and_follows_no_link(store: Store, tmp_path: Path) -> None:
    dest, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    dest.mkdir()
    elsewhere.write_text("mine")
    (dest / "note").symlink_to(elsewhere)
    more = [("", "note", b"said"), ("b", "other", b"x")]
    filesout.write_directory(store, [("", layer(store, "a")), ("b", layer(store, "b"))], dest, more=more)
    assert (dest / "note").read_bytes() == b"said" and not (dest / "note").is_symlink()
    assert (dest / "b/other").read_bytes() == b"x" and elsewhere.read_text() == "mine"
    (dest / "note").unlink()
    (dest / "note").mkdir()
    with pytest.raises(OutputInTheWay):
        filesout.write_directory(store, [("", layer(store, "a"))], dest, more=more)
    data = io.BytesIO()
    assert filesout.write_tar(store, [("b", layer(store, "b"))], data.write, more=more[1:]) == len(data.getvalue())
    with tarfile.open(fileobj=io.BytesIO(data.getvalue())) as archive:
        found = archive.extractfile("b/other")
        assert found is not None and found.read() == b"x"
