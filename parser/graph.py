"""Stages of a Dockerfile, and what a name in FROM, `--from=` or `--target` means among them.

Stage names do not heed case. FROM sees the stages above it, COPY and mounts see all of them: that a later one may not
be used is for the caller to refuse, since only the caller knows which stages the target needs.
"""

from __future__ import annotations

from dataclasses import dataclass

from parser import words
from parser.errors import DockerfileError
from parser.instructions import Arg, Copy, Dockerfile, From, Instruction, Run
from parser.mounts import mount_source

__all__ = ["Stage", "StageGraph", "source_names", "stages"]


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: its FROM and the instructions up to the next. `name` is "" when it has none, else lower case."""

    index: int
    name: str
    from_: From
    instructions: tuple[Instruction, ...]


@dataclass(frozen=True, slots=True)
class StageGraph:
    """All stages in file order, and the ARGs above the first FROM."""

    dockerfile: Dockerfile
    global_args: tuple[Arg, ...]
    stages: tuple[Stage, ...]

    def find(self, target: str) -> Stage | None:
        """The stage called `target` (the last of that name), else the one with that index; None when there is none."""
        found = _named(self.stages, target)
        if found is None and target.isdecimal() and int(target) < len(self.stages):
            found = self.stages[int(target)]
        return found

    def base_stage(self, stage: Stage, base: str) -> Stage | None:
        """The earlier stage that `FROM base` of `stage` means (`base` expanded), or None for an image."""
        return _named(self.stages[: stage.index], base)

    def source_stage(self, stage: Stage, name: str) -> Stage | None:
        """The stage that `--from=name` (or a mount's from=) in `stage` means, by index or name; None for an image.

        Raises DockerfileError for an index that no stage has.
        """
        digits = name.removeprefix("+").removeprefix("-")
        if digits.isascii() and digits.isdecimal():
            if not 0 <= int(name) < len(self.stages):
                raise DockerfileError(
                    f"invalid stage index {int(name)}", hint=f"the stages are 0 to {len(self.stages) - 1}"
                )
            return self.stages[int(name)]
        # Where a name is given twice, the one above is meant; without one above it is the last, to be refused.
        return _named(self.stages[: stage.index], name) or _named(self.stages, name)


def stages(dockerfile: Dockerfile) -> StageGraph:
    """Cut a Dockerfile into stages. Raises DockerfileError when an instruction stands before the first FROM."""
    global_args: list[Arg] = []
    starts: list[int] = []
    for position, instruction in enumerate(dockerfile.instructions):
        if isinstance(instruction, From):
            starts.append(position)
        elif not starts:
            if not isinstance(instruction, Arg):
                raise DockerfileError(
                    "no build stage in current context",
                    instruction.span,
                    hint=f"{instruction.keyword.upper()} needs a FROM above it; only ARG may come first",
                    source=dockerfile.source,
                )
            global_args.append(instruction)
    found = []
    for index, start in enumerate(starts):
        end = starts[index + 1] if index + 1 < len(starts) else len(dockerfile.instructions)
        first = dockerfile.instructions[start]
        assert isinstance(first, From)
        found.append(Stage(index, first.alias or "", first, dockerfile.instructions[start + 1 : end]))
    return StageGraph(dockerfile, tuple(global_args), tuple(found))


def source_names(instruction: Instruction) -> tuple[str, ...]:
    """The names after --from (COPY) and from= (mounts of RUN). Raises DockerfileError for one with a variable."""
    if isinstance(instruction, Copy) and instruction.from_ is not None:
        if words.expand(instruction.from_, {}) != instruction.from_:
            raise DockerfileError(
                "variable expansion is not supported for --from, define a new stage with FROM using ARG from global "
                "scope as a workaround"
            )
        return (instruction.from_,)
    if isinstance(instruction, Run):
        return tuple(name for raw in instruction.mounts if (name := mount_source(raw)))
    return ()


def _named(among: tuple[Stage, ...], name: str) -> Stage | None:
    wanted = name.lower()
    if not wanted:
        return None
    return next((stage for stage in reversed(among) if stage.name == wanted), None)
