"""What a target takes (`--call=outline`), and which targets there are (`--call=targets`)."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import TypeVar

from parser import graph
from parser.checks.surroundings import Surroundings
from parser.checks.walk import Walk
from parser.graph import Stage, StageGraph
from parser.instructions import Dockerfile
from parser.interpret import doc_comment
from parser.source import Span
from parser.words import process

__all__ = ["Outline", "TakenArg", "TakenMount", "Target", "outline", "targets"]


@dataclass(frozen=True, slots=True)
class Target:
    """A stage; `description` is the comment above it that begins with its name, `base` and `platform` as written."""

    name: str
    description: str
    default: bool
    base: str
    platform: str
    span: Span


@dataclass(frozen=True, slots=True)
class TakenArg:
    """A build argument and the value that it has without another one on the command line."""

    name: str
    description: str
    value: str
    span: Span


@dataclass(frozen=True, slots=True)
class TakenMount:
    """A secret or an ssh agent that a RUN mounts."""

    name: str
    required: bool
    span: Span


Taken = TypeVar("Taken", TakenArg, TakenMount)


@dataclass(frozen=True, slots=True)
class Outline:
    """What a target takes, each in the order of the file."""

    name: str
    description: str
    args: tuple[TakenArg, ...]
    secrets: tuple[TakenMount, ...]
    ssh: tuple[TakenMount, ...]


def targets(dockerfile: Dockerfile) -> tuple[Target, ...]:
    """All stages. Raises DockerfileError."""
    stages = graph.stages(dockerfile).stages
    return tuple(
        Target(
            stage.name,
            _description(stage),
            stage is stages[-1],
            stage.from_.image,
            stage.from_.platform or "",
            stage.from_.span,
        )
        for stage in stages
    )


def outline(dockerfile: Dockerfile, around: Surroundings) -> Outline:
    """What the target of `around` takes, with all that it stands on. Raises DockerfileError where a build would."""
    stages = graph.stages(dockerfile)
    walk = Walk(stages, around, lambda finding, statement: None)
    walk.run()
    target = stages.find(around.target) if around.target else stages.stages[-1]
    assert target is not None
    needed = _needed(walk, target)
    return Outline(
        target.name,
        _description(target),
        _in_order(_args(stages, around, walk, needed)),
        _in_order(_mounts(walk, needed, "secret")),
        _in_order(_mounts(walk, needed, "ssh")),
    )


def _description(stage: Stage) -> str:
    return doc_comment(stage.from_.statement.comments, stage.name)


def _needed(walk: Walk, target: Stage) -> list[Stage]:
    """The target, then what it stands on and copies from, nearest first."""
    found = [target]
    for stage in found:
        found += [each for each in walk.dependencies(stage) if each not in found]
    return found


def _args(stages: StageGraph, around: Surroundings, walk: Walk, needed: list[Stage]) -> dict[str, TakenArg]:
    above, behind = _global_args(stages, around, walk)
    taken: dict[str, TakenArg] = {}
    for stage in needed:
        walked = walk.walked.get(stage.index)
        own: dict[str, TakenArg] = {}
        used = set(walk.scope.used[stage.index])
        for arg, value, span in walked.args if walked else ():
            used.add(arg.name)
            if value is not None or arg.name not in walk.scope.values:
                own[arg.name] = TakenArg(arg.name, arg.comment, value or "", span)
        pending = list(used)
        for name in pending:
            if name not in own:
                pending += [each for each in behind.get(name, ()) if each not in pending]
            found = own.get(name) or above.get(name)
            if found is not None:
                taken.setdefault(name, found)
    return taken


def _global_args(
    stages: StageGraph, around: Surroundings, walk: Walk
) -> tuple[dict[str, TakenArg], dict[str, frozenset[str]]]:
    """The arguments above the first FROM, and the names that the default of each takes values from."""
    found: dict[str, TakenArg] = {}
    behind: dict[str, frozenset[str]] = {}
    scope = dict(around.automatic)
    escape = stages.dockerfile.directives.escape
    for line in stages.global_args:
        for arg in line.args:
            value = around.build_args.get(arg.name)
            matched: frozenset[str] = frozenset()
            if value is None and arg.default is not None:
                expansion = process(arg.default, scope, escape=escape)
                value, matched = expansion.text, expansion.matched
            if value is not None:
                scope[arg.name] = value
            # One that is put together from its own earlier value needs what that one needed.
            before = behind.get(arg.name, frozenset()) if arg.name in matched else frozenset()
            behind[arg.name] = (matched - {arg.name}) | before
            found[arg.name] = TakenArg(arg.name, arg.comment, value or "", line.span)
    return found, behind


def _mounts(walk: Walk, needed: list[Stage], kind: str) -> dict[str, TakenMount]:
    found: dict[str, TakenMount] = {}
    for stage in needed:
        for mount, span in walk.walked[stage.index].mounts if stage.index in walk.walked else ():
            if mount.type == kind:
                name = mount.source or mount.id
                name = name or ("default" if kind == "ssh" else posixpath.basename(mount.target))
                found.setdefault(name, TakenMount(name, mount.required, span))
    return found


def _in_order(found: dict[str, Taken]) -> tuple[Taken, ...]:
    return tuple(sorted(found.values(), key=lambda one: (one.span.start, one.name)))
