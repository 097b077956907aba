"""A parsed Dockerfile as text again: one logical line per instruction, without comments and layout.

What is printed parses to an equal `Dockerfile`. Editing a file while keeping its layout is not for this module.
"""

from __future__ import annotations

import re

from parser.instructions import Dockerfile, Instruction

__all__ = ["print_dockerfile"]

_LONGEST_PIECE = 16_000
"""Characters in a printed line: four bytes each stay under docker's limit for a physical line."""
_PLAIN = re.compile(r"[A-Za-z0-9]{2}")


def print_dockerfile(dockerfile: Dockerfile) -> str:
    """The text of `dockerfile`."""
    directives = dockerfile.directives
    lines = []
    if directives.syntax is not None:
        lines.append(f"# syntax={directives.syntax}\n")
    if directives.escape != "\\":
        lines.append(f"# escape={directives.escape}\n")
    if directives.check is not None:
        lines.append(f"# check={directives.check}\n")
    lines += [_instruction(one, directives.escape) for one in dockerfile.instructions]
    return "".join(lines)


def _instruction(instruction: Instruction, escape: str) -> str:
    text = instruction.original
    body = text.rstrip("\t ")
    if body.endswith(escape) and not body.endswith(escape * 2):
        # Only the last line of a file can end so: its continuation never came, and does not come here either.
        text += escape
    documents = "".join(f"{one.content}{one.name}\n" for one in instruction.statement.heredocs)
    return f"{_broken(text, escape)}\n{documents}"


def _broken(text: str, escape: str) -> str:
    """A line in pieces that are not too long, each broken inside a plain word, where a break changes nothing."""
    pieces = []
    start = 0
    while len(text) - start > _LONGEST_PIECE:
        found = _PLAIN.search(text, start + _LONGEST_PIECE)
        if found is None:
            break
        pieces.append(text[start : found.start() + 1])
        start = found.start() + 1
    pieces.append(text[start:])
    return f"{escape}\n".join(pieces)
