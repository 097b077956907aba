"""The nine lines of the store's contract (DESIGN, 3), each with what would break it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builder.errors import DigestMismatch, LayerNotFound, StoreCorrupt, StoreReadOnly, StoreTooNew, StoreUnreadable
from builder.oci import digests
from builder.oci.references import Reference
from builder.store import Store, validate
from builder.store.database import Database
from builder.store.layout import DIRECTORIES
from builder.store.schema import APPLICATION_ID, MIGRATIONS

Popen = subprocess.Popen[str]


def areas(root: Path, *names: str) -> list[str]:
    return sorted(f"{name}/{entry}" for name in names for entry in os.listdir(root / name))


# 1. A blob or layer appears whole or not at all; then it is read-only and never changes.


def test_1_a_blob_is_there_whole_or_not_at_all(store: Store) -> None:
    with pytest.raises(DigestMismatch), store.content.writer(expected=digests.of(b"other")) as writer:
        writer.write(b"data")
    with pytest.raises(ZeroDivisionError), store.content.writer() as writer:
        writer.write(b"data")
        _ = 1 / 0
    assert areas(store.root, "content", "tmp") == []
    digest = store.content.put(b"data")
    assert store.content.read(digest) == b"data"
    assert stat.S_IMODE(store.content.path(digest).stat().st_mode) == 0o400


def test_1_an_unfinished_layer_is_no_layer(store: Store) -> None:
    active = store.snapshots.prepare([])
    assert store.snapshots.list() == ()
    layer = store.snapshots.commit(active)
    assert [one.id for one in store.snapshots.list()] == [layer.id]
    with pytest.raises(LayerNotFound):
        store.snapshots.commit(active)


# 2. A directory without its row is garbage. A row without its directory is a miss, healed, never an error.


def test_2_a_directory_without_a_row_is_garbage(store: Store) -> None:
    (store.root / "layers" / "feed").mkdir()
    (store.root / "layers" / "feed" / "file").write_text("x")
    (store.root / "content" / ("sha256-" + "0" * 64)).write_text("x")
    assert {problem.kind for problem in store.fsck()} == {"garbage"}
    assert len(store.collect().of("garbage")) == 2
    assert areas(store.root, "layers", "content", "tmp") == []


def test_2_a_row_without_its_directory_is_a_miss(store: Store, make: Any) -> None:
    layer = make.layer({"a": "1"})
    make.record("key", layer.id)
    layer.path.joinpath("a").unlink()
    layer.path.rmdir()
    with Store.open(store.root) as other:
        assert other.buildcache.lookup("key") is None
        assert other.buildcache.peek("key") is None
        assert other.snapshots.find(layer.diff_id) is None
    with pytest.raises(LayerNotFound):
        store.snapshots.get(layer.id)
    assert store.fsck() == ()


def test_2_a_blob_without_its_file_is_a_miss(store: Store) -> None:
    digest = store.content.put(b"data")
    store.content.path(digest).unlink()
    assert not store.content.exists(digest)
    assert store.content.put(b"data") == digest
    assert store.content.read(digest) == b"data"


# 3. References and images are written with synchronous=FULL.


def test_3_images_and_references_wait_for_the_disk(store: Store, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    write = Database.write

    def watched(self: Database, *, durable: bool = False, removing: bool = False) -> Any:
        asked.append(durable)
        return write(self, durable=durable, removing=removing)

    image = make.image("one")
    monkeypatch.setattr(Database, "write", watched)
    for change in (
        lambda: store.images.tag(Reference.parse("two"), image),
        lambda: store.images.untag(Reference.parse("two")),
        lambda: store.images.remove("one"),
    ):
        asked.clear()
        change()
        assert True in asked
    with store.database.write(durable=True):
        assert store.database.row("PRAGMA synchronous") == (2,)
    with store.database.write():
        assert store.database.row("PRAGMA synchronous") == (1,)


def test_3_an_image_means_that_its_layers_are_on_the_disk(store: Store, make: Any) -> None:
    unsynced = make.layer({"a": "1"})
    boot = "SELECT boot FROM layers WHERE id = ?"
    assert store.database.row(boot, (unsynced.id,)) != (None,)
    image = make.image("one")
    assert [store.database.row(boot, (layer,)) for layer in store.images.layers(image)] == [(None,)]
    assert store.database.row(boot, (unsynced.id,)) == (None,)  # one syncfs is for all


def test_3_layers_that_did_not_reach_the_disk_before_a_reboot_are_gone(store: Store, make: Any) -> None:
    kept = make.image("kept")
    lost = make.layer({"a": "1"})
    make.record("key", lost.id)
    with store.database.write():
        store.database.run("UPDATE layers SET boot = 'an earlier one' WHERE boot IS NOT NULL")
    store.close()
    with Store.open(store.root) as after:
        assert after.buildcache.lookup("key") is None
        after.collect()
        assert after.fsck() == ()
        validate.image(after, kept, full=True)
        assert [layer.id for layer in after.snapshots.list()] == list(after.images.layers(kept))


# 4. Locks are flocks that die with the process. Readers share, collection excludes.


def test_4_a_lock_dies_with_its_process(store: Store, start: Callable[[str], Popen]) -> None:
    holder = start(
        "with Store.open(root) as store, store.locks.hold('step'):\n"
        "    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with store.locks.attempt("step") as free:
        assert not free
    holder.kill()
    holder.wait()
    with store.locks.hold("step"), store.locks.attempt("step") as free:
        assert not free
    with store.locks.attempt("step") as free:
        assert free
    assert areas(store.root, "locks") == []


# 5. Collection never takes what a live lease or a reference reaches.


def test_5_what_another_process_uses_stays_until_it_ends(
    store: Store, make: Any, start: Callable[[str], Popen]
) -> None:
    layer = make.layer({"a": "1"})
    store.close()
    user = start(
        f"with Store.open(root) as store:\n    store.snapshots.use(['{layer.id}'])\n"
        "    active = store.snapshots.prepare([])\n"
        "    blob = store.content.put(b'data')\n"
        "    with store.scratch() as path:\n"
        "        print(active.key, blob, path, flush=True)\n        sys.stdin.read()\n"
    )
    assert user.stdout is not None
    key, blob, scratch = user.stdout.readline().split()
    with Store.open(store.root) as other:
        assert other.collect(cache_budget=0, dangling=True).items == ()
        assert other.fsck() == ()
        assert layer.path.is_dir() and Path(scratch).is_dir()
        assert (store.root / "active" / key / "upper").is_dir()
        assert other.content.exists(digests.parse(blob))
        user.kill()
        user.wait()
        assert {item.kind for item in other.collect().items} == {"layer", "blob", "garbage"}
        assert other.fsck() == ()
    assert areas(store.root, "layers", "content", "active", "tmp", "leases") == []


def test_5_what_an_image_or_container_needs_stays(store: Store, make: Any) -> None:
    base = make.image("base")
    layers = store.images.layers(base)
    active = store.snapshots.prepare(layers)
    container = store.containers.create(image=base, layer=active.key, config="{}")
    store.images.remove("base", force=True)
    store.close()
    with Store.open(store.root) as other:
        assert other.collect(cache_budget=0, dangling=True).items == ()
        assert other.snapshots.active(active.key).lowers == tuple(other.snapshots.path(layer) for layer in layers)
        other.containers.remove(container.id)
    with Store.open(store.root) as other:
        assert [item.name for item in other.collect().of("layer")] == list(layers)
    assert areas(store.root, "layers", "active", "containers", "tmp") == []


# 6. Any command may be killed at any instant: test_crash.


# 7. A full disk: test_full_disk. A limit of open files, a forbidden or unreadable store:


def test_7_running_out_of_file_descriptors_is_a_clear_error(run: Any) -> None:
    run(
        "import resource\n"
        "from builder.errors import StoreError\n"
        "store = Store.open(root); store.lease(); maker = Maker(store)\n"
        "store.content, store.locks\n"
        "soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "layer = maker.layer({'a': '1'})\n"
        "low = max(map(int, os.listdir('/proc/self/fd')))\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (low, hard))\n"
        "for what in (lambda: store.content.put(b'x'), lambda: store.locks.hold('x').__enter__()):\n"
        "    try:\n        what()\n    except StoreError as err:\n        print(err.message, err.hint)\n"
        "    else:\n        raise SystemExit('no error')\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))\n"
        "assert store.fsck() == (), store.fsck()\n"
        "store.close()\n"
    )


def test_7_a_store_of_somebody_else_says_so(root: Path) -> None:
    Store.open(root).close()
    code = (
        "import os, sys\nfrom pathlib import Path\n"
        "from builder.store import Store\nfrom builder.errors import EngineError\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try:\n    Store.open(Path(sys.argv[1]))\nexcept EngineError as err:\n    print(type(err).__name__, err.hint)\n"
    )
    if os.geteuid() != 0:
        pytest.skip("needs root to become somebody else")
    done = subprocess.run([sys.executable, "-c", code, str(root)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("StoreUnreadable ")
    assert done.stdout.endswith("choose another store with --root\n")


def test_7_a_directory_with_something_else_is_not_made_a_store(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    with pytest.raises(StoreUnreadable, match="neither empty nor a store"):
        Store.open(tmp_path)
    assert os.listdir(tmp_path) == ["precious"]
    with pytest.raises(StoreUnreadable, match="is not a directory"):
        Store.open(tmp_path / "precious")


def test_7_directories_that_somebody_removed_are_made_again(store: Store, make: Any) -> None:
    image = make.image("one")
    store.close()
    for name in set(DIRECTORIES) - {"layers"}:
        shutil.rmtree(store.root / name)
    with Store.open(store.root) as again:
        with again.scratch() as scratch:
            assert scratch.is_dir()
        again.snapshots.commit(again.snapshots.prepare(again.images.get(image).layers))
        validate.image(again, image, full=True)
        assert again.fsck() == ()
    assert (store.root / "empty").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("damage", [b"", b"not a database, but long enough to be taken for one" * 40])
def test_7_a_damaged_database_is_said_to_be_one(root: Path, damage: bytes) -> None:
    Store.open(root).close()
    for name in ("lamina.db-wal", "lamina.db-shm"):
        root.joinpath(name).unlink(missing_ok=True)
    root.joinpath("lamina.db").write_bytes(damage)
    if not damage:
        Store.open(root).close()  # an empty file is an empty database: what a crash at the first start leaves
        return
    with pytest.raises(StoreCorrupt, match="is damaged"):
        Store.open(root)


@pytest.mark.root
def test_7_a_read_only_store_can_be_read(store: Store, make: Any) -> None:
    image = make.image("one")
    store.close()
    code = (
        "import os, sys, subprocess\nfrom pathlib import Path\n"
        "from builder.store import Store, validate\nfrom builder.errors import StoreReadOnly\n"
        "from builder.oci.references import Reference\n"
        "root = sys.argv[1]\n"
        "subprocess.run(['mount', '--bind', '-o', 'ro', root, root], check=True)\n"
        "with Store.open(Path(root)) as store:\n"
        "    image = store.images.resolve('one')\n    validate.image(store, image, full=True)\n"
        "    assert store.fsck() == ()\n"
        "    try:\n        store.images.tag(Reference.parse('two'), image)\n"
        "    except StoreReadOnly as err:\n        print(image, err.hint)\n"
    )
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", code, str(store.root)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == f"{image} choose another store with --root\n", done.stderr
    assert StoreReadOnly.__doc__


# 8. Two builds of the same step at once run it once, or both succeed with the same result: test_concurrency.


# 9. A store from a newer version is refused, from an older one migrated.


def test_9_a_newer_store_is_refused_and_not_touched(root: Path) -> None:
    Store.open(root).close()
    with sqlite3.connect(root / "lamina.db") as connection:
        connection.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")
    connection.close()
    with pytest.raises(StoreTooNew) as caught:
        Store.open(root)
    assert (caught.value.found, caught.value.known) == (len(MIGRATIONS) + 1, len(MIGRATIONS))
    connection = sqlite3.connect(root / "lamina.db")
    assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS) + 1,)
    connection.close()


def test_9_an_older_store_is_migrated_one_version_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "db"
    first = "CREATE TABLE a (x TEXT)"
    second = "ALTER TABLE a ADD COLUMN y TEXT;\nUPDATE a SET y = x || '!'"
    old = Database(path, migrations=(first,))
    with old.write():
        old.run("INSERT INTO a (x) VALUES ('kept')")
    old.close()
    new = Database(path, migrations=(first, second))
    assert new.rows("SELECT x, y FROM a") == [("kept", "kept!")]
    new.close()
    with pytest.raises(StoreTooNew):
        Database(path, migrations=(first,))


def test_9_a_migration_that_fails_leaves_the_old_version(tmp_path: Path) -> None:
    path = tmp_path / "db"
    first = "CREATE TABLE a (x TEXT)"
    Database(path, migrations=(first,)).close()
    with pytest.raises(StoreCorrupt):
        Database(path, migrations=(first, "CREATE TABLE b (x TEXT);\nCREATE TABLE a (x TEXT)"))
    same = Database(path, migrations=(first,))
    assert same.rows("SELECT name FROM sqlite_master WHERE name = 'b'") == []
    same.close()


def test_9_the_database_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=1")
    connection.execute(f"PRAGMA application_id={APPLICATION_ID + 1}")
    connection.close()
    with pytest.raises(StoreUnreadable, match="not a store's"):
        Database(path)
