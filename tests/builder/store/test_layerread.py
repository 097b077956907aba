"""The second process that reads a layer: what it gives is tested where it is used, in test_changesets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from builder.errors import StoreError
from builder.store import beside, layerread


def test_what_it_cannot_read_is_the_same_error_here(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    fd = os.open(tmp_path / "f", os.O_RDONLY)
    try:
        with pytest.raises(NotADirectoryError):
            list(layerread.read_on(fd, skip=0, overlay=False))
    finally:
        os.close(fd)


def test_its_early_end_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "_PROGRAM", "")
    with pytest.raises(StoreError, match="ended early"):
        list(layerread.read_on(tmp_path, skip=0, overlay=False))


def test_who_stops_asking_leaves_no_process(tmp_path: Path) -> None:
    for name in range(100):
        (tmp_path / str(name)).write_bytes(bytes(1 << 16))
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    before = children.read_text()
    entries = layerread.read_on(tmp_path, skip=0, overlay=False)
    next(entries)
    assert children.read_text() != before
    entries.close()
    assert children.read_text() == before
