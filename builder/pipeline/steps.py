"""Steps: the decided units of work that a plan consists of.

An instruction is text; a step is what will happen, with every variable expanded and every default filled in. A step
that makes a layer is one of BaseStep, RunStep, CopyStep, AddStep (in `copy_step`'s words: a TransferStep) and
WorkdirStep; ENV, CMD and their like only change the config and are no steps at all (`config_step`).

StepSpec → StepResult is the seam of the executor: digests and facts, never bytes or open files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from parser.instructions import Add, Copy, Run
    from parser.source import Span


@dataclass(frozen=True, slots=True)
class BaseStep:
    """FROM an image of the store (or named context). `reference` is as written, after expansion; "" is scratch."""

    reference: str
    image_id: str
    layers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MountSource:
    """Where `from=` of a mount or of COPY points: a step of this plan, an image, a named context or the main context.

    Exactly one of them: `step` is the number of the source stage's last step, `image` an image id (with its `layers`),
    `context` the name of a named context, "" the build's own."""

    step: int | None = None
    image: str | None = None
    layers: tuple[str, ...] = ()
    context: str | None = None


@dataclass(frozen=True, slots=True)
class RunStep:
    """RUN. `argv` is what is executed, `env` everything that it sees ("K=V", image first, then arguments).

    `args` are the (name, value) build arguments that count for key and history; `hidden` proxy arguments that do not.
    `stdin` is the text of a heredoc script without a shebang line, None for nothing."""

    run: Run
    argv: tuple[str, ...]
    env: tuple[str, ...]
    args: tuple[tuple[str, str], ...]
    hidden: tuple[tuple[str, str], ...]
    user: str
    workdir: str
    network: str
    security: str
    script: tuple[str, str] | None
    mounts: tuple[tuple[str, ...], ...]
    sources: tuple[MountSource | None, ...]


@dataclass(frozen=True, slots=True)
class CopyStep:
    """COPY or ADD, after expansion. `source` says where the files come from; `workdir` anchors a relative `dest`.

    `instruction` keeps the flags that `copy_step` reads, already expanded."""

    instruction: Copy | Add
    source: MountSource
    workdir: str


@dataclass(frozen=True, slots=True)
class WorkdirStep:
    """WORKDIR: makes the directory `path` (absolute, clean), owned by root, when it is missing."""

    path: str


Work = BaseStep | RunStep | CopyStep | WorkdirStep


@dataclass(frozen=True, slots=True)
class StepSpec:
    """One step of a plan: what to do, on top of which step, and how to talk about it.

    `number` counts from 1 in plan order; `parent` is the number of the step below (None for a BaseStep). `inputs` are
    the further steps whose files it reads. `name` is the progress line ("[build 2/5] RUN make"), `created_by` the
    history entry's text. `forced` steps are not looked up (--no-cache)."""

    number: int
    work: Work
    parent: int | None
    inputs: tuple[int, ...]
    stage: str
    name: str
    created_by: str
    span: Span | None
    forced: bool = False


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step made: its layer in the store and the facts that are recorded about the making.

    `layer` is None when the step left nothing to keep (a BaseStep; a WORKDIR that was there). Times in unix seconds,
    CPU in microseconds, sizes in bytes; None where nobody measured."""

    layer: str | None
    started: float
    finished: float
    exit_code: int | None = None
    cpu_user_us: int | None = None
    cpu_system_us: int | None = None
    peak_memory: int | None = None
    read_bytes: int | None = None
    write_bytes: int | None = None
