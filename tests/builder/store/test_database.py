"""Transactions, errors in our words, and that only looking takes no lock."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.errors import StoreBusy
from builder.store import database as module
from builder.store.database import Database

SCHEMA = ("CREATE TABLE t (x INTEGER PRIMARY KEY, y TEXT UNIQUE)",)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "db", migrations=SCHEMA)
    yield opened
    opened.close()


def test_a_transaction_is_all_or_nothing(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.write():
        database.run("INSERT INTO t VALUES (1, 'a')")
        assert database.rows("SELECT x FROM t") == [(1,)]
        _ = 1 / 0
    assert database.rows("SELECT x FROM t") == []
    with database.write(), database.write():
        database.run("INSERT INTO t VALUES (1, 'a')")
    assert database.row("SELECT y FROM t WHERE x = ?", (1,)) == ("a",)


def test_what_is_to_follow_a_commit_follows_only_a_commit(database: Database) -> None:
    calls: list[str] = []
    with pytest.raises(ZeroDivisionError), database.write():
        database.after_commit(lambda: calls.append("failed"))
        _ = 1 / 0
    with database.write():
        with database.write():
            database.after_commit(lambda: calls.append("done"))
        assert calls == []
    with database.write():
        pass
    assert calls == ["done"]


def test_changes_need_a_transaction_and_a_durable_one_cannot_join_another(database: Database) -> None:
    with pytest.raises(AssertionError):
        database.run("DELETE FROM t")
    with pytest.raises(AssertionError), database.write(), database.write(durable=True):
        pass


def test_a_broken_rule_of_the_table_is_the_callers_business(database: Database) -> None:
    with pytest.raises(sqlite3.IntegrityError), database.write():
        database.run_many("INSERT INTO t VALUES (?, 'same')", [(1,), (2,)])
    assert database.rows("SELECT * FROM t") == []


def test_readers_see_the_last_commit_while_somebody_writes(database: Database, tmp_path: Path) -> None:
    other = Database(tmp_path / "db", migrations=SCHEMA)
    with database.write():
        database.run("INSERT INTO t VALUES (1, 'a')")
        assert other.rows("SELECT * FROM t") == []
    assert other.rows("SELECT x FROM t") == [(1,)]
    other.close()


def test_who_waits_too_long_is_told_so(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUSY_MS", 20)
    other = Database(tmp_path / "db", migrations=SCHEMA)
    with database.write():
        database.run("INSERT INTO t VALUES (1, 'a')")
        with pytest.raises(StoreBusy, match="is busy"), other.write():
            pass
    other.close()


def test_threads_take_turns(database: Database) -> None:
    def count() -> None:
        for _ in range(50):
            with database.write():
                row = database.row("SELECT max(x) FROM t")
                assert row is not None
                database.run("INSERT INTO t (x) VALUES (?)", ((row[0] or 0) + 1,))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert database.row("SELECT count(*), max(x) FROM t") == (200, 200)


@pytest.mark.parametrize("name", ["with space", "a?b", "a#b", "a%20b", "ü"])
def test_any_path_will_do(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    Database(path, migrations=SCHEMA).close()
    assert path.is_file()


def test_a_sound_database_has_no_complaints(database: Database) -> None:
    assert database.check() == []
