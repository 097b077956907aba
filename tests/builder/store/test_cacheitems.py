"""What of the build cache has to go: the budget counts everything, the longest unused goes first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import NotFound
from builder.store import Store
from builder.store.buildcache import CacheRecord
from builder.store.cacheitems import CacheItem, CacheKind, cache_items, choose
from builder.store.leases import CACHE


def item(name: str, size: int, used: int, **more: Any) -> CacheItem:
    return replace(CacheItem(CacheKind.REGULAR, name, "RUN x", size, 0, used, 0), **more)


def chosen(items: list[CacheItem], budget: int) -> list[str]:
    return [each.id for each in choose(items, [(budget, None)])]


def test_the_longest_unused_goes_first_whatever_its_kind() -> None:
    items = [item("old", 10, 1), item("mount", 10, 2, kind=CacheKind.MOUNT), item("new", 10, 3)]
    assert chosen(items, 30) == []
    assert chosen(items, 29) == ["old"]
    assert chosen(items, 10) == ["mount", "old"]
    assert chosen(items, 0) == ["new", "mount", "old"]


def test_what_is_in_use_stays_and_counts() -> None:
    items = [item("busy", 10, 1, in_use=True), item("new", 10, 3)]
    assert chosen(items, 19) == ["new"]
    assert chosen(items, 0) == ["new"]


def test_what_an_image_has_too_costs_nothing() -> None:
    items = [item("both", 1000, 1, shared=True), item("new", 10, 3)]
    assert chosen(items, 10) == []
    assert chosen(items, 0) == ["new", "both"]


def test_only_what_is_selected_goes() -> None:
    items = [item("a", 10, 1), item("b", 10, 2)]
    assert [each.id for each in choose(items, [(0, lambda each: each.id == "b")])] == ["b"]


ITEMS = st.builds(
    item,
    st.uuids().map(str),
    st.integers(0, 100),
    st.integers(0, 9),
    shared=st.booleans(),
    in_use=st.booleans(),
)


@given(st.lists(ITEMS, max_size=20), st.integers(0, 300))
def test_the_budget_is_a_hard_cap(items: list[CacheItem], budget: int) -> None:
    gone = set(choose(items, [(budget, None)]))
    kept = sum(each.cost for each in items if each not in gone)
    busy = sum(each.cost for each in items if each.in_use)
    assert kept <= max(budget, busy) and not any(each.in_use for each in gone)


def test_items_of_a_store(store: Store, make: Any) -> None:
    image = make.image("one", files={"f": "x" * 1000})
    make.record("held", store.images.layers(image)[0])
    layer = make.layer({"g": "y" * 10})
    make.record("first", layer.id)
    make.record("second", layer.id)
    (store.caches_dir / "ab12").mkdir()
    (store.caches_dir / "ab12" / "file").write_text("12345")
    store.cache_mounts.note_use("ab12", "/root/.cache", "")
    failed = store.snapshots.keep_failed(store.snapshots.prepare([]), "b", 1)
    with Store.open(store.root) as other:
        store.close()
        found = {each.id: each for each in cache_items(other)}
        assert {each.kind for each in found.values()} == set(CacheKind)
        assert (found[layer.id].size, found[layer.id].cost, found[layer.id].shared) == (10, 10, False)
        assert (found["ab12"].size, found["ab12"].text) == (5, "cache mount /root/.cache")
        assert failed.key in found
        assert sum(each.shared for each in found.values()) == 1


def test_a_chain_of_steps_loses_its_end_first(store: Store, make: Any) -> None:
    keys = ["first", "second", "third"]
    layers = [make.layer({name: name}).id for name in keys]
    for key, parent, layer in zip(keys, [None, *keys], layers, strict=False):
        store.buildcache.put(CacheRecord(key=key, step=key, text=key, leaves=(), parent=parent, layer=layer))
    size = sum(store.snapshots.get(layer).size for layer in layers[:2])
    with Store.open(store.root) as other:
        store.close()
        assert [each.id for each in choose(cache_items(other), [(size, None)])] == [layers[2]]
        other.buildcache.lookup("third")
        assert [each.id for each in choose(cache_items(other), [(0, None)])] == [*layers[:2]]


def test_cache_mounts_are_found_by_id_and_name(store: Store) -> None:
    for name in ("0123abcd", "0123ffff"):
        (store.caches_dir / name).mkdir()
        store.cache_mounts.note_use(name, "npm", "")
    store.cache_mounts.note_use("0123abcd", "npm", "")
    assert {each.name for each in store.cache_mounts.find("npm")} == {"0123abcd", "0123ffff"}
    (one,) = store.cache_mounts.find("0123a")
    assert one.uses == 2
    for word in ("012", "yarn"):
        with pytest.raises(NotFound):
            store.cache_mounts.find(word)
    (store.caches_dir / "0123ffff").rmdir()
    store.collect()
    assert [row[0] for row in store.database.rows("SELECT name FROM cache_mounts")] == ["0123abcd"]


def test_cache_mounts_are_counted_when_a_step_has_used_them(root: Path) -> None:
    def write(size: int) -> None:
        (store.caches_dir / "0123abcd" / "file").write_bytes(bytes(size))

    with Store.open(root) as store, Store.open(root) as other:
        (store.caches_dir / "0123abcd").mkdir()
        write(5)
        store.cache_mounts.note_use("0123abcd", "npm", "")
        assert store.cache_mounts.total(store.lease()) == 5
        write(7)
        assert store.cache_mounts.total(store.lease()) == 5
        # Who has used it counts again; what he finds is what others know.
        other.lease().protect(CACHE, ["0123abcd"])
        other.cache_mounts.note_use("0123abcd", "npm", "")
        assert store.cache_mounts.total(store.lease()) == 7
        write(11)
        assert other.cache_mounts.total(other.lease()) == store.cache_mounts.total(store.lease()) == 11
