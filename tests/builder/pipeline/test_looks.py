"""Looks at directories: what was noted holds until something is different."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.pipeline import looks
from builder.pipeline.looks import Looks


@pytest.fixture
def top(tmp_path: Path) -> Path:
    for name in ("d/f", "d/hidden", "way/file"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def never(ctime: int, now: int) -> bool:
    return False


def note(top: Path) -> list[looks.Look]:
    """What a scan would note: all of d but one file, way/file by its name, and that there is no other."""
    seen = Looks(0)
    seen.passed("way", os.stat(top / "way"))
    seen.taken("way/file", os.stat(top / "way/file"))
    seen.taken("missing", None)
    s = os.stat(top / "d/f")
    rows = [looks.row("f", s.st_mode, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino, s.st_dev)]
    seen.listed("d", os.stat(top / "d"), ["hidden"], rows)
    found = seen.result(never)
    assert found is not None
    return found


def holds(top: Path, found: list[looks.Look]) -> bool:
    fd = os.open(top, os.O_RDONLY)
    try:
        return looks.hold(fd, found)
    finally:
        os.close(fd)


CHANGES: dict[str, Callable[[Path], object]] = {
    "a file of a directory": lambda top: (top / "d/f").write_text("!"),
    "its mode": lambda top: (top / "d/f").chmod(0o600),
    "a new one": lambda top: (top / "d/new").touch(),
    "one that goes": lambda top: (top / "d/f").unlink(),
    "a hidden one that goes": lambda top: (top / "d/hidden").unlink(),
    "the directory's mode": lambda top: (top / "d").chmod(0o700),
    "a file by its name": lambda top: (top / "way/file").write_text("!"),
    "one that came": lambda top: (top / "missing").touch(),
    "a link on the way": lambda top: ((top / "way").rename(top / "away"), (top / "way").symlink_to("away")),
    "a link for a directory": lambda top: ((top / "d").rename(top / "e"), (top / "d").symlink_to("e")),
    "a file for a directory": lambda top: ((top / "d").rename(top / "e"), (top / "d").touch()),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_is_seen(top: Path, change: Callable[[Path], object]) -> None:
    found = note(top)
    assert holds(top, found)
    change(top)
    assert not holds(top, found)


def test_what_was_left_out_or_only_passed_may_change(top: Path) -> None:
    found = note(top)
    (top / "d/hidden").write_text("longer than before")
    (top / "way/other").touch()
    (top / "nobody").touch()
    assert holds(top, found)


def test_nothing_is_remembered_of_what_could_change_without_a_trace(top: Path) -> None:
    young = Looks(1_000)
    young.taken("way/file", os.stat(top / "way/file"))
    assert young.result(lambda ctime, now: ctime > now) is None
    blind = Looks(0)
    blind.give_up()
    assert blind.result(never) is None
    torn = Looks(0)
    torn.taken("way/file", os.stat(top / "way/file"))
    torn.taken("way/file", os.stat(top / "d/f"))
    assert torn.result(never) is None
