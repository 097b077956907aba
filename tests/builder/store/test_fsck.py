"""The check finds every kind of damage, changes nothing unless asked, and repairs so that nothing is left to find."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from builder.oci.references import Reference
from builder.store import Store, validate


def _rows(store: Store) -> dict[str, list[Any]]:
    tables = ("layers", "images", "refs", "cache_records", "containers", "failed", "flats", "blobs", "actives")
    return {table: store.database.rows(f"SELECT * FROM {table} ORDER BY 1") for table in tables}


def _lose_layer(store: Store, make: Any) -> None:
    shutil.rmtree(store.snapshots.path(store.images.layers(store.images.resolve("damaged"))[0]))


def _change_config(store: Store, make: Any) -> None:
    with store.database.write(durable=True):
        store.database.run("UPDATE images SET config = ? WHERE id = ?", (b"{}", store.images.resolve("damaged")))


def _lose_image_row(store: Store, make: Any) -> None:
    with store.database.write(durable=True):
        store.database.run("DELETE FROM images WHERE id = ?", (store.images.resolve("damaged"),))


def _swap_layer(store: Store, make: Any) -> None:
    other = make.layer({"other": "x"})
    with store.database.write(durable=True):
        image = store.images.resolve("damaged")
        store.database.run("UPDATE image_layers SET layer = ? WHERE image = ?", (other.id, image))


def _lose_recipe(store: Store, make: Any) -> None:
    recipe = store.content.put(b"recipe")
    with store.database.write(durable=True):
        layer = store.images.layers(store.images.resolve("damaged"))[0]
        store.database.run("UPDATE layers SET recipe = ? WHERE id = ?", (recipe, layer))
    store.content.path(recipe).unlink()


def _lose_cached_layer_row(store: Store, make: Any) -> None:
    make.record("key", make.layer({"c": "1"}).id)
    with store.database.write():
        store.database.run("DELETE FROM layers WHERE id = (SELECT layer FROM cache_records WHERE key = 'key')")


def _lose_container(store: Store, make: Any) -> None:
    active = store.snapshots.prepare([])
    container = store.containers.create(image="x", layer=active.key, config="{}")
    shutil.rmtree(store.containers.directory(container.id))
    shutil.rmtree(active.upper.parent)


def _lose_failed(store: Store, make: Any) -> None:
    shutil.rmtree(store.snapshots.keep_failed(store.snapshots.prepare([]), "b", 1).path)


def _lose_blob(store: Store, make: Any) -> None:
    store.content.path(store.content.put(b"data")).unlink()


def _cut_blob(store: Store, make: Any) -> None:
    path = store.content.path(store.content.put(b"data"))
    path.chmod(0o600)
    path.write_bytes(b"dat")


def _open_root(store: Store, make: Any) -> None:
    store.root.chmod(0o755)


def _litter(store: Store, make: Any) -> None:
    for area in ("layers", "active", "failed", "flat", "content", "containers", "logs", "tmp", "leases", "locks"):
        (store.root / area / "litter").write_text("x")


def _lose_flat(store: Store, make: Any) -> None:
    from builder.store.leases import boot_id

    with store.database.write():
        store.database.run("INSERT INTO flats VALUES ('f', '[]', ?, 1, 1)", (boot_id(),))


def _change_index(store: Store, make: Any) -> None:
    store.images.tag(Reference.parse("both"), store.indexes.make([store.images.resolve("damaged")]))
    with store.database.write(durable=True):
        store.database.run("UPDATE indexes SET document = ?", (b"{}",))


def _change_manifest(store: Store, make: Any) -> None:
    store.images.tag(Reference.parse("both"), store.indexes.make([store.images.resolve("damaged")]))
    with store.database.write(durable=True):
        store.database.run("UPDATE manifests SET document = ?", (b"{}",))


DAMAGES: dict[Callable[[Store, Any], None], set[str]] = {
    _lose_layer: {"layer", "image"},
    _change_config: {"image"},
    _lose_image_row: {"reference"},
    _swap_layer: {"image"},
    _lose_recipe: {"layer", "image", "blob"},
    _lose_cached_layer_row: {"cache", "garbage"},
    _lose_container: {"container"},
    _lose_failed: {"failed"},
    _lose_blob: {"blob"},
    _cut_blob: {"blob"},
    _open_root: {"mode"},
    _litter: {"garbage"},
    _lose_flat: {"flat"},
    _change_index: {"index"},
    _change_manifest: {"manifest"},
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__.strip("_"))
def test_damage_is_found_and_repaired(store: Store, make: Any, damage: Callable[[Store, Any], None]) -> None:
    whole = make.image("whole", files={"w": "1"})
    make.image("damaged", files={"d": "1"})
    assert store.fsck(full=True) == ()
    damage(store, make)
    rows = _rows(store)
    found = store.fsck()
    assert {problem.kind for problem in found} == DAMAGES[damage]
    assert not any(problem.repaired for problem in found)
    assert _rows(store) == rows, "only looking changes nothing"
    assert json.loads(json.dumps([problem.to_json() for problem in found]))[0]["kind"] == found[0].kind
    repaired = store.fsck(repair=True)
    assert {problem.kind for problem in repaired} >= DAMAGES[damage] - {"garbage"}
    assert all(problem.repaired and str(problem).endswith("(repaired)") for problem in repaired)
    assert store.fsck(full=True) == ()
    assert store.images.resolve("whole") == whole
    validate.image(store, whole, full=True)


def test_a_layer_that_was_written_to_is_found_by_reading_it(store: Store, make: Any) -> None:
    image = make.image("one", files={"a": "1"})
    (store.snapshots.path(store.images.layers(image)[0]) / "a").write_text("2")
    assert store.fsck() == ()
    found = store.fsck(full=True)
    assert [problem.kind for problem in found] == ["layer"]
    assert "content digest" in found[0].detail
    store.fsck(full=True, repair=True)
    assert store.images.lookup(Reference.parse("one")) is None
    assert store.fsck(full=True) == ()


def test_a_blob_that_was_written_to_is_found_by_reading_it(store: Store) -> None:
    path = store.content.path(store.content.put(b"data"))
    path.chmod(0o600)
    path.write_bytes(b"atad")
    assert store.fsck() == ()
    assert [problem.detail for problem in store.fsck(full=True)] == ["its content has changed"]


def test_an_image_is_healed_with_another_layer_of_the_same_tar(store: Store, make: Any) -> None:
    image = make.image("one", files={"a": "1"})
    twin = make.layer({"a": "1"})
    lost = store.images.layers(image)[0]
    shutil.rmtree(store.snapshots.path(lost))
    assert {problem.kind for problem in store.fsck(repair=True)} == {"layer"}
    assert store.images.layers(image) == (twin.id,)
    assert store.images.resolve("one") == image
    assert store.fsck(full=True) == ()


def test_what_another_process_is_doing_is_no_problem(store: Store, make: Any) -> None:
    with Store.open(store.root) as other:
        active = other.snapshots.prepare([])
        with other.scratch(), other.locks.hold("x"), other.content.writer() as writer:
            writer.write(b"half")
            assert store.fsck(full=True, repair=True) == ()
        assert active.upper.is_dir()
        other.snapshots.commit(active)


def test_a_dead_process_leaves_what_repair_takes(store: Store, run: Any) -> None:
    run("store = Store.open(root); store.snapshots.prepare([]); store.records.start_build(); os._exit(0)\n")
    assert {problem.name.split("/")[0] for problem in store.fsck()} == {"active"}
    store.fsck(repair=True)
    assert store.fsck() == ()
    assert os.listdir(store.root / "active") == os.listdir(store.root / "leases") == []
    assert [build.status for build in store.records.list()] == ["interrupted"]


def test_a_file_that_may_be_about_to_be_locked_is_not_garbage_yet(store: Store) -> None:
    for area in ("leases", "locks"):
        (store.root / area / "new").touch()
    assert store.fsck() == ()
    for area in ("leases", "locks"):
        os.utime(store.root / area / "new", (1, 1))
    assert [problem.name for problem in store.fsck()] == ["leases/new", "locks/new"]
    (store.root / "leases" / "other").touch()
    assert len(store.fsck(repair=True)) == 3  # taking one away in the meantime does no harm
    assert store.fsck() == () and os.listdir(store.root / "locks") == []
