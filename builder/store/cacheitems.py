"""The build cache as things that take room: layers of cache records, cache mounts, kept failed steps.

`cache_items` finds them, `choose` decides which have to go; collection does it. Words are docker's, as `builder du`
shows them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

from builder.store import trees
from builder.store.leases import LAYER
from runtime.values import dataclass

if TYPE_CHECKING:
    from builder.store import Store


class CacheKind(StrEnum):
    """Docker's types of cache records, where they have one."""

    REGULAR = "regular"
    MOUNT = "exec.cachemount"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class CacheItem:
    """One thing: `size` in bytes, times in ns.

    `id` is a layer's id, a record's key where it left no files, a cache mount's name, or a failed step's key. `shared`:
    an image or container has the layer as well, so its room is not the cache's. `in_use`: a living process has it, so
    it stays. `needed`: when it was used, or something that is found only together with it.
    """

    kind: CacheKind
    id: str
    text: str
    size: int
    created: int
    last_used: int
    uses: int
    shared: bool = False
    in_use: bool = False
    needed: int = 0

    @property
    def mutable(self) -> bool:
        """Whether steps write to it."""
        return self.kind is CacheKind.MOUNT

    @property
    def cost(self) -> int:
        """The bytes that go with it."""
        return 0 if self.shared else self.size


Select = Callable[[CacheItem], bool]
Rule = tuple[int, Select | None]
"""How many bytes may stay, and what alone may go (None: anything)."""


def choose(items: Iterable[CacheItem], rules: Iterable[Rule]) -> tuple[CacheItem, ...]:
    """What has to go so that each rule holds, those used longest ago first, one rule after the other.

    What is in use or not selected stays and is counted first: the budget is for all. What costs nothing goes only with
    a budget of 0.
    """
    gone: list[CacheItem] = []
    # What stands on it is as old or older, so a chain loses its end first.
    left = sorted(items, key=lambda item: (-max(item.last_used, item.needed), item.created, item.id))
    for budget, select in rules:
        found = _beyond(left, budget, select)
        gone += found
        names = {item.id for item in found}
        left = [item for item in left if item.id not in names]
    return tuple(gone)


def _beyond(ordered: Sequence[CacheItem], budget: int, select: Select | None) -> list[CacheItem]:
    stays = {item.id for item in ordered if item.in_use or (select is not None and not select(item))}
    kept = sum(item.cost for item in ordered if item.id in stays)
    gone, full = [], False
    for item in ordered:
        if item.id in stays:
            continue
        full = full or budget == 0 or kept + item.cost > budget
        if full and (item.cost or budget == 0):
            gone.append(item)
        else:
            kept += item.cost
    return gone


def cache_items(store: Store) -> tuple[CacheItem, ...]:
    """Everything in the build cache. Sizes of cache mounts are counted now."""
    return (*_layers(store), *_mounts(store), *_failed(store))


def _layers(store: Store) -> Iterable[CacheItem]:
    rows = store.database.rows
    stacks = {layer for (parents,) in rows("SELECT parents FROM actives") for layer in json.loads(parents)}
    leased = {str(row[0]) for row in rows("SELECT name FROM lease_items WHERE kind = ?", (LAYER,))}
    images = {str(row[0]) for row in rows("SELECT layer FROM image_layers")}
    kept = store.packed.kept()  # of layers that came packed; it goes with them
    sizes = {
        layer: None if size is None else size + kept.get(diff_id, 0)
        for layer, size, diff_id in rows("SELECT id, size, diff_id FROM layers")
    }
    found: dict[str, CacheItem] = {}
    needed = _needed(store)
    for key, layer, text, created, used, uses in rows(
        "SELECT key, layer, text, created, last_used, uses FROM cache_records ORDER BY last_used DESC, created, key"
    ):
        name, need = layer or key, needed[key]
        known = found.get(name)
        if known is not None:
            need = max(need, known.needed)
            # The record that was used last says what it is.
            created, uses, text, used = min(created, known.created), uses + known.uses, known.text, known.last_used
        size = sizes.get(layer) if layer else 0
        if size is None:
            size = trees.size(store.layout.directory("layers") / layer)
        shared, in_use = layer in images or layer in stacks, layer in leased
        found[name] = CacheItem(CacheKind.REGULAR, name, text, int(size), created, used, uses, shared, in_use, need)
    return found.values()


def _needed(store: Store) -> dict[str, int]:
    """By key when each record, or one that stands on it, was used: without it the latter is not found."""
    found: dict[str, int] = {}
    below: dict[str, str] = {}
    for key, parent, used in store.database.rows("SELECT key, parent, last_used FROM cache_records"):
        found[key] = used
        if parent:
            below[key] = parent
    for key, used in sorted(found.items(), key=lambda each: -each[1]):
        at = below.get(key)
        while at is not None and found.get(at, used) < used:
            found[at] = used
            at = below.get(at)
    return found


def _mounts(store: Store) -> Iterable[CacheItem]:
    used = store.cache_mounts.in_use()
    for each in store.cache_mounts.list():
        text = f"cache mount {each.id}" if each.id else f"cache {each.name}"
        yield CacheItem(
            CacheKind.MOUNT,
            each.name,
            text,
            each.size(),
            each.created,
            each.last_used,
            each.uses,
            in_use=each.name in used,
        )


def _failed(store: Store) -> Iterable[CacheItem]:
    for each in store.snapshots.list_failed():
        text = f"failed step {each.step} of build {each.build}"
        yield CacheItem(CacheKind.FAILED, each.key, text, trees.size(each.path), each.created, each.created, 0)
