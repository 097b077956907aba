"""Killed at every crash point: the next process works, nothing promised is lost, nothing is left behind."""

from __future__ import annotations

import ast
import os
from pathlib import Path
from typing import Any

import pytest

import builder.store
from builder.oci.references import Reference
from builder.store import Store, crash, flats, validate

LIFE = """
crash.arm(POINT)
with Store.open(root) as store:
    maker = Maker(store)
    maker.image("new", files={"b": "2"})
    store.images.tag(Reference.parse("moved"), store.images.resolve("new"))
    store.images.tag(Reference.parse("both"), store.indexes.make([store.images.resolve("new")]))
    maker.record("record", maker.layer({"c": "3"}).id)
    store.snapshots.keep_failed(store.snapshots.prepare([]), "build", 1)
    store.snapshots.discard(store.snapshots.prepare([]))
    store.content.put(b"data")
    for left in store.containers.list():
        store.containers.remove(left.id)
    layers = store.images.layers(store.images.resolve("deep"))
    store.snapshots.lowers(layers)
    active = store.snapshots.prepare(layers[:1])
    container = store.containers.create(image=store.images.resolve("old"), layer=active.key, config="{}", name="box")
    store.containers.remove(container.id)
    if store.images.lookup(Reference.parse("other")):
        store.images.remove("other")
    (root / "layers" / "stray").mkdir()
with Store.open(root) as store:
    store.collect(cache_budget=0)
"""
"""Passes every crash point."""

SWEEP = """
process = os.fork()
if process == 0:
    store = Store.open(root)
    store.snapshots.prepare([])
    os._exit(0)
os.waitpid(process, 0)
crash.arm(POINT)
with Store.open(root) as store:
    store.lease()
"""


def _used_names() -> set[str]:
    """The names of all crash points in the code, read from the syntax trees."""
    found = set()
    for path in Path(builder.store.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "crashpoint":
                assert isinstance(node.args[0], ast.Constant)
                found.add(node.args[0].value)
    return found


def test_the_list_names_every_point() -> None:
    assert _used_names() == set(crash.NAMES)


def test_an_unknown_point_cannot_be_armed() -> None:
    with pytest.raises(ValueError, match="unknown crash point nowhere"):
        crash.arm("nowhere")


@pytest.fixture
def before(root: Path, maker: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A store with images "old" (also "moved"), "other" and "deep"; returns what their names mean."""
    with Store.open(root) as store:
        make = maker(store)
        make.image("old", "moved", files={"a": "1"})
        make.image("other", files={"o": "1"})
        make.image("deep", files={"d": "1"})
        return {name: store.images.resolve(name) for name in ("old", "moved", "other", "deep")}


SHALLOW = "from builder.store import flats\nflats.MAX_LOWERS, flats.STRIDE, flats.TAIL = 0, 1, 0\n"
"""Stacks of one layer are flattened, too, so that the test need not make 400."""


@pytest.mark.parametrize("point", crash.NAMES)
def test_killed_at_any_point(root: Path, before: dict[str, str], run: Any, maker: Any, point: str) -> None:
    code = SHALLOW + (SWEEP if point == "sweep-rows" else LIFE).replace("POINT", repr(point))
    run(code, expect=137)
    with Store.open(root) as store:
        # The next command that works in the store cleans up by itself.
        store.lease()
        assert [problem for problem in store.fsck(full=True) if problem.kind != "cache"] == []
        for name in ("old", "deep"):
            assert store.images.resolve(name) == before[name]
            validate.image(store, before[name], full=True)
        moved = store.images.resolve("moved")
        assert moved == before["moved"] or moved == store.images.resolve("new")
        validate.image(store, moved, full=True)
    run(SHALLOW + LIFE.replace("crash.arm(POINT)", ""))
    with Store.open(root) as store:
        assert store.fsck(full=True) == ()
        assert store.images.lookup(Reference.parse("other")) is None
    assert _left(root) == []


def _left(root: Path) -> list[str]:
    areas = ("active", "failed", "flat", "content", "containers", "leases", "locks", "tmp")
    return [f"{area}/{name}" for area in areas for name in os.listdir(root / area)]


def test_the_life_ends_well_without_a_crash(root: Path, before: dict[str, str], run: Any) -> None:
    run(SHALLOW + LIFE.replace("crash.arm(POINT)", ""))
    assert _left(root) == []
    assert flats.MAX_LOWERS == 400
