"""From stages to the ordered steps that a target needs. Pure: what is read from the store comes in through `bases`.

    dockerfile ──▶ which stages does the target need ──▶ walk each, dependencies first (`walk`) ──▶ Plan

Instructions that make files become steps; the others change the stage's settings and leave a line of history. A step
that is the same as one of another stage (same work on the same parent) is that step. The whole image config is known at
the end, before anything has run.

For several platforms the stages are walked once for each, and all steps are of one graph: what does not depend on the
platform, such as a stage FROM --platform=$BUILDPLATFORM that reads no TARGET argument, is there once.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from builder.errors import EngineError, InvalidInput, InvalidReference
from builder.pipeline import scope
from builder.pipeline.progress import BuildWarning
from builder.pipeline.request import epoch_of
from builder.pipeline.steps import Base, BaseStep, CopyStep, FilesOf, RunStep, StepSpec
from parser import graph, words
from parser import instructions as ast
from parser.errors import DockerfileError, did_you_mean
from runtime.values import dataclass, replace

if TYPE_CHECKING:
    from builder.oci.configs import History, ImageConfig
    from builder.oci.platforms import Platform
    from builder.pipeline.request import BuildRequest
    from builder.pipeline.walk import Walked
    from parser.graph import Stage
    from parser.source import Source, Span

Bases = Callable[[str, "Platform | None"], Base]
"""Image reference and platform (None: any) → the image. Raises ImageNotFound, InvalidReference."""


@dataclass(frozen=True, slots=True)
class HistoryLine:
    """One future line of `docker history`: of the base image (`inherited`), or ours; `step` made its layer."""

    created_by: str
    step: int | None = None
    inherited: History | None = None


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """What the image for one platform will be made of.

    platform   the one that was asked for, or the host's
    last       the number of the step whose files the image has; None when it has no files
    base       the image at the bottom, None for scratch
    template   the image's config without layers, history and times
    history    bottom first
    epoch      SOURCE_DATE_EPOCH of the build arguments, or else of an ARG before the first FROM, in unix seconds
    """

    platform: Platform
    last: int | None
    base: Base | None
    template: ImageConfig
    history: tuple[HistoryLine, ...]
    epoch: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What building a target means.

    steps      in an order in which they can run one after the other; only those that the target needs
    images     one for each platform that was asked for, in that order; at least one
    bases      the images that were looked up, each under every name and platform that it was looked up for
    warnings   what the user should see
    source     the Dockerfile, for messages
    """

    target: str
    steps: tuple[StepSpec, ...]
    images: tuple[PlannedImage, ...]
    bases: tuple[Base, ...]
    warnings: tuple[BuildWarning, ...]
    source: Source

    @property
    def ends(self) -> tuple[int, ...]:
        """The numbers of the steps that images end with."""
        return tuple(dict.fromkeys(image.last for image in self.images if image.last is not None))

    def alone(self, image: PlannedImage) -> tuple[Plan, tuple[int, ...]]:
        """The plan of one of its images, as if only that were wanted, and the numbers that its steps have here."""
        steps, numbers = _reachable(self.steps, () if image.last is None else (image.last,))
        return replace(self, steps=steps, images=(_with_numbers(image, numbers),)), tuple(numbers)

    def chain(self, number: int | None) -> tuple[StepSpec, ...]:
        """The steps that lie on top of each other up to *number*, bottom first."""
        found: list[StepSpec] = []
        while number is not None:
            found.append(self.steps[number - 1])
            number = found[-1].parent
        return tuple(reversed(found))


_EPOCH = "SOURCE_DATE_EPOCH"


def make_plan(dockerfile: ast.Dockerfile, request: BuildRequest, bases: Bases, *, host: Platform) -> Plan:
    """The plan for *request*'s target. *host* is the platform of this machine.

    Raises DockerfileError (with its place), ImageNotFound."""
    steps = Steps()
    planners = [Planner(dockerfile, request, bases, host, wanted, steps) for wanted in request.platforms or (None,)]
    images = [planner.image_of_target() for planner in planners]
    kept, numbers = _reachable(steps.all, [image.last for image in images if image.last is not None])
    first = planners[0]
    return Plan(
        target=first.target.name or f"stage-{first.target.index}",
        steps=kept,
        images=tuple(_with_numbers(image, numbers) for image in images),
        bases=tuple({key: base for planner in planners for key, base in planner.images.items()}.values()),
        warnings=first.warnings(),  # of what concerns one platform only, as BuildKit tells it
        source=dockerfile.source,
    )


