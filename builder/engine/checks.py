"""What can be asked of a build instead of building: its checks, what a target takes, which targets there are."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, BinaryIO

from builder.engine.builds import _request

if TYPE_CHECKING:
    from builder.engine.builds import BuildWish
    from builder.engine.session import Engine
    from parser.checks import Report
    from parser.checks.outline import Outline, Target
    from parser.source import Source


def check(engine: Engine, wish: BuildWish, *, stdin: BinaryIO | None) -> tuple[Report, Source]:
    """The checks on the stages that the wished target needs; without one, on all. Raises as `builds.build`."""
    from builder.pipeline.checking import surroundings
    from parser.checks import check_text
    from parser.source import Source

    with ExitStack() as undo:
        request = _request(engine, wish, stdin, undo)
        source = Source.of(request.dockerfile, name=request.dockerfile_name)
        around = surroundings(request, engine.store, only_target=bool(request.target))
        return check_text(source, around), source


def outline(engine: Engine, wish: BuildWish, *, stdin: BinaryIO | None) -> tuple[Outline, Source]:
    """What the wished target takes. Raises as `builds.build`."""
    from builder.pipeline.assemble import parsed
    from builder.pipeline.checking import surroundings
    from parser.checks import outline as outlines

    with ExitStack() as undo:
        request = _request(engine, wish, stdin, undo)
        dockerfile = parsed(request, engine.store)
        around = surroundings(request, engine.store, only_target=True)
        return outlines.outline(dockerfile, around), dockerfile.source


def targets(engine: Engine, wish: BuildWish, *, stdin: BinaryIO | None) -> tuple[tuple[Target, ...], Source]:
    """The stages of the Dockerfile. Raises as `builds.build`."""
    from builder.pipeline.assemble import parsed
    from parser.checks import outline as outlines

    with ExitStack() as undo:
        dockerfile = parsed(_request(engine, wish, stdin, undo), engine.store)
        return outlines.targets(dockerfile), dockerfile.source
