"""Repeated files: found by metadata, told with what differs, and never for what is small or really new."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from builder.pipeline.findings import repetitions
from builder.store.snapshots import LayerID

pytestmark = pytest.mark.root

LOW, TOP = LayerID("low"), LayerID("top")
BIG = 12 << 20


def file(path: Path, size: int, *, mtime: int = 5, mode: int = 0o644, owner: int = 0, first: bytes = b"x") -> None:
    """A file of holes: as large as it says, and takes no room."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as stream:
        stream.write(first)
        stream.truncate(size)
    os.chown(path, owner, owner)
    path.chmod(mode)
    os.utime(path, ns=(1, mtime))


def found(root: Path, *, few: frozenset[LayerID] = frozenset()) -> dict[LayerID, tuple[int, bool, bool, bool]]:
    lowers = [(layer, root / layer) for layer in (TOP, LOW)]
    for _, path in lowers:
        path.mkdir(exist_ok=True)
    plain = repetitions(root / "upper", lowers, few=few)
    return {layer: (one.size, one.mode, one.owner, one.moved) for layer, one in plain.items()}


def test_what_only_changes_owner_or_mode_repeats_the_topmost_layer_that_has_it(tmp_path: Path) -> None:
    for number in range(3):
        file(tmp_path / "low" / "app" / str(number), 1000)
    file(tmp_path / "top" / "app" / "0", 1000)
    file(tmp_path / "upper" / "app" / "0", 1000, owner=7)
    file(tmp_path / "upper" / "app" / "1", 1000, mode=0o600)
    file(tmp_path / "upper" / "app" / "2", 1000)
    assert found(tmp_path) == {TOP: (1000, False, True, False), LOW: (2000, True, False, False)}


def test_what_is_written_anew_is_no_repetition(tmp_path: Path) -> None:
    file(tmp_path / "low" / "later", 1000)
    file(tmp_path / "upper" / "later", 1000, mtime=6)
    file(tmp_path / "low" / "longer", 1000)
    file(tmp_path / "upper" / "longer", 1001)
    file(tmp_path / "low" / "sampled", BIG, first=b"one")
    file(tmp_path / "upper" / "sampled", BIG, first=b"two")
    file(tmp_path / "low" / "hidden", 1000)
    (tmp_path / "top").mkdir()
    os.mknod(tmp_path / "top" / "hidden", stat.S_IFCHR, 0)
    file(tmp_path / "upper" / "hidden", 1000)
    (tmp_path / "low" / "link").symlink_to("x")
    file(tmp_path / "upper" / "link", 1000)
    file(tmp_path / "upper" / "new" / "new", BIG)
    assert found(tmp_path) == {}


def test_large_files_are_found_under_other_names_in_layers_of_this_dockerfile(tmp_path: Path) -> None:
    file(tmp_path / "low" / "a" / "data", BIG)
    file(tmp_path / "upper" / "b" / "moved", BIG)
    assert found(tmp_path) == {}
    assert found(tmp_path, few=frozenset({LOW})) == {LOW: (BIG, False, False, True)}


def test_hard_links_count_once(tmp_path: Path) -> None:
    for layer in ("low", "upper"):
        file(tmp_path / layer / "one", 1000, owner=3 if layer == "upper" else 0)
        os.link(tmp_path / layer / "one", tmp_path / layer / "two")
    assert found(tmp_path) == {LOW: (1000, False, True, False)}
