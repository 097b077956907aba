"""Collection: reasons, budgets, what a dry run promises."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from builder.oci.references import Reference
from builder.store import Store


def _reopened(store: Store) -> Store:
    """The same store without what we leased."""
    store.close()
    return Store.open(store.root)


@pytest.fixture
def cached(store: Store, make: Any) -> Store:
    """Three cache records of 100 bytes each, used in the order k1, k2, k3, and nothing leased."""
    for number in (1, 2, 3):
        make.record(f"k{number}", make.layer({"f": str(number) * 100}).id)
    for number in (1, 2, 3):
        assert store.buildcache.lookup(f"k{number}") is not None
    return _reopened(store)


@pytest.mark.parametrize(
    ("budget", "kept"),
    [
        (None, {"k1", "k2", "k3"}),
        (300, {"k1", "k2", "k3"}),
        (299, {"k2", "k3"}),
        (100, {"k3"}),
        (1, set()),
        (0, set()),
    ],
)
def test_the_budget_keeps_what_was_used_last(cached: Store, budget: int | None, kept: set[str]) -> None:
    with cached:
        collected = cached.collect(cache_budget=budget)
        assert {record.key for record in cached.buildcache.list()} == kept
        assert len(cached.snapshots.list()) == len(kept)
        assert collected.freed == 100 * (3 - len(kept))
        assert {item.name for item in collected.of("cache record")} == {"k1", "k2", "k3"} - kept
        assert cached.fsck() == ()


def test_a_dry_run_says_the_same_and_does_nothing(cached: Store) -> None:
    with cached:
        promised = cached.collect(cache_budget=100, dry_run=True)
        assert promised.dry_run and len(promised.of("layer")) == 2
        assert len(cached.buildcache.list()) == 3
        assert all(layer.path.is_dir() for layer in cached.snapshots.list())
        assert cached.collect(cache_budget=100).items == promised.items


def test_records_of_layers_that_images_hold_cost_nothing(store: Store, make: Any) -> None:
    image = make.image("one", files={"f": "x" * 1000})
    make.record("held", store.images.layers(image)[0])
    make.record("empty", None)
    with _reopened(store) as after:
        after.collect(cache_budget=1)
        assert {record.key for record in after.buildcache.list()} == {"held", "empty"}
        after.collect(cache_budget=0)
        assert after.buildcache.list() == ()
        assert after.images.resolve("one") == image


def test_what_was_removed_by_name_goes_with_the_next_collection(store: Store, make: Any) -> None:
    image = make.image("one", files={"f": "x" * 10})
    store.images.remove("one")
    with _reopened(store) as after:
        items = after.collect().items
        assert [(item.kind, item.size) for item in items] == [("layer", 10)]
        assert after.images.layers(image) == ()
        assert os.listdir(store.root / "layers") == []


def test_dangling_images_go_only_when_asked_and_with_their_parents(store: Store, make: Any) -> None:
    parent = make.image(files={"p": "1"})
    child = make.image("child", files={"c": "1"}, parent=parent)
    store.images.untag(Reference.parse("child"))
    with _reopened(store) as after:
        assert after.collect().items == ()
        assert {item.name for item in after.collect(dangling=True).of("image")} == {parent, child}
        assert os.listdir(store.root / "layers") == []


def test_an_image_with_a_name_keeps_its_dangling_parent(store: Store, make: Any) -> None:
    parent = make.image(files={"p": "1"})
    make.image("child", files={"c": "1"}, parent=parent)
    with _reopened(store) as after:
        assert after.collect(dangling=True).items == ()


def test_blobs_of_layers_and_records_stay_while_these_do(store: Store, make: Any) -> None:
    recipe, named, loose = (store.content.put(name) for name in (b"recipe", b"named", b"loose"))
    active = store.snapshots.prepare([])
    layer = store.snapshots.commit(active, recipe=recipe)
    make.record("key", layer.id, result=f'{{"manifest": "{named}"}}')
    with _reopened(store) as after:
        assert [item.name for item in after.collect().items] == [loose]
        gone = after.collect(cache_budget=0)
        assert {item.name for item in gone.of("blob")} == {recipe, named}
        assert os.listdir(store.root / "content") == []


def test_failed_steps_stay_for_their_time(root: Path) -> None:
    now = 10**18
    with Store.open(root, clock=lambda: now) as store:
        kept = store.snapshots.keep_failed(store.snapshots.prepare([]), "b", 1, ttl=100)
        (kept.path / "file").write_text("12345")
        store.collect()
        assert store.snapshots.list_failed() == (kept,)
        now += 101
        assert [item.size for item in store.collect().items] == [5]
        assert store.snapshots.list_failed() == ()
        store.snapshots.keep_failed(store.snapshots.prepare([]), "b", 2)
        assert len(store.collect(cache_budget=0).of("failed step")) == 1


def test_only_the_newest_failed_steps_are_kept(store: Store) -> None:
    kept = [store.snapshots.keep_failed(store.snapshots.prepare([]), "b", number) for number in range(12)]
    assert [one.step for one in store.snapshots.list_failed()] == [one.step for one in kept[:1:-1]]
    assert len(os.listdir(store.root / "failed")) == 10


def test_what_is_remembered_of_files_is_forgotten_after_a_month(root: Path) -> None:
    now = 10**18
    with Store.open(root, clock=lambda: now) as store:
        store.files.put_parsed("key", b"old")
        store.files.put_files({(1, 2, 3, 4, 5): b"d" * 32})
        store.collect()
        assert store.files.get_parsed("key") == b"old"
        now += 31 * 24 * 3600 * 10**9
        store.collect()
        assert store.files.get_parsed("key") is None
        assert len(store.files.get_files([(1, 2, 3, 4, 5)])) == 1
        store.collect(cache_budget=0)
        assert store.files.get_files([(1, 2, 3, 4, 5)]) == {}


def test_layers_below_a_kept_failed_step_stay(store: Store, make: Any) -> None:
    below = make.layer({"a": "1"})
    failed = store.snapshots.keep_failed(store.snapshots.prepare([below.id]), "b", 1)
    with _reopened(store) as after:
        assert after.collect().items == ()
        after.snapshots.drop_failed(failed.key)
        assert [item.name for item in after.collect().items] == [below.id]


def test_cache_mounts_go_with_everything_unless_a_step_has_one(store: Store) -> None:
    for name in ("used", "idle"):
        (store.caches_dir / name).mkdir()
        (store.caches_dir / name / "file").write_text("12")
    with Store.open(store.root) as other:
        other.lease().protect("cache", ["used"])
        assert store.collect(cache_budget=4).items == ()
        assert [(item.kind, item.name, item.size) for item in store.collect(cache_budget=0).items] == [
            ("cache mount", "idle", 2)
        ]
        assert os.listdir(store.caches_dir) == ["used"]


def test_a_record_whose_layer_has_gone_is_forgotten(store: Store, make: Any) -> None:
    layer = make.layer({"a": "1"})
    make.record("key", layer.id)
    shutil.rmtree(layer.path)
    store.snapshots.forget(layer.id)
    make.record("key", layer.id)
    store.collect()
    assert store.buildcache.list() == ()
