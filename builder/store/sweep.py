"""The sweep: what dead processes and an earlier boot left, found and removed. Light enough to run beside everything.

A process that is killed leaves its lease, its active snapshots, files under tmp/ and perhaps a directory that did not
get its row. `Store.lease` sweeps when it sees the lease of a dead process, so the next command that works in the store
cleans up. Everything is decided inside of one write transaction, in which nobody else can lease or commit anything.
Directories are renamed into tmp/ there and removed afterwards: a sweep that is killed leaves only garbage, too.
"""

from __future__ import annotations

import fcntl
import json
import os
from typing import TYPE_CHECKING

from builder.store import partial, trees
from builder.store.crash import crashpoint
from builder.store.leases import BLOB, FLAT, boot_id
from runtime.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

    from builder.store import Store

LOCK = "sweep"
"""Name of the lock that whoever removes things holds."""
_OWNER = "removing"
"""Stands where the lease's id stands in names under tmp/: never live, so an interrupted removal is garbage."""


@dataclass(frozen=True, slots=True)
class Garbage:
    """Something on the disk that nothing knows: `area` is its directory in the store, `reason` for people."""

    area: str
    path: Path
    reason: str


def sweep(store: Store) -> tuple[Garbage, ...]:
    """Remove what the dead left; returns what went, () when another process is at it. Raises StoreErrors."""
    with store.locks.attempt(LOCK) as free:
        if not free:
            return ()
        with store.database.write(removing=True):
            forget_dead(store)
            found = find_garbage(store)
            moved = move_away(store, found)
        crashpoint("sweep-rows")
        remove_moved(moved)
    return found


def forget_dead(store: Store) -> None:
    """Drop the rows of dead processes and of an earlier boot, inside of a write transaction."""
    run = store.database.run
    store.leases.sweep()
    alive = "(SELECT id FROM leases)"
    run(f"DELETE FROM actives WHERE container IS NULL AND (lease IS NULL OR lease NOT IN {alive})")
    run("DELETE FROM actives WHERE container IS NOT NULL AND container NOT IN (SELECT id FROM containers)")
    run("DELETE FROM failed WHERE expires < ?", (store.clock(),))
    # Nobody knows what of these reached the disk before the machine stopped.
    lost = "boot IS NOT NULL AND boot <> ?"
    run(f"DELETE FROM cache_records WHERE layer IN (SELECT id FROM layers WHERE {lost})", (boot_id(),))
    run(f"DELETE FROM layers WHERE {lost}", (boot_id(),))
    run("DELETE FROM flats WHERE boot <> ?", (boot_id(),))
    run(
        "UPDATE builds SET status = 'interrupted', finished = ?, lease = NULL"
        f" WHERE status = 'running' AND (lease IS NULL OR lease NOT IN {alive})",
        (store.clock(),),
    )


def find_garbage(store: Store) -> tuple[Garbage, ...]:
    """Everything below the root that no row knows, inside of a write transaction (or on a store nobody can write)."""
    live = store.leases.live()
    actives = {
        key
        for key, lease, container in store.database.rows("SELECT key, lease, container FROM actives")
        if container is not None or lease in live
    }
    known: dict[str, tuple[Collection[str], str]] = {
        "active": (actives, "no living process or container has it"),
        # A snapshot that is being committed has its directory here before it has its row.
        "layers": (actives | _column(store, "SELECT id FROM layers"), "no row knows this layer"),
        "failed": (actives | _column(store, "SELECT key FROM failed"), "its time is over"),
        "flat": (_leased(store, FLAT) | _column(store, "SELECT key FROM flats"), "no row knows it"),
        "content": (
            {name.replace(":", "-") for name in _leased(store, BLOB) | _column(store, "SELECT digest FROM blobs")},
            "no row knows this blob",
        ),
        "logs": (_column(store, "SELECT id FROM builds"), "its build is forgotten"),
        "containers": (_column(store, "SELECT id FROM containers"), "no row knows this container"),
    }
    found = [
        Garbage(area, store.layout.directory(area) / name, reason)
        for area, (names, reason) in known.items()
        for name in _listed(store, area)
        if name not in names and not (area == "content" and name.startswith(partial.PREFIX))
    ]
    found += old_partials(store, now=store.clock() // 1_000_000_000)
    for name in _listed(store, "tmp"):
        if name.partition(".")[0] not in live:
            found.append(Garbage("tmp", store.layout.directory("tmp") / name, "its process has ended"))
    rows = _column(store, "SELECT id FROM leases")
    for area in ("leases", "locks"):
        for name in _listed(store, area):
            path = store.layout.directory(area) / name
            if name not in rows and is_free(path):
                found.append(Garbage(area, path, "its process has ended"))
    return tuple(found)


def old_partials(store: Store, *, now: float) -> Iterator[Garbage]:
    """Blobs that came only in part, that nobody is bringing and that at *now* (unix seconds) are too old to keep."""
    for name in _listed(store, "content"):
        path = store.layout.directory("content") / name
        if name.startswith(partial.PREFIX) and partial.is_stale(path, now) and is_free(path):
            yield Garbage("content", path, "it came only in part, and nobody went on with it")


def move_away(store: Store, garbage: Iterable[Garbage]) -> tuple[Path, ...]:
    """Take `garbage` out of everybody's sight, inside of a write transaction; `remove_moved` does the long part."""
    moved = []
    stamp = os.urandom(4).hex()
    for number, each in enumerate(garbage):
        if each.area in ("leases", "locks"):
            _unlink_free(each.path)
            continue
        target = store.layout.directory("tmp") / f"{_OWNER}.{stamp}.{number}"
        try:
            os.rename(each.path, target)
        except FileNotFoundError:
            continue
        moved.append(target)
    return tuple(moved)


def remove_moved(moved: Iterable[Path]) -> None:
    """Remove what `move_away` gave."""
    for path in moved:
        trees.remove(path)
        crashpoint("collect-half")


def is_free(path: Path) -> bool:
    """Whether a file of leases/ or locks/ is there and nobody holds it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _unlink_free(path: Path) -> None:
    """Unlink while holding it: whoever opened it meanwhile sees that the file has gone, and makes another."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    except OSError:
        return
    finally:
        os.close(descriptor)


def flat_layers(store: Store) -> dict[str, tuple[str, ...]]:
    """The layers of every flat directory by its key."""
    return {key: tuple(json.loads(layers)) for key, layers in store.database.rows("SELECT key, layers FROM flats")}


def _leased(store: Store, kind: str) -> set[str]:
    return {str(row[0]) for row in store.database.rows("SELECT name FROM lease_items WHERE kind = ?", (kind,))}


def _column(store: Store, sql: str) -> set[str]:
    return {str(row[0]) for row in store.database.rows(sql)}


def _listed(store: Store, area: str) -> list[str]:
    return sorted(os.listdir(store.layout.directory(area)))
