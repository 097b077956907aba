"""From a logical line back to the file: edits of the text that leave continuations, comments and line ends alone."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from parser.instructions import Dockerfile, Instruction
from parser.lines import LineReader, LogicalLine
from parser.source import Position

__all__ = ["Edit", "Layout", "Line", "applied"]


@dataclass(frozen=True, slots=True, order=True)
class Edit:
    """Characters `start` to `end` of a source's text become `text`."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """An instruction and the logical line that it was read from."""

    instruction: Instruction
    logical: LogicalLine
    layout: Layout

    @property
    def text(self) -> str:
        """The logical line; offsets count in it."""
        return self.logical.text

    def replace(self, begin: int, end: int, text: str) -> tuple[Edit, ...]:
        """Put `text` in the place of a range. Where that goes over several lines, `text` goes to the first."""
        edits = []
        for start, stop in self._pieces(begin, end):
            place = self.layout.offset(self.logical.position(start))
            edits.append(Edit(place, place + stop - start, text))
            text = ""
        return tuple(edits)

    def insert(self, offset: int, text: str) -> tuple[Edit, ...]:
        """Put `text` before the character at `offset`, on its line; at the end of the line, after the last one."""
        if offset and offset >= len(self.text):
            place = self.layout.offset(self.logical.position(offset - 1)) + 1
        else:
            place = self.layout.offset(self.logical.position(offset))
        return (Edit(place, place, text),)

    def append(self, offset: int, text: str) -> tuple[Edit, ...]:
        """Put `text` after the character before `offset`, on that one's line."""
        place = self.layout.offset(self.logical.position(offset - 1)) + 1
        return (Edit(place, place, text),)

    def in_one_piece(self, begin: int, end: int) -> bool:
        """Whether a range stands on one line of the file."""
        return len(list(self._pieces(begin, end))) <= 1

    def _pieces(self, begin: int, end: int) -> Iterator[tuple[int, int]]:
        starts = [start for start, _, _ in self.logical.pieces]
        for start, stop in zip(starts, [*starts[1:], len(self.text)], strict=True):
            if max(start, begin) < min(stop, end):
                yield max(start, begin), min(stop, end)


class Layout:
    """The lines of a file and of its instructions."""

    def __init__(self, dockerfile: Dockerfile) -> None:
        self.dockerfile = dockerfile
        self.text = dockerfile.source.text
        self._starts = [0]
        for line in self.text.split("\n")[:-1]:
            self._starts.append(self._starts[-1] + len(line) + 1)
        self.lines = tuple(self._read())

    def offset(self, position: Position) -> int:
        """Where a position is in the text."""
        return self._starts[position.line - 1] + position.column - 1

    def whole(self, number: int) -> Edit:
        """The removal of a line of the file, with its end."""
        start = self._starts[number - 1]
        return Edit(start, self._starts[number] if number < len(self._starts) else len(self.text), "")

    def line(self, number: int) -> str:
        """The text of a line of the file, with its end."""
        edit = self.whole(number)
        return self.text[edit.start : edit.end]

    def at(self, number: int) -> Line | None:
        """The instruction that a line of the file belongs to."""
        found = bisect_right(self.lines, number, key=lambda line: line.instruction.span.start.line)
        line = self.lines[found - 1] if found else None
        return line if line is not None and number <= line.instruction.span.end.line else None

    def _read(self) -> Iterator[Line]:
        reader = LineReader(self.dockerfile.source)
        for instruction in self.dockerfile.instructions:
            logical = reader.logical()
            assert logical is not None
            for heredoc in instruction.statement.heredocs:
                reader.heredoc(heredoc, logical)
            yield Line(instruction, logical, self)


def applied(text: str, edits: Iterable[Edit]) -> str:
    """`text` with all edits done. They must not overlap."""
    out: list[str] = []
    done = 0
    for edit in sorted(set(edits)):
        assert edit.start >= done, "two edits of one place"
        out += (text[done : edit.start], edit.text)
        done = edit.end
    return "".join([*out, text[done:]])
