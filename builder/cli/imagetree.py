"""`images --tree`: docker's table, in which platforms are branches below the names of an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from builder.cli import units

if TYPE_CHECKING:
    from builder.engine.imagetree import Branch, Tree

_GAP = "   "
_ID, _USAGE, _CONTENT, _EXTRA = 12, 10, 12, 5
_LEAST = 12
"""Columns that the names keep at least."""
_BOLD, _FAINT, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"


def lines(trees: Sequence[Tree], *, width: int, terminal: bool) -> Iterator[str]:
    """The table. On a terminal headers are bold, and platforms that are not here faint."""
    room = max(_LEAST, width - sum(len(_GAP) + each for each in (_ID, _USAGE, _CONTENT, _EXTRA)))
    names = [name for tree in trees for name in _names(tree)]
    names += [f"└─ {branch.platform}" for tree in trees for branch in tree.branches]
    first = min(room, max([len("IMAGE"), *map(len, names)]))
    legend = "i Info →   U  In Use"
    yield legend.rjust(max(width, len(legend)))
    header = _row("IMAGE", ("ID", "DISK USAGE", "CONTENT SIZE", "EXTRA"), first)
    yield f"{_BOLD}{header}{_PLAIN}" if terminal else header
    for at, tree in enumerate(trees):
        if at and (tree.branches or trees[at - 1].branches):
            yield ""
        *more, last = _names(tree)
        yield from (_cut(name, first) for name in more)
        yield _row(last, _facts(tree), first)
        for branch in tree.branches:
            mark = "└─ " if branch is tree.branches[-1] else "├─ "
            line = _row(mark + branch.platform, _facts(branch), first)
            yield f"{_FAINT}{line}{_PLAIN}" if terminal and not branch.here else line


def _names(tree: Tree) -> tuple[str, ...]:
    return tree.names or ("<untagged>",)


def _facts(of: Tree | Branch) -> tuple[str, str, str, str]:
    short = of.id.removeprefix("sha256:")[:12]
    return short, units.size(of.usage), units.size(of.content), " U" if of.used else ""


def _row(name: str, facts: tuple[str, str, str, str], first: int) -> str:
    short, usage, content, extra = facts
    cells = (_cut(name, first).ljust(first), short.ljust(_ID), usage.rjust(_USAGE), content.rjust(_CONTENT), extra)
    return _GAP.join(cells).rstrip()


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."
