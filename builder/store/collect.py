"""Collection: what nothing needs is removed. Mark from what is needed, sweep the rest, one write transaction for both.

Needed are the layers of images, of containers, of what living processes lease and work on, of kept failed steps, and of
cache records within the budget; indexes that have a name; the blobs and flat directories that these need; and what
belongs to the former. Of the history of builds the newest are kept. Whoever wants to use something leases it in a write
transaction, so it comes before ours (and we see the lease) or after (and it sees that the thing has gone).

Directories are moved to tmp/ inside of the transaction and removed after it. On a full disk the transaction cannot be
written; then the directories are removed all the same (a row without its directory is a miss) and it is tried again.
"""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING

from builder.errors import DiskFull
from builder.store import flats, indexes, trees
from builder.store.crash import crashpoint
from builder.store.leases import BLOB, FLAT, IMAGE, INDEX, LAYER
from builder.store.records import HISTORY
from builder.store.sweep import (
    LOCK,
    Garbage,
    find_garbage,
    flat_layers,
    forget_dead,
    move_away,
    old_partials,
    remove_moved,
)
from runtime.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from builder.store import Store
    from builder.store.cacheitems import Rule


MEMORY_TTL = 30 * 24 * 3600 * 1_000_000_000
"""How long selections of files and parsed Dockerfiles are remembered, in ns."""
MAX_DIGESTS = 1_000_000
"""Digests of files outside that are remembered: about 100 MB of database; beyond that all are forgotten."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that went (or would go): `kind` as in KINDS, `size` in bytes (0: not a file), `reason` for people."""

    kind: str
    name: str
    reason: str
    size: int = 0


