"""Texts with templates in them before their expressions are read: what is text, and what becomes of its white space.

Pure functions on text and marks; the tree in a mark is the grammar's, and nobody here looks into it.
"""

from __future__ import annotations

from typing import Any

from builder.engine.bake import syntax as s
from runtime.values import dataclass, replace

OPENS = ("${", "%{")
_ESCAPED = ("$${", "%%{")


def masked(text: str) -> str:
    """*text* as the inside of a quoted string, of the same length: what would end or escape one is overwritten."""
    out, modes, at = [], [""], 0
    while at < len(text):
        letter = text[at]
        write = letter
        if modes[-1] != "{" and text[at : at + 3] in _ESCAPED:
            write = text[at : at + 3]
        elif modes[-1] != "{" and text[at : at + 2] in OPENS:
            modes.append("{")
            write = text[at : at + 2]
        elif modes[-1] == "":
            if letter in '"\\':
                write = "_"
        elif modes[-1] == '"':
            if letter == "\\":
                write = text[at : at + 2]
            elif letter == '"':
                modes.pop()
        elif letter == '"':
            modes.append('"')
        elif letter == "{":
            modes.append("{")
        elif letter == "}":
            modes.pop()
        out.append(write)
        at += len(write)
    return "".join(out)


@dataclass(frozen=True, slots=True)
class Mark:
    """A part of a template as the grammar has it: `kind` is "text", "value" or a directive's rule."""

    kind: str
    place: s.Place
    text: str = ""
    tree: Any = None
    strip: tuple[bool, bool] = (False, False)


def stripped(marks: list[Mark]) -> list[Mark]:
    """Texts without the white space that strip markers beside them take away."""
    done = []
    for at, mark in enumerate(marks):
        text = mark.text
        if mark.kind == "text":
            if at and marks[at - 1].strip[1]:
                text = text.lstrip()
            if at + 1 < len(marks) and marks[at + 1].strip[0]:
                text = text.rstrip()
        done.append(replace(mark, text=text))
    return done


def flushed(marks: list[Mark]) -> list[Mark]:
    """The marks of a `<<-` heredoc: its lines lose the indentation that all of them have."""
    lines: list[tuple[int, str, bool]] = []
    begins = True
    for index, mark in enumerate(marks):
        if mark.kind != "text":
            lines.append((index, "", begins))
            begins = False
            continue
        for line in mark.text.splitlines(keepends=True):
            lines.append((index, line, begins))
            begins = line.endswith("\n")
    least = min((_spaces(line) for _, line, first in lines if first and not _blank(line)), default=0)
    texts: dict[int, str] = {}
    for index, line, first in lines:
        texts[index] = texts.get(index, "") + (line[least:] if first and not _blank(line) else line)
    return [replace(mark, text=texts.get(index, "")) for index, mark in enumerate(marks)]


def unindented(text: str) -> str:
    """The text of a `<<-` heredoc without templates."""
    lines = text.splitlines(keepends=True)
    least = min((_spaces(line) for line in lines if not _blank(line)), default=0)
    return "".join(line if _blank(line) else line[least:] for line in lines)


def _spaces(line: str) -> int:
    return len(line) - len(line.lstrip())


def _blank(line: str) -> bool:
    """A line of white space only, which says nothing about how far the text is indented."""
    return line.endswith("\n") and not line.strip()
