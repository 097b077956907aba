"""Dockerfile text → typed instructions → stage graph. Pure: no files, no clock, no environment, nothing else of ours.

The map, in reading order:

    source        text and positions: `Source`, `Position`, `Span`
    redact        credentials in URLs, taken out of what is shown and kept
    errors        `DockerfileError`, the only exception that leaves this package
    lines         the line pass: directives, continuations, comments, heredocs → logical lines
    dockerfile.lark, grammar, transform
                  the shape of one logical line (lark, LALR) → `Statement`
    syntax        `Statement`, `Flag`, `Heredoc`: the parse tree, and its dump
    instructions  the 18 typed instructions and `Dockerfile`
    interpret     `Statement` → instruction: argument counts, flags, durations
    flags, mounts the flags each instruction knows; the options of `RUN --mount`
    words         `$variable` expansion, quoting, word splitting (after parsing, when values are known)
    ports         EXPOSE's port specifications
    graph         stages and what they depend on
    ignorefile    .dockerignore patterns
    checks        docker's build checks and their repairs
    printer, serialize
                  back to text; to bytes that load without lark

`parse` does lines → statements → instructions. It imports lark only when called, since a cached build
loads the parsed form with `serialize.loads` instead.
"""

from __future__ import annotations

from parser.errors import DockerfileError
from parser.instructions import Dockerfile, Instruction
from parser.source import Position, Source, Span

__all__ = ["VERSION", "Dockerfile", "DockerfileError", "Instruction", "Position", "Source", "Span", "parse"]

VERSION = "2"
"""Version of the parsed form: part of the key under which a store keeps it. Raise it when parsing changes."""


def parse(text: str | bytes, *, name: str = "Dockerfile") -> Dockerfile:
    """Parse a whole Dockerfile; `name` is what error messages call it.

    Bytes are read as UTF-8; bytes that are not are kept (surrogateescape) and come out again unchanged.
    Raises DockerfileError, and nothing else, for every text that is not a Dockerfile.
    """
    from parser import grammar

    return grammar.parse(Source.of(text, name=name))
