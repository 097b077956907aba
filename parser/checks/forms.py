"""Checks of how a file is written: each statement by itself, then keywords and stage names of the whole file.

They need no values of variables. The first kind works on statements alone, so that a file which is wrong further down
still gets its findings up to there, as with docker.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from parser.checks import rules
from parser.checks.rules import Finding
from parser.graph import Stage
from parser.instructions import Arg, From
from parser.interpret import interpret
from parser.source import Position, Span
from parser.syntax import Statement, quote

__all__ = ["empty_continuation", "of_file", "of_statement"]

_RESERVED = ("context", "scratch")


def of_statement(statement: Statement) -> Iterator[Finding]:
    """What can be said of one statement. Raises DockerfileError where it is wrong, after what comes before that."""
    keyword = statement.keyword.lower()
    if keyword == "maintainer":
        detail = "Maintainer instruction is deprecated in favor of using label"
        yield Finding(rules.MAINTAINER_DEPRECATED, detail, statement.span)
    elif keyword == "from":
        yield from _from_casing(statement)
    instruction = interpret(statement)
    if isinstance(instruction, Arg):
        yield from _description(statement, "ARG", [one.name for one in instruction.args])
    elif isinstance(instruction, From) and instruction.alias:
        yield from _description(statement, "FROM", [instruction.alias])


def empty_continuation(statement: Statement) -> Iterator[Finding]:
    """Docker finds these while it reads lines, before anything else."""
    if statement.gap:
        documents = sum(one.content.count("\n") + 1 for one in statement.heredocs)
        last = Position(statement.span.end.line - documents)
        yield Finding(rules.NO_EMPTY_CONTINUATION, "Empty continuation line", Span(last, last))


def _from_casing(statement: Statement) -> Iterator[Finding]:
    keyword, args = statement.keyword, statement.args
    if len(args) == 3 and args[2] != args[2].lower():
        detail = f"Stage name '{args[2]}' should be lowercase"
        yield Finding(rules.STAGE_NAME_CASING, detail, statement.span, args[2])
    # A keyword of mixed case is a finding of its own, and says nothing about "as".
    if len(args) > 2 and _consistent(keyword):
        wanted = args[1].lower() if keyword == keyword.lower() else args[1].upper()
        if args[1] != wanted:
            detail = f"'{args[1]}' and '{keyword}' keywords' casing do not match"
            yield Finding(rules.FROM_AS_CASING, detail, statement.span, args[1])


def _description(statement: Statement, keyword: str, names: list[str]) -> Iterator[Finding]:
    if not statement.comments:
        return
    first, *_ = statement.comments[-1].split(" ")
    if first not in names:
        example = names[0] if len(names) == 1 else "<arg_key>"
        detail = f"Comment for {keyword} should follow the format: `# {example} <description>`"
        yield Finding(rules.INVALID_DEFINITION_DESCRIPTION, detail, statement.span, first)


def of_file(stages: Iterable[Stage]) -> Iterator[Finding]:
    """Stage names and the case of keywords. ARGs above the first FROM are not looked at."""
    stages = tuple(stages)
    seen: set[str] = set()
    for stage in stages:
        yield from _stage_name(stage, seen)
        seen.add(stage.name)
    statements = [one.statement for stage in stages for one in (stage.from_, *stage.instructions)]
    settled = [one.keyword for one in statements if _consistent(one.keyword)]
    lower = sum(keyword == keyword.lower() for keyword in settled)
    majority = "lowercase" if lower > len(settled) - lower else "uppercase"
    for statement in statements:
        keyword = statement.keyword
        if keyword != (keyword.lower() if majority == "lowercase" else keyword.upper()):
            detail = f"Command '{keyword}' should match the case of the command majority ({majority})"
            yield Finding(rules.CONSISTENT_INSTRUCTION_CASING, detail, statement.span, majority)


def _stage_name(stage: Stage, seen: set[str]) -> Iterator[Finding]:
    name, span = stage.name, stage.from_.span
    if name in _RESERVED:
        detail = f"Stage name should not use the same name as reserved stage {quote(name)}"
        yield Finding(rules.RESERVED_STAGE_NAME, detail, span, name)
    if name and name in seen:
        detail = f"Duplicate stage name {quote(name)}, stage names should be unique"
        yield Finding(rules.DUPLICATE_STAGE_NAME, detail, span, name)


def _consistent(keyword: str) -> bool:
    return keyword in (keyword.lower(), keyword.upper())
