"""Stages of a Dockerfile and what they depend on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from parser.instructions import Arg, Dockerfile, From, Instruction

__all__ = ["Stage", "StageGraph", "stages"]


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: its FROM and the instructions up to the next. `name` is "" when it has none."""

    index: int
    name: str
    from_: From
    instructions: tuple[Instruction, ...]
    comment: str = ""


@dataclass(frozen=True, slots=True)
class StageGraph:
    """All stages in file order, and the ARGs above the first FROM."""

    dockerfile: Dockerfile
    global_args: tuple[Arg, ...]
    stages: tuple[Stage, ...]

    def find(self, target: str) -> Stage | None:
        """The stage by name (case ignored, the last of that name) or by index as text; None when there is none."""
        raise NotImplementedError

    def base_stage(self, stage: Stage, base: str) -> Stage | None:
        """The earlier stage that `FROM base` of `stage` means (`base` expanded), or None for an image."""
        raise NotImplementedError

    def source_stage(self, stage: Stage, name: str) -> Stage | None:
        """The stage that `--from=name` (or a mount's from=) in `stage` means, by index or name; None for an image."""
        raise NotImplementedError

    def dependencies(self, stage: Stage, expand_base: Callable[[Stage], str]) -> tuple[Stage, ...]:
        """The stages that `stage` needs directly, in order of first use."""
        raise NotImplementedError

    def needed(self, target: Stage, expand_base: Callable[[Stage], str]) -> tuple[Stage, ...]:
        """Every stage that building `target` needs, itself included, dependencies first. Raises for a cycle."""
        raise NotImplementedError


def stages(dockerfile: Dockerfile) -> StageGraph:
    """Cut a Dockerfile into stages. Raises DockerfileError when an instruction stands before the first FROM."""
    raise NotImplementedError
