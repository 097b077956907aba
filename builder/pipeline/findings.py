"""What only a builder can say at the end of a build: a new layer that repeats files of an earlier one.

`RUN chown -R` or `chmod` on what COPY has written stores every file a second time. Found by metadata alone: overlay
copies a file up with its size and its time to the nanosecond, and so do `cp -p` and `mv`. No content is read but a few
samples, and only layers that this build has made, and that are large enough to matter, are looked at.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from builder.pipeline.progress import BuildWarning
from builder.pipeline.steps import AddStep, BaseStep, CopyStep, RunStep, StepSpec
from runtime.values import dataclass, field

if TYPE_CHECKING:
    from builder.pipeline.lookup import StepState
    from builder.pipeline.plan import Plan
    from builder.store import Store
    from builder.store.snapshots import LayerID
    from parser.instructions import Dockerfile

RULE = "RepeatedFiles"
"""What the finding is called, in messages and after `check=skip=`."""
WORTH = 10_000_000
"""Bytes of a repetition from which on it is told."""
_LARGE = 1 << 20
"""Bytes of a file that is looked for under other names, and whose content is sampled."""
_FEW = 20_000
"""Entries of a layer that is searched by more than the same names."""
_SAMPLE = 4096


@dataclass(slots=True)
class Repetition:
    """What a layer repeats of an earlier one: bytes, and whether modes, owners, or the names of files differ."""

    size: int = 0
    mode: bool = False
    owner: bool = False
    moved: bool = False
    seen: set[int] = field(default_factory=set)


def repeated(plan: Plan, states: Sequence[StepState], store: Store, *, since: int) -> Iterator[BuildWarning]:
    """The warnings about layers of the target that were made after `since` (ns). Raises LayerNotFound, OSError."""
    told: set[int] = set()
    for end in plan.ends:
        chain = plan.chain(end)
        yield from _repeated(chain, told, states, store, since=since)
        told.update(step.number for step in chain)


def _repeated(
    chain: Sequence[StepSpec], told: Collection[int], states: Sequence[StepState], store: Store, *, since: int
) -> Iterator[BuildWarning]:
    for at, step in enumerate(chain):
        if step.number in told:
            continue
        layers = states[step.number - 1].layers
        if isinstance(step.work, BaseStep) or not layers:
            continue
        layer = store.snapshots.get(layers[-1])
        if layer.created < since or (layer.size or 0) < WORTH:
            continue
        below = layers[:-1]
        writers: dict[LayerID, StepSpec] = {}
        for earlier in chain[:at]:
            stack = states[earlier.number - 1].layers
            if stack and not isinstance(earlier.work, BaseStep):
                writers[stack[-1]] = earlier
        # What COPY writes comes from elsewhere: only RUN moves files of its own image.
        run = isinstance(step.work, RunStep)
        few = [one for one in below if run and one in writers and (store.snapshots.get(one).files or 0) <= _FEW]
        found = repetitions(
            layer.path, [(one, store.snapshots.path(one)) for one in reversed(below)], few=frozenset(few)
        )
        for source, repetition in found.items():
            if repetition.size >= WORTH:
                yield _warning(step, writers.get(source), repetition)


def wanted(dockerfile: Dockerfile, build_args: Mapping[str, str], line: int) -> bool:
    """Whether the finding on `line` is wanted: `# check=skip=` silences it as it does the checks' rules."""
    from parser.checks import options

    asked = options.read(dockerfile.directives.check, build_args.get(options.BUILD_ARG), dockerfile.source)
    for instruction in dockerfile.instructions:
        statement = instruction.statement
        if statement.span.start.line == line and (own := options.local(statement.comments)) is not None:
            asked = asked.joined(own)
    return not (asked.skip_all or RULE in asked.skip)


def repetitions(
    upper: Path, lowers: Sequence[tuple[LayerID, Path]], *, few: frozenset[LayerID]
) -> dict[LayerID, Repetition]:
    """What the layer directory `upper` repeats of each of `lowers` (topmost first).

    Files of those in `few` are also found under other names. Raises OSError.
    """
    found: dict[LayerID, Repetition] = {}
    alone: dict[tuple[int, int], list[tuple[str, os.stat_result]]] = {}
    waiting = [("", list(lowers))]
    while waiting:
        here, beneath = waiting.pop()
        for name, status in _entries(upper, here):
            path = f"{here}/{name}"
            if stat.S_ISDIR(status.st_mode):
                there = [one for one in beneath if _is_directory(one[1], path)]
                if there or few:
                    waiting.append((path, there))
            elif stat.S_ISREG(status.st_mode) and status.st_size:
                source = _same(upper, path, status, beneath)
                if source is not None:
                    _count(found.setdefault(source[0], Repetition()), status, source[1], moved=False)
                elif status.st_size >= _LARGE:
                    alone.setdefault((status.st_size, status.st_mtime_ns), []).append((path, status))
    if sum(size * len(paths) for (size, _), paths in alone.items()) >= WORTH:
        for layer, directory in lowers:
            if layer in few:
                _elsewhere(upper, layer, directory, alone, found)
    return found


