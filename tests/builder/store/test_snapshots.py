"""Snapshots: parents, roots, digests that come later, failed steps, deep stacks."""

from __future__ import annotations

import os
import stat
from typing import Any

import pytest

from builder.errors import InvalidInput, LayerNotFound
from builder.oci import digests
from builder.store import Store, flats
from builder.store.changesets import Changeset
from builder.store.snapshots import LayerID
from runtime.rootfs import open_rootfs
from runtime.spec import Rootfs


def test_layers_are_given_topmost_first_and_never_none(store: Store, make: Any) -> None:
    assert store.snapshots.lowers([]) == (store.root / "empty",)
    one, two = make.layer({"1": ""}), make.layer({"2": ""})
    active = store.snapshots.prepare([one.id, two.id])
    assert active.lowers == (two.path, one.path)
    assert active.parents == (one.id, two.id)
    assert store.snapshots.active(active.key) == active


def test_a_new_root_looks_like_its_parents(store: Store) -> None:
    assert stat.S_IMODE(store.snapshots.prepare([]).upper.stat().st_mode) == 0o755
    active = store.snapshots.prepare([])
    active.upper.chmod(0o1711)
    layer = store.snapshots.commit(active)
    assert stat.S_IMODE(store.snapshots.prepare([layer.id]).upper.stat().st_mode) == 0o1711


def test_what_is_no_layer_is_said_to_be_none(store: Store) -> None:
    for wrong in ("../../etc", "", "a/b", "x" * 65, "."):
        with pytest.raises(InvalidInput):
            store.snapshots.path(LayerID(wrong))
    for call in (store.snapshots.get, lambda key: store.snapshots.prepare([key]), store.snapshots.active):
        with pytest.raises(LayerNotFound):
            call(LayerID("beef"))
    assert os.listdir(store.root / "active") == []


def test_digests_come_later_and_find_the_layer(store: Store, make: Any) -> None:
    layer = make.layer({"a": "12345"}, hashed=False)
    assert (layer.diff_id, layer.size) == (None, None)
    diff_id = digests.DiffID(digests.of(b"d"))
    change = Changeset(diff_id, digests.ContentDigest(digests.of(b"c")), size=2048, content_size=5, files=2)
    store.snapshots.set_digests(layer.id, change)
    found = store.snapshots.find(diff_id)
    assert found is not None
    assert (found.id, found.size, found.tar_size, found.files) == (layer.id, 5, 2048, 2)
    assert store.snapshots.find(digests.DiffID(digests.of(b"x"))) is None
    store.snapshots.set_digests(LayerID("beef"), change)


def test_a_copy_of_an_active_snapshot_leaves_it_as_it_is(store: Store, make: Any) -> None:
    base = make.layer({"a": "1"})
    active = store.snapshots.prepare([base.id])
    (active.upper / "new").write_text("x")
    os.mknod(active.upper / "a", 0o600 | stat.S_IFCHR, 0)
    layer = store.snapshots.commit_copy(active)
    assert sorted(os.listdir(layer.path)) == ["a", "new"]
    assert os.lstat(layer.path / "a").st_rdev == 0
    (active.upper / "new").write_text("changed")
    assert (layer.path / "new").read_text() == "x"


def test_failed_steps_are_kept_and_dropped(store: Store, make: Any) -> None:
    base = make.layer({"a": "1"})
    active = store.snapshots.prepare([base.id])
    (active.upper / "half").write_text("x")
    failed = store.snapshots.keep_failed(active, "build", 3)
    assert store.snapshots.list_failed() == (failed,)
    assert (failed.path / "half").read_text() == "x"
    assert (failed.build, failed.step, failed.parents) == ("build", 3, (base.id,))
    with pytest.raises(LayerNotFound):
        store.snapshots.commit(active)
    store.snapshots.drop_failed(failed.key)
    store.snapshots.drop_failed(failed.key)
    assert store.snapshots.list_failed() == ()
    assert os.listdir(store.root / "active") == os.listdir(store.root / "failed") == []


def test_a_sealed_layer_can_be_built_on_before_it_has_its_row(store: Store) -> None:
    below = store.snapshots.prepare(())
    (below.upper / "below").write_text("1")
    path = store.snapshots.seal(below)
    above = store.snapshots.prepare((LayerID(below.key),))
    assert above.lowers == (path,)
    with pytest.raises(LayerNotFound):
        store.snapshots.get(LayerID(below.key))
    with Store.open(store.root) as other:
        with pytest.raises(LayerNotFound):
            other.snapshots.prepare((LayerID(below.key),))
        other.collect(cache_budget=0)
        assert path.is_dir()
    assert store.snapshots.record(below).path == path
    assert store.snapshots.get(store.snapshots.commit(above).id).path.is_dir()
    assert store.fsck(full=True) == ()


def test_a_sealed_layer_without_a_row_goes_with_its_process(store: Store) -> None:
    active = store.snapshots.prepare(())
    path = store.snapshots.seal(active)
    store.close()
    assert not path.exists()
    with Store.open(store.root) as again:
        assert again.fsck(full=True) == ()


