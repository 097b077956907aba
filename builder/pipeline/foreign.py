"""RUN for another platform than this machine's: whether it can run here, decided before anything is done for it.

The kernel runs programs of its own machine, and others through a handler of binfmt_misc (`runtime.binfmt`). Where its
handlers cannot be seen a step is tried.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from builder.errors import EngineError, Unsupported
from builder.pipeline.steps import RunStep
from runtime import binfmt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from builder.oci.platforms import Platform
    from builder.pipeline.lookup import StepState
    from builder.pipeline.steps import StepSpec
    from builder.store import Store
    from parser.source import Source

HINT = (
    "apt-get install qemu-user-static binfmt-support makes the kernel run them (slowly); or let a stage "
    "FROM --platform=$BUILDPLATFORM make the files for $TARGETARCH, and COPY --from= it"
)


class Emulation:
    """What runs programs for other platforms here. May be used by several threads; looks at the host once."""

    def __init__(
        self,
        machine: str = "",
        handlers: Callable[[], tuple[binfmt.Handler, ...] | None] = binfmt.handlers,
    ) -> None:
        """*machine* is what the kernel calls itself ("": this one), *handlers* gives what it knows."""
        self._machine = machine or os.uname().machine
        self._guard = threading.Lock()
        self._look = handlers
        self._looked = False
        self._handlers: tuple[binfmt.Handler, ...] | None = None

    def check(self, steps: Iterable[StepSpec], states: Sequence[StepState], store: Store, source: Source) -> None:
        """Refuse a plan one of whose RUN *steps*, which are to be made, cannot run here; the error has its place.

        One that ran before on its platform may still be found by what its parent contains. Raises Unsupported."""
        for step in steps:
            if not isinstance(step.work, RunStep) or self._is_native(step.work.platform):
                continue
            state = states[step.number - 1]
            before = None if step.forced else store.buildcache.nearest(state.step)
            if before is not None and ("platform", dict(state.leaves)["platform"]) in before.leaves:
                continue
            try:
                self._fitting(step.work.platform)
            except EngineError as err:
                if step.span is not None:
                    err.excerpt = source.citation(step.span, column=True)
                raise

    def refusal(self, step: StepSpec) -> str:
        """Why *step* cannot run here; "" when it can, or nobody can say."""
        try:
            if isinstance(step.work, RunStep):
                self._fitting(step.work.platform)
        except Unsupported as err:
            return err.message
        return ""

    def interpreters(self, platform: Platform, lowers: Sequence[Path]) -> tuple[str, ...]:
        """The paths of emulators that the step's root file system must be shown; () when it needs none.

        *lowers* are the layers that it has. Raises Unsupported."""
        found = self._fitting(platform)
        wanted = [
            one.interpreter
            for one in found
            if not (one.fixed or any(os.path.lexists(f"{lower}{one.interpreter}") for lower in lowers))
        ]
        here = tuple(dict.fromkeys(path for path in wanted if os.path.exists(path)))
        if len(wanted) == len(found) and found and not here:
            missing = f"{wanted[0]}, its handler {found[0].name}'s emulator, is neither here nor in the image"
            raise Unsupported(f"{self._words(platform)}: {missing}", hint=HINT)
        return here

    def _fitting(self, platform: Platform) -> tuple[binfmt.Handler, ...]:
        """What runs programs for *platform*; () when nothing is needed, or nobody can say. Raises Unsupported."""
        if self._is_native(platform):
            return ()
        with self._guard:
            if not self._looked:
                self._handlers, self._looked = self._look(), True
        if self._handlers is None and platform.os == "linux":
            return ()
        found = binfmt.fitting(platform.architecture, self._handlers or ()) if platform.os == "linux" else ()
        if not found:
            raise Unsupported(f"{self._words(platform)}: its kernel has no emulator for them", hint=HINT)
        return found

    def _is_native(self, platform: Platform) -> bool:
        return platform.os == "linux" and binfmt.is_native(platform.architecture, self._machine)

    def _words(self, platform: Platform) -> str:
        return f"this machine ({self._machine}) cannot run programs for {platform}"
