"""Variable expansion, quoting and word splitting of Dockerfile words."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["Expansion", "expand", "expand_words", "process"]

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Expansion:
    """`text` after expansion (quotes removed), `words` it splits into, and the names that were and were not set."""

    text: str
    words: tuple[str, ...]
    matched: frozenset[str]
    unmatched: frozenset[str]


def process(word: str, env: Mapping[str, str], *, escape: str = "\\") -> Expansion:
    """Expand, unquote and split `word`. Raises DockerfileError without a span."""
    raise NotImplementedError


def expand(word: str, env: Mapping[str, str], *, escape: str = "\\") -> str:
    """`word` with variables replaced and quotes removed, as one text. Raises DockerfileError without a span."""
    return process(word, env, escape=escape).text


def expand_words(word: str, env: Mapping[str, str], *, escape: str = "\\") -> list[str]:
    """As `expand`, but unquoted white space splits words. Raises DockerfileError without a span."""
    return list(process(word, env, escape=escape).words)
