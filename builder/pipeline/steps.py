"""Steps: the decided units of work that a plan consists of.

An instruction is text; a step is what will happen, with every variable expanded and every default filled in. What makes
a layer, or is the ground for one, is a step: BaseStep, RunStep, CopyStep, AddStep, WorkdirStep. ENV, CMD and their like
only change the config and are no steps at all (`config_step`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.values import dataclass

if TYPE_CHECKING:
    from builder.oci.configs import ImageConfig
    from builder.oci.digests import ContentDigest
    from builder.oci.platforms import Platform
    from builder.pipeline.add_step import AddSpec
    from builder.pipeline.copy_step import CopySpec
    from parser.mounts import RunMount
    from parser.source import Span


@dataclass(frozen=True, slots=True)
class Base:
    """An image of the store as the plan sees it. `layers` are layer ids, bottom first, `contents` their mtime-free
    digests in the same order (None where they have not been computed). `platform` is the one that was asked for, "" for
    none."""

    image_id: str
    reference: str
    config: ImageConfig
    layers: tuple[str, ...]
    contents: tuple[ContentDigest | None, ...]
    platform: str = ""


@dataclass(frozen=True, slots=True)
class BaseStep:
    """FROM an image; nothing is to be done for it. `repr` of a Base would be long, so steps compare by image id."""

    base: Base


@dataclass(frozen=True, slots=True)
class FilesOf:
    """Where `--from` (COPY) or `from=` (mount) points. One of: the step `step` of this plan (its number), the named
    context `context` ("" is the build's own), or nothing at all, an empty directory (scratch)."""

    step: int | None = None
    context: str | None = None


@dataclass(frozen=True, slots=True)
class RunStep:
    """RUN.

    argv       what is executed, the shell included
    env        what it sees: image environment and arguments, in order; proxies are not among them
    args       the names of `env` that are build arguments, for "why did this miss"
    proxies    predefined proxy arguments: seen by the process, outside of key and history
    script     (name, text) of a heredoc with a "#!" line: an executable file below /dev/pipes
    mounts     with targets absolute and defaults filled in; `sources` says for each where its files come from
    network    "default", "none", "host" or the name of a network
    platform   of the programs that it runs
    """

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    platform: Platform
    args: frozenset[str] = frozenset()
    proxies: tuple[tuple[str, str], ...] = ()
    user: str = ""
    workdir: str = "/"
    network: str = "default"
    insecure: bool = False
    script: tuple[str, str] | None = None
    mounts: tuple[RunMount, ...] = ()
    sources: tuple[FilesOf | None, ...] = ()


@dataclass(frozen=True, slots=True)
class CopyStep:
    """COPY."""

    spec: CopySpec
    source: FilesOf


@dataclass(frozen=True, slots=True)
class AddStep:
    """ADD; local sources come from the build's own context."""

    spec: AddSpec
    source: FilesOf


@dataclass(frozen=True, slots=True)
class WorkdirStep:
    """WORKDIR: makes the directory `path` (absolute, clean) when it is missing, for `user` ("" is root)."""

    path: str
    user: str = ""


Work = BaseStep | RunStep | CopyStep | AddStep | WorkdirStep


@dataclass(frozen=True, slots=True)
class StepSpec:
    """One step of a plan: what to do, on top of which step, and how to talk about it.

    number      counts from 1; parents and inputs have lower numbers
    parent      the step below; None for a BaseStep and for what stands on scratch
    inputs      further steps whose files it reads
    stage       the stage's name, or "stage-0", with the platform before it where there are several; `position` of
                `total` steps in it
    text        the instruction as users know it ("RUN make"), for records and messages
    created_by  the history entry
    span        where it was written; for a trigger the FROM line
    forced      not looked up (--no-cache)
    """

    number: int
    work: Work
    parent: int | None
    inputs: tuple[int, ...]
    stage: str
    position: int
    total: int
    text: str
    created_by: str
    span: Span | None
    forced: bool = False

    @property
    def name(self) -> str:
        """The progress line: "[build 2/5] RUN make"."""
        digits = len(str(self.total))
        stage = f"{self.stage} " if self.stage else ""
        return f"[{stage}{self.position:{digits}d}/{self.total}] {self.text}"
