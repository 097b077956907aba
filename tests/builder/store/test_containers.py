"""Containers: names, short ids, and that their snapshot lives and goes with them."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest

from builder.errors import AmbiguousId, ContainerNotFound, InvalidName, NameInUse
from builder.store import Store


def test_names_are_made_up_and_all_different(store: Store) -> None:
    names = [store.containers.create(image="i", layer=None, config="{}").name for _ in range(30)]
    assert len(set(names)) == 30
    assert all(re.fullmatch(r"[a-z]+_[a-z]+\d*", name) for name in names)


def test_a_container_is_found_by_name_id_and_the_start_of_it(store: Store) -> None:
    one = store.containers.create(image="i", layer=None, config='{"a": 1}', name="box", container_id="ab" + "0" * 62)
    store.containers.create(image="i", layer=None, config="{}", container_id="ac" + "0" * 62)
    assert one == store.containers.get("box") == store.containers.get("/box") == store.containers.get("ab")
    with pytest.raises(AmbiguousId):
        store.containers.get("a")
    for missing in ("ad", "bo", "", "../x"):
        with pytest.raises(ContainerNotFound):
            store.containers.get(missing)
    assert {each.name for each in store.containers.list()} >= {"box"}


def test_a_name_is_taken_once(store: Store) -> None:
    owner = store.containers.create(image="i", layer=None, config="{}", name="box")
    with pytest.raises(NameInUse) as caught:
        store.containers.create(image="i", layer=None, config="{}", name="box")
    assert caught.value.owner == owner.id
    other = store.containers.create(image="i", layer=None, config="{}", name="other")
    with pytest.raises(NameInUse):
        store.containers.rename(other.id, "box")
    store.containers.rename(other.id, "third")
    assert store.containers.get("third").id == other.id
    assert len(os.listdir(store.root / "containers")) == 2, "who got no name left no directory"


@pytest.mark.parametrize("name", ["", "a", "-a", "a b", "a/b", "é", "..", "/"])
def test_wrong_names_are_refused(store: Store, name: str) -> None:
    with pytest.raises(InvalidName):
        store.containers.create(image="i", layer=None, config="{}", name=name)


def test_the_snapshot_outlives_the_process_and_goes_with_the_container(store: Store, make: Any) -> None:
    base = make.layer({"a": "1"})
    active = store.snapshots.prepare([base.id])
    (active.upper / "written").write_text("x")
    container = store.containers.create(image="i", layer=active.key, config="{}")
    store.close()
    with Store.open(store.root) as after:
        after.collect()
        assert (after.snapshots.active(active.key).upper / "written").read_text() == "x"
        after.containers.set_config(container.id, '{"new": 1}')
        assert after.containers.get(container.id).config == '{"new": 1}'
        after.containers.remove(container.id)
        after.containers.remove(container.id)
        assert os.listdir(store.root / "active") == os.listdir(store.root / "containers") == []
        for call in (
            lambda: after.containers.set_config(container.id, "{}"),
            lambda: after.containers.rename(container.id, "x1"),
        ):
            with pytest.raises(ContainerNotFound):
                call()
        assert after.fsck() == ()
