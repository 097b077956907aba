"""Which paths of a tree a COPY sees: .dockerignore, ``--exclude`` and the patterns of ``--parents``.

A directory that is left out is still walked when something below it may be taken in again, and is then there only if
something was. Directories that cannot have anything are pruned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from builder.pipeline.globs import BadPattern, match
from runtime.values import dataclass

if TYPE_CHECKING:
    from parser.ignorefile import Matcher, State


class Place(NamedTuple):
    """What a filter knows about a directory while its contents are looked at."""

    hide: State | None = None
    exclude: State | None = None
    include: State | None = None


class Verdict(NamedTuple):
    """What a filter says of one path."""

    wanted: bool
    descend: bool
    """Only for directories: something below may be wanted."""
    place: Place


@dataclass(frozen=True, slots=True)
class Filter:
    """The three sets of patterns that decide; None means that there are none.

    *hide* works on paths from the top of the tree, *exclude* and *include* on paths from the top of the source.
    """

    hide: Matcher | None = None
    exclude: Matcher | None = None
    include: Matcher | None = None
    include_patterns: tuple[str, ...] = ()

    @property
    def active(self) -> bool:
        """Whether anything can be left out."""
        return self.hide is not None or self.exclude is not None or self.include is not None

    def top(self, path: str) -> Verdict:
        """The verdict on a source itself, *path* from the top of the tree ("." is the top)."""
        place = Place()
        wanted = descend = True
        if self.hide is not None and path != ".":
            state: State | None = None
            parts = path.split("/")
            hidden = False
            for index in range(len(parts)):
                hidden, state = self.hide.step("/".join(parts[: index + 1]), state)
            wanted = not hidden
            descend = wanted or self.hide.may_include_below(path)
            place = Place(hide=state)
        return Verdict(wanted, descend, place)

    def look(self, path: str, relative: str, parent: Place) -> Verdict:
        """The verdict on *path* (*relative* to the source), whose directory has the place *parent*."""
        wanted = descend = True
        hide, exclude, include = parent
        if self.hide is not None:
            out, hide = self.hide.step(path, parent.hide)
            if out:
                wanted = False
                descend = self.hide.may_include_below(path)
        if self.exclude is not None:
            out, exclude = self.exclude.step(relative, parent.exclude)
            if out:
                wanted = False
                descend = descend and self.exclude.may_include_below(relative)
        if self.include is not None:
            taken, include = self.include.step(relative, parent.include)
            if not taken:
                wanted = False
                descend = descend and could_match_below(self.include_patterns, relative)
        return Verdict(wanted, descend, Place(hide, exclude, include))


def could_match_below(patterns: Sequence[str], directory: str) -> bool:
    """Whether one of *patterns* (with ``**``, as in .dockerignore) could match something below *directory*."""
    parts = directory.split("/")
    return any(_reaches(pattern.strip("/").split("/"), parts) for pattern in patterns)


def _reaches(pattern: Sequence[str], parts: Sequence[str]) -> bool:
    for index, part in enumerate(parts):
        if index >= len(pattern):
            return False
        if "**" in pattern[index]:
            return True
        try:
            if not match(pattern[index], part):
                return False
        except BadPattern:
            return True
    return len(pattern) > len(parts)
