"""Derived layers: fewer of them with the same files, and none with a time that is too late."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.store import Store, derived
from builder.store.layerwalk import walk

pytestmark = pytest.mark.root
Maker = Any  # the fixture's type lives in conftest, which tests do not import


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60), st.integers(1, 20))
def test_groups_cover_all_layers_and_are_as_few_as_asked(sizes: list[int], most: int) -> None:
    counts = derived.groups(sizes, most)
    assert sum(counts) == len(sizes) and all(counts)
    assert len(counts) == min(most, len(sizes))


def test_small_neighbours_are_merged_and_large_layers_left_alone() -> None:
    assert derived.groups([1000, 1, 1, 1, 900, 2, 2], 4) == (1, 3, 1, 2)
    assert derived.groups([5] * 1000, 125) == (8,) * 125


def test_a_merged_layer_is_made_once_and_shows_the_upper_file(store: Store, make: Maker) -> None:
    one, two = make.layer({"a": "1", "b": "1"}), make.layer({"b": "2", "d/c": "2"})
    layer = derived.merged(store, [one.id, two.id], bottom=True)
    assert derived.merged(store, [one.id, two.id], bottom=True) == layer
    path = store.snapshots.path(layer)
    assert {name: (path / name).read_text() for name in ("a", "b", "d/c")} == {"a": "1", "b": "2", "d/c": "2"}
    assert store.snapshots.get(layer).diff_id is not None
    assert derived.merged(store, [one.id], bottom=True) == one.id
    assert derived.grouped(store, [one.id, two.id], (2,)) == (layer,)


def test_only_a_layer_with_later_times_is_rewritten(store: Store, make: Maker) -> None:
    layer = make.layer({"old": "x", "d/new": "y"})
    os.utime(layer.path / "d" / "new", (500, 500))
    assert derived.clamped(store, layer.id, 500) == layer.id
    earlier = derived.clamped(store, layer.id, 100)
    assert earlier != layer.id and derived.clamped(store, layer.id, 100) == earlier
    times = {found.path: found.mtime for found in walk(store.snapshots.path(earlier))}
    assert times == {b"d/": 1, b"d/new": 100, b"old": 1}
    assert os.stat(layer.path / "d" / "new").st_mtime == 500
