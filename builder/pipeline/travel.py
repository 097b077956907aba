"""Build caches that travel: what this build can give to others, and what it can take from them.

Taking decides first, on keys and diff_ids alone: which steps the target needs, and which of these another machine has
run on the same layers. Only their layers are then fetched, and the records put beside our own; all that follows is the
ordinary look-up. What that does not find is looked for once more by content, when its parents are there. A source that
fails is a warning, and its steps are misses.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from builder.errors import (
    BucketFailed,
    EngineError,
    RegistryBusy,
    RegistryDenied,
    RegistryFailed,
    RegistryUnreachable,
)
from builder.oci.cacheconfigs import INLINE_KEY, CacheEntry
from builder.oci.digests import DiffID, Digest
from builder.pipeline import cachekeys, lookup
from builder.pipeline.progress import BuildWarning, StepProgress, StepStarted
from builder.pipeline.steps import BaseStep, StepSpec
from builder.pipeline.written import cache_record
from builder.transfer import workers
from builder.transfer.registry.progress import Message, Teller
from runtime.values import dataclass, replace

if TYPE_CHECKING:
    from builder.oci.configs import ImageConfig
    from builder.oci.documents import Json
    from builder.pipeline.lookup import StepState
    from builder.pipeline.plan import Plan
    from builder.pipeline.progress import Emit
    from builder.pipeline.request import CacheSource
    from builder.store import Store
    from builder.store.snapshots import LayerID

JOBS = 3
_AWAY = (BucketFailed, RegistryBusy, RegistryDenied, RegistryFailed, RegistryUnreachable)
"""What says something of a source, not of one layer of it."""


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
                step=record.step,
                content_key=record.content_key or "",
                layer=_diff_id(store, record.layer),
                created=store.snapshots.get(record.layer).created,
                below=None if step.parent is None else _footing(store, states[step.parent - 1]),
                sources=tuple(_footing(store, states[number - 1]) for number in step.inputs),
                duration_us=record.duration_us,
            )
        )
    return tuple(found)


def diff_ids(stacks: Iterable[Sequence[LayerID]], store: Store) -> frozenset[DiffID]:
    """Those of all layers of these stacks."""
    return frozenset(_diff_id(store, layer) for stack in stacks for layer in stack)


def _footing(store: Store, state: StepState) -> DiffID | None:
    """As `lookup.footing`, with digests that all machines have."""
    layers = state.layers or ()
    if not layers:
        return None
    lowest = len(layers) - state.alone - 1
    made = _diff_id(store, layers[lowest]) if lowest >= 0 else None
    for layer in layers[max(lowest + 1, 0) :]:
        made = _on(_diff_id(store, layer), made)
    return made


def _on(layer: DiffID, below: DiffID | None) -> DiffID:
    return DiffID(Digest(cachekeys.footing(layer, below)))


def _diff_id(store: Store, layer: LayerID) -> DiffID:
    found = store.snapshots.get(layer).diff_id
    assert found is not None, "the layers of a finished build are hashed"
    return found


class Offers:
    """What the sources of one build have."""

    def __init__(self, sources: Sequence[CacheSource], store: Store, emit: Emit, clock: Callable[[], float]) -> None:
        self._store = store
        self._emit = emit
        self._clock = clock
        self._by_key: dict[str, list[_Hit]] = {}
        self._by_content: dict[str, _Hit] = {}
        self._steps: set[str] = set()
        self._gone: set[str] = set()
        for source in sources:
            for entry in source.entries:
                hit = _Hit(entry, source)
                self._by_key.setdefault(entry.key, []).append(hit)
                if entry.content_key and entry.step:
                    self._by_content.setdefault(entry.content_key, hit)
                    self._steps.add(entry.step)

    def has(self, step: str) -> bool:
        """Whether somebody has run this instruction, on whatever content."""
        return step in self._steps

    def bring(self, step: StepSpec, content_key: str) -> tuple[LayerID, int] | None:
        """The layer of what somebody ran on this content, fetched, and how many µs the step took."""
        hit = self._by_content.get(content_key)
        if hit is None:
            return None
        layer = self._fetch([(step, hit)]).get(hit.entry.layer)
        return None if layer is None else (layer, hit.entry.duration_us)

    def adopt(self, plan: Plan, states: Sequence[StepState]) -> None:
        """Put records beside our own for the steps that the target needs, we have not, and a source has."""
        if not self._by_key:
            return
        found = self._hits(plan, states)
        there = [each is not None or state.layers is not None for each, state in zip(found, states, strict=True)]
        needed = {step.number for step in lookup.needed(plan, there)}
        wanted = {number: hit for number, hit in enumerate(found, 1) if isinstance(hit, _Hit) and number in needed}
        fetched = self._fetch([(plan.steps[number - 1], hit) for number, hit in wanted.items()])
        self._put(plan, states, wanted, fetched)

    def _hits(self, plan: Plan, states: Sequence[StepState]) -> list[_Hit | LayerID | None]:
        """For each step: our own layer, somebody's entry, or None; each stands on what the steps below have."""
        found: list[_Hit | LayerID | None] = []
        tops: dict[int, DiffID | None] = {}
        uncertain: set[int] = set()
        for step, state in zip(plan.steps, states, strict=True):
            if state.layers is not None:
                found.append(state.layers[-1] if state.layers else None)
                tops[step.number] = _footing(self._store, state)
                continue
            others = (*step.inputs, *((step.parent,) if step.parent else ()))
            hit: _Hit | LayerID | None = None
            if step.forced or uncertain.intersection(others):
                uncertain.add(step.number)
            elif step.parent is None or step.parent in tops:
                hit = self._hit(step, state, tops)
            found.append(hit)
            if hit is not None:
                layer = hit.entry.layer if isinstance(hit, _Hit) else _diff_id(self._store, hit)
                below = tops.get(step.parent) if step.parent is not None else None
                tops[step.number] = _on(layer, below) if cachekeys.stands_alone(step) else layer
        return found

    def _hit(self, step: StepSpec, state: StepState, tops: Mapping[int, DiffID | None]) -> _Hit | LayerID | None:
        below = tops.get(step.parent) if step.parent is not None else None
        store = self._store
        own = store.buildcache.peek(state.key)
        if own is not None and own.layer is not None and store.snapshots.peek(own.layer) is not None:
            facts = json.loads(own.result or "{}")
            stood = facts.get("below")
            layer = store.snapshots.peek(stood) if stood else None
            same = (layer.diff_id if layer is not None else None) == below
            if (same or cachekeys.stands_alone(step)) and store.snapshots.get(own.layer).diff_id is not None:
                return own.layer
        for hit in self._by_key.get(state.key, ()):
            entry = hit.entry
            if not cachekeys.stands_alone(step) and entry.below != below:
                continue
            known = zip(step.inputs, entry.sources, strict=False)
            if all(tops.get(number, diff_id) == diff_id for number, diff_id in known):
                return hit
        return None

    def _fetch(self, hits: Sequence[tuple[StepSpec, _Hit]]) -> dict[DiffID, LayerID]:
        """The layers of `hits`, several at a time; those that cannot be had are left out and told."""
        steps = {hit.entry.layer: step for step, hit in hits}
        distinct = {hit.entry.layer: hit for _, hit in hits}

        def bring(hit: _Hit) -> LayerID | EngineError | None:
            if hit.source.name in self._gone:
                return None
            known = self._store.snapshots.find(hit.entry.layer)
            if known is not None:
                return known.id
            try:
                layer = hit.source.fetch(hit.entry.layer, self._teller(steps[hit.entry.layer]))
                if hit.entry.created:
                    # So that what is made of it is the very image that the other machine made.
                    self._store.snapshots.set_created(layer, hit.entry.created)
                return layer
            except EngineError as err:
                if isinstance(err, _AWAY):
                    self._gone.add(hit.source.name)  # to wait for it again and again would cost more than the steps
                return err

        results: dict[DiffID, LayerID | EngineError | None] = {}

        def one(diff_id: DiffID) -> None:
            results[diff_id] = bring(distinct[diff_id])

        workers.each(distinct, one, threads=JOBS, abort=lambda: None)
        failed = {str(each): distinct[diff_id] for diff_id, each in results.items() if isinstance(each, EngineError)}
        for text, hit in failed.items():
            self._emit(BuildWarning(f"cache of {hit.source.name}: {text}"))
        here = {diff_id: each for diff_id, each in results.items() if isinstance(each, str)}
        self._store.snapshots.use(list(here.values()))
        return here

    def _teller(self, step: StepSpec) -> Teller:
        """Tells how the layer of a step comes, as a part of that step; it begins with the first byte."""
        begun = False

        def tell(message: Message) -> None:
            nonlocal begun
            if not message.total:
                return
            if not begun:
                begun = True
                self._emit(StepStarted(step.number, step.name, self._clock()))
            what = f"{message.status.lower()} {message.id}"
            self._emit(StepProgress(step.number, what, message.current, message.total, "B", self._clock()))

        return Teller(tell)

    def _put(
        self,
        plan: Plan,
        states: Sequence[StepState],
        wanted: Mapping[int, _Hit],
        here: Mapping[DiffID, LayerID],
    ) -> None:
        """Records for what came, in the order of the plan: each names the layer below it as it is called here."""
        footings = lookup.footings(states)
        for step, state in zip(plan.steps, states, strict=True):
            if state.layers is not None:
                continue
            hit = wanted.get(step.number)
            if hit is None:
                own = self._store.buildcache.peek(state.key)
                if own is not None:
                    footings[step.number] = _stood(step, own.layer, footings)
                continue
            layer = here.get(hit.entry.layer)
            if layer is None or (step.parent is not None and step.parent not in footings):
                continue
            key, took = hit.entry.content_key, hit.entry.duration_us
            made = cache_record(step, states, layer, footings, content_key=key, duration_us=took)
            self._store.buildcache.put(made)
            footings[step.number] = _stood(step, layer, footings)


def _stood(step: StepSpec, layer: LayerID | None, footings: Mapping[int, str | None]) -> str | None:
    if layer is None or not cachekeys.stands_alone(step):
        return layer
    return cachekeys.footing(layer, footings.get(step.parent) if step.parent is not None else None)


def with_inline(
    config: ImageConfig, layers: Sequence[LayerID], found: Sequence[CacheEntry], store: Store, emit: Emit
) -> ImageConfig:
    """An image's config that says which steps gave its layers; warns when none did.

    *layers* are those that the steps gave. Where the image has each of them with other times, that one is as good.
    """
    given = [_diff_id(store, layer) for layer in layers]
    called = dict(zip(given, config.diff_ids, strict=True)) if len(given) == len(config.diff_ids) else {}
    kept: list[Json] = [
        replace(each, layer=called[each.layer], below=each.below and called.get(each.below, each.below)).to_json()
        for each in found
        if each.layer in called
    ]
    if found and not kept:
        emit(BuildWarning("the inline cache is empty: the layers of the image are not those that its steps gave"))
    return replace(config, extra={**config.extra, INLINE_KEY: {"version": 1, "entries": kept}})
