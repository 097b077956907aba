"""Definitions that are somewhere else: a repository or an archive is fetched, and paths in it begin there."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import BakeError

if TYPE_CHECKING:
    from builder.engine.session import Engine


def checkout(engine: Engine, url: str, undo: ExitStack, *, cwd: Path, environment: Mapping[str, str]) -> Path:
    """The directory that *url* was fetched to; it goes with *undo*. Raises BakeError, ContextError, DownloadFailed."""
    from builder.pipeline import context

    def scratch() -> Path:
        return undo.enter_context(engine.store.scratch())

    tree = context.open_named("definition", url, scratch=scratch, cwd=cwd, environment=environment)
    if not isinstance(tree, context.Tree) or tree.path is None:
        raise BakeError(f"{url} is not a place that definitions can be read from", hint="give a git URL or an archive")
    undo.callback(tree.close)
    return tree.path
