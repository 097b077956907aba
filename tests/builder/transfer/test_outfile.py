"""Files outside of the store appear whole or not at all; what is no file is written as it is."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from builder.transfer.outfile import whole_file


def test_a_file_appears_at_the_end_and_a_failure_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "file"
    with whole_file(target) as write:
        write(b"one")
        assert os.listdir(tmp_path) == []  # nor is there anything that a killed process would leave
    assert target.read_bytes() == b"one"
    with pytest.raises(ValueError), whole_file(target) as write:
        write(b"two")
        raise ValueError
    assert target.read_bytes() == b"one" and os.listdir(tmp_path) == ["file"]


def test_modes_follow_the_umask_or_the_caller(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with whole_file(tmp_path / "usual"), whole_file(tmp_path / "private", mode=0o600):
            pass
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(os.stat(tmp_path / name).st_mode) for name in ("usual", "private")]
    assert modes == [0o640, 0o600]


def test_links_are_kept_and_devices_written_to(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("real")
    with whole_file(tmp_path / "link") as write:
        write(b"x")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_bytes() == b"x"
    with whole_file(Path("/dev/null")) as write:
        write(b"x")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_the_error_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised, whole_file(tmp_path / "no/file"):
        pass
    assert raised.value.filename == str(tmp_path / "no/file")


def test_nothing_is_followed_where_nobody_chose_the_name(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"other")
    for name, make in (("link", lambda path: path.symlink_to("other")), ("pipe", os.mkfifo)):
        make(tmp_path / name)
        with whole_file(tmp_path / name, follow=False) as write:
            write(b"x")
        assert not (tmp_path / name).is_symlink() and (tmp_path / name).read_bytes() == b"x"
    assert (tmp_path / "other").read_bytes() == b"other"
