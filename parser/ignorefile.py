""".dockerignore: reading and matching its patterns."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Matcher", "State", "read"]

State = tuple[bool, ...]
"""What `Matcher.step` knows about a directory: which patterns match it or a parent of it."""


def read(text: str | bytes) -> tuple[str, ...]:
    """The patterns of an ignore file in order, cleaned; with "!" first where one takes back."""
    raise NotImplementedError


class Matcher:
    """A list of patterns, ready to match slash-separated paths relative to the context's root."""

    def __init__(self, patterns: Iterable[str]) -> None:
        """Raises DockerfileError for a pattern that cannot be read."""

    def matches(self, path: str) -> bool:
        """Whether `path` or a parent of it is ignored, and no later pattern takes it back."""
        raise NotImplementedError

    def why(self, path: str) -> str | None:
        """The pattern that decided about `path`; None when none matched."""
        raise NotImplementedError

    def step(self, path: str, parent: State | None) -> tuple[bool, State]:
        """`matches`, for a walk from the top: give what `step` returned for the path's directory (None at the root)."""
        raise NotImplementedError

    def may_include_below(self, path: str) -> bool:
        """Whether an exception could take back something below the ignored directory `path`; if not, skip it."""
        raise NotImplementedError
