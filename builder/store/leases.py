"""Leases: what a living process is using and nobody may collect.

A lease is a row with the things it protects and a file that its process keeps locked. The lock dies with the process,
so a lease whose file is free is over, whatever the row says. Boot id, process id and start time in the row tell a human
who it was, and decide only where the file system has no locks. Protecting and collecting are both write transactions,
so one of them comes first: what `protect` found is kept until the lease ends.

Imports little: a command that finds nothing to do asks whether somebody died here, and no more.
"""

from __future__ import annotations

import errno
import fcntl
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from builder.store.database import Database

LAYER = "layer"
IMAGE = "image"
INDEX = "index"
BLOB = "blob"
FLAT = "flat"
CACHE = "cache"


class Lease:
    """A live lease of this process. `release` ends it; so does the end of the process."""

    def __init__(self, database: Database, path: str, lease_id: str, descriptor: int) -> None:
        self.id = lease_id
        self._database = database
        self._path = path
        self._descriptor = descriptor
        self._known: set[tuple[str, str]] = set()

    def protect(self, kind: str, names: Iterable[str]) -> None:
        """Keep these from collection until the end of the lease.

        Call it inside of the transaction that made or found them, or look afterwards whether they are still there.
        """
        new = [(kind, name) for name in names if (kind, name) not in self._known]
        if not new:
            return
        with self._database.write():
            self._database.run_many(
                "INSERT OR IGNORE INTO lease_items (lease, kind, name) VALUES (?, ?, ?)",
                [(self.id, kind, name) for kind, name in new],
            )
            # Only what is committed is protected: an outer transaction may still fail.
            self._database.after_commit(lambda: self._known.update(new))

    def protects(self, kind: str, name: str) -> bool:
        """Whether this lease keeps it already."""
        return (kind, name) in self._known

    def release(self) -> None:
        """End the lease. Idempotent."""
        if self._descriptor < 0:
            return
        from builder.errors import DiskFull

        try:
            with self._database.write():
                self._database.run("DELETE FROM leases WHERE id = ?", (self.id,))
        except DiskFull:
            pass  # without its lock the row is that of a dead process: the next sweep takes it
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass
        os.close(self._descriptor)
        self._descriptor = -1


class Leases:
    """All leases of one store, of every process."""

    def __init__(self, database: Database, directory: Path | str, clock: Callable[[], int]) -> None:
        self._database = database
        self._directory = directory
        self._clock = clock

    def acquire(self, note: str) -> Lease:
        """A new lease of this process; `note` says what for ("build app:latest"). Raises StoreError."""
        lease_id = os.urandom(8).hex()
        path = f"{self._directory}/{lease_id}"
        # Locked before there is a row: who sees the row must find the lock.
        descriptor = _locked_file(path)
        try:
            pid = os.getpid()
            with self._database.write():
                self._database.run(
                    "INSERT INTO leases (id, boot, pid, started, created, note) VALUES (?, ?, ?, ?, ?, ?)",
                    (lease_id, boot_id(), pid, start_time(pid) or 0, self._clock(), note),
                )
        except BaseException:
            os.unlink(path)
            os.close(descriptor)
            raise
        return Lease(self._database, path, lease_id, descriptor)

    def live(self) -> frozenset[str]:
        """Ids of the leases whose process lives; call it inside of a write transaction to rely on it."""
        return frozenset(
            str(row[0])
            for row in self._database.rows("SELECT id, boot, pid, started FROM leases")
            if self._is_live(*row)
        )

    def any_dead(self) -> bool:
        """Whether some process died and left its lease."""
        return any(not self._is_live(*row) for row in self._database.rows("SELECT id, boot, pid, started FROM leases"))

    def sweep(self) -> int:
        """Forget the leases of dead processes, inside of a write transaction; returns how many."""
        live = self.live()
        dead = [row[0] for row in self._database.rows("SELECT id FROM leases") if row[0] not in live]
        self._database.run_many("DELETE FROM leases WHERE id = ?", [(lease,) for lease in dead])
        for lease in dead:
            try:
                os.unlink(f"{self._directory}/{lease}")
            except FileNotFoundError:
                pass
        return len(dead)

    def _is_live(self, lease: str, boot: str, pid: int, started: int) -> bool:
        held = is_held(f"{self._directory}/{lease}")
        if held is not None:
            return held
        return boot == boot_id() and start_time(pid) == started


def is_held(path: str) -> bool | None:
    """Whether some process holds an exclusive flock on `path`; a missing file is not held.

    None: this file system has no locks, so nobody can say.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as err:
        if err.errno in {errno.ENOLCK, errno.ENOTSUP}:
            return None
        raise
    finally:
        os.close(descriptor)
    return False


def _locked_file(path: str) -> int:
    """A new file with a lock on it; where the file system has no locks, the file alone must do."""
    from builder.store.diskfaults import disk_errors

    with disk_errors("take a lease"):
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError as err:
                if err.errno not in {errno.ENOLCK, errno.ENOTSUP}:
                    os.close(descriptor)
                    raise
                return descriptor
            # A sweep may have met the file between the two calls and taken it for one that a dead process left.
            if os.fstat(descriptor).st_nlink:
                return descriptor
            os.close(descriptor)


def boot_id() -> str:
    """This boot of the kernel, a new text after each restart of the machine; "" where /proc has none."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def start_time(pid: int) -> int | None:
    """When process `pid` started, in clock ticks since boot; None when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The command name (field 2) may hold blanks and parentheses: count from the last one.
            return int(file.read().rpartition(b")")[2].split()[19])
    except OSError:
        return None