class Steps:
    """The steps of a plan while it grows."""

    def __init__(self) -> None:
        self.all: list[StepSpec] = []
        self._numbers: dict[object, int] = {}

    def add(self, spec: StepSpec) -> int:
        """The number of *spec*, or of the equal step that is there already."""
        work = spec.work
        key = (work.base.image_id if isinstance(work, BaseStep) else work, spec.parent, spec.forced)
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = len(self.all) + 1
            self.all.append(replace(spec, number=found))
        return found


class Planner:
    """What all stages share while they are walked for one platform. Used by `make_plan` and `walk` only."""

    def __init__(
        self,
        dockerfile: ast.Dockerfile,
        request: BuildRequest,
        bases: Bases,
        host: Platform,
        wanted: Platform | None,
        steps: Steps,
    ) -> None:
        """*wanted* is what the user asked for, None for the host's; *steps* takes what the walks find."""
        self.dockerfile = dockerfile
        self.request = request
        self.bases = bases
        self.wanted = wanted
        self.target_platform = wanted or host
        self.expand = partial(words.expand, escape=dockerfile.directives.escape)
        self.graph = graph.stages(dockerfile)
        if not self.graph.stages:
            raise DockerfileError("dockerfile contains no stages to build", source=dockerfile.source)
        self.target = self._target()
        automatic = scope.platform_args(host, self.target_platform, request.target or self.target.name)
        self.known_args = set(automatic)
        self.globals = automatic
        for line in self.graph.global_args:
            with self.at(line.span):
                pairs = [(arg.name, arg.default) for arg in line.args]
                self.globals = scope.global_scope(pairs, request.build_args, self.globals, self.expand)
                self._fix_epoch()
        self.epoch = epoch_of(request.build_args.get(_EPOCH) or self.globals.get(_EPOCH, ""))
        self.steps = steps
        self.walked: dict[int, Walked] = {}
        self.commands: dict[int, tuple[tuple[ast.Instruction, bool], ...]] = {}
        self.images: dict[tuple[str, str], Base] = {}

    def image_of_target(self) -> PlannedImage:
        """Walk the stages that the target needs and gather what the target consists of."""
        from builder.pipeline.walk import template, walk

        for stage in self._needed():
            self.walked[stage.index] = walk(self, stage)
        result = self.walked[self.target.index]
        result.settings.set_labels(self.request.labels)
        return PlannedImage(
            self.target_platform, result.last, result.base, template(result), tuple(result.history), self.epoch
        )

    def _fix_epoch(self) -> None:
        """A default of SOURCE_DATE_EPOCH must be a time; "context" stands for the context's, if it has one."""
        if self.globals.get(_EPOCH) == "context":
            if self.request.context_epoch is None:
                del self.globals[_EPOCH]
            else:
                self.globals[_EPOCH] = str(self.request.context_epoch)
        epoch_of(self.globals.get(_EPOCH, ""))

    @contextmanager
    def at(self, span: Span) -> Iterator[None]:
        """Give DockerfileErrors that have no place yet the place *span*, and other errors a place at all."""
        try:
            yield
        except DockerfileError as err:
            raise err.at(span, self.dockerfile.source) from err
        except InvalidInput as err:
            raise DockerfileError(err.message, span, hint=err.hint, source=self.dockerfile.source) from err
        except EngineError as err:
            err.excerpt = err.excerpt or self.dockerfile.source.citation(span, column=True)
            raise

    # which stages

    def _target(self) -> Stage:
        wanted = self.request.target
        if not wanted:
            return self.graph.stages[-1]
        found = self.graph.find(wanted)
        if found is None:
            names = [stage.name for stage in self.graph.stages if stage.name]
            raise DockerfileError(
                f'target stage "{wanted}" could not be found',
                hint=did_you_mean(wanted, names) or (names and "stages are " + ", ".join(names)) or None,
                source=self.dockerfile.source,
            )
        return found

    def _needed(self) -> list[Stage]:
        """The target and all stages it needs, each after those it needs itself (no recursion: chains may be long)."""
        order: list[Stage] = []
        done: set[int] = set()
        path: set[int] = set()
        pending = [(self.target, False)]
        while pending:
            stage, finished = pending.pop()
            if finished:
                path.discard(stage.index)
                done.add(stage.index)
                order.append(stage)
            elif stage.index not in done:
                path.add(stage.index)
                pending.append((stage, True))
                for needed, span in reversed(self._dependencies(stage)):
                    self._check_order(stage, needed, span, circular=needed.index in path)
                    if needed.index not in done:
                        pending.append((needed, False))
        return order

    def _check_order(self, stage: Stage, needed: Stage, span: Span, *, circular: bool) -> None:
        name, own = (one.name or f"stage-{one.index}" for one in (needed, stage))
        if circular:
            raise DockerfileError(f"circular dependency detected on stage: {name}", span, source=self.dockerfile.source)
        if needed.index > stage.index:
            raise DockerfileError(
                f'cannot copy from stage "{name}", it needs to be defined before current stage "{own}"',
                span,
                source=self.dockerfile.source,
            )

    def _dependencies(self, stage: Stage) -> list[tuple[Stage, Span]]:
        """The stages that *stage* reads from, each with the place that says so; settles its commands on the way."""
        found: list[tuple[Stage, Span]] = []
        if self.named_context(stage.name) is not None:
            self.commands[stage.index] = ()
            return found
        base = self.base_stage(stage)
        if base is not None:
            found.append((base, stage.from_.span))
        self.commands[stage.index] = (*self._triggers(stage, base), *((one, False) for one in stage.instructions))
        for instruction, triggered in self.commands[stage.index]:
            span = stage.from_.span if triggered else instruction.span
            with self.at(span):
                for name in graph.source_names(instruction):
                    needed = None if self.named_context(name) is not None else self.graph.source_stage(stage, name)
                    if needed is not None:
                        found.append((needed, span))
        return found

    def _triggers(self, stage: Stage, base: Stage | None) -> list[tuple[ast.Instruction, bool]]:
        """The instructions that ONBUILD of the base left for this stage."""
        if base is not None:
            texts = tuple(one.expression for one in base.instructions if isinstance(one, ast.Onbuild))
        else:
            image = self.base_image(stage)
            texts = image.config.config.on_build if image is not None else ()
        if not texts:
            return []
        from parser.grammar import parse_trigger

        with self.at(stage.from_.span):
            return [(parse_trigger(text), True) for text in texts]

    # images and other sources

    def context_key(self, name: str) -> str | None:
        """The name of the --build-context that *name* (of a stage, an image, in --from) means; None for none."""
        return context_key(self.request.contexts, name)

    def named_context(self, name: str) -> object | None:
        """What --build-context gives under *name*: an open tree, or an image reference as text; None for nothing."""
        key = self.context_key(name)
        return None if key is None else self.request.contexts[key]

    def base_name(self, stage: Stage) -> str:
        """What FROM names, expanded. Raises DockerfileError when nothing is left of it."""
        with self.at(stage.from_.span):
            name = self.expand(stage.from_.image, self.globals)
            if not name:
                raise DockerfileError(f"base name ({stage.from_.image}) should not be blank")
        return name

    def base_stage(self, stage: Stage) -> Stage | None:
        """The stage that *stage* stands on, or None for an image or scratch."""
        return self.graph.base_stage(stage, self.base_name(stage))

    def platform_of(self, stage: Stage) -> Platform | None:
        """FROM --platform, expanded; None when not given."""
        raw = stage.from_.platform
        if raw is None:
            return None
        from builder.oci import platforms

        with self.at(stage.from_.span):
            text = self.expand(raw, self.globals)
            if not text:
                raise DockerfileError(f"empty platform value from expression {raw}")
            try:
                return platforms.parse(text, default=self.target_platform)
            except EngineError as err:
                raise DockerfileError(f"failed to parse platform {raw}: {err.message}", hint=err.hint) from err

    def base_image(self, stage: Stage) -> Base | None:
        """The image of a FROM that names no stage; None for scratch and for a directory."""
        replaced = self.named_context(stage.name)
        name = replaced if isinstance(replaced, str) else self.base_name(stage)
        given = self.named_context(name)
        if "scratch" in (name, given) or ((given or replaced) is not None and not isinstance(given or replaced, str)):
            return None
        return self.image(name, self.platform_of(stage), stage.from_.span)

    def image(self, name: str, platform: Platform | None, span: Span) -> Base:
        """The image called *name*, or the one that --build-context gives for it; looked up once."""
        given = self.named_context(name)
        reference = given.removeprefix("docker-image://") if isinstance(given, str) else name
        platform = platform or self.wanted
        key = (reference, str(platform))
        if key not in self.images:
            with self.at(span):
                try:
                    self.images[key] = self.bases(reference, platform)
                except InvalidInput as err:
                    raise DockerfileError(f'failed to parse stage name "{name}": {err.message}') from err
        return self.images[key]

    def files_of(self, stage: Stage, name: str, span: Span) -> FilesOf:
        """What `from=name` in *stage* means: a named context, an earlier stage, an image, or nothing (scratch)."""
        if self.named_context(name) is not None and not isinstance(self.named_context(name), str):
            return FilesOf(context=self.context_key(name))
        with self.at(span):
            source = self.graph.source_stage(stage, name)
        if source is not None:
            if self.named_context(source.name) is not None:
                return self.files_of(stage, source.name, span)
            return FilesOf(step=self.walked[source.index].last)
        if "scratch" in (name, self.named_context(name)):
            return FilesOf()
        return FilesOf(step=self.add_base(self.image(name, None, span), "", 0, 0, span))

    # steps

    def add_base(self, base: Base, stage: str, position: int, total: int, span: Span) -> int:
        """The step for an image that files are taken from or that a stage stands on."""
        text = f"FROM {base.reference}"
        return self.steps.add(StepSpec(0, BaseStep(base), None, (), stage, position, total, text, "", span))

    def warnings(self) -> tuple[BuildWarning, ...]:
        """What can be said after the walks."""
        declared = {arg.name for line in self.graph.global_args for arg in line.args} | self.known_args
        for stage in self.graph.stages:
            declared.update(arg.name for one in stage.instructions if isinstance(one, ast.Arg) for arg in one.args)
        for walked in self.walked.values():
            declared.update(walked.scope.declared)
        unused = [
            name
            for name in self.request.build_args
            if name not in declared and not scope.is_proxy(name) and not name.startswith(("BUILDKIT_", "SOURCE_DATE_"))
        ]
        return (BuildWarning(f"One or more build-args [{' '.join(unused)}] were not consumed"),) if unused else ()


