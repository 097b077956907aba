"""The parse tree: one `Statement` per instruction of the file, arguments not yet interpreted.

It is what BuildKit calls its AST and has the same facts, so that both can be compared (`dump`).
"""

from __future__ import annotations

from dataclasses import dataclass

from parser.source import Span

__all__ = ["Flag", "Heredoc", "Statement"]


@dataclass(frozen=True, slots=True)
class Flag:
    """`--name` or `--name=value` after an instruction's name; quotes removed, variables not expanded."""

    name: str
    value: str | None = None

    def __str__(self) -> str:
        return f"--{self.name}" if self.value is None else f"--{self.name}={self.value}"


@dataclass(frozen=True, slots=True)
class Heredoc:
    """A here-document of RUN, COPY or ADD.

    `content` is the text of the file up to the terminator, line ends included; `expand` is false when any part
    of the name was quoted; `chomp` says that it was written `<<-`: see `text`.
    """

    name: str
    content: str
    expand: bool = True
    chomp: bool = False
    fd: int = 0

    @property
    def text(self) -> str:
        """The content as its reader gets it: for `<<-` without leading tabs."""
        if not self.chomp:
            return self.content
        return "".join(line.lstrip("\t") for line in self.content.splitlines(keepends=True))


@dataclass(frozen=True, slots=True)
class Statement:
    """One instruction as written.

    keyword   as the user spelt it
    original  the logical line: continuations joined, comments in between dropped, heredoc contents not included
    flags     in order
    args      the arguments by the instruction's own splitting rule: name, value, separator triples for ENV and
              LABEL; words for FROM, EXPOSE, ARG, COPY, ADD, VOLUME; one text for the rest; strings of a JSON array
    json      the arguments were a JSON array of strings
    heredocs  of this line, in order
    inner     what stands after ONBUILD
    comments  the comment lines right above, without "#"
    gap       an empty line stands inside a continuation (docker warns)
    """

    keyword: str
    original: str
    span: Span
    flags: tuple[Flag, ...] = ()
    args: tuple[str, ...] = ()
    json: bool = False
    heredocs: tuple[Heredoc, ...] = ()
    inner: Statement | None = None
    comments: tuple[str, ...] = ()
    gap: bool = False
