"""The line pass: physical lines → logical lines.

It knows parser directives, comments, continuations and blank lines, and nothing of instructions. Everything is one
forward walk over the text with constant work per character; no list of lines is made.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from parser.characters import SPACES
from parser.errors import DockerfileError
from parser.instructions import Directives
from parser.source import Position, Source, Span
from parser.syntax import Heredoc

__all__ = ["LineReader", "LogicalLine", "read_syntax"]

_LONGEST = 65_535
"""Bytes in one physical line, docker's limit."""

_BLANK_LINES = re.compile(rf"(?:[{SPACES[:1]}\v\f\r{SPACES[5:]}]*\n)+")
_DIRECTIVE = re.compile(rf"#[{SPACES}]*([a-zA-Z][a-zA-Z0-9]*)[\t\n\f\r ]*=[\t\n\f\r ]*(.+?)[\t\n\f\r ]*")
_SLASHES = re.compile(rf"//[{SPACES}]*([a-zA-Z][a-zA-Z0-9]*)[\t\n\f\r ]*=[\t\n\f\r ]*(.+?)[\t\n\f\r ]*")
_DIRECTIVES = ("syntax", "escape", "check")


@dataclass(frozen=True, slots=True)
class LogicalLine:
    """What one instruction is read from.

    `text` has its continuations joined; `pieces` are (offset in text, line, column) of each part; `gap` says that
    an empty line stood inside; `comments` are the comment lines since the instruction before, or since an empty one.
    """

    text: str
    pieces: tuple[tuple[int, int, int], ...]
    last: Position
    comments: tuple[str, ...]
    gap: bool

    @property
    def span(self) -> Span:
        """The whole of it."""
        _, line, column = self.pieces[0]
        return Span(Position(line, column), self.last)

    def position(self, offset: int) -> Position:
        """Where the character at `offset` of `text` stands in the file."""
        for begin, line, column in reversed(self.pieces):
            if begin <= offset:
                return Position(line, column + offset - begin)
        return Position(self.pieces[0][1], self.pieces[0][2])


class LineReader:
    """Reads logical lines and the contents of here-documents, in turn."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._text = source.text
        self._position = 0
        self._number = 0  # of the line read last, from 1
        self._seen: dict[str, str] = {}
        self._in_directives = True
        self._set_escape("\\")

    @property
    def directives(self) -> Directives:
        """Those of the lines read so far."""
        syntax, check = read_syntax(self._text), _leading_directive(self._text, "check", _DIRECTIVE)
        return Directives(syntax=syntax, escape=self.escape, check=check)

    @property
    def number(self) -> int:
        """The number of the line read last."""
        return self._number

    def logical(self) -> LogicalLine | None:
        """The next logical line that is not empty, or None at the end of the file. Raises DockerfileError."""
        comments: list[str] = []
        while True:
            if not self._in_directives:
                self._skip_blank_lines()
            raw = self._line()
            if raw is None:
                return None
            line = raw.rstrip("\r\n")
            stripped = line.lstrip(SPACES)
            if self._in_directives:
                self._directive(stripped)
                if self._in_directives:
                    continue
            if stripped.startswith("#"):
                comment = line[1:].strip(SPACES)
                # An empty comment ends a description, so that what stands above it belongs to nothing.
                comments = [*comments, comment] if comment else []
                continue
            text, more = self._join(stripped)
            if text or more:
                break
        column = len(line) - len(stripped) + 1
        parts = [text]
        pieces = [(0, self._number, column)]
        length = len(text)
        last = Position(self._number, column + len(text))
        gap = False
        while more and (raw := self._line()) is not None:
            line = raw.rstrip("\r\n")
            stripped = line.lstrip(SPACES)
            last = Position(self._number, len(line) + 1)
            if stripped.startswith("#"):
                continue
            if not stripped:
                gap = True
                continue
            text, more = self._join(line)
            pieces.append((length, self._number, 1))
            parts.append(text)
            length += len(text)
        return LogicalLine("".join(parts), tuple(pieces), last, tuple(comments), gap)

    def heredoc(self, announced: Heredoc, line: LogicalLine) -> Heredoc:
        """Read the content of a here-document. Raises DockerfileError when its end is missing."""
        content: list[str] = []
        while (raw := self._line()) is not None:
            end = raw.rstrip("\r\n")
            if announced.chomp:
                end = end.lstrip("\t")
            if end == announced.name:
                return Heredoc(
                    announced.name, "".join(content), expand=announced.expand, chomp=announced.chomp, fd=announced.fd
                )
            content.append(raw)
        raise DockerfileError(
            "unterminated heredoc",
            line.span,
            hint=f"a line {announced.name} must end it",
            source=self._source,
        )

    def _line(self) -> str | None:
        """The next physical line with its line end."""
        start = self._position
        if start >= len(self._text):
            return None
        end = self._text.find("\n", start) + 1 or len(self._text)
        line = self._text[start:end]
        self._position = end
        self._number += 1
        # A character has at most four bytes, so most lines need no count.
        if len(line) * 4 > _LONGEST and len(line.rstrip("\n").encode("utf-8", "replace")) > _LONGEST:
            raise DockerfileError(
                f"dockerfile line greater than max allowed size of {_LONGEST}",
                Span(Position(self._number), Position(self._number)),
                source=self._source,
            )
        return line

    def _skip_blank_lines(self) -> None:
        match = _BLANK_LINES.match(self._text, self._position)
        if match is not None:
            self._number += self._text.count("\n", match.start(), match.end())
            self._position = match.end()

    def _join(self, line: str) -> tuple[str, bool]:
        """The line without its continuation mark, and whether it had one."""
        body = line.rstrip("\t ")
        # The mark is no mark when the same character stands before it.
        if body.endswith(self.escape) and not body.endswith(self._doubled):
            return body[:-1], True
        return line, False

    def _set_escape(self, token: str) -> None:
        self.escape = token
        self._doubled = token * 2

    def _directive(self, line: str) -> None:
        match = _DIRECTIVE.fullmatch(line)
        name = match[1].lower() if match else ""
        if match is None or name not in _DIRECTIVES:
            self._in_directives = False
            return
        if name in self._seen:
            raise DockerfileError(
                f"only one {name} parser directive can be used", self._here(line), source=self._source
            )
        self._seen[name] = match[2]
        if name == "escape":
            if match[2] not in ("\\", "`"):
                raise DockerfileError(
                    f"invalid escape token '{match[2]}' does not match ` or \\", self._here(line), source=self._source
                )
            self._set_escape(match[2])

    def _here(self, line: str) -> Span:
        return Span(Position(self._number), Position(self._number, len(line) + 1))


def read_syntax(text: str) -> str | None:
    """The value of the `syntax` directive, which may also be written `// syntax=` or as JSON, below a "#!" line."""
    found = _leading_directive(text, "syntax", _DIRECTIVE) or _leading_directive(text, "syntax", _SLASHES)
    if found is None and text[:1000].lstrip("\t\n\r ").startswith("{"):
        import json

        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return None
        syntax = value.get("syntax")
        return syntax if isinstance(syntax, str) else None
    return found


def _leading_directive(text: str, name: str, form: re.Pattern[str]) -> str | None:
    if text.startswith("#!"):
        text = text[text.find("\n") + 1 :] if "\n" in text else ""
    position = 0
    while position < len(text):
        end = text.find("\n", position)
        end = len(text) if end < 0 else end
        match = form.fullmatch(text[position:end].removesuffix("\r"))
        if match is None or match[1].lower() not in _DIRECTIVES:
            return None
        if match[1].lower() == name:
            return match[2]
        position = end + 1
    return None
