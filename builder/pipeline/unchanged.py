"""The shortest way through a build: nothing has changed since the same was asked for, so the outcome is the same.

`replay` spares such a build parsing and planning; what is left of it is mostly loading the modules that look at a
context, resolve names and write records. This spares that, too. It knows no rule of Dockerfiles, of .dockerignore, of
wildcards or names: the ordinary way, when it was through, left a note of what was asked (all that the user said, as one
digest), what its scans had looked at (`looks`), and what it came to. Here the note is found by the question and the
Dockerfile's text, and held against the disk and the store. Whatever does not hold, and whatever is no plain directory
with a Dockerfile in it, is None: the caller goes the ordinary way, which comes to the same, only later.

Everything that this module loads, every unchanged build waits for: tests/builder/cli/test_start_up.py has the list.
"""

from __future__ import annotations

import os
import stat

from builder import VERSION
from builder.pipeline import looks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from builder.oci.references import Reference
    from builder.pipeline.replay import Replay
    from builder.pipeline.request import BuildRequest
    from builder.store import Store

FORMAT = 3
"""Raise it when notes have another form, or the same question comes to another outcome."""
LARGEST_DOCKERFILE = 1 << 20
"""Larger ones go the ordinary way."""


class Unchanged:
    """A build that was recorded as one whose steps were all cached. `tags` and `warnings` as the ordinary way tells
    them; `steps` are (number, name); `index`: `image` is an index's digest."""

    __slots__ = ("build", "image", "index", "steps", "tags", "target", "warnings")

    def __init__(
        self,
        build: str,
        image: str,
        target: str,
        steps: Sequence[tuple[int, str]],
        tags: tuple[str, ...],
        warnings: Sequence[tuple[str, int, str, str, int]],
        index: bool,  # noqa: FBT001
    ) -> None:
        self.build = build
        self.image = image
        self.target = target
        self.steps = steps
        self.tags = tags
        self.warnings = warnings
        self.index = index


def repeat(root: str, asked: str, source: str, dockerfile: str, *, clock: Callable[[], int]) -> Unchanged | None:
    """Record the build once more in the store at *root*, if nothing has changed.

    *source* is the context's directory and *dockerfile* the value of ``-f`` or "", both seen from the working
    directory; *clock* gives unix ns. Raises StoreError.
    """
    path = f"{root}/lamina.db"
    try:
        top = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        text = _read(top, dockerfile)
        if text is None or not os.path.exists(path):
            return None
        from builder.store.database import Database
        from builder.store.outcomes import Outcomes

        database = Database(path)
        try:
            outcomes = Outcomes(database, root, clock)
            found = outcomes.get(_key(asked, dockerfile or "Dockerfile", text))
            if found is None or not looks.hold(top, found.looks):
                return None
            build = outcomes.record(found, text)
        finally:
            database.close()
    finally:
        os.close(top)
    if build is None:
        return None
    target, tags, warnings = found.shown
    steps, index = [step[:2] for step in found.steps], found.image not in found.images
    return Unchanged(build, found.image, target, steps, tags, warnings, index)


def remember(request: BuildRequest, store: Store, known: Replay | None, references: Sequence[Reference]) -> None:
    """Leave a note for `repeat`, after *request* came to *known* and *references* were set."""
    context = request.context
    if not request.asked or known is None or context is None or context.looks is None:
        return
    if request.single_id:
        return  # a plain user's host says this, and not what was asked
    from builder.errors import InvalidReference
    from builder.oci.references import Reference
    from builder.pipeline.filecopy import is_racy
    from builder.store.outcomes import Outcome

    seen = context.looks.result(is_racy)
    if seen is None or len(request.dockerfile) > LARGEST_DOCKERFILE:
        return
    try:
        names = [(str(Reference.parse(name).tagged()), image, platform) for name, platform, image in known.bases]
    except InvalidReference:
        return  # a base that is named by an id
    tags = tuple(reference.familiar() for reference in references)
    warnings = tuple((one.message, one.line, one.detail, one.url, one.last) for one in known.warnings)
    outcome = Outcome(
        str(known.image),
        [str(image.id) for image in known.images],
        known.facts(request),
        names,
        [str(reference) for reference in references],
        known.rows(),
        seen,
        (known.target, tags, warnings),
    )
    store.outcomes.put(_key(request.asked, request.dockerfile_name, request.dockerfile), outcome)


def _key(asked: str, name: str, text: bytes) -> str:
    said = repr((FORMAT, VERSION, asked, name)).encode("utf-8", "surrogateescape")
    return looks.digest(b"asked\0%d\0" % len(said) + said + text).hex()


def _read(top: int, dockerfile: str) -> bytes | None:
    """The Dockerfile's text, if it is a regular file of usual size."""
    try:
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(dockerfile, flags) if dockerfile else os.open("Dockerfile", flags, dir_fd=top)
    except OSError:
        return None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_DOCKERFILE:
            return None
        with open(fd, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(fd)