def _elsewhere(
    upper: Path,
    layer: LayerID,
    directory: Path,
    alone: dict[tuple[int, int], list[tuple[str, os.stat_result]]],
    found: dict[LayerID, Repetition],
) -> None:
    """Look for the files in `alone` under any name in `directory`; what is found is taken out of it."""
    waiting = [""]
    while waiting:
        here = waiting.pop()
        for name, status in _entries(directory, here):
            if stat.S_ISDIR(status.st_mode):
                waiting.append(f"{here}/{name}")
                continue
            key = (status.st_size, status.st_mtime_ns)
            if not stat.S_ISREG(status.st_mode) or key not in alone:
                continue
            for path, mine in alone.pop(key):
                if _samples(f"{upper}{path}", f"{directory}{here}/{name}", status.st_size):
                    _count(found.setdefault(layer, Repetition()), mine, status, moved=True)


def _same(
    upper: Path, path: str, status: os.stat_result, beneath: Sequence[tuple[LayerID, Path]]
) -> tuple[LayerID, os.stat_result] | None:
    """The layer that had this very content at this path, if it is the topmost that has the path at all."""
    for layer, directory in beneath:
        try:
            other = os.lstat(f"{directory}{path}")
        except OSError:
            continue
        if (other.st_size, other.st_mtime_ns) != (status.st_size, status.st_mtime_ns):
            return None
        if not stat.S_ISREG(other.st_mode):
            return None
        if status.st_size >= _LARGE and not _samples(f"{upper}{path}", f"{directory}{path}", status.st_size):
            return None
        return layer, other
    return None


def _samples(one: str, two: str, size: int) -> bool:
    """Whether beginning, middle and end of two large files are the same."""
    with open(one, "rb", buffering=0) as left, open(two, "rb", buffering=0) as right:
        for at in (0, size // 2, max(0, size - _SAMPLE)):
            if os.pread(left.fileno(), _SAMPLE, at) != os.pread(right.fileno(), _SAMPLE, at):
                return False
    return True


def _count(repetition: Repetition, mine: os.stat_result, other: os.stat_result, *, moved: bool) -> None:
    if mine.st_nlink > 1:
        if mine.st_ino in repetition.seen:
            return  # a hard link to what was counted
        repetition.seen.add(mine.st_ino)
    repetition.size += mine.st_size
    repetition.mode |= mine.st_mode != other.st_mode
    repetition.owner |= (mine.st_uid, mine.st_gid) != (other.st_uid, other.st_gid)
    repetition.moved |= moved


def _entries(root: Path, here: str) -> Iterator[tuple[str, os.stat_result]]:
    try:
        with os.scandir(f"{root}{here}") as entries:
            found = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
    except OSError:
        return  # deeper than a path may be: what is there counts for nothing
    yield from found


def _is_directory(root: Path, path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(f"{root}{path}").st_mode)
    except OSError:
        return False


def _warning(step: StepSpec, writer: StepSpec | None, repetition: Repetition) -> BuildWarning:
    line = step.span.start.line if step.span is not None else 0
    origin = "the base image" if writer is None else f"the layer of line {_line(writer)}"
    changed = [what for what, differs in (("mode", repetition.mode), ("owner", repetition.owner)) if differs]
    if repetition.moved:
        how = "under another name"
    elif changed:
        how = f"only {' and '.join(changed)} differ{'s' if len(changed) == 1 else ''}"
    else:
        how = "with the same content"
    return BuildWarning(
        f"{RULE}: this layer repeats {_size(repetition.size)} of {origin}, {how}: {_advice(writer, repetition)}",
        line,
        "Each layer holds whole files: what changes the owner, mode or name of a file of an earlier layer, or writes it"
        " once more, stores it a second time, and every pull carries both."
        f" `# check=skip={RULE}` above the instruction silences this.",
    )


def _advice(writer: StepSpec | None, repetition: Repetition) -> str:
    if writer is None:
        return "leave the base image's files as they are, or start from another"
    line = _line(writer)
    if isinstance(writer.work, CopyStep | AddStep) and not repetition.moved:
        flags = [flag for flag, differs in (("--chmod", repetition.mode), ("--chown", repetition.owner)) if differs]
        word = "COPY" if isinstance(writer.work, CopyStep) else "ADD"
        return f"use {word} {' '.join(flags)} in line {line}" if flags else f"write them once, in line {line}"
    return f"do it in line {line}, which writes them"


def _line(step: StepSpec) -> int:
    return step.span.start.line if step.span is not None else 0


def _size(count: int) -> str:
    """Decimal, three digits, as docker shows sizes."""
    power = min((len(str(count)) - 1) // 3, 4)
    return f"{count / 1000**power:.3g}{('B', 'kB', 'MB', 'GB', 'TB')[power]}"
