"""Finding the here-documents that a line announces (`<<EOF`, `<<-EOF`, `<<'EOF'`, `3<<EOF`)."""

from __future__ import annotations

import re

from parser.errors import DockerfileError
from parser.syntax import Heredoc
from parser.words import split_raw

__all__ = ["announced", "find"]

_HEREDOC = re.compile(r"(\d*)<<(-?)\s*([^<]*)", re.ASCII)


def find(line: str) -> list[Heredoc]:
    """The here-documents of a logical line, in order, their contents still empty. Raises DockerfileError."""
    try:
        words = split_raw(line, keep_quotes=True, keep_escapes=True)
    except DockerfileError:
        return []  # an open quote is the shell's to judge, and docker sees no here-document in such a line
    return [heredoc for heredoc in map(announced, words) if heredoc is not None]


def announced(word: str) -> Heredoc | None:
    """The here-document that one word announces, or None. Raises DockerfileError for a name with an open quote."""
    match = _HEREDOC.fullmatch(word)
    if match is None or not match[3]:
        return None
    names = split_raw(match[3], keep_quotes=False)
    if len(names) != 1:
        return None
    quoted = split_raw(match[3], keep_quotes=True)
    if len(quoted) != 1:
        raise DockerfileError(f"the name of the heredoc cannot be read: {match[3]}")
    name = names[0]
    expand = _quotes(name) == _quotes(quoted[0])
    return Heredoc(name, "", expand=expand, chomp=match[2] == "-", fd=int(match[1][:9] or 0))


def _quotes(word: str) -> int:
    return word.count("'") + word.count('"')
