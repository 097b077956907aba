"""Collection as a user asks for it: one number is the most that the build cache may take; who keeps what."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from builder.store import trees
from runtime.values import dataclass

if TYPE_CHECKING:
    from builder.engine.session import Engine
    from builder.insight.holders import Held
    from builder.store.cacheitems import CacheItem
    from builder.store.collect import Collected

SHARE = 10
"""Without a setting, the build cache may take one part in so many of the disk."""


@dataclass(frozen=True, slots=True)
class Explained:
    """What went or would go, and what keeps the rest."""

    collected: Collected
    kept: tuple[Held, ...]


def default_max_used(engine: Engine) -> int:
    """The most bytes that the build cache may take when nobody said so."""
    return shutil.disk_usage(engine.root).total // SHARE


def collect(engine: Engine, *, max_used: int, dry_run: bool = False, explain: bool = False) -> Explained:
    """Remove what nothing needs, and of the build cache what is beyond `max_used` bytes."""
    from builder.insight.holders import held_layers

    collected = engine.store.collect(cache_budget=max_used, dry_run=dry_run)
    gone = {item.name for item in collected.of("layer")}
    kept = tuple(each for each in held_layers(engine.store) if each.layer not in gone) if explain else ()
    return Explained(collected, kept)


def after_build(engine: Engine, max_used: int) -> Collected | None:
    """Keep to the limit when a build that ran steps has gone over it; looks closely only when it may have. Builds that
    need not be remembered any longer are forgotten in any case."""
    for build in engine.store.records.outdated():
        engine.store.records.remove(build)
    if _at_most(engine) <= max_used:
        return None
    return engine.store.collect(cache_budget=max_used)


def _at_most(engine: Engine) -> int:
    """What the build cache takes, with what collection would take anyhow; nothing is counted that need not be."""
    store = engine.store
    (layers,) = store.database.row(
        "SELECT COALESCE(SUM(size), 0) FROM layers WHERE id NOT IN (SELECT layer FROM image_layers)"
    ) or (0,)
    failed = sum(trees.size(each.path) for each in store.snapshots.list_failed())
    return int(layers) + store.cache_mounts.total(store.lease()) + failed


def cache_items(engine: Engine) -> tuple[CacheItem, ...]:
    """The build cache, used last first."""
    from builder.store.cacheitems import cache_items as items

    return tuple(sorted(items(engine.store), key=lambda item: (-item.last_used, item.id)))
