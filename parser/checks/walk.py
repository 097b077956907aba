"""The checks of what a file means: FROM lines, then every wanted stage with the variables that its words see.

It goes the way of a build, without images and files: what makes a build fail ends it, and what was found up to there
stays found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from parser import graph
from parser import instructions as ast
from parser.checks import forms, rules
from parser.checks.rules import Finding
from parser.checks.scopes import GlobalScope
from parser.checks.stages import StageState, StageWalk
from parser.checks.surroundings import SCRATCH, ImageFacts, Surroundings
from parser.errors import DockerfileError, did_you_mean
from parser.graph import Stage, StageGraph
from parser.syntax import Statement, quote

__all__ = ["Add", "Walk"]

Add = Callable[[Finding, Statement | None], None]
"""Takes a finding, and the statement whose comments may silence it.

None for an ONBUILD trigger, which has no comments, and for what docker finds without a look at them: what is about the
whole file."""


class Walk:
    """One pass over the stages of a file: make one, `run` it once."""

    def __init__(self, stages: StageGraph, around: Surroundings, add: Add) -> None:
        self._graph = stages
        self._around = around
        self._add = add
        self._bases: dict[int, str] = {}
        self._platforms: dict[int, str | None] = {}
        self._commands: dict[int, tuple[tuple[ast.Instruction, bool], ...]] = {}
        self._states: dict[int, StageState] = {}
        self.walked: dict[int, StageWalk] = {}
        """The walk of each stage that was wanted, once `run` is over."""

    def run(self) -> None:
        """Give `add` every finding. Raises DockerfileError, with its place, where a build would fail."""
        around, stages = self._around, self._graph.stages
        source = self._graph.dockerfile.source
        if not stages:
            raise DockerfileError("dockerfile contains no stages to build", source=source)
        for finding in forms.of_file(stages):
            self._add(finding, None)
        try:
            scope = self.scope = GlobalScope(self._graph, around)
            for finding in scope.default_bases(stages):
                self._add(finding, None)
            for stage in stages:
                self._from(stage, scope)
            target = self._graph.find(around.target) if around.target else stages[-1]
            if target is None:
                names = [stage.name for stage in stages if stage.name]
                raise DockerfileError(
                    f'target stage "{around.target}" could not be found', hint=did_you_mean(around.target, names)
                )
            wanted = self._needed(target) if around.only_target else {stage.index for stage in stages}
            for stage in stages:
                self._check_name(stage)
            for stage in stages:
                if stage.index in wanted:
                    self._states[stage.index] = self._stage(stage, scope)
        except DockerfileError as err:
            raise err if err.span is None else err.at(err.span, source) from None

    def _from(self, stage: Stage, scope: GlobalScope) -> None:
        from_ = stage.from_
        try:
            self._bases[stage.index], findings = scope.base(stage)
            for finding in findings:
                self._add(finding, from_.statement)
            if not self._bases[stage.index]:
                raise DockerfileError(f"base name ({from_.image}) should not be blank")
            self._platforms[stage.index], findings = scope.platform(stage)
            for finding in findings:
                self._add(finding, from_.statement)
            if self._platforms[stage.index] == "":
                hint = scope.nearest_to(from_.platform or "")
                raise DockerfileError(f"empty platform value from expression {from_.platform}", hint=hint)
        except DockerfileError as err:
            raise err.at(from_.span) from None

    # which stages

    def _needed(self, target: Stage) -> set[int]:
        wanted: set[int] = set()
        pending = [target]
        while pending:
            stage = pending.pop()
            if stage.index not in wanted:
                wanted.add(stage.index)
                pending += self.dependencies(stage)
        return wanted

    def dependencies(self, stage: Stage) -> Iterator[Stage]:
        """The stages that a stage reads from, its base first. Raises DockerfileError for one that is not above."""
        if stage.name in self._around.contexts:
            return
        base = self._base_stage(stage)
        if base is not None:
            yield base
        for instruction, triggered in self._instructions(stage, base):
            try:
                for name in graph.source_names(instruction):
                    found = None if name in self._around.contexts else self._graph.source_stage(stage, name)
                    if found is not None:
                        yield self._earlier(found, stage)
            except DockerfileError as err:
                raise err.at(stage.from_.span if triggered else instruction.span) from None

    def _earlier(self, found: Stage, stage: Stage) -> Stage:
        name, own = (one.name or f"stage-{one.index}" for one in (found, stage))
        if found.index == stage.index:
            raise DockerfileError(f"circular dependency detected on stage: {name}")
        if found.index > stage.index:
            raise DockerfileError(
                f'cannot copy from stage "{name}", it needs to be defined before current stage "{own}"'
            )
        return found

    def _base_stage(self, stage: Stage) -> Stage | None:
        return self._graph.base_stage(stage, self._bases[stage.index])

    def _instructions(self, stage: Stage, base: Stage | None) -> tuple[tuple[ast.Instruction, bool], ...]:
        """The instructions of a stage; before them those that ONBUILD of its base left for it (marked)."""
        if stage.index not in self._commands:
            if base is not None:
                texts = tuple(one.expression for one in base.instructions if isinstance(one, ast.Onbuild))
            else:
                texts = self._image(stage).on_build
            self._commands[stage.index] = (
                *((_trigger(text, stage), True) for text in texts),
                *((one, False) for one in stage.instructions),
            )
        return self._commands[stage.index]

    # one stage

    def _stage(self, stage: Stage, scope: GlobalScope) -> StageState:
        if stage.name in self._around.contexts:
            return StageState.on_image(self._around.image(stage.name, None))
        for _ in self.dependencies(stage):
            pass  # each is there, and above
        base = self._base_stage(stage)
        if base is not None:
            state = self._states[base.index].child()
        else:
            facts = self._image(stage)
            self._check_platform(stage, facts)
            state = StageState.on_image(facts)
        walk = StageWalk(state, self._around, scope.values, self._graph.dockerfile.directives.escape)
        self.walked[stage.index] = walk
        for instruction, triggered in self._instructions(stage, base):
            span = stage.from_.span if triggered else instruction.span
            try:
                for finding in walk.one(instruction, span):
                    self._add(finding, None if triggered else instruction.statement)
            except DockerfileError as err:
                raise err.at(span) from None
        return state

    def _image(self, stage: Stage) -> ImageFacts:
        name = self._bases[stage.index]
        return SCRATCH if name == "scratch" else self._around.image(name, self._platforms[stage.index])

    def _check_name(self, stage: Stage) -> None:
        """Docker reads the names of all base images, also of stages that it does not build."""
        name = self._bases[stage.index]
        if self._base_stage(stage) is None and name != "scratch" and not self._around.is_image_name(name):
            raise DockerfileError(
                f"failed to parse stage name {quote(name)}: invalid reference format", stage.from_.span
            )

    def _check_platform(self, stage: Stage, facts: ImageFacts) -> None:
        wanted = self._around.platform(self._platforms[stage.index] or "")
        if facts.platform is not None and wanted is not None and facts.platform != wanted:
            name = self._bases[stage.index]
            found, expected = (quote("/".join(one)) for one in (facts.platform, wanted))
            detail = f"Base image {name} was pulled with platform {found}, expected {expected} for current build"
            self._add(Finding(rules.INVALID_BASE_IMAGE_PLATFORM, detail, stage.from_.span, name), None)


def _trigger(text: str, stage: Stage) -> ast.Instruction:
    from parser.grammar import parse_trigger

    try:
        return parse_trigger(text)
    except DockerfileError as err:
        raise DockerfileError(err.message, stage.from_.span, hint=err.hint) from None
