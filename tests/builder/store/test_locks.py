"""Named locks and leases inside of one process; between processes see test_contract and test_concurrency."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from builder.store import Store
from builder.store.leases import boot_id, is_held, start_time
from builder.store.locks import Locks


def test_one_at_a_time_also_among_threads(tmp_path: Path) -> None:
    locks = Locks(tmp_path)
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            with locks.hold("name"):
                inside += 1
                most = max(most, inside)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert os.listdir(tmp_path) == []


def test_names_are_free_of_each_other_and_of_the_file_system(tmp_path: Path) -> None:
    locks = Locks(tmp_path)
    with locks.hold("../../x"), locks.hold("a"), locks.attempt("b") as free:
        assert free
        assert len(os.listdir(tmp_path)) == 3
        with locks.attempt("a") as again:
            assert not again
    assert os.listdir(tmp_path) == []


def test_a_missing_file_is_held_by_nobody(tmp_path: Path) -> None:
    assert is_held(str(tmp_path / "none")) is False
    with Locks(tmp_path).hold("x"):
        assert is_held(str(next(tmp_path.iterdir()))) is True


def test_a_lease_lives_as_long_as_its_store_is_open(root: Path) -> None:
    with Store.open(root, note="build app") as store:
        lease = store.lease()
        assert store.lease() is lease
        with Store.open(root) as other:
            assert other.leases.live() == {lease.id}
            assert not other.leases.any_dead()
            row = other.database.row("SELECT boot, pid, started, note FROM leases")
            assert row == (boot_id(), os.getpid(), start_time(os.getpid()), "build app")
    with Store.open(root) as store:
        assert store.leases.live() == frozenset()
        assert store.database.rows("SELECT * FROM lease_items") == []


def test_start_times_tell_processes_apart() -> None:
    assert start_time(1) is not None
    assert start_time(1 << 30) is None


def test_a_store_that_is_only_read_takes_no_lease(root: Path) -> None:
    with Store.open(root) as store:
        store.images.list()
        store.records.list()
        assert os.listdir(root / "leases") == []
