"""Build caches that travel: what this build can give to others, and what it can take from them.

Taking decides first, on keys and diff_ids alone: which steps the target needs, and which of these another machine has
run on the same layers. Only their layers are then fetched, and the records put beside our own; all that follows is the
ordinary look-up. A source that fails is a warning, and its steps are misses.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from builder.errors import EngineError
from builder.oci.cacheconfigs import INLINE_KEY, CacheEntry
from builder.pipeline import cachekeys, lookup
from builder.pipeline.progress import BuildWarning
from builder.pipeline.steps import BaseStep, StepSpec
from builder.store.buildcache import CacheRecord
from runtime.values import dataclass, replace

if TYPE_CHECKING:
    from builder.oci.configs import ImageConfig
    from builder.oci.digests import DiffID
    from builder.oci.documents import Json
    from builder.pipeline.lookup import StepState
    from builder.pipeline.plan import Plan
    from builder.pipeline.progress import Emit
    from builder.store import Store
    from builder.store.snapshots import LayerID

JOBS = 3


class CacheSource(Protocol):
    """A cache that was exported somewhere."""

    @property
    def name(self) -> str:
        """For messages: "registry example.com/app:cache"."""

    @property
    def entries(self) -> tuple[CacheEntry, ...]:
        """What it has."""

    def fetch(self, layer: DiffID) -> LayerID:
        """Bring one of its layers into the store, checked. Raises EngineErrors."""


@dataclass(frozen=True, slots=True)
class Travel:
    """What a build takes from and gives to other machines. `inline`: what it gives goes into the image's config too."""

    sources: tuple[CacheSource, ...] = ()
    export: bool = False
    inline: bool = False


@dataclass(frozen=True, slots=True)
class _Hit:
    entry: CacheEntry
    source: CacheSource


def entries(plan: Plan, states: Sequence[StepState], store: Store) -> tuple[CacheEntry, ...]:
    """What a finished build can give: each step whose layer is here."""
    found = []
    for step, state in zip(plan.steps, states, strict=True):
        if isinstance(step.work, BaseStep) or not state.layers:
            continue
        record = store.buildcache.peek(state.key)
        if record is None or record.layer != state.layers[-1]:
            continue
        found.append(
            CacheEntry(
                key=record.key,
                content_key=record.content_key or "",
                layer=_diff_id(store, record.layer),
                below=None if step.parent is None else _top(store, states[step.parent - 1]),
                sources=tuple(_top(store, states[number - 1]) for number in step.inputs),
                duration_us=record.duration_us,
            )
        )
    return tuple(found)


def _top(store: Store, state: StepState) -> DiffID | None:
    return _diff_id(store, state.layers[-1]) if state.layers else None


def _diff_id(store: Store, layer: LayerID) -> DiffID:
    found = store.snapshots.get(layer).diff_id
    assert found is not None, "the layers of a finished build are hashed"
    return found


def adopt(plan: Plan, states: Sequence[StepState], store: Store, sources: Sequence[CacheSource], emit: Emit) -> None:
    """Put records beside our own for the steps that the target needs, we have not, and a source has."""
    offered: dict[str, list[_Hit]] = {}
    for source in sources:
        for entry in source.entries:
            offered.setdefault(entry.key, []).append(_Hit(entry, source))
    if not offered:
        return
    found = _hits(plan, states, store, offered)
    there = [each is not None or state.layers is not None for each, state in zip(found, states, strict=True)]
    needed = {step.number for step in lookup.needed(plan, there)}
    wanted = {number: hit for number, hit in enumerate(found, 1) if isinstance(hit, _Hit) and number in needed}
    here = _fetch(store, wanted.values(), emit)
    _put(plan, states, store, wanted, here)


def _hits(
    plan: Plan, states: Sequence[StepState], store: Store, offered: Mapping[str, Sequence[_Hit]]
) -> list[_Hit | LayerID | None]:
    """For each step: our own layer, somebody's entry, or None; each stands on what the steps below have."""
    found: list[_Hit | LayerID | None] = []
    tops: dict[int, DiffID | None] = {}
    uncertain: set[int] = set()
    for step, state in zip(plan.steps, states, strict=True):
        if state.layers is not None:
            found.append(state.layers[-1] if state.layers else None)
            tops[step.number] = _top(store, state)
            continue
        others = (*step.inputs, *((step.parent,) if step.parent else ()))
        hit: _Hit | LayerID | None = None
        if step.forced or uncertain.intersection(others):
            uncertain.add(step.number)
        elif step.parent is None or step.parent in tops:
            hit = _hit(step, state, store, tops, offered)
        found.append(hit)
        if isinstance(hit, _Hit):
            tops[step.number] = hit.entry.layer
        elif hit is not None:
            tops[step.number] = _diff_id(store, hit)
    return found


