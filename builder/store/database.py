"""The store's SQLite database: connections, transactions, schema version, errors in our words.

Two connections: one that can only read, and one for writing which is opened with the first write, so that a command
that only looks never takes a lock (and works on a read-only disk). The reader is closed last; being read-only it cannot
checkpoint, which keeps the fsyncs of a checkpoint out of the end of every command. The log is folded into the database
by every CHECKPOINT-th page of commits instead.

`write(durable=True)` waits for the disk (references, images); other writes survive the death of the process but may be
lost with the machine. Nested writes join the outer one.

Every command opens it, the shortest ones too, so it loads little: errors only when there are any, and of sqlite3 the
part in C (the rest converts dates, which nobody here asks for).
"""

from __future__ import annotations

import _sqlite3 as sqlite
import _thread
import os

from builder.store.schema import APPLICATION_ID, MIGRATIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager
    from os import PathLike
    from types import TracebackType
    from typing import Any

    from builder.errors import StoreError

    Row = tuple[Any, ...]

BUSY_MS = 60_000
CHECKPOINT = 512
"""Pages of log (4 KiB each) after which a commit folds it into the database."""

RESERVE = 512 << 10
"""Bytes set aside for removing things on a full disk: room for the log of a transaction and for shared memory."""


class Database:
    """One open database; may be used from several threads, one at a time inside."""

    def __init__(self, path: PathLike[str] | str, *, migrations: Sequence[str] = MIGRATIONS) -> None:
        """Open the database at `path`, creating or migrating it when needed.

        Raises StoreTooNew, StoreUnreadable, StoreCorrupt, StoreReadOnly, StoreBusy.
        """
        self.path = os.fspath(path)
        self._migrations = migrations
        self._guard = _thread.RLock()
        self._depth = 0
        self._durable = False
        self._afterwards: list[Callable[[], object]] = []
        self._writer: sqlite.Connection | None = None
        self._translated = _Translated(self)
        with self._translated:
            self._reader = self._open()

    def close(self) -> None:
        """Close both connections; the reader last (see the module)."""
        with self._guard:
            if self._writer is not None:
                self._writer.close()
                self._writer = None
            self._reader.close()

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """All rows of a SELECT; inside of `write` of this thread they show its changes."""
        with self._guard, self._translated:
            return self._current().execute(sql, parameters).fetchall()

    def row(self, sql: str, parameters: Sequence[object] = ()) -> Row | None:
        """The first row of a SELECT."""
        with self._guard, self._translated:
            found: Row | None = self._current().execute(sql, parameters).fetchone()
            return found

    def run(self, sql: str, parameters: Sequence[object] = ()) -> int:
        """Change something, inside of `write`; returns the number of rows changed."""
        assert self._depth, "changes need a transaction"
        with self._translated:
            return self._current().execute(sql, parameters).rowcount

    def run_many(self, sql: str, parameters: Iterable[Sequence[object]]) -> None:
        """The same change for many parameters, inside of `write`."""
        assert self._depth, "changes need a transaction"
        with self._translated:
            self._current().executemany(sql, parameters)

    def write(self, *, durable: bool = False, removing: bool = False) -> AbstractContextManager[None]:
        """A transaction that is all or nothing; other writers wait up to a minute for it (then StoreBusy).

        `removing`: it makes room, so it must work on a full disk, too, and may use what is reserved for that. Raises
        StoreBusy, DiskFull, DeviceFailed, StoreReadOnly, StoreCorrupt.
        """
        return _Transaction(self, durable=durable, removing=removing)

    def _begin(self, *, durable: bool, removing: bool) -> None:
        self._guard.acquire()
        try:
            if self._depth:
                assert self._durable or not durable, "a durable write cannot join one that is not"
                self._depth += 1
                return
            if removing:
                self._use_reserve()
            with self._translated:
                if self._writer is None:
                    self._writer = self._connect(readonly=False)
                self._writer.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
                self._writer.execute("BEGIN IMMEDIATE")
            self._depth, self._durable = 1, durable
        except BaseException:
            self._guard.release()
            raise

    def _end(self, *, commit: bool) -> None:
        """Leave a transaction; the outermost one is committed or rolled back."""
        afterwards: list[Callable[[], object]] = []
        try:
            if self._depth > 1:
                self._depth -= 1
                return
            writer = self._writer
            assert writer is not None
            try:
                if commit:
                    with self._translated:
                        writer.execute("COMMIT")
                    afterwards, self._afterwards = self._afterwards, []
            finally:
                self._depth, self._durable = 0, False
                self._afterwards.clear()
                if writer.in_transaction:
                    writer.execute("ROLLBACK")
        finally:
            self._guard.release()
        for call in afterwards:
            call()

    def after_commit(self, call: Callable[[], object]) -> None:
        """Call it when the transaction of `write` that we are in has been committed; never if it fails. Other
        threads may be in transactions by then."""
        assert self._depth, "only a transaction can be committed"
        self._afterwards.append(call)

    def reserve(self) -> None:
        """Set aside what a removing transaction needs on a full disk, unless it is there or there is no room."""
        path = self._reserve()
        status = os.statvfs(self._directory)
        if os.path.exists(path) or status.f_bavail * status.f_frsize < 16 * RESERVE:
            return
        try:
            with open(path, "wb") as file:
                file.write(bytes(RESERVE))
        except OSError:
            if os.path.exists(path):
                os.unlink(path)

    @property
    def _directory(self) -> str:
        return os.path.dirname(self.path)

    def _reserve(self) -> str:
        return os.path.join(self._directory, "reserve")

    def _use_reserve(self) -> None:
        status = os.statvfs(self._directory)
        if status.f_bavail * status.f_frsize < RESERVE:
            try:
                os.unlink(self._reserve())
            except OSError:
                pass  # a store that cannot be written says so with the transaction

    def check(self) -> list[str]:
        """What SQLite's own check finds wrong; empty when nothing is."""
        found = [str(row[0]) for row in self.rows("PRAGMA quick_check(20)")]
        return [] if found == ["ok"] else found

    def _current(self) -> sqlite.Connection:
        if self._depth and self._writer is not None:
            return self._writer
        return self._reader

    def _connect(self, *, readonly: bool) -> sqlite.Connection:
        # Characters with a meaning in a URI are the only ones that must be escaped; the rest of a path is taken as it
        # is.
        escaped = self.path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
        mode = "rwc"
        if readonly:
            # Without write access nobody can share memory beside the database. That is fine as long as no log is left:
            # then the database file alone is everything.
            frozen = not os.access(self._directory, os.W_OK) and not os.path.exists(f"{self.path}-wal")
            mode = "ro&immutable=1" if frozen else "ro"
        connection = sqlite.connect(
            f"file:{escaped}?mode={mode}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=BUSY_MS / 1000,
        )
        if not readonly:
            connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT}")
            connection.execute("PRAGMA foreign_keys=ON")
        return connection

    def _open(self) -> sqlite.Connection:
        """A connection that can only read, of a database of our version."""
        if os.path.exists(self.path):
            reader = self._connect(readonly=True)
            try:
                if self._version(reader) == len(self._migrations):
                    return reader
            except BaseException:
                reader.close()
                raise
            reader.close()
        self._migrate()
        return self._connect(readonly=True)

    def _version(self, connection: sqlite.Connection) -> int:
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version and connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            from builder.errors import StoreUnreadable

            raise StoreUnreadable(f"{self.path} is a database, but not a store's", hint="choose another --root")
        if version > len(self._migrations):
            from builder.errors import StoreTooNew

            raise StoreTooNew(self._directory, version, len(self._migrations))
        return version

    def _migrate(self) -> None:
        """Bring the schema to the newest version, one version per transaction; two processes at once are fine."""
        connection = self._connect(readonly=False)
        try:
            _write_ahead(connection)
            connection.execute("PRAGMA synchronous=FULL")
            while True:
                connection.execute("BEGIN IMMEDIATE")
                version = int(connection.execute("PRAGMA user_version").fetchone()[0])
                if version >= len(self._migrations):
                    connection.execute("ROLLBACK")
                    return
                for statement in self._migrations[version].split(";\n"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version={version + 1}")
                connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
                connection.execute("COMMIT")
        finally:
            connection.close()

    def error(self, err: sqlite.DatabaseError) -> StoreError:
        """What SQLite says, in our words."""
        from builder.errors import DeviceFailed, DiskFull, StoreBusy, StoreCorrupt, StoreReadOnly, StoreUnreadable

        name = getattr(err, "sqlite_errorname", "") or ""
        if name.startswith("SQLITE_FULL"):
            return DiskFull(
                f"cannot write {self.path}: No space left on device",
                hint="free some space (lamina system prune removes what is unused), then try again",
            )
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return StoreBusy(
                f"store {self._directory} is busy: another process has been writing for {BUSY_MS // 1000} s",
                hint="try again when it is done",
            )
        if name.startswith("SQLITE_READONLY"):
            return StoreReadOnly(f"store {self._directory} cannot be written", hint="choose another store with --root")
        if name.startswith(("SQLITE_CANTOPEN", "SQLITE_AUTH", "SQLITE_PERM")):
            return StoreUnreadable(
                f"cannot open {self.path}", hint="check its owner and mode, or choose another store with --root"
            )
        if name.startswith("SQLITE_IOERR"):
            return DeviceFailed(
                f"cannot read or write {self.path}: {err}", hint="the kernel's log (dmesg) says more about the device"
            )
        return StoreCorrupt(
            f"store database {self.path} is damaged: {err}",
            hint="move it away to start with an empty store; its layers are then removed by lamina fsck --repair",
        )


class _Transaction:
    """A `Database.write` in progress."""

    __slots__ = ("_database", "_durable", "_removing")

    def __init__(self, database: Database, *, durable: bool, removing: bool) -> None:
        self._database = database
        self._durable = durable
        self._removing = removing

    def __enter__(self) -> None:
        self._database._begin(durable=self._durable, removing=self._removing)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database._end(commit=error is None)


class _Translated:
    """Turns SQLite's errors into ours; what breaks a constraint is the caller's to explain."""

    __slots__ = ("_database",)

    def __init__(self, database: Database) -> None:
        self._database = database

    def __enter__(self) -> None:
        return

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, sqlite.DatabaseError) and not isinstance(error, sqlite.IntegrityError):
            raise self._database.error(error) from error


def _write_ahead(connection: sqlite.Connection) -> None:
    """Switch to the write-ahead log. SQLite does not wait for a lock here when another process does the same."""
    import time

    deadline = time.monotonic() + BUSY_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite.OperationalError as err:
            if "locked" not in str(err) or time.monotonic() > deadline:
                raise
            time.sleep(0.002)
