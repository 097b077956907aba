"""What can be asked of a build instead of building: its checks, what a target takes, which targets there are.

And checks on files alone, which need no store, with the repair of what they find.
"""

from __future__ import annotations

import os
import stat
from codecs import BOM_UTF8
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from builder.engine.builds import request_for
from builder.errors import Conflict, ContextError
from runtime.values import dataclass, field

if TYPE_CHECKING:
    from builder.engine.builds import BuildWish
    from builder.engine.session import Engine
    from builder.store import Store
    from parser.checks import Report, Surroundings
    from parser.checks.outline import Outline, Target
    from parser.source import Source


def check(engine: Engine, wish: BuildWish, *, stdin: BinaryIO | None) -> tuple[Report, Source]:
    """The checks on the stages that the wished target needs; without one, on all. Raises as `builds.build`."""
    from builder.pipeline.checking import surroundings
    from parser.checks import check_text
    from parser.source import Source

    with ExitStack() as undo:
        request = request_for(engine, wish, stdin, undo)
        source = Source.of(request.dockerfile, name=request.dockerfile_name)
        around = surroundings(request, engine.store, only_target=bool(request.target))
        return check_text(source, around), source


def outline(engine: Engine, wish: BuildWish, *, stdin: BinaryIO | None) -> tuple[Outline, Source]:
    """What the wished target takes. Raises as `builds.build`."""
    from builder.pipeline.assemble import parsed
    from builder.pipeline.checking import surroundings
    from parser.checks import outline as outlines

    with ExitStack() as undo:
        request = request_for(engine, wish, stdin, undo)
        dockerfile = parsed(request, engine.store)
        around = surroundings(request, engine.store, only_target=True)
        return outlines.outline(dockerfile, around), dockerfile.source


def targets(engine: Engine, wish: BuildWish, *, stdin: BinaryIO | None) -> tuple[tuple[Target, ...], Source]:
    """The stages of the Dockerfile. Raises as `builds.build`."""
    from builder.pipeline.assemble import parsed
    from parser.checks import outline as outlines

    with ExitStack() as undo:
        dockerfile = parsed(request_for(engine, wish, stdin, undo), engine.store)
        return outlines.targets(dockerfile), dockerfile.source


@dataclass(frozen=True, slots=True)
class CheckWish:
    """What a Dockerfile is to be checked for: as for a build of it."""

    build_args: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    platform: str = ""


@dataclass(frozen=True, slots=True)
class Checked:
    """A Dockerfile and what the checks say. `path` is None when it came on standard input; `data` are its bytes."""

    source: Source
    around: Surroundings
    report: Report
    path: Path | None
    data: bytes


def check_file(
    place: str, wish: CheckWish, *, dockerfile: str | None, store: Store | None, stdin: BinaryIO, cwd: Path
) -> Checked:
    """Check one Dockerfile without a build: *place* is its context's directory, the file itself, or "-".

    *dockerfile* is another one for that context. Of base images nothing is known but what *store* has.
    Raises ContextError, DockerfileNotFound, InvalidPlatform, and DockerfileError for options that mean nothing."""
    from builder.oci import platforms
    from builder.pipeline.checking import surroundings
    from builder.pipeline.context import open_context
    from builder.pipeline.request import BuildRequest
    from parser.checks import check_text
    from parser.source import Source

    path: Path | None = None
    matcher = None
    if place == "-":
        data, name = stdin.read(), "Dockerfile"
    else:
        directory, named = place, dockerfile
        if dockerfile is None and not (cwd / place).is_dir():
            directory, named = str(Path(place).parent), place
        context = open_context(directory, dockerfile=named, stdin=stdin, scratch=_no_scratch, cwd=cwd)
        context.close()
        data, matcher = context.dockerfile, context.tree.matcher
        name = named or str(Path(directory) / context.dockerfile_name)
        path = None if named == "-" else cwd / name
    request = BuildRequest(
        data,
        build_args=wish.build_args,
        target=wish.target,
        platforms=(platforms.parse(wish.platform),) if wish.platform else (),
    )
    source = Source.of(data, name=name)
    around = surroundings(request, store, only_target=bool(wish.target), ignored=matcher)
    return Checked(source, around, check_text(source, around), path, data)


def _no_scratch() -> Path:
    raise ContextError("only directories and files of this host can be checked")


def rewrite(checked: Checked, text: str) -> None:
    """Put *text* in the place of a checked file, all at once; mode, owner (where allowed) and byte order mark stay.

    A link is followed. Raises Conflict when somebody else wrote the file in between, OSError."""
    assert checked.path is not None
    target = checked.path.resolve()
    data = text.encode("utf-8", "surrogateescape")
    if checked.data.startswith(BOM_UTF8):
        data = BOM_UTF8 + data
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    state = target.stat()
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            with suppress(PermissionError):  # a user may replace what others own in a directory, but not give it away
                os.fchown(file.fileno(), state.st_uid, state.st_gid)
            os.fchmod(file.fileno(), stat.S_IMODE(state.st_mode))
            file.flush()
            os.fsync(file.fileno())
        if target.read_bytes() != checked.data:
            raise Conflict(f"{checked.source.name} was changed while it was checked", hint="run the command again")
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
