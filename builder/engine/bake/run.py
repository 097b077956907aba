"""Several builds as one graph: each as soon as what it stands on is there, independent ones side by side.

Steps that two targets have in common run once: the step's key has a lock in the store, whoever comes second finds the
first one's result. When one target fails the others are stopped; what was finished before keeps its tags.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import TYPE_CHECKING

from builder.engine import builds
from builder.errors import BuildError
from runtime.values import dataclass, field, replace

if TYPE_CHECKING:
    from builder.engine.builds import BuildWish, Built
    from builder.engine.session import Engine
    from builder.pipeline.progress import Event
    from builder.transfer.registry.progress import Emit as PullEmit
    from builder.transfer.registry.progress import Message

_TARGETS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Build:
    """One target to build; `links` are the contexts that are the images of other targets: context → target."""

    wish: BuildWish
    inline: str | None = None
    links: Mapping[str, str] = field(default_factory=dict)


class TargetFailed(BuildError):
    """The target `name` could not be built; `cause` is why."""

    def __init__(self, name: str, cause: Exception) -> None:
        super().__init__(f"target {name}: {getattr(cause, 'message', None) or cause}")
        self.name = name
        self.cause = cause


def build_all(
    engine: Engine,
    wanted: Mapping[str, Build],
    emit: Callable[[str, Event], None],
    *,
    stdout: Callable[[bytes], object] | None = None,
    pulling: PullEmit = str,
    jobs: int = 0,
) -> dict[str, Built]:
    """Build all targets; *emit* is told (target, event), one at a time; *stdout* is for outputs that go there,
    *pulling* hears of images that must be fetched, *jobs* bounds the targets at once (0: by what is sensible).

    Raises TargetFailed for the first that failed, after the others have ended; KeyboardInterrupt, OSError.
    """
    from builder.pipeline.schedule import StepCancelled, Together, run_all

    names = list(wanted)
    results: dict[str, Built] = {}
    linked = {of for build in wanted.values() for of in build.links.values()}
    started = engine.store.clock()
    guard = threading.Lock()

    def work(number: int) -> None:
        name = names[number]
        build = wanted[name]
        images = tuple(
            (context, f"docker-image://{results[of].result.image_id}") for context, of in build.links.items()
        )
        wish = replace(build.wish, contexts=(*build.wish.contexts, *images))

        def tell(event: Event) -> None:
            with guard:
                emit(name, event)

        def hear(message: Message) -> None:
            with guard:
                pulling(message)

        try:
            together.cancel.check()
            stdin = None if build.inline is None else BytesIO(build.inline.encode("utf-8", "surrogateescape"))
            results[name] = builds.build(
                engine,
                wish,
                stdin=stdin,
                emit=tell,
                stdout=stdout,
                pulling=hear,
                together=together,
                keep=name in linked,
            )
        except StepCancelled:
            raise
        except builds.problems() as err:
            raise TargetFailed(name, err) from err

    together = Together()
    try:
        needs = {number: [names.index(of) for of in wanted[name].links.values()] for number, name in enumerate(names)}
        run_all(needs, work, jobs=jobs or _TARGETS_AT_ONCE, cancel=together.cancel)
    finally:
        together.cancel.close()
        for name in linked & results.keys():
            if wanted[name].wish.outputs and not any(output.stored for output in wanted[name].wish.outputs):
                builds.forget(engine, results[name].result, started)
    return results
