"""Text with positions: what every error and every check points at."""

from __future__ import annotations

from dataclasses import dataclass

from parser.redact import hidden

__all__ = ["Position", "Source", "Span"]

_BOM = "\ufeff"


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a file: line and column, both counted from 1, columns in characters."""

    line: int
    column: int = 1


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """From `start` up to and including the line of `end`; `end.column` is the column after the last character."""

    start: Position
    end: Position

    @classmethod
    def lines(cls, first: int, last: int) -> Span:
        """Whole lines, where nothing finer is known."""
        return cls(Position(first), Position(last))


@dataclass(frozen=True, slots=True)
class Source:
    """The text of a Dockerfile as it was given (without a byte order mark) and the name users know it by."""

    name: str
    text: str

    @classmethod
    def of(cls, text: str | bytes, *, name: str = "Dockerfile") -> Source:
        """Decode as UTF-8, keeping bytes that are not UTF-8, and drop a byte order mark."""
        if isinstance(text, bytes):
            text = text.decode("utf-8", "surrogateescape")
        return cls(name, text.removeprefix(_BOM))

    def line(self, number: int) -> str:
        """The text of line `number` (from 1) without its line end; empty when there is no such line."""
        found = self._lines_from(number, 1)
        return found[0] if found else ""

    def find(self, word: str, span: Span) -> Span | None:
        """The first place of *word* in the lines of *span*, None when it is in none of them."""
        for number, text in enumerate(
            self._lines_from(span.start.line, span.end.line - span.start.line + 1), span.start.line
        ):
            column = text.find(word) + 1
            if column:
                return Span(Position(number, column), Position(number, column + len(word)))
        return None

    def excerpt(self, span: Span, *, context: int = 2) -> str:
        """The lines of `span` with `context` lines around them, marked as docker does:

        1 |     FROM busybox
        2 | >>> RUNN true
        3 |     CMD ["sh"]
        """
        first = max(1, span.start.line - context)
        last = max(span.start.line, span.end.line) + context
        rows = []
        for number, text in enumerate(self._lines_from(first, last - first + 1), first):
            mark = ">>>" if span.start.line <= number <= max(span.start.line, span.end.line) else "   "
            rows.append(f"{number:4d} | {mark} {hidden(text)}".rstrip())
        return "\n".join(rows)

    def citation(self, span: Span, *, column: bool = False) -> str:
        """`excerpt` between rules, below the file's name and the line (and column): how docker ends a failed build."""
        rule = "-" * 20
        place = f"{self.name}:{span.start.line}" + (f":{span.start.column}" if column else "")
        return f"{place}\n{rule}\n{self.excerpt(span)}\n{rule}"

    def _lines_from(self, first: int, count: int) -> list[str]:
        if first < 1:
            return []
        position = 0
        for _ in range(first - 1):
            position = self.text.find("\n", position) + 1
            if position == 0:
                return []
        found = self.text[position:].split("\n", count)
        if len(found) > count or not found[-1]:
            found.pop()  # the rest of the file, or what stands after the last line end and is no line
        return [line.removesuffix("\r") for line in found]
