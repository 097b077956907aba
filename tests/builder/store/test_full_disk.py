"""A disk that fills up at every possible place: a clear error, nothing half done, and pruning gets the space back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PRELUDE = """
import os, subprocess, sys
from pathlib import Path
from builder.errors import DiskFull, EngineError
from builder.oci.references import Reference
from builder.store import Store, validate
sys.path.insert(0, os.path.dirname(sys.argv[2]))
from conftest import Maker
disk = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=" + sys.argv[3], "none", disk], check=True)
root = disk / "store"

def fill(leave):
    with open(disk / "ballast", "wb") as file:
        left = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        file.write(bytes(max(0, left - leave)))
"""

HELPERS = Path(__file__).with_name("conftest.py")
pytestmark = pytest.mark.root


def _in_small_disk(tmp_path: Path, code: str, size: str = "8m") -> str:
    """Run `code` with a tmpfs of `size` in a mount namespace of its own; returns what it printed."""
    done = subprocess.run(
        [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            sys.executable,
            "-c",
            PRELUDE + code,
            tmp_path,
            HELPERS,
            size,
        ],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_step_of_making_an_image_may_be_the_one_that_fills_the_disk(tmp_path: Path) -> None:
    out = _in_small_disk(
        tmp_path,
        """
outcomes = set()
with Store.open(root) as store:
    Maker(store).image("old", files={"a": "1" * 5000})
for leave in range(0, 320 << 10, 12 << 10):
    fill(leave)
    try:
        with Store.open(root) as store:
            maker = Maker(store)
            maker.image("new", "old", files={"b": "2" * 20_000})
            store.content.put(bytes(20_000))
            outcomes.add("whole")
    except DiskFull as err:
        assert err.hint and "full" in err.message or "space" in err.message, err.message
        outcomes.add("full")
    except OSError as err:
        assert err.errno == 28, err  # the test's own file did not fit
        outcomes.add("full")
    os.unlink(disk / "ballast")
    with Store.open(root) as store:
        left = [problem for problem in store.fsck(full=True)]
        assert left == [], (leave, left)
        for name in ("old", "new"):
            image = store.images.lookup(Reference.parse(name))
            if image is not None:
                validate.image(store, image, full=True)
        assert store.images.lookup(Reference.parse("old")) is not None
        if store.images.lookup(Reference.parse("new")):
            store.images.remove("new", force=True)
        store.collect(cache_budget=0, dangling=True)
        Maker(store).image("old", files={"a": "1" * 5000})
print(sorted(outcomes))
""",
    )
    assert out == "['full', 'whole']\n"


def test_pruning_works_on_a_full_disk(tmp_path: Path) -> None:
    out = _in_small_disk(
        tmp_path,
        """
with Store.open(root) as store:
    maker = Maker(store)
    kept = maker.image("kept", files={"a": "1"})
    for number in range(40):
        layer = maker.layer({"f": str(number) * 50_000})
        maker.record(f"key{number}", layer.id)
fill(0)
with Store.open(root) as store:
    collected = store.collect(cache_budget=0)
    assert collected.freed > 40 * 50_000, collected
    validate.image(store, kept, full=True)
    assert store.buildcache.list() == ()
    assert store.fsck() == ()
    Maker(store).image("more", files={"b": "2" * 1_000_000})
print("pruned")
""",
    )
    assert out == "pruned\n"


def test_images_and_containers_can_be_removed_on_a_full_disk(tmp_path: Path) -> None:
    out = _in_small_disk(
        tmp_path,
        """
with Store.open(root) as store:
    maker = Maker(store)
    for name in ("one", "two"):
        maker.image(name, files={"f": name * 200_000})
    container = store.containers.create(image="x", layer=store.snapshots.prepare([]).key, config="{}")
fill(0)
with Store.open(root) as store:
    store.containers.remove(container.id)
    store.images.remove("one")
    assert store.collect().freed == 600_000
    assert not (root / "reserve").exists()
os.unlink(disk / "ballast")
with Store.open(root) as store:
    store.collect()
    assert (root / "reserve").exists(), "set aside again for the next time"
    assert store.fsck(full=True) == ()
    assert [one.references[0].familiar() for one in store.images.list()] == ["two:latest"]
print("removed")
""",
        "24m",
    )
    assert out == "removed\n"


def test_what_has_been_done_is_not_spoilt_by_a_disk_that_fills_up_before_the_end(tmp_path: Path) -> None:
    out = _in_small_disk(
        tmp_path,
        """
store = Store.open(root)
store.snapshots.prepare([])
(root / "reserve").unlink(missing_ok=True)
fill(0)
store.close()
os.unlink(disk / "ballast")
with Store.open(root) as store:
    store.lease()
    assert store.fsck() == ()
    assert os.listdir(root / "active") == [] and len(os.listdir(root / "leases")) == 1
print("closed")
""",
    )
    assert out == "closed\n"


def test_the_log_of_a_step_that_fills_the_disk_is_cut_and_no_error(tmp_path: Path) -> None:
    out = _in_small_disk(
        tmp_path,
        """
with Store.open(root) as store:
    build = store.records.start_build()
    log = store.records.open_log(build, 1)
    log.write(1, b"before", 0)
    log.flush()
    fill(0)
    for number in range(20):
        log.write(1, bytes(100_000), number)
    log.close()
    assert log.dropped > 1_000_000
    os.unlink(disk / "ballast")
    chunks = list(store.records.read_log(build, 1))
    assert chunks[0].data == b"before"
    assert store.fsck() == ()
print("cut")
""",
    )
    assert out == "cut\n"


def test_a_disk_too_small_for_a_store_is_a_clear_error(tmp_path: Path) -> None:
    out = _in_small_disk(
        tmp_path,
        """
for leave in range(0, 200 << 10, 16 << 10):
    fill(leave)
    try:
        Store.open(root).close()
    except DiskFull as err:
        print("full", bool(err.hint))
    os.unlink(disk / "ballast")
    with Store.open(root) as store:
        assert store.fsck() == ()
""",
        "1m",
    )
    assert "full True" in out
    assert set(out.splitlines()) == {"full True"}