def context_key(contexts: Container[str], name: str) -> str | None:
    """The one of *contexts* that *name* (of a stage, an image, in --from) means; None for none."""
    if not contexts or not name or name.lower() in ("scratch", "context"):
        return None
    if name in contexts:
        return name
    from builder.oci.references import Reference

    try:
        familiar = Reference.parse(name).familiar().removesuffix(":latest")
    except InvalidReference:
        return None
    return familiar if familiar in contexts else None


def _reachable(steps: Sequence[StepSpec], ends: Sequence[int]) -> tuple[tuple[StepSpec, ...], dict[int, int]]:
    """The steps that *ends* need, in their order with new numbers, and old number → new number."""
    wanted: set[int] = set()
    pending = list(ends)
    while pending:
        number = pending.pop()
        if number not in wanted:
            wanted.add(number)
            step = steps[number - 1]
            pending.extend(step.inputs)
            if step.parent is not None:
                pending.append(step.parent)
    numbers = {old: new for new, old in enumerate(sorted(wanted), 1)}
    if len(wanted) == len(steps):
        return tuple(steps), numbers
    return tuple(_renumbered(steps[old - 1], numbers) for old in numbers), numbers


def _with_numbers(image: PlannedImage, numbers: Mapping[int, int]) -> PlannedImage:
    history = (replace(line, step=numbers[line.step]) if line.step else line for line in image.history)
    return replace(image, last=None if image.last is None else numbers[image.last], history=tuple(history))


def _renumbered(step: StepSpec, numbers: dict[int, int]) -> StepSpec:
    def moved(files: FilesOf) -> FilesOf:
        return files if files.step is None else replace(files, step=numbers[files.step])

    work = step.work
    if isinstance(work, RunStep):
        work = replace(work, sources=tuple(None if one is None else moved(one) for one in work.sources))
    elif isinstance(work, CopyStep):
        work = replace(work, source=moved(work.source))
    return replace(
        step,
        number=numbers[step.number],
        work=work,
        parent=None if step.parent is None else numbers[step.parent],
        inputs=tuple(numbers[one] for one in step.inputs),
    )
