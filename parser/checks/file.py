"""The checks of a whole file, in docker's order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from parser import graph
from parser import instructions as ast
from parser.checks import forms, options
from parser.checks.options import Options
from parser.checks.rules import Finding
from parser.checks.surroundings import Surroundings
from parser.checks.walk import Walk
from parser.errors import DockerfileError
from parser.lines import LineReader
from parser.source import Source
from parser.syntax import Statement

__all__ = ["Report", "check", "check_text"]


@dataclass(frozen=True, slots=True)
class Report:
    """What the checks found, ordered by line and text.

    `error` is why a build of this file would fail, with its place; None when nothing was seen; `parsed` is false when
    it is not even a Dockerfile. `fails` says that the file or a build argument wants findings to be errors
    (`error=true`), and that there are some.
    """

    findings: tuple[Finding, ...]
    error: DockerfileError | None = None
    parsed: bool = True
    fails: bool = False

    @property
    def reason(self) -> str:
        """Why a build would fail, in docker's words; "" when it would not."""
        if self.error is None:
            return self.violation if self.fails else ""
        span = self.error.span
        place = f"dockerfile parse error on line {span.start.line}: " if span and not self.parsed else ""
        hint = self.error.hint or ""
        return place + self.error.message + (f" ({hint})" if hint.startswith("did you mean") else "")

    @property
    def violation(self) -> str:
        """The sentence that a build fails with when `fails`."""
        return "lint violation found for rules: " + ", ".join(sorted({one.rule.name for one in self.findings}))


def check(dockerfile: ast.Dockerfile, around: Surroundings) -> Report:
    """Check a file that could be parsed. Raises DockerfileError only for wrong options of the checks themselves."""
    kept = _Kept(options.read(dockerfile.directives.check, _build_arg(around), dockerfile.source))
    try:
        _forms([instruction.statement for instruction in dockerfile.instructions], kept)
    except DockerfileError:
        pass  # an instruction above the first FROM: `stages` says it better
    try:
        Walk(graph.stages(dockerfile), around, kept.add).run()
    except DockerfileError as err:
        return kept.report(err)
    return kept.report()


def check_text(source: Source, around: Surroundings) -> Report:
    """Check a file that may be wrong: what stands before the error is looked at. Raises as `check`."""
    from parser import grammar

    try:
        dockerfile = grammar.parse(source)
    except DockerfileError as err:
        wrong = err
    else:
        return check(dockerfile, around)
    kept = _Kept(options.read(LineReader(source).directives.check, _build_arg(around), source))
    try:
        statements = grammar.statements(source)
    except DockerfileError:
        return kept.report(wrong, parsed=False)  # these are not even lines
    try:
        _forms(statements, kept)
    except DockerfileError:
        pass  # the error that we have
    return kept.report(wrong, parsed=False)


class _Kept:
    """The findings that nobody silenced."""

    def __init__(self, wanted: Options) -> None:
        self._options = wanted
        self._findings: list[Finding] = []

    def add(self, finding: Finding, statement: Statement | None) -> None:
        """Keep `finding`, unless the file or a comment above `statement` silences its rule."""
        wanted = self._options
        if statement is not None and statement.comments and (own := options.local(statement.comments)):
            wanted = wanted.joined(own)
        if wanted.speaks(finding.rule):
            self._findings.append(finding)

    def report(self, error: DockerfileError | None = None, *, parsed: bool = True) -> Report:
        """All that was kept."""
        ordered = tuple(sorted(self._findings, key=lambda one: (one.line, one.detail)))
        return Report(ordered, error, parsed=parsed, fails=self._options.fail and bool(ordered))


def _forms(statements: Sequence[Statement], kept: _Kept) -> None:
    """What can be said of statements alone. Raises DockerfileError at the first that is wrong."""
    for statement in statements:
        for finding in forms.empty_continuation(statement):
            kept.add(finding, None)
    started = False
    for statement in statements:
        for finding in forms.of_statement(statement):
            kept.add(finding, statement)
        started = started or statement.keyword.lower() == "from"
        if not started and statement.keyword.lower() != "arg":
            raise DockerfileError("no build stage in current context", statement.span)


def _build_arg(around: Surroundings) -> str | None:
    return around.build_args.get(options.BUILD_ARG)
