"""Collection as a user asks for it: the build cache keeps to its limits; who keeps what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.engine.gclimits import disk_free
from builder.store import trees
from runtime.values import dataclass

if TYPE_CHECKING:
    from builder.engine.gclimits import Limits
    from builder.engine.session import Engine
    from builder.insight.holders import Held
    from builder.store.cacheitems import CacheItem, Rule
    from builder.store.collect import Collected


@dataclass(frozen=True, slots=True)
class Explained:
    """What went or would go, and what keeps the rest."""

    collected: Collected
    kept: tuple[Held, ...]


def collect(engine: Engine, limits: Limits, *, dry_run: bool = False, explain: bool = False) -> Explained:
    """Remove what nothing needs, and of the build cache what is beyond `limits`."""
    from builder.insight.holders import held_layers

    used = sum(item.cost for item in cache_items(engine)) if any(rule.free for rule in limits.rules) else 0
    collected = engine.store.collect(rules=_rules(engine, limits, used), dry_run=dry_run)
    gone = {item.name for item in collected.of("layer")}
    kept = tuple(each for each in held_layers(engine.store) if each.layer not in gone) if explain else ()
    return Explained(collected, kept)


def after_build(engine: Engine, limits: Limits) -> Collected | None:
    """Keep to the limits when a build that ran steps has gone over one; looks closely only when it may have. Builds
    that need not be remembered any longer are forgotten in any case."""
    for build in engine.store.records.outdated():
        engine.store.records.remove(build)
    if not limits.automatic:
        return None
    used = _at_most(engine)
    rules = _rules(engine, limits, used)
    return engine.store.collect(rules=rules) if used > min(budget for budget, _ in rules) else None


def _rules(engine: Engine, limits: Limits, used: int) -> tuple[Rule, ...]:
    free, now = disk_free(engine.root), engine.store.clock()
    return tuple((rule.budget(used, free), rule.select(now)) for rule in limits.rules)


def _at_most(engine: Engine) -> int:
    """What the build cache takes, with what collection would take anyhow; nothing is counted that need not be."""
    store = engine.store
    unshared = "id NOT IN (SELECT layer FROM image_layers)"
    (layers,) = store.database.row(f"SELECT COALESCE(SUM(size), 0) FROM layers WHERE {unshared}") or (0,)
    (packed,) = store.database.row(
        "SELECT COALESCE(SUM(b.size), 0) FROM packed p JOIN blobs b ON b.digest = p.digest"
        f" WHERE p.diff_id IN (SELECT diff_id FROM layers WHERE {unshared})"
    ) or (0,)
    failed = sum(trees.size(each.path) for each in store.snapshots.list_failed())
    return int(layers) + int(packed) + store.cache_mounts.total(store.lease()) + failed


def cache_items(engine: Engine) -> tuple[CacheItem, ...]:
    """The build cache, used last first."""
    from builder.store.cacheitems import cache_items as items

    return tuple(sorted(items(engine.store), key=lambda item: (-item.last_used, item.id)))
