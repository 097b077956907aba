"""One build from request to image: parse, plan, execute, put the image and its tags. The only door for callers.

Nothing is visible before the end: a failed, interrupted or killed build leaves the old tags where they were.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from builder.pipeline import lookup, progress
from builder.pipeline.executor import Executor
from builder.pipeline.plan import Plan, make_plan
from builder.pipeline.progress import Emit, silent
from builder.pipeline.request import BuildRequest, BuildResult, Forecast
from builder.pipeline.sources import Sources
from builder.pipeline.steps import Base, BaseStep, StepSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.oci.configs import History, ImageConfig
    from builder.oci.platforms import Platform
    from builder.pipeline.lookup import StepState
    from builder.store import Store
    from builder.store.snapshots import LayerID
    from parser.instructions import Dockerfile
    from runtime.container import Launcher

COMMENT = "buildkit.dockerfile.v0"
"""The comment of history lines; tools tell by it that "created_by" is an instruction."""


def build(
    request: BuildRequest,
    store: Store,
    launcher: Callable[[], Launcher],
    *,
    clock: Callable[[], float],
    emit: Emit = silent,
) -> BuildResult:
    """Build *request* into *store* and return what was made.

    *launcher* is called at most at the first step that must run, so that a cached build starts no process. The caller
    owns the launcher and closes it. *clock* gives unix seconds.

    Raises DockerfileError (text, words, unknown stage), StepFailed (a step, with its exit code), ImageNotFound, other
    EngineErrors, and KeyboardInterrupt after everything has been stopped and recorded.
    """
    from builder.oci.references import Reference

    references = [Reference.parse(tag).tagged() for tag in request.tags]
    made = planned(request, store)
    facts = {"target": made.target, "context": request.description, "dockerfile": request.dockerfile_name}
    number = store.records.start_build(dockerfile=request.dockerfile, facts=facts)
    try:
        steps = tuple((step.number, step.name) for step in made.steps)
        emit(progress.BuildStarted(number, clock(), made.target, steps))
        for text, line in made.warnings:
            emit(progress.BuildWarning(text, line))
        with (
            Sources(request, store) as sources,
            Executor(made, request, store, launcher, sources=sources, build=number, clock=clock, emit=emit) as executor,
        ):
            layers = executor.run()
        epoch = request.build_args.get("SOURCE_DATE_EPOCH", "")
        config = image_config(made, store, layers, epoch=int(epoch) if epoch.isascii() and epoch.isdigit() else None)
        image = store.images.put(config, layers)
        store.images.tag_all(references, image)
    except BaseException as err:
        status = "cancelled" if isinstance(err, KeyboardInterrupt) else "failed"
        store.records.finish_build(number, status, error=str(err) or type(err).__name__)
        raise
    store.records.finish_build(number, "done", image=image)
    tags = tuple(reference.familiar() for reference in references)
    emit(progress.BuildDone(clock(), image, tags))
    warnings = tuple(text for text, _ in made.warnings)
    return BuildResult(image, number, tags, executor.cached, executor.ran, warnings)


def plan(request: BuildRequest, store: Store) -> tuple[Forecast, ...]:
    """What `build` would do with each step that the target needs, found out without changing or running anything.

    Raises as `build` does before its first step."""
    made = planned(request, store)
    with Sources(request, store) as sources:
        states = lookup.describe(made, request, sources)
        lookup.find(made, states, store, change=False)
        wanted = lookup.needed(made, states)
        return tuple(_forecast(step, states, store) for step in wanted if not isinstance(step.work, BaseStep))


def _forecast(step: StepSpec, states: Sequence[StepState], store: Store) -> Forecast:
    state = states[step.number - 1]
    if state.layers is not None:
        return Forecast(step.name, "hit")
    why = lookup.reason(step, state, store)
    needs = (*step.inputs, *((step.parent,) if step.parent else ()))
    if why == lookup.BELOW and any(states[number - 1].layers is None for number in needs):
        # The step may still be found by what its parent contains, once that is there.
        return Forecast(step.name, "unknown", why)
    return Forecast(step.name, "miss", why)


def planned(request: BuildRequest, store: Store) -> Plan:
    """The plan of *request* with the images of *store*. Raises as `make_plan`."""
    from builder.oci import platforms

    def bases(reference: str, platform: Platform | None) -> Base:
        image = store.images.get(store.images.resolve(reference))
        contents = tuple(store.snapshots.get(layer).content_digest for layer in image.layers)
        return Base(image.id, reference, image.config, tuple(image.layers), contents)

    return make_plan(parsed(request, store), request, bases, host=platforms.host(os.uname().machine))


def parsed(request: BuildRequest, store: Store) -> Dockerfile:
    """The Dockerfile as instructions, from the store when this very text was parsed before. Raises DockerfileError."""
    import parser
    from parser import serialize
    from parser.source import Source

    key = hashlib.sha256(parser.VERSION.encode() + b"\0" + request.dockerfile).hexdigest()
    known = store.files.get_parsed(key)
    if known is not None:
        try:
            return serialize.loads(known, Source.of(request.dockerfile, name=request.dockerfile_name))
        except ValueError:
            pass  # from another version of the program: parse again
    dockerfile = parser.parse(request.dockerfile, name=request.dockerfile_name)
    store.files.put_parsed(key, serialize.dumps(dockerfile))
    return dockerfile


def image_config(made: Plan, store: Store, layers: Sequence[LayerID], *, epoch: int | None = None) -> ImageConfig:
    """The config of the image: the plan's, with the digests of *layers* and the times at which they were made.

    A line of history without a layer takes the time of the layer before it (the first new layer's at the start), so
    a build which finds everything in the cache gives the very same image. With *epoch* (SOURCE_DATE_EPOCH, unix
    seconds) all lines that are not the base image's have that time.
    """
    from builder.oci import times
    from builder.oci.configs import History

    found = store.snapshots.get_all(layers)
    new = iter(found[len(made.base.layers) if made.base else 0 :])
    created = [None if line.step is None or line.inherited else times.text(next(new).created) for line in made.history]
    inherited = [line.inherited.created for line in made.history if line.inherited and line.inherited.created]
    latest = next((text for text in created if text is not None), inherited[-1] if inherited else None)
    fixed = None if epoch is None else times.text(epoch * 1_000_000_000)
    history: list[History] = []
    for line, moment in zip(made.history, created, strict=True):
        if line.inherited is not None:
            history.append(line.inherited)
            continue
        latest = fixed or moment or latest
        history.append(
            History(created=latest, created_by=line.created_by, comment=COMMENT, empty_layer=line.step is None)
        )
    diff_ids = tuple(layer.diff_id for layer in found if layer.diff_id is not None)
    return replace(made.template, diff_ids=diff_ids, history=tuple(history), created=fixed or latest)
