"""Repairing a file: all that is certain, until nothing certain is left, and never more than was meant.

Every result is parsed again and compared with what was there, instruction by instruction; an edit that would change
anything else is not made.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from parser import instructions as ast
from parser.checks.commands import argv_of
from parser.checks.file import Report, check_text
from parser.checks.fixes import AUTHORS, fix, same_value
from parser.checks.positions import Edit, Layout, applied
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
    if not report.parsed or not report.findings:
        return {}
    layout = Layout(parse(source))
    found: dict[Finding, tuple[Edit, ...]] = {}
    for finding in report.findings:
        edits = fix(finding, layout)
        if edits and _stays(layout.dockerfile, edits):
            found[finding] = edits
    return found


def repair(source: Source, around: Surroundings) -> Repaired:
    """Do what is certain. Raises DockerfileError as `check` does."""
    report = first = check_text(source, around)
    for _ in range(_MOST_ROUNDS):
        edits = _together(certain(source, report).values())
        if not edits or not _stays(parse(source), edits):
            break
        source = replace(source, text=applied(source.text, edits))
        report = check_text(source, around)
    return Repaired(source, report, len(first.findings) - len(report.findings))


def _together(groups: Iterable[tuple[Edit, ...]]) -> tuple[Edit, ...]:
    """The edits of all groups, but for a group that would touch what an earlier one edits: the next round has it."""
    taken: set[Edit] = set()
    for group in groups:
        new = set(group) - taken
        if not any(_overlap(edit, other) for edit in new for other in taken):
            taken |= new
    return tuple(sorted(taken))


def _overlap(one: Edit, other: Edit) -> bool:
    return max(one.start, other.start) <= min(one.end, other.end)


def _stays(before: ast.Dockerfile, edits: tuple[Edit, ...]) -> bool:
    """Whether the edits leave a Dockerfile of the same instructions, but for what repairs may change."""
    text = applied(before.source.text, edits)
    try:
        after = parse(replace(before.source, text=text))
    except DockerfileError:
        return False
    escape = before.directives.escape
    return (
        before.directives == after.directives
        and len(before.instructions) == len(after.instructions)
        and all(_alike(*pair, escape) for pair in zip(before.instructions, after.instructions, strict=True))
    )


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
