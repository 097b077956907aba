"""The one error of the parser.

    DockerfileError(message, span, hint, source)

It says what is wrong in docker's words, where, and what would be right. Functions that see a word but no file
(`words`, `mounts`, `ports`) raise it without a span; the caller who knows the instruction adds it with `at`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from parser.source import Source, Span

__all__ = ["DockerfileError", "did_you_mean", "distance", "nearest"]


class DockerfileError(Exception):
    """A Dockerfile, or a part of one, that cannot be used.

    `message` is docker's text for it, `span` the place, `hint` a correction, `source` the file; `word`
    the part of the line that is wrong, where the place is still to be found. `str()` gives
    "Dockerfile:3:1: unknown instruction: RUNN (did you mean RUN?)".
    """

    def __init__(
        self,
        message: str,
        span: Span | None = None,
        *,
        hint: str | None = None,
        source: Source | None = None,
        word: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.span = span
        self.hint = hint
        self.source = source
        self.word = word

    def at(self, span: Span, source: Source | None = None) -> DockerfileError:
        """The same error with a place, its word's within *span* if it is found there; a place that is known already,
        being nearer, stays."""
        if self.span is None and self.word and source is not None:
            span = source.find(self.word, span) or span
        return DockerfileError(
            self.message, self.span or span, hint=self.hint, source=self.source or source, word=self.word
        )

    def excerpt(self) -> str:
        """The place and the lines of the file around it, docker's way; empty when the place is not known."""
        if self.source is None or self.span is None:
            return ""
        return self.source.citation(self.span, column=True)

    def __str__(self) -> str:
        text = self.message if self.hint is None else f"{self.message} ({self.hint})"
        if self.span is None:
            return text
        name = self.source.name if self.source is not None else "Dockerfile"
        return f"{name}:{self.span.start.line}:{self.span.start.column}: {text}"

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self.message, self.span, self.hint, self.source, self.word)


def _rebuild(
    message: str, span: Span | None, hint: str | None, source: Source | None, word: str | None
) -> DockerfileError:
    return DockerfileError(message, span, hint=hint, source=source, word=word)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that is a typing error or two away from `word`, or None. Case is ignored in the comparison."""
    lowered = word.lower()
    best: tuple[int, str] | None = None
    for candidate in known:
        other = candidate.lower()
        # Two slips, as docker allows, but never so many that a short word becomes a quite different one.
        limit = min(2, (min(len(lowered), len(other)) + 1) // 2)
        edits = distance(lowered, other, limit)
        if edits <= limit and (best is None or edits < best[0]):
            best = (edits, candidate)
    return best[1] if best else None


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """The hint "did you mean X?" when a known word is near enough."""
    found = nearest(word, known)
    return f"did you mean {found}?" if found else None


def distance(left: str, right: str, limit: int) -> int:
    """Levenshtein's edit distance, or `limit + 1` when it is certain to be larger."""
    if abs(len(left) - len(right)) > limit:
        return limit + 1
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        previous, row = row, [i]
        for j, b in enumerate(right, 1):
            row.append(min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (a != b)))
    return row[-1]
