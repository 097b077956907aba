"""What is known of a plan's steps before anything runs: their keys, which of them are in the cache, and why not.

A record counts only when it was made on the layers that the step below gives now. What is forced to run (--no-cache),
and what stands on that, is not taken by its definition; it may still be found by content later.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from builder.errors import EngineError
from builder.pipeline import cachekeys
from builder.pipeline.steps import AddStep, BaseStep, CopyStep, RunStep, StepSpec
from builder.store.snapshots import LayerID
from runtime.values import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.pipeline.copy_step import Selection
    from builder.pipeline.plan import Plan
    from builder.pipeline.request import BuildRequest
    from builder.pipeline.sources import Sources
    from builder.pipeline.trees import Tree
    from builder.store import Store
    from builder.store.buildcache import CacheRecord


BELOW = "an earlier step changed"
"""The reason of a miss when nothing of the step itself did."""


@dataclass(slots=True)
class StepState:
    """One step while its plan is executed.

    key, leaves, step, place  as in CacheRecord
    stack      the key of all its files: `key`, with what lies below a step that stands alone
    alone      how many steps that stand alone lie on each other from this one down
    layers     the whole stack with the step's own on top, bottom first; None while it is not there
    taken      the record that gave the layer before anything ran
    uncertain  it must be seen to run, or something below it must: its key alone says nothing
    selection  the files of a COPY, once looked at
    content    what the stack contains, as a digest, once asked for
    """

    key: str = ""
    stack: str = ""
    alone: int = 0
    leaves: tuple[cachekeys.Leaf, ...] = ()
    step: str = ""
    place: str = ""
    layers: tuple[LayerID, ...] | None = None
    taken: CacheRecord | None = None
    uncertain: bool = False
    selection: Selection | None = None
    content: str | None = None
    facts: dict[str, object] = field(default_factory=dict)


def describe(plan: Plan, request: BuildRequest, sources: Sources) -> list[StepState]:
    """The states of all steps, with keys; contexts are looked at. Raises as `copy_step.select`, `add_step.select`."""
    states: list[StepState] = []
    place = cachekeys.digest(request.description, request.dockerfile_name)
    for step in plan.steps:
        state, work = StepState(), step.work
        states.append(state)
        if isinstance(work, BaseStep):
            state.layers = tuple(map(LayerID, work.base.layers))
            state.key = state.stack = cachekeys.base_key(work.base.contents, work.base.config.diff_ids)
            continue
        own = cachekeys.leaves(step, request)
        state.step = cachekeys.identity(step, own)
        state.place = cachekeys.place(step, place)
        try:
            state.leaves = (*own, *_source_leaves(step, state, states, sources))
        except EngineError as err:
            if step.span is not None and not err.excerpt:
                err.excerpt = plan.source.citation(step.span, column=True)
            raise
        state.stack = state.key = cachekeys.key(state.leaves, parent_key(step, states))
        if cachekeys.stands_alone(step):
            below = states[step.parent - 1] if step.parent is not None else StepState()
            state.stack, state.alone = cachekeys.digest("stack", state.key, below.stack), below.alone + 1
    return states


def parent_key(step: StepSpec, states: Sequence[StepState]) -> str:
    """The key of what *step* stands on, as far as that matters to it."""
    if step.parent is None or cachekeys.stands_alone(step):
        return cachekeys.EMPTY
    return states[step.parent - 1].stack


def _source_leaves(
    step: StepSpec, state: StepState, states: Sequence[StepState], sources: Sources
) -> Sequence[cachekeys.Leaf]:
    work = step.work
    if isinstance(work, AddStep | CopyStep):
        if work.source.step is None:
            state.selection = select(work, sources, sources.context(work.source.context))
            return (("files", state.selection.digest),)
        spec = work.spec if isinstance(work, CopyStep) else work.spec.copy
        paths = cachekeys.digest(*spec.sources, *(one.content.hex() for one in spec.inline))
        return (("source", states[work.source.step - 1].stack), ("paths", paths))
    found: list[cachekeys.Leaf] = []
    if isinstance(work, RunStep):
        for position, source in enumerate(work.sources):
            if source is None:
                continue
            name = f"mount {position + 1} files"
            if source.step is not None:
                found.append((name, states[source.step - 1].stack))
            elif source.context is not None:
                found.append((name, sources.bound(source.context, work.mounts[position].source).digest))
    return found


def select(work: CopyStep | AddStep, sources: Sources, tree: Tree | None) -> Selection:
    """What *work* takes from *tree*."""
    return sources.copy(work.spec, tree) if isinstance(work, CopyStep) else sources.add(work.spec, tree)


def find(plan: Plan, states: Sequence[StepState], store: Store, *, change: bool) -> None:
    """Give layers to the steps that are in the cache as they stand; with *change* the records count as used."""
    keys = [
        state.key for step, state in zip(plan.steps, states, strict=True) if state.layers is None and not step.forced
    ]
    records = store.buildcache.lookup_all(keys) if change else store.buildcache.peek_all(keys)
    for step, state in zip(plan.steps, states, strict=True):
        if state.layers is not None:
            continue
        others = [states[number - 1] for number in (*step.inputs, *((step.parent,) if step.parent else ()))]
        state.uncertain = step.forced or any(other.uncertain for other in others)
        record, below = records.get(state.key), layers_below(step, states)
        if state.uncertain or record is None or record.layer is None or below is None:
            continue
        if stands(record, step, states):
            state.layers, state.taken = (*below, record.layer), record


def layers_below(step: StepSpec, states: Sequence[StepState]) -> tuple[LayerID, ...] | None:
    """The layers that *step* stands on; None while they are not there."""
    return () if step.parent is None else states[step.parent - 1].layers


def stands(record: CacheRecord, step: StepSpec, states: Sequence[StepState]) -> bool:
    """Whether *record* was made on the layers and from the sources that hold now.

    The source of a record that came from elsewhere may not be known (None): its key is part of the record's.
    """
    facts = json.loads(record.result or "{}")
    below = None if step.parent is None else footing(states[step.parent - 1])
    if not cachekeys.stands_alone(step) and facts.get("below") != below:
        return False
    sources = [states[number - 1] for number in step.inputs]
    return all(
        layer is None or state.layers is None or footing(state) == layer
        for state, layer in zip(sources, facts.get("sources", ()), strict=False)
    )


def top(layers: tuple[LayerID, ...]) -> LayerID | None:
    """The topmost of *layers*, if there is one."""
    return layers[-1] if layers else None


def footing(state: StepState) -> str | None:
    """What tells the files of a step from others: its topmost layer, or a digest (`cachekeys.footing`)."""
    if not state.layers or not state.alone:
        return top(state.layers or ())
    made: str | None = state.layers[-state.alone - 1] if len(state.layers) > state.alone else None
    for layer in state.layers[-state.alone :]:
        made = cachekeys.footing(layer, made)
    return made


def footings(states: Sequence[StepState]) -> dict[int, str | None]:
    """That of each step that has its layers."""
    return {number: footing(state) for number, state in enumerate(states, 1) if state.layers is not None}


def found(states: Sequence[StepState]) -> list[bool]:
    """Which steps have their layers."""
    return [state.layers is not None for state in states]


def needed(plan: Plan, there: Sequence[bool]) -> list[StepSpec]:
    """The steps that the target needs, in plan order: one that is `there` (found) needs nothing of its sources."""
    found: set[int] = set()
    pending = list(plan.ends)
    while pending:
        number = pending.pop()
        if number in found:
            continue
        found.add(number)
        step = plan.steps[number - 1]
        if step.parent is not None:
            pending.append(step.parent)
        if not there[number - 1]:
            pending.extend(step.inputs)
    return [step for step in plan.steps if step.number in found]


def reason(step: StepSpec, state: StepState, store: Store) -> str:
    """Why *step* was not in the cache, in words for the user."""
    if step.forced:
        return "--no-cache"
    cache = store.buildcache
    there = cache.at_place(state.place)
    old = there if there is not None and there.step == state.step else cache.nearest(state.step)
    if old is None:
        return "never built" if there is None else "instruction changed"
    before, now = dict(old.leaves), dict(state.leaves)
    files: Sequence[str] = ()
    if before.get("files") != now.get("files") and state.selection is not None and old.layer is not None:
        from builder.pipeline.copy_step import read_manifest

        manifest = cache.manifest(old.layer)
        if manifest is not None:
            files = cachekeys.changed_files(read_manifest(manifest), read_manifest(state.selection.manifest()))
    return cachekeys.why(_telling(before), _telling(now), files) or BELOW


def _telling(leaves: Mapping[str, str]) -> dict[str, str]:
    """Leaves that say something by themselves: keys of other steps do not."""
    return {name: value for name, value in leaves.items() if name != "source"}