def _hit(
    step: StepSpec,
    state: StepState,
    store: Store,
    tops: Mapping[int, DiffID | None],
    offered: Mapping[str, Sequence[_Hit]],
) -> _Hit | LayerID | None:
    below = tops.get(step.parent) if step.parent is not None else None
    own = store.buildcache.peek(state.key)
    if own is not None and own.layer is not None and store.snapshots.peek(own.layer) is not None:
        facts = json.loads(own.result or "{}")
        stood = facts.get("below")
        layer = store.snapshots.peek(stood) if stood else None
        same = (layer.diff_id if layer is not None else None) == below
        if (same or cachekeys.stands_alone(step)) and store.snapshots.get(own.layer).diff_id is not None:
            return own.layer
    for hit in offered.get(state.key, ()):
        entry = hit.entry
        if not cachekeys.stands_alone(step) and entry.below != below:
            continue
        known = zip(step.inputs, entry.sources, strict=False)
        if all(tops.get(number, diff_id) == diff_id for number, diff_id in known):
            return hit
    return None


def _fetch(store: Store, hits: Iterable[_Hit], emit: Emit) -> dict[DiffID, LayerID]:
    """The layers of `hits`, several at a time; those that cannot be had are left out and told."""
    distinct = {hit.entry.layer: hit for hit in hits}

    def bring(hit: _Hit) -> LayerID | EngineError:
        try:
            return hit.source.fetch(hit.entry.layer)
        except EngineError as err:
            return err

    with ThreadPoolExecutor(JOBS) as pool:
        results = dict(zip(distinct, pool.map(bring, distinct.values()), strict=True))
    failed = {str(each): distinct[diff_id] for diff_id, each in results.items() if isinstance(each, EngineError)}
    for text, hit in failed.items():
        emit(BuildWarning(f"cache of {hit.source.name}: {text}"))
    here = {diff_id: each for diff_id, each in results.items() if not isinstance(each, EngineError)}
    store.snapshots.use(list(here.values()))
    return here


def _put(
    plan: Plan,
    states: Sequence[StepState],
    store: Store,
    wanted: Mapping[int, _Hit],
    here: Mapping[DiffID, LayerID],
) -> None:
    """Records for what came, in the order of the plan: each names the layer below it as it is called here."""
    tops: dict[int, LayerID | None] = {
        step.number: state.layers[-1] if state.layers else None
        for step, state in zip(plan.steps, states, strict=True)
        if state.layers is not None
    }
    for step, state in zip(plan.steps, states, strict=True):
        if state.layers is not None:
            continue
        hit = wanted.get(step.number)
        if hit is None:
            own = store.buildcache.peek(state.key)
            if own is not None:
                tops[step.number] = own.layer
            continue
        layer = here.get(hit.entry.layer)
        if layer is None or (step.parent is not None and step.parent not in tops):
            continue
        below = tops[step.parent] if step.parent is not None else None
        entry = hit.entry
        store.buildcache.put(
            CacheRecord(
                key=state.key,
                step=state.step,
                text=step.text,
                leaves=state.leaves,
                parent=lookup.parent_key(step, states),
                layer=layer,
                content_key=entry.content_key or None,
                result=json.dumps({"below": below, "sources": [tops.get(number) for number in step.inputs]}),
                duration_us=entry.duration_us,
                place=state.place,
            )
        )
        tops[step.number] = layer


def with_inline(config: ImageConfig, found: Sequence[CacheEntry]) -> ImageConfig:
    """An image's config that says which steps gave its layers."""
    own = set(config.diff_ids)
    kept: list[Json] = [each.to_json() for each in found if each.layer in own]
    return replace(config, extra={**config.extra, INLINE_KEY: {"version": 1, "entries": kept}})