KINDS = ("image", "index", "cache record", "layer", "flat", "blob", "failed step", "cache mount", "build", "garbage")


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection took; with `dry_run` what it would have taken."""

    items: tuple[Item, ...]
    dry_run: bool = False

    @property
    def freed(self) -> int:
        """Bytes of all that went."""
        return sum(item.size for item in self.items)

    def of(self, kind: str) -> tuple[Item, ...]:
        """The items of one kind."""
        return tuple(item for item in self.items if item.kind == kind)


class _Undo(Exception):
    """Ends the transaction of a dry run."""


def collect(
    store: Store,
    *,
    rules: Sequence[Rule] = (),
    dangling: bool = False,
    dry_run: bool = False,
) -> Collected:
    """Remove what nothing needs; with `dry_run` only say what and why.

    `rules` bound the build cache (`cacheitems`), what was used last stays first; without any all of it stays, one of
    0 bytes for everything forgets all that no living process uses, and what else only saves time. `dangling` takes
    images without a name that no container or image needs. Raises StoreErrors.
    """
    try:
        store.lease()  # tells the next command, should we be killed, that something was left
    except DiskFull:
        pass  # then it must work without
    with store.locks.hold(LOCK):
        for last in (False, True):
            found = _Collection(store, rules)
            moved: tuple[Path, ...] = ()
            try:
                with store.database.write(removing=True):
                    found.mark_and_sweep(dangling=dangling)
                    if dry_run:
                        raise _Undo
                    moved = move_away(store, found.directories)
                crashpoint("collect-rows")
            except _Undo:
                break
            except DiskFull:
                if last or not moved:
                    raise
                continue
            finally:
                remove_moved(moved)
            break
    store.database.reserve()
    return Collected(tuple(found.items), dry_run)


class _Collection:
    """The work of one transaction: what went so far, and the directories that are to follow."""

    def __init__(self, store: Store, rules: Sequence[Rule]) -> None:
        self.items: list[Item] = []
        self.directories: list[Garbage] = []
        self._store = store
        self._database = store.database
        self._rules = rules
        self._all_cache = (0, None) in rules

    def mark_and_sweep(self, *, dangling: bool) -> None:
        """Everything, in the order in which one thing frees the next."""
        forget_dead(self._store)
        if self._rules:
            self._cache_items()
        if dangling:
            self._dangling_images()
        for digest in indexes.forget_unnamed(self._database, self._leased(INDEX), dangling=dangling):
            self.items.append(Item("index", digest, "no name points at it"))
        stacks = self._stacks()
        held = {layer for stack in stacks for layer in stack}
        held.update(self._leased(LAYER))
        held.update(row[0] for row in self._database.rows("SELECT layer FROM image_layers"))
        self._database.run("DELETE FROM cache_records WHERE layer NOT IN (SELECT id FROM layers)")
        held.update(row[0] for row in self._database.rows("SELECT layer FROM cache_records WHERE layer IS NOT NULL"))
        self._layers(held)
        self._memory()
        self._history()
        self._flats(stacks)
        self._blobs()
        self._forget_cache_mounts()
        if self._all_cache:
            for partial in old_partials(self._store, now=float("inf")):
                self._take("garbage", f"content/{partial.path.name}", partial.reason, partial)
        known = {each.path for each in self.directories}
        for garbage in find_garbage(self._store):
            if garbage.path not in known:
                self._take("garbage", f"{garbage.area}/{garbage.path.name}", garbage.reason, garbage)

    def _history(self) -> None:
        """Builds of long ago, with what their steps printed."""
        directory = self._store.layout.directory("logs")
        for build in self._store.records.outdated():
            self._database.run("DELETE FROM builds WHERE id = ?", (build,))
            reason = f"{HISTORY} newer builds are remembered, and no cached layer is of it"
            if (directory / build).is_dir():
                self._take("build", build, reason, _garbage(directory, build))
            else:
                self.items.append(Item("build", build, reason))

    def _take(self, kind: str, name: str, reason: str, garbage: Garbage, size: int | None = None) -> None:
        self.items.append(Item(kind, name, reason, trees.size(garbage.path) if size is None else size))
        self.directories.append(garbage)

    def _leased(self, kind: str) -> set[str]:
        return {str(row[0]) for row in self._database.rows("SELECT name FROM lease_items WHERE kind = ?", (kind,))}

    def _stacks(self) -> list[list[str]]:
        """Stacks of layers that may be mounted: of containers and running steps, and of kept failed steps."""
        rows = self._database.rows("SELECT parents FROM actives UNION ALL SELECT parents FROM failed")
        return [json.loads(row[0]) for row in rows]

    def _cache_items(self) -> None:
        """Take from the build cache until the rest fits."""
        from builder.store.cacheitems import CacheKind, cache_items, choose

        why = "" if 0 in (budget for budget, _ in self._rules) else "beyond what is to be kept: "
        for item in choose(cache_items(self._store), self._rules):
            reason = f"{why}{item.text[:100]}"
            if item.kind is CacheKind.MOUNT:
                directory = self._store.layout.directory("caches")
                self._take("cache mount", item.id, reason, _garbage(directory, item.id), item.size)
            elif item.kind is CacheKind.FAILED:
                self._database.run("DELETE FROM failed WHERE key = ?", (item.id,))
                directory = self._store.layout.directory("failed")
                self._take("failed step", item.id, reason, _garbage(directory, item.id), item.size)
            else:
                for (key,) in self._database.rows(
                    "SELECT key FROM cache_records WHERE layer = ? OR (layer IS NULL AND key = ?)", (item.id, item.id)
                ):
                    self.items.append(Item("cache record", key, reason))
                self._database.run("DELETE FROM cache_records WHERE layer = ? OR key = ?", (item.id, item.id))

    def _dangling_images(self) -> None:
        images = self._store.images
        leased = self._leased(IMAGE)
        while True:
            gone = 0
            for image in images.list():
                used = self._database.row("SELECT 1 FROM image_users WHERE image = ?", (image.id,))
                if not image.dangling or used or image.id in leased or images.children(image.id):
                    continue
                self._database.run("DELETE FROM refs WHERE target = ?", (image.id,))
                gone += self._database.run("DELETE FROM images WHERE id = ?", (image.id,))
                self.items.append(Item("image", image.id, "it has no name, and no container or image needs it"))
            # The parent of one that went may be free now.
            if not gone:
                break
        indexes.untag_empty(self._database)

    def _size(self, layer: str) -> int:
        row = self._database.row("SELECT size FROM layers WHERE id = ?", (layer,))
        if row is None or row[0] is None:
            return trees.size(self._store.layout.directory("layers") / layer)
        return int(row[0])

    def _layers(self, held: set[str]) -> None:
        directory = self._store.layout.directory("layers")
        for (layer,) in self._database.rows("SELECT id FROM layers ORDER BY created, id"):
            if layer not in held:
                reason = "no image, container, running process or cache record needs it"
                self._take("layer", layer, reason, _garbage(directory, layer), self._size(layer))
                self._database.run("DELETE FROM layers WHERE id = ?", (layer,))

    def _memory(self) -> None:
        """What is known of files outside costs a second look when it is lost: it need not be kept for long."""
        old = self._store.clock() - MEMORY_TTL if not self._all_cache else self._store.clock() + 1
        for table in ("selections", "parsed"):
            self._database.run(f"DELETE FROM {table} WHERE created < ?", (old,))
        most = MAX_DIGESTS if not self._all_cache else 0
        if self._database.row("SELECT 1 FROM file_digests LIMIT 1 OFFSET ?", (most,)) is not None:
            self._database.run("DELETE FROM file_digests")

    def _forget_cache_mounts(self) -> None:
        """Rows of cache mounts whose directory has gone."""
        there = set(os.listdir(self._store.layout.directory("caches")))
        there.difference_update(each.path.name for each in self.directories if each.area == "caches")
        for (name,) in self._database.rows("SELECT name FROM cache_mounts"):
            if name not in there:
                self._database.run("DELETE FROM cache_mounts WHERE name = ?", (name,))

    def _flats(self, stacks: Sequence[Sequence[str]]) -> None:
        held = self._leased(FLAT) | {key for stack in stacks for key in flats.keys(stack)}
        layers = {row[0] for row in self._database.rows("SELECT id FROM layers")}
        directory = self._store.layout.directory("flat")
        for key, parts in flat_layers(self._store).items():
            if key in held or (not self._rules and layers.issuperset(parts)):
                continue
            self._database.run("DELETE FROM flats WHERE key = ?", (key,))
            self._take("flat", key, "nothing is mounted with it", _garbage(directory, key))

    def _blobs(self) -> None:
        self._database.run(
            "DELETE FROM packed WHERE diff_id NOT IN (SELECT diff_id FROM layers WHERE diff_id IS NOT NULL)"
        )
        held = self._leased(BLOB)
        held.update(row[0] for row in self._database.rows("SELECT digest FROM packed"))
        held.update(indexes.blobs(self._database, self._store.content))
        held.update(row[0] for row in self._database.rows("SELECT recipe FROM layers WHERE recipe IS NOT NULL"))
        held.update(row[0] for row in self._database.rows("SELECT digest FROM attestations"))
        for (result,) in self._database.rows("SELECT result FROM cache_records WHERE result LIKE '%sha256:%'"):
            # The pipeline's text is its own; a digest in it may be a blob's.
            held.update(re.findall(r"sha256:[0-9a-f]{64}", result))
        directory = self._store.layout.directory("content")
        for digest, size in self._database.rows("SELECT digest, size FROM blobs"):
            if digest not in held:
                self._database.run("DELETE FROM blobs WHERE digest = ?", (digest,))
                name = digest.replace(":", "-")
                self._take("blob", digest, "no image, index, layer or cache needs it", _garbage(directory, name), size)


def _garbage(directory: Path, name: str) -> Garbage:
    return Garbage(os.path.basename(directory), directory / name, "")
