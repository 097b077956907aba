"""What a build tells while it runs: frozen events, given to one callable.

They come from whichever thread works on a step, but never two at a time. Times are unix seconds (float) of the build's
clock; a step's `number` counts from 1 in the order of the plan and never changes. Renderers (live view, plain, rawjson)
live in the command line and need nothing but these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from runtime.values import dataclass


@dataclass(frozen=True, slots=True)
class BuildStarted:
    """The plan is made. `steps` has (number, name) of every step that the target needs, in plan order."""

    build_id: str
    time: float
    target: str
    steps: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A step begins. `why` says why it was not in the cache ("src/app.py content changed"); "" when there is nothing
    to say (a step that is never cached, such as loading the context)."""

    number: int
    name: str
    time: float
    why: str = ""


@dataclass(frozen=True, slots=True)
class StepOutput:
    """Bytes written by a step: `stream` 1 is stdout, 2 is stderr. Cut at reads, not at lines; may be any bytes."""

    number: int
    stream: int
    data: bytes
    time: float


@dataclass(frozen=True, slots=True)
class StepProgress:
    """A long thing inside a step moved on: `what` names it ("transferring context"), counts are in `unit`s.

    `total` is None when it is not known."""

    number: int
    what: str
    current: int
    total: int | None
    unit: str
    time: float


@dataclass(frozen=True, slots=True)
class StepCached:
    """A step was found in the cache; no StepStarted comes before it unless it waited for its parent's content (early
    cut-off) or for another process that ran the same step, or its layer was fetched from a cache elsewhere."""

    number: int
    name: str
    time: float
    by_content: bool = False


@dataclass(frozen=True, slots=True)
class StepDone:
    """A step ran and its result is in the store."""

    number: int
    name: str
    time: float


@dataclass(frozen=True, slots=True)
class StepFailed:
    """A step failed, or was stopped because another one did (`cancelled`)."""

    number: int
    name: str
    time: float
    error: str
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class BuildWarning:
    """Something the user should know; the build goes on. `line` to `last` are the Dockerfile's, 0 when there is none.

    `detail` says more (a check's description), `url` leads to its page."""

    message: str
    line: int = 0
    detail: str = ""
    url: str = ""
    last: int = 0

    @property
    def short(self) -> str:
        """One line, with its place."""
        return f"{self.message} (line {self.line})" if self.line else self.message


@dataclass(frozen=True, slots=True)
class BuildDone:
    """The image is in the store and every tag points at it; `stored` False: its files went elsewhere, it will go.

    `index`: it is one of images for several platforms, and `image_id` its digest."""

    time: float
    image_id: str
    tags: tuple[str, ...]
    stored: bool = True
    index: bool = False


Event = (
    BuildStarted
    | StepStarted
    | StepOutput
    | StepProgress
    | StepCached
    | StepDone
    | StepFailed
    | BuildWarning
    | BuildDone
)
Emit = Callable[[Event], None]


def silent(event: Event) -> None:
    """Tell nobody."""


def all_cached(
    build: str,
    target: str,
    steps: Sequence[tuple[int, str]],
    warnings: Iterable[BuildWarning],
    now: float,
    emit: Emit,
) -> None:
    """Tell of a build that ran nothing, but for its end; *steps* are (number, name), *now* unix seconds."""
    emit(BuildStarted(build, now, target, tuple(steps)))
    for warning in warnings:
        emit(warning)
    for number, name in steps:
        emit(StepCached(number, name, now))
