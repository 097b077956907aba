"""Build contexts as `context ls` shows them: opened as a build opens them, and looked through."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from io import BytesIO
from typing import TYPE_CHECKING, BinaryIO

from builder.errors import DockerfileNotFound
from runtime.values import dataclass, replace

if TYPE_CHECKING:
    from builder.engine.builds import BuildWish
    from builder.engine.session import Engine
    from builder.pipeline.survey import Survey, Verdict
    from builder.pipeline.trees import Tree


@dataclass(frozen=True, slots=True)
class Seen:
    """One context: `name` is "" for the build's own; `survey` is None for an image, which has no ignore file.

    `source` is what the user named, `ignore_file` the file whose rules hold ("" for none), `verdicts` one for each path
    that was asked for."""

    name: str
    source: str
    dockerfile: str = ""
    ignore_file: str = ""
    survey: Survey | None = None
    verdicts: tuple[Verdict, ...] = ()


def look(engine: Engine, wish: BuildWish, paths: Sequence[str], *, stdin: BinaryIO | None) -> tuple[Seen, ...]:
    """The contexts of *wish*, the build's own first, with verdicts on *paths*; with any paths nothing is counted.

    A context may lack a Dockerfile, unless one is asked for.

    Raises as a build that opens its contexts: ContextError, DockerfileNotFound, DownloadFailed, InvalidInput.
    """
    from builder.engine.builds import open_contexts
    from builder.pipeline import survey

    with ExitStack() as undo:
        try:
            main, named = open_contexts(engine, wish, stdin, undo)
            dockerfile = main.dockerfile_name
        except DockerfileNotFound:
            if wish.dockerfile is not None or wish.source == "-":
                raise
            main, named = open_contexts(engine, replace(wish, dockerfile="-"), BytesIO(), undo)
            dockerfile = ""
        trees: list[tuple[str, str, str, Tree | str]] = [("", wish.source, dockerfile, main.tree)]
        trees += [(name, value, "", named[name]) for name, value in wish.contexts]
        found = []
        for name, source, dockerfile, tree in trees:
            if isinstance(tree, str):
                found.append(Seen(name, source))
                continue
            rules = tree.matcher.name if tree.matcher is not None else ""
            verdicts = tuple(survey.verdict(tree, path) for path in paths)
            counted = None if paths else survey.survey(tree)
            found.append(Seen(name, source, dockerfile, rules, counted, verdicts))
    return tuple(found)
