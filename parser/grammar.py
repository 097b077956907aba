"""Lines → statements → instructions: the way through the parser. With `transform` the only module that loads lark."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from lark import Lark
from lark.exceptions import LarkError, VisitError

from parser.characters import SPACES
from parser.errors import DockerfileError
from parser.heredocs import find
from parser.instructions import Dockerfile, Instruction
from parser.interpret import interpret
from parser.lines import LineReader, LogicalLine
from parser.source import Position, Source, Span
from parser.syntax import Heredoc, Parts, Statement
from parser.transform import ToParts

__all__ = ["parse", "parse_trigger", "statements"]

_MOST_INSTRUCTIONS = 250_000
"""Keeps the memory of a hostile file bounded; real files have hundreds."""


def parse(source: Source) -> Dockerfile:
    """Parse a whole Dockerfile. Raises DockerfileError."""
    reader = LineReader(source)
    instructions: list[Instruction] = []
    wrong: DockerfileError | None = None
    while (line := reader.logical()) is not None:
        statement = _statement(line, reader, source)
        if len(instructions) >= _MOST_INSTRUCTIONS:
            raise DockerfileError(f"more than {_MOST_INSTRUCTIONS} instructions", statement.span, source=source)
        if wrong is not None:
            continue  # errors of form further down come first, as with docker
        try:
            instructions.append(interpret(statement))
        except DockerfileError as err:
            wrong = _placed(err, line, source)
    if wrong is not None:
        raise wrong
    if not instructions:
        place = Position(max(1, reader.number))
        raise DockerfileError(
            "file with no instructions",
            Span(place, place),
            hint="the Dockerfile is empty: it needs at least FROM",
            source=source,
        )
    return Dockerfile(source, reader.directives, tuple(instructions))


def statements(source: Source) -> tuple[Statement, ...]:
    """The parse tree alone: also of files whose instructions are unknown or wrong. Raises DockerfileError."""
    reader = LineReader(source)
    found = []
    while (line := reader.logical()) is not None:
        found.append(_statement(line, reader, source))
    return tuple(found)


def parse_trigger(expression: str) -> Instruction:
    """Read the text of an ONBUILD trigger from an image's config: one instruction. Raises DockerfileError."""
    source = Source.of(expression, name="ONBUILD trigger")
    instructions = parse(source).instructions
    if len(instructions) != 1:
        raise DockerfileError("onbuild trigger should be a single expression", source=source)
    return instructions[0]


@cache
def _lark() -> Lark:
    text = files("parser").joinpath("dockerfile.lark").read_text("utf-8")
    return Lark(
        text,
        parser="lalr",
        lexer="contextual",
        start=["backslash", "backtick"],
        transformer=ToParts(),
        maybe_placeholders=False,
    )


def _statement(line: LogicalLine, reader: LineReader, source: Source) -> Statement:
    try:
        parts = _parts(line.text.strip(SPACES), reader.escape)
        heredocs: tuple[Heredoc, ...] = ()
        if "<<" in line.text and _takes_heredocs(parts):
            heredocs = tuple(reader.heredoc(announced, line) for announced in find(line.text))
    except DockerfileError as err:
        raise _placed(err, line, source) from None
    end = Position(reader.number, len(heredocs[-1].name) + 1) if heredocs else line.last
    return Statement(
        parts.keyword,
        line.text,
        Span(line.span.start, end),
        parts.flags,
        parts.args,
        json=parts.json,
        heredocs=heredocs,
        inner=parts.inner,
        comments=line.comments,
        gap=line.gap,
    )


def _parts(text: str, escape: str) -> Parts:
    if not text:
        return Parts("", args=("",))
    try:
        parts: object = _lark().parse(text, start="backtick" if escape == "`" else "backslash")
    except VisitError as err:
        if isinstance(err.orig_exc, DockerfileError):
            raise err.orig_exc from None
        raise
    except LarkError as err:
        raise DockerfileError(f"this instruction cannot be read: {text[:40]}") from err
    assert isinstance(parts, Parts)
    return parts


def _takes_heredocs(parts: Parts) -> bool:
    if parts.keyword.lower() == "onbuild" and parts.inner is not None:
        parts = parts.inner
    return parts.keyword.lower() in ("run", "copy", "add") and not parts.json


def _placed(err: DockerfileError, line: LogicalLine, source: Source) -> DockerfileError:
    """The error with the place of the word that it is about, or else of the whole line."""
    if err.span is not None:
        return err
    span = line.span
    if err.word and (offset := line.text.find(err.word)) >= 0:
        span = Span(line.position(offset), line.position(offset + len(err.word)))
    return err.at(span, source)
