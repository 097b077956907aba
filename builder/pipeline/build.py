"""One build from request to image: parse, plan, execute, put the image and its tags. The only door for callers.

Several platforms are one build: one plan, one execution, an image for each, and an index of them that gets the tags.

Nothing is visible before the end: a failed, interrupted or killed build leaves the old tags where they were. A build
that was made before from the same input is not even planned (`replay`), and one that the command line finds unchanged
by itself does not come here (`unchanged`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from builder.errors import ChecksFailed, LayerNotFound
from builder.pipeline import progress, replay, unchanged
from builder.pipeline.progress import Emit, silent
from builder.pipeline.request import BuildRequest, BuildResult, BuiltImage, Forecast, Observed
from builder.pipeline.sources import Sources
from parser.redact import hidden, hidden_in
from runtime.values import replace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.oci.cacheconfigs import CacheEntry
    from builder.oci.configs import ImageConfig
    from builder.oci.digests import DiffID, Digest
    from builder.oci.references import Reference
    from builder.pipeline.assemble import Fetch
    from builder.pipeline.executor import Executor
    from builder.pipeline.foreign import Emulation
    from builder.pipeline.lookup import StepState
    from builder.pipeline.plan import Plan, PlannedImage
    from builder.pipeline.progress import BuildWarning
    from builder.pipeline.replay import Replay
    from builder.pipeline.schedule import Together
    from builder.pipeline.steps import StepSpec
    from builder.store import Store
    from builder.store.snapshots import LayerID
    from runtime.container import Launcher


def build(
    request: BuildRequest,
    store: Store,
    launcher: Callable[[], Launcher],
    *,
    clock: Callable[[], float],
    emit: Emit = silent,
    fetch: Fetch | None = None,
    together: Together | None = None,
) -> BuildResult:
    """Build *request* into *store* and return what was made.

    *fetch* brings an image that is not in the store (or all that are named, when the request says so) and gives its id;
    without it a missing image is an error.

    *launcher* is called when it is not known that all steps are cached, so that a cached build starts no process. The
    caller owns the launcher and closes it. *clock* gives unix seconds.

    Raises DockerfileError (text, words, unknown stage), StepFailed (a step, with its exit code), ImageNotFound, other
    EngineErrors, and KeyboardInterrupt after everything has been stopped and recorded. *together* are the builds that
    this one belongs to: when they are cancelled, StepCancelled.
    """
    from builder.oci.references import Reference

    references = [Reference.parse(tag).tagged() for tag in request.tags]
    with Sources(request, store) as sources:
        known = None if request.observe else replay.recall(request, store, sources)
        if known is not None:
            return _again(known, request, references, store, clock=clock, emit=emit)
        if b"run" in request.dockerfile.lower():
            launcher().warm()  # it loads what it needs while we plan
        return _build(
            request, references, store, launcher, sources, clock=clock, emit=emit, fetch=fetch, together=together
        )


def _build(
    request: BuildRequest,
    references: Sequence[Reference],
    store: Store,
    launcher: Callable[[], Launcher],
    sources: Sources,
    *,
    clock: Callable[[], float],
    emit: Emit,
    fetch: Fetch | None,
    together: Together | None,
) -> BuildResult:
    from builder.pipeline.executor import Executor

    try:
        made = _grounded(request, store, fetch)
    except ChecksFailed as err:
        for warning in err.warnings:
            emit(warning)
        raise
    started = store.clock()
    with _recorded(request, made.target, store) as ended:
        if together is not None:
            together.builds.add(ended.build)
        steps = tuple((step.number, step.name) for step in made.steps)
        emit(progress.BuildStarted(ended.build, clock(), made.target, steps))
        for warning in made.warnings:
            emit(warning)
        with Executor(
            made,
            request,
            store,
            launcher,
            sources=sources,
            build=ended.build,
            clock=clock,
            emit=emit,
            together=together,
        ) as executor:
            stacks = executor.run()
        if together is not None:
            together.cancel.check()
        found = _findings(made, executor, store, since=started)
        for warning in found:
            emit(warning)
        cache: tuple[CacheEntry, ...] = ()
        own: frozenset[DiffID] = frozenset()
        if request.travel is not None and request.travel.export:
            from builder.pipeline.travel import diff_ids, entries

            cache = entries(made, executor.states(), store)
            own = diff_ids(stacks, store)
        images = tuple(
            BuiltImage(_kept(image, layers, request, store, cache, emit), image.platform, _origins(made, image))
            for image, layers in zip(made.images, stacks, strict=True)
        )
        top = ended.image = _index(images, store) if request.indexed else images[0].id
        known = replay.remember(request, store, made, executor.states(), top, images)
        store.images.tag_all(references, top)
    unchanged.remember(request, store, known, references)
    tags = tuple(reference.familiar() for reference in references)
    emit(progress.BuildDone(clock(), top, tags, index=request.indexed))
    warnings = tuple(warning.short for warning in (*made.warnings, *found))
    if request.observe:
        images = tuple(
            replace(image, observed=_observed(made, planned, executor.states(), sources))
            for image, planned in zip(images, made.images, strict=True)
        )
    return BuildResult(
        top, images, ended.build, tags, executor.cached, executor.ran, warnings, request.indexed, cache, own
    )


def _grounded(request: BuildRequest, store: Store, fetch: Fetch | None, *, again: bool = False) -> Plan:
    """The plan, whose base images nobody can collect any more; a new one if somebody just did so. Raises as `build`."""
    from builder.pipeline.assemble import planned
    from builder.pipeline.steps import BaseStep
    from builder.store.snapshots import LayerID

    try:
        made = planned(request, store, fetch)
        bases = [step.work.base for step in made.steps if isinstance(step.work, BaseStep)]
        store.snapshots.use([LayerID(layer) for base in bases for layer in base.layers])
    except LayerNotFound:
        if again:
            raise
        return _grounded(request, store, fetch, again=True)
    return made


def _kept(
    made: PlannedImage,
    layers: tuple[LayerID, ...],
    request: BuildRequest,
    store: Store,
    cache: Sequence[CacheEntry],
    emit: Emit,
) -> Digest:
    """The image of *layers*, in the store."""
    config, finished = _finished(made, request, store, layers)
    if request.travel is not None and request.travel.inline:
        from builder.pipeline.travel import with_inline

        config = with_inline(config, layers, cache, store, emit)
    return store.images.put(config, finished)


def _index(images: Sequence[BuiltImage], store: Store) -> Digest:
    from builder.store.indexes import Entry

    return store.indexes.make([Entry(image.id, platform=image.platform) for image in images])


def _again(
    known: Replay,
    request: BuildRequest,
    references: Sequence[Reference],
    store: Store,
    *,
    clock: Callable[[], float],
    emit: Emit,
) -> BuildResult:
    """Tell and record a build all of whose steps are known to be cached."""
    with _recorded(request, known.target, store) as ended:
        now = clock()
        progress.all_cached(ended.build, known.target, known.numbered(), known.warnings, now, emit)
        store.records.add_steps(known.records(ended.build, now))
        store.images.tag_all(references, known.image)
        ended.image = known.image
    unchanged.remember(request, store, known, references)
    tags = tuple(reference.familiar() for reference in references)
    emit(progress.BuildDone(clock(), known.image, tags, index=request.indexed))
    warnings = tuple(warning.short for warning in known.warnings)
    return BuildResult(
        known.image, known.images, ended.build, tags, len(known.steps), 0, warnings, indexed=request.indexed
    )


class _Ended:
    """The record of a running build: its id, and the image once there is one."""

    def __init__(self, build: str) -> None:
        self.build = build
        self.image: Digest | None = None


@contextmanager
def _recorded(request: BuildRequest, target: str, store: Store) -> Iterator[_Ended]:
    """Write down that a build begins, and how it ends."""
    facts = replay.facts(request, target)
    ended = _Ended(store.records.start_build(dockerfile=hidden_in(request.dockerfile), facts=facts))
    try:
        yield ended
    except BaseException as err:
        status = "cancelled" if _is_cancelled(err) else "failed"
        store.records.finish_build(ended.build, status, error=hidden(str(err)) or type(err).__name__)
        raise
    store.records.finish_build(ended.build, "done", image=ended.image)


def _is_cancelled(err: BaseException) -> bool:
    from builder.pipeline.schedule import StepCancelled

    return isinstance(err, KeyboardInterrupt | StepCancelled)


def _findings(made: Plan, executor: Executor, store: Store, *, since: int) -> tuple[BuildWarning, ...]:
    """What can be said of the layers that this build made; a build that found all in the cache pays nothing."""
    request = executor.request
    if not executor.ran or request.squash:
        return ()
    from builder.pipeline import findings
    from builder.pipeline.assemble import parsed

    found = tuple(findings.repeated(made, executor.states(), store, since=since))
    if not found:
        return ()
    dockerfile = parsed(request, store)
    return tuple(one for one in found if findings.wanted(dockerfile, request.build_args, one.line))


def epoch(request: BuildRequest, store: Store, fetch: Fetch | None) -> int | None:
    """SOURCE_DATE_EPOCH as the build of *request* takes it: the user's, or the Dockerfile's. Raises as `build`."""
    from builder.pipeline.assemble import planned

    return planned(request, store, fetch).images[0].epoch


def bases(request: BuildRequest, store: Store) -> tuple[tuple[str, Digest], ...]:
    """(name in the Dockerfile, id) of the images that the build of *request* reads. Raises as `build`."""
    from builder.oci.digests import Digest
    from builder.pipeline.assemble import planned

    return tuple((base.reference, Digest(base.image_id)) for base in planned(request, store).bases)


def _origins(made: Plan, image: PlannedImage) -> tuple[tuple[int, str], ...]:
    """Line and instruction of each new layer of *image*, bottom first."""
    from builder.pipeline.steps import BaseStep

    steps = (step for step in made.chain(image.last) if not isinstance(step.work, BaseStep))
    return tuple((step.span.start.line if step.span is not None else 0, step.text) for step in steps)


def _observed(made: Plan, image: PlannedImage, states: Sequence[StepState], sources: Sources) -> Observed:
    """What *image* was made from."""
    from builder.pipeline.steps import BaseStep

    alone, numbers = made.alone(image)
    own = [states[number - 1] for number in numbers]
    layers = tuple(
        None if isinstance(step.work, BaseStep) or not state.layers else state.layers[-1]
        for step, state in zip(alone.steps, own, strict=True)
    )
    return Observed(alone, layers, tuple(dict.fromkeys(sources.fetched)))


def _finished(
    made: PlannedImage, request: BuildRequest, store: Store, layers: tuple[LayerID, ...]
) -> tuple[ImageConfig, tuple[LayerID, ...]]:
    """The image's config and layers as the request wants them: times cut at its epoch, layers merged.

    The steps' own layers stay what they are, so the cache depends on neither.
    """
    from builder.pipeline import assemble

    base = len(made.base.layers) if made.base else 0
    if made.epoch is not None and request.rewrite_timestamps:
        from builder.store import derived

        rewritten = [derived.clamped(store, layer, made.epoch) for layer in layers[base:]]
        layers = (*layers[:base], *rewritten)
    config = assemble.image_config(made, store, layers)
    if request.squash:
        config, layers = assemble.squashed(made, store, config, layers)
    if request.max_layers:
        config, layers = assemble.slimmed(store, config, layers, request.max_layers)
    return config, layers


def plan(request: BuildRequest, store: Store) -> tuple[Forecast, ...]:
    """What `build` would do with each step that the target needs, found out without changing or running anything.

    Raises as `build` does before its first step."""
    from builder.pipeline import lookup
    from builder.pipeline.assemble import planned
    from builder.pipeline.foreign import Emulation
    from builder.pipeline.steps import BaseStep

    made = planned(request, store)
    with Sources(request, store) as sources:
        states = lookup.describe(made, request, sources)
        lookup.find(made, states, store, change=False)
        wanted = lookup.needed(made, lookup.found(states))
        emulation = Emulation()
        return tuple(
            _forecast(step, states, store, emulation) for step in wanted if not isinstance(step.work, BaseStep)
        )


def _forecast(step: StepSpec, states: Sequence[StepState], store: Store, emulation: Emulation) -> Forecast:
    from builder.pipeline import lookup

    state = states[step.number - 1]
    if state.layers is not None:
        return Forecast(step.name, "hit")
    why = lookup.reason(step, state, store)
    needs = (*step.inputs, *((step.parent,) if step.parent else ()))
    if why == lookup.BELOW and any(states[number - 1].layers is None for number in needs):
        # The step may still be found by what its parent contains, once that is there.
        return Forecast(step.name, "unknown", why)
    refused = emulation.refusal(step)
    return Forecast(step.name, "miss", f"{why}; {refused}" if refused else why)
