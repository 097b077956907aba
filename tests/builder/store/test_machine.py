"""Any order of commands, with crashes between them, against a model in memory."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from builder.errors import EngineError
from builder.oci.configs import History, ImageConfig
from builder.oci.digests import Digest
from builder.oci.references import Reference
from builder.store import Store, changesets, validate
from builder.store.buildcache import CacheRecord
from builder.store.snapshots import LayerID

NAMES = st.sampled_from(["one", "two", "three"])
CONTENTS = st.sampled_from(["a", "b", "c"])


class Machine(RuleBasedStateMachine):
    """The model: names and what they mean, containers and their images, cache keys that may hit."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="lamina-machine-"))
        self.store = Store.open(self.root / "store")
        self.names: dict[str, Digest] = {}
        self.images: set[Digest] = set()
        self.containers: dict[str, Digest] = {}
        self.records: dict[str, LayerID] = {}

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.root)

    @rule(name=NAMES, content=CONTENTS)
    def build(self, name: str, content: str) -> None:
        layer = self.records.get(content)
        hit = self.store.buildcache.lookup(content)
        assert hit is None or hit.layer == layer
        if hit is None or hit.layer is None:
            active = self.store.snapshots.prepare([])
            (active.upper / "file").write_text(content)
            made = self.store.snapshots.commit(active)
            self.store.snapshots.set_digests(made.id, changesets.write(made.path))
            self.store.buildcache.put(CacheRecord(content, "step", "RUN", (), layer=made.id))
            layer = self.records[content] = made.id
        assert layer is not None
        diff_id = self.store.snapshots.get(layer).diff_id
        assert diff_id is not None
        config = ImageConfig("amd64", "linux", diff_ids=(diff_id,), history=(History(created_by=content),))
        image = self.store.images.put(config, [layer])
        self.store.images.tag(Reference.parse(name), image)
        self.names[name] = image
        self.images.add(image)

    @precondition(lambda self: self.names)
    @rule(data=st.data(), name=NAMES)
    def tag(self, data: st.DataObject, name: str) -> None:
        source = data.draw(st.sampled_from(sorted(self.names)))
        self.store.images.tag(Reference.parse(name), self.names[source])
        self.names[name] = self.names[source]

    @rule(name=NAMES, force=st.booleans())
    def remove(self, name: str, force: bool) -> None:
        image = self.names.get(name)
        try:
            self.store.images.remove(name, force=force)
        except EngineError:
            used = image in self.containers.values() and list(self.names.values()).count(image) == 1
            assert image is None or (used and not force)
            return
        assert image is not None
        del self.names[name]
        if image not in self.names.values():
            self.images.discard(image)

    @precondition(lambda self: self.names)
    @rule(data=st.data())
    def run(self, data: st.DataObject) -> None:
        image = self.names[data.draw(st.sampled_from(sorted(self.names)))]
        active = self.store.snapshots.prepare(self.store.images.layers(image))
        container = self.store.containers.create(image=image, layer=active.key, config="{}")
        self.containers[container.id] = image

    @precondition(lambda self: self.containers)
    @rule(data=st.data())
    def rm(self, data: st.DataObject) -> None:
        container = data.draw(st.sampled_from(sorted(self.containers)))
        self.store.containers.remove(container)
        del self.containers[container]

    @rule(budget=st.sampled_from([None, 0, 1, 1000]), dangling=st.booleans())
    def collect(self, budget: int | None, dangling: bool) -> None:
        promised = self.store.collect(cache_budget=budget, dangling=dangling, dry_run=True)
        assert self.store.collect(cache_budget=budget, dangling=dangling).items == promised.items
        if dangling:
            self.images &= {*self.names.values(), *self.containers.values()}

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = Store.open(self.root / "store")

    @rule()
    def crash(self) -> None:
        """What a process leaves that dies now: a lease without a lock, a snapshot, a directory without a row."""
        import os

        store = self.store
        active = store.snapshots.prepare([])
        os.rename(active.upper, self.root / "store" / "layers" / active.key)
        (self.root / "store" / "tmp" / f"{store.lease().id}.left").write_text("x")
        os.close(store.lease()._descriptor)
        store.database.close()
        self.store = Store.open(self.root / "store")
        self.store.lease()

    @invariant()
    def names_mean_what_they_should(self) -> None:
        images = self.store.images
        assert {one.id for one in images.list() if one.references} == set(self.names.values())
        assert self.images <= {one.id for one in images.list()}
        for name, image in self.names.items():
            assert images.resolve(name) == image
            validate.image(self.store, image)
        assert {one.id for one in self.store.containers.list()} == set(self.containers)
        for row in self.store.containers.list():
            assert row.layer is not None
            active = self.store.snapshots.active(row.layer)
            assert active.upper.is_dir() and all(lower.is_dir() for lower in active.lowers)

    @invariant()
    def the_check_finds_nothing(self) -> None:
        assert self.store.fsck() == ()


def test_machine() -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=12, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
