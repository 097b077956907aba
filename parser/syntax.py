"""The parse tree: one `Statement` per instruction of the file, arguments not yet interpreted.

It is what BuildKit calls its AST and has the same facts, so that both can be compared (`dump`).
"""

from __future__ import annotations

from dataclasses import dataclass

from parser.source import Span

__all__ = ["Flag", "Heredoc", "Parts", "Statement", "dump", "quote"]


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
class Parts:
    """What the text of one line alone says: see `Statement`, which adds where it stands and what belongs to it."""

    keyword: str
    flags: tuple[Flag, ...] = ()
    args: tuple[str, ...] = ()
    json: bool = False
    inner: Parts | None = None


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
    inner     what stands after ONBUILD; only its keyword, flags and arguments
    comments  the comment lines above, without "#", from the last empty comment on
    gap       an empty line stands inside a continuation (docker warns)
    """

    keyword: str
    original: str
    span: Span
    flags: tuple[Flag, ...] = ()
    args: tuple[str, ...] = ()
    json: bool = False
    heredocs: tuple[Heredoc, ...] = ()
    inner: Parts | None = None
    comments: tuple[str, ...] = ()
    gap: bool = False


def dump(statement: Statement | Parts) -> str:
    """The statement as docker's parser prints its tree: `run ["--mount=x"] "text"`; without outer parentheses."""
    words = [statement.keyword.lower()]
    if statement.flags:
        words.append("[" + " ".join(quote(str(flag)) for flag in statement.flags) + "]")
    words += map(quote, statement.args)
    if statement.inner is not None:
        words.append(f"({dump(statement.inner)})")
    return " ".join(words).strip()


_ESCAPES = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
    '"': '\\"',
}


def quote(text: str) -> str:
    """`text` between double quotes, as Go's %q writes it."""
    return '"' + "".join(_quoted(character) for character in text) + '"'


def _quoted(character: str) -> str:
    if (escaped := _ESCAPES.get(character)) is not None:
        return escaped
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"  # a byte that was no UTF-8
    if character.isprintable():
        return character
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
