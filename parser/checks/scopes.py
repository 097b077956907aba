"""The global scope and FROM lines: which names the arguments above the first FROM give to base images and platforms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from parser import words
from parser.checks import rules
from parser.checks.names import suggestion
from parser.checks.rules import Finding
from parser.checks.surroundings import Surroundings
from parser.errors import DockerfileError
from parser.graph import Stage, StageGraph
from parser.instructions import Arg
from parser.source import Span
from parser.syntax import quote

__all__ = ["GlobalScope"]


class GlobalScope:
    """The arguments above the first FROM, with the values that the build gives them."""

    def __init__(self, graph: StageGraph, around: Surroundings) -> None:
        """Raises DockerfileError when a default cannot be expanded."""
        self._around = around
        self._escape = graph.dockerfile.directives.escape
        self._lines = graph.global_args
        self.used: dict[int, frozenset[str]] = {}
        """The names that each stage's FROM takes values from."""
        self._automatic = {name: around.build_args.get(name, value) for name, value in around.automatic.items()}
        self.values = _values(self._lines, self._automatic, around.build_args, self._escape)
        self._known = {**self.values, **{arg.name: "" for line in self._lines for arg in line.args}}

    def default_bases(self, stages: Sequence[Stage]) -> Iterator[Finding]:
        """Base images that are no image's name unless an argument is given on the command line."""
        try:
            defaults = _values(self._lines, self._automatic, {}, self._escape)
            names = [words.expand(stage.from_.image, defaults, escape=self._escape) for stage in stages]
        except DockerfileError:
            return  # the build fails at the same place, with its reason
        for stage, name in zip(stages, names, strict=True):
            if not self._around.is_image_name(name):
                detail = f"Default value for ARG {stage.from_.image} results in empty or invalid base image name"
                yield Finding(rules.INVALID_DEFAULT_ARG_IN_FROM, detail, stage.from_.span, stage.from_.image)

    def base(self, stage: Stage) -> tuple[str, list[Finding]]:
        """What FROM names, and what is to be said of its variables. Raises DockerfileError when nothing is left."""
        found = words.process(stage.from_.image, self.values, escape=self._escape)
        findings = list(self._undefined(found.unmatched, stage.from_.span))
        self.used[stage.index] = found.matched
        return found.text, findings

    def platform(self, stage: Stage) -> tuple[str | None, list[Finding]]:
        """`FROM --platform`, None when it is not there, and what is to be said of it."""
        raw, span = stage.from_.platform, stage.from_.span
        if not raw:
            return None, []
        found = words.process(raw, self.values, escape=self._escape)
        findings = list(self._undefined(found.unmatched, span))
        self.used[stage.index] |= found.matched
        if found.matched == {"TARGETPLATFORM"} and not found.unmatched:
            if found.text == self.values["TARGETPLATFORM"]:
                detail = f"Setting platform to predefined {raw} in FROM is redundant as this is the default behavior"
                findings.append(Finding(rules.REDUNDANT_TARGET_PLATFORM, detail, span, raw))
        elif not found.matched and not found.unmatched:
            findings += self._constant(stage, found.text)
        return found.text, findings

    def nearest_to(self, word: str) -> str | None:
        """The hint for an expression that came to nothing: a declared name that is near to one in it."""
        unset = words.process(word, self.values, escape=self._escape).unmatched
        near = next((found for name in sorted(unset) if (found := suggestion(name, self.values))), "")
        return f"did you mean {near}?" if near else None

    def _constant(self, stage: Stage, text: str) -> Iterator[Finding]:
        platform = self._around.platform(text)
        # A stage that is called after its platform means it.
        if platform is not None and not any(part in stage.name for part in platform):
            detail = f"FROM --platform flag should not use constant value {quote(text)}"
            yield Finding(rules.FROM_PLATFORM_FLAG_CONST_DISALLOWED, detail, stage.from_.span, text)

    def _undefined(self, names: frozenset[str], span: Span) -> Iterator[Finding]:
        for name in sorted(names - self._known.keys()):
            near = suggestion(name, self._known)
            detail = f"FROM argument '{name}' is not declared" + (f" (did you mean {near}?)" if near else "")
            yield Finding(rules.UNDEFINED_ARG_IN_FROM, detail, span, name)


def _values(
    lines: Sequence[Arg], automatic: Mapping[str, str], build_args: Mapping[str, str], escape: str
) -> dict[str, str]:
    scope = dict(automatic)
    for line in lines:
        for arg in line.args:
            if arg.name in build_args:
                scope[arg.name] = build_args[arg.name]
            elif arg.default is not None:
                try:
                    scope[arg.name] = words.expand(arg.default, scope, escape=escape)
                except DockerfileError as err:
                    raise err.at(line.span) from None
    return scope