def test_what_a_step_did_not_finish_goes_with_the_process(store: Store) -> None:
    active = store.snapshots.prepare([])
    os.mkdir(active.work / "work", 0o000)
    store.close()
    assert os.listdir(store.root / "active") == os.listdir(store.root / "tmp") == []


def test_leases_are_not_believed_before_their_transaction_is_committed(store: Store, make: Any) -> None:
    layer = make.layer({"a": "1"})
    store.close()
    with Store.open(store.root) as other:
        lease = other.lease()
        with pytest.raises(ZeroDivisionError), other.database.write():
            lease.protect("layer", [layer.id])
            _ = 1 / 0
        assert not lease.protects("layer", layer.id)
        other.snapshots.use([layer.id])
        assert lease.protects("layer", layer.id)
        assert other.collect().items == ()


@pytest.mark.root
def test_a_thousand_layers_mount_as_what_they_are(store: Store) -> None:
    layers: list[LayerID] = []
    widest = copied = 0
    for number in range(1000):
        active = store.snapshots.prepare(layers)
        widest = max(widest, len(active.lowers))
        (active.upper / f"file{number}").write_text(str(number))
        (active.upper / "last").write_text(str(number))
        if number:
            os.mknod(active.upper / f"file{number - 1}", stat.S_IFCHR, 0)  # as overlay says that it was removed
        layers.append(store.snapshots.commit(active).id)
        copied += len(os.listdir(store.root / "flat"))
    assert widest <= flats.MAX_LOWERS
    # Merged at 300, 600 and 900 layers and used until the next: not once for every step.
    assert len(os.listdir(store.root / "flat")) == 2
    lowers = store.snapshots.lowers(layers)
    root = open_rootfs(Rootfs(tuple(map(str, lowers)), readonly=True))
    try:
        assert sorted(os.listdir(root)) == ["file999", "last"]
        with open("last", opener=lambda path, flags: os.open(path, flags, dir_fd=root)) as file:
            assert file.read() == "999"
    finally:
        os.close(root)
    assert store.fsck() == ()


class TestFlats:
    """Which layers are merged, and when a merged directory is made again."""

    @pytest.mark.parametrize("depth", [1, 400, 401, 700, 701, 1000, 5000])
    def test_the_stack_is_never_too_deep_and_never_too_flat(self, depth: int) -> None:
        flat = flats.cut(depth)
        single = depth - flat + bool(flat)
        assert single <= flats.MAX_LOWERS
        assert flat % flats.STRIDE == 0
        if flat:
            assert single >= flats.TAIL

    @pytest.fixture
    def shallow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(flats, "MAX_LOWERS", 3)
        monkeypatch.setattr(flats, "STRIDE", 2)
        monkeypatch.setattr(flats, "TAIL", 1)

    @pytest.mark.usefixtures("shallow")
    def test_stacks_with_the_same_bottom_share_a_flat(self, store: Store, make: Any) -> None:
        layers = [make.layer({f"f{number}": str(number)}).id for number in range(6)]
        first, second = store.snapshots.lowers(layers[:5]), store.snapshots.lowers(layers)
        assert first[-1] == second[-1]
        assert sorted(os.listdir(first[-1])) == ["f0", "f1", "f2", "f3"]
        assert [path.name for path in second[:-1]] == [layers[5], layers[4]]

    @pytest.mark.usefixtures("shallow")
    def test_a_lost_flat_is_made_again(self, store: Store, make: Any) -> None:
        layers = [make.layer({f"f{number}": ""}).id for number in range(4)]
        flat = store.snapshots.lowers(layers)[-1]
        flat.joinpath("f0").unlink()
        with store.database.write():
            store.database.run("UPDATE flats SET boot = 'an earlier one'")
        assert sorted(os.listdir(store.snapshots.lowers(layers)[-1])) == ["f0", "f1"]

    @pytest.mark.usefixtures("shallow")
    def test_a_flat_stays_while_a_container_may_mount_it(self, store: Store, make: Any) -> None:
        layers = [make.layer({f"f{number}": ""}).id for number in range(4)]
        active = store.snapshots.prepare(layers)
        container = store.containers.create(image="i", layer=active.key, config="{}")
        store.close()
        with Store.open(store.root) as other:
            assert other.collect(cache_budget=0).items == ()
            other.containers.remove(container.id)
        with Store.open(store.root) as other:
            assert {item.kind for item in other.collect().items} == {"flat", "layer"}

    @pytest.mark.usefixtures("shallow")
    def test_a_flat_of_a_layer_that_has_gone_is_an_error_that_says_which(self, store: Store, make: Any) -> None:
        layers = [make.layer({f"f{number}": ""}).id for number in range(4)]
        os.unlink(store.snapshots.path(layers[1]) / "f1")
        store.snapshots.path(layers[1]).rmdir()
        with pytest.raises(LayerNotFound) as caught:
            store.snapshots.lowers(layers)
        assert caught.value.layer == layers[1]
        assert os.listdir(store.root / "tmp") == []
