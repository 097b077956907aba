"""Four processes on one store: a step runs once, names move as a whole, collection takes nothing that is used."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from builder.store import Store, validate

Popen = subprocess.Popen[str]

BUILD = """
print("ready", flush=True)
sys.stdin.readline()
ran = 0
for number in range(6):
    with Store.open(root) as store:
        maker = Maker(store)
        for step in range(3):
            key = f"{number} {step}"
            with store.locks.hold("step " + key):
                if store.buildcache.lookup(key) is None:
                    ran += 1
                    maker.record(key, maker.layer({f"f{step}": key}).id)
        maker.image("same", f"own:{os.getpid()}", files={"a": "1"})
        store.containers.create(image="none", layer=None, config="{}")
print(ran)
"""

COLLECT = """
print("ready", flush=True)
sys.stdin.readline()
for number in range(12):
    with Store.open(root) as store:
        store.collect(dangling=True)
        found = store.fsck(full=number % 4 == 0)
        assert found == (), found
print(0)
"""


def test_four_processes_build_the_same_and_one_of_them_collects(
    root: Path, start: Callable[[str], Popen], store: Store
) -> None:
    processes = [start(BUILD), start(BUILD), start(BUILD), start(COLLECT)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    results = []
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        out, _ = process.communicate(timeout=100)
        assert process.returncode == 0
        results.append(int(out))
    assert sum(results) == 6 * 3, "every step ran exactly once"
    image = store.images.resolve("same")
    validate.image(store, image, full=True)
    assert [one.id for one in store.images.list()] == [image]
    assert len(store.images.references(image)) == 4
    assert len({one.name for one in store.containers.list()}) == 3 * 6
    assert store.fsck(full=True) == ()
    assert os.listdir(root / "tmp") == os.listdir(root / "locks") == []


def test_four_processes_make_one_store(root: Path, start: Callable[[str], Popen]) -> None:
    code = "print('ready', flush=True); sys.stdin.readline()\nwith Store.open(root) as store: store.content.put(b'x')\n"
    processes = [start(code) for _ in range(4)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    with Store.open(root) as opened:
        assert opened.fsck(full=True) == ()


def test_one_of_four_containers_gets_the_name(store: Store, start: Callable[[str], Popen]) -> None:
    code = (
        "from builder.errors import NameInUse\nstore = Store.open(root)\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "try:\n    print(store.containers.create(image='i', layer=None, config='{}', name='box').name)\n"
        "except NameInUse as err:\n    print('taken by', err.owner)\n"
    )
    processes = [start(code) for _ in range(4)]
    outs: list[str] = []
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        outs.append(process.communicate(timeout=60)[0].strip())
    owner = store.containers.get("box").id
    assert sorted(outs) == sorted(["box", *[f"taken by {owner}"] * 3])


def test_a_collection_between_lookup_and_use_is_noticed(store: Store, make: Any) -> None:
    layer = make.layer({"a": "1"})
    make.record("key", layer.id)
    store.close()
    with Store.open(store.root) as one, Store.open(store.root) as two:
        assert one.buildcache.peek("key") is not None
        two.collect(cache_budget=0)
        assert one.buildcache.lookup("key") is None
        assert two.fsck() == ()
