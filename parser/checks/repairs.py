"""Repairing a file: all that is certain, until nothing certain is left, and never more than was meant.

Every result is parsed again and compared with what was there, instruction by instruction; an edit that would change
anything else is not made.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass, replace

from parser import instructions as ast
from parser.checks.commands import argv_of
from parser.checks.file import Report, check, check_text
from parser.checks.fixes import AUTHORS, fix, same_value
from parser.checks.positions import Edit, Layout, Line, applied
from parser.checks.rules import Finding
from parser.checks.surroundings import Surroundings
from parser.errors import DockerfileError
from parser.grammar import parse
from parser.source import Source
from parser.words import process

__all__ = ["Repaired", "certain", "repair"]

_MOST_ROUNDS = 10
"""One repair may uncover another (the case of FROM, then of AS); real files need two or three."""


@dataclass(frozen=True, slots=True)
class Repaired:
    """A file after its repair: the text, what the checks say now, and how many findings were done away with."""

    source: Source
    report: Report
    fixed: int


def certain(source: Source, report: Report) -> dict[Finding, tuple[Edit, ...]]:
    """The findings of `report` on `source` that have a repair, each with its edits. Empty for what is no Dockerfile."""
    return _certain(parse(source), report) if report.parsed and report.findings else {}


def _certain(dockerfile: ast.Dockerfile, report: Report) -> dict[Finding, tuple[Edit, ...]]:
    layout = Layout(dockerfile)
    found: dict[Finding, tuple[Edit, ...]] = {}
    for finding in report.findings:
        line = layout.at(finding.line)
        edits = fix(finding, line) if line is not None else ()
        if line is not None and edits and _stays_alone(line, edits):
            found[finding] = edits
    return found


def repair(source: Source, around: Surroundings) -> Repaired:
    """Do what is certain. Raises DockerfileError as `check` does."""
    report = first = check_text(source, around)
    if not report.parsed or not report.findings:
        return Repaired(source, report, 0)
    dockerfile = parse(source)
    for _ in range(_MOST_ROUNDS):
        after = _edited(dockerfile, _together(_certain(dockerfile, report).values()))
        if after is None or after.source == dockerfile.source:
            break
        dockerfile = after
        report = check(dockerfile, around)
    return Repaired(dockerfile.source, report, len(first.findings) - len(report.findings))


def _together(groups: Iterable[tuple[Edit, ...]]) -> tuple[Edit, ...]:
    """The edits of all groups, but for a group that would touch what an earlier one edits: the next round has it."""
    taken: list[Edit] = []
    for group in groups:
        new = sorted(set(group).difference(taken[_from(taken, group[0]) :]))
        if not any(_touches(taken, edit) for edit in new):
            for edit in new:
                insort(taken, edit)
    return tuple(taken)


def _from(taken: list[Edit], edit: Edit) -> int:
    return max(bisect_left(taken, edit) - 1, 0)


def _touches(taken: list[Edit], edit: Edit) -> bool:
    at = bisect_left(taken, edit)
    return any(max(edit.start, other.start) <= min(edit.end, other.end) for other in taken[max(at - 1, 0) : at + 1])


def _stays_alone(line: Line, edits: tuple[Edit, ...]) -> bool:
    """Whether `_edited` would take the edits of one instruction, found out from its own lines.

    A file with many findings is not parsed for each."""
    layout = line.layout
    span = line.instruction.span
    begin = layout.text.rfind("\n", 0, min(layout.offset(span.start), edits[0].start)) + 1
    end = layout.whole(span.end.line).end
    top = "# escape=`\n\n" if layout.dockerfile.directives.escape == "`" else "\n"
    text = top + layout.text[begin:end]
    moved = tuple(Edit(edit.start - begin + len(top), edit.end - begin + len(top), edit.text) for edit in edits)
    return _edited(parse(replace(layout.dockerfile.source, text=text)), moved) is not None


def _edited(before: ast.Dockerfile, edits: tuple[Edit, ...]) -> ast.Dockerfile | None:
    """The file with the edits made; None unless it has the same instructions, but for what repairs may change."""
    text = applied(before.source.text, edits)
    try:
        after = parse(replace(before.source, text=text))
    except DockerfileError:
        return None
    escape = before.directives.escape
    same = (
        before.directives == after.directives
        and len(before.instructions) == len(after.instructions)
        and all(_alike(*pair, escape) for pair in zip(before.instructions, after.instructions, strict=True))
    )
    return after if same else None


def _alike(before: ast.Instruction, after: ast.Instruction, escape: str) -> bool:
    """Whether two instructions do the same, or one is the other's repair."""
    match before, after:
        case (ast.Env(), ast.Env()) | (ast.Label(), ast.Label()):
            assert isinstance(before, ast.Env | ast.Label)
            assert isinstance(after, ast.Env | ast.Label)
            return len(before.pairs) == len(after.pairs) and all(
                one.key == other.key and (one == other or same_value(one.value, other.value, escape=escape))
                for one, other in zip(before.pairs, after.pairs, strict=True)
            )
        case ast.Maintainer(), ast.Label(pairs=(pair,)):
            return pair.key == AUTHORS and process(pair.value, {}, escape=escape).text == before.name
        case (ast.Cmd(), ast.Cmd()) | (ast.Entrypoint(), ast.Entrypoint()):
            assert isinstance(before, ast.Cmd | ast.Entrypoint)
            assert isinstance(after, ast.Cmd | ast.Entrypoint)
            if isinstance(before.command, ast.ShellForm) and isinstance(after.command, ast.ExecForm):
                return argv_of(before.command.script) == after.command.argv
            return before.command == after.command
        case ast.Workdir(), ast.Workdir():
            return after.path == before.path or (after.path.startswith("/") and after.path.endswith(f"/{before.path}"))
        case ast.From(), ast.From(platform=None):
            redundant = before.platform in ("$TARGETPLATFORM", "${TARGETPLATFORM}")
            return after == (replace(before, platform=None) if redundant else before)
        case ast.Expose(), ast.Expose():
            return _ports(before) == _ports(after)
    return type(before) is type(after) and before == after


def _ports(line: ast.Expose) -> list[str]:
    return sorted(port.rpartition(":")[2].lower() for port in line.ports)
