"""What is in a context, what its ignore file leaves out, and how big both are: for looking, not for building.

Sizes are what ``stat`` says of regular files; other things count as files of no bytes. What is left out is walked as
well: how much an ignore file spares is the point of the question.
"""

from __future__ import annotations

import heapq
import os
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING

from builder.errors import ContextError
from builder.pipeline.trees import clean, open_directory
from runtime.values import dataclass

if TYPE_CHECKING:
    from builder.pipeline.trees import Tree
    from parser.ignorefile import State

LARGEST = 20
"""How many of the biggest files are kept."""


@dataclass(frozen=True, slots=True)
class Amount:
    """So many files, directories not counted, of so many bytes."""

    files: int = 0
    size: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.files + other.files, self.size + other.size)


@dataclass(frozen=True, slots=True)
class Survey:
    """A context looked through. `entries` are the names at its top, biggest first: (name, in it, left out); `largest`
    the biggest files in it: (path, bytes)."""

    inside: Amount
    ignored: Amount
    entries: tuple[tuple[str, Amount, Amount], ...]
    largest: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a path is in a context or not: the pattern that decided and its place ("name:line"), "" when none did.

    `partly`: it is a directory that is left out, but something below it may be taken back."""

    path: str
    exists: bool
    ignored: bool
    pattern: str = ""
    place: str = ""
    partly: bool = False


def survey(tree: Tree) -> Survey:
    """Look through *tree*. Raises ContextError, DockerfileError (a pattern that cannot be read)."""
    amounts: dict[str, list[Amount]] = {}
    largest: list[tuple[int, str]] = []
    for path, size, ignored in _walk(tree):
        pair = amounts.setdefault(path.partition("/")[0], [Amount(), Amount()])
        if size is not None:
            pair[ignored] += Amount(1, size)
            if not ignored:
                (heapq.heappush if len(largest) < LARGEST else heapq.heappushpop)(largest, (size, path))
    entries = tuple((name, inside, ignored) for name, (inside, ignored) in amounts.items())
    return Survey(
        inside=sum((one[1] for one in entries), Amount()),
        ignored=sum((one[2] for one in entries), Amount()),
        entries=tuple(sorted(entries, key=lambda one: (-one[1].size, -one[2].size, one[0]))),
        largest=tuple((path, size) for size, path in sorted(largest, key=lambda one: (-one[0], one[1])) if size),
    )


def verdict(tree: Tree, path: str) -> Verdict:
    """What the rules of *tree* say of *path*, relative to its top; it need not exist. Raises DockerfileError."""
    inside = clean(path).lstrip("/")
    try:
        status = os.stat(inside or ".", dir_fd=tree.fd, follow_symlinks=False)
    except OSError:
        status = None
    found = tree.matcher.reason(inside) if tree.matcher is not None and inside else None
    if tree.matcher is None or found is None:
        return Verdict(inside or ".", status is not None, ignored=False)
    ignored = not found[0].startswith("!")
    is_directory = status is not None and stat.S_ISDIR(status.st_mode)
    partly = ignored and is_directory and tree.matcher.may_include_below(inside)
    return Verdict(inside, status is not None, ignored, *found, partly)


def _walk(tree: Tree) -> Iterator[tuple[str, int | None, bool]]:
    """(path, bytes or None for a directory, whether it is left out) of everything."""
    todo: list[tuple[str, State | None]] = [("", None)]
    while todo:
        directory, state = todo.pop()
        try:
            fd = open_directory(tree.fd, directory or ".")
            try:
                with os.scandir(fd) as found:
                    statuses = [(one.name, one.stat(follow_symlinks=False)) for one in found]
            finally:
                os.close(fd)
        except OSError as err:
            raise ContextError(f'cannot read "/{directory}" in {tree.label}: {err.strerror}') from err
        for name, status in sorted(statuses, key=lambda one: one[0]):
            path = f"{directory}/{name}" if directory else name
            ignored, below = tree.matcher.step(path, state) if tree.matcher is not None else (False, None)
            if stat.S_ISDIR(status.st_mode):
                todo.append((path, below))
                yield path, None, ignored
            else:
                yield path, status.st_size if stat.S_ISREG(status.st_mode) else 0, ignored
