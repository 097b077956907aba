"""One build from request to image: parse, plan, execute, put the image and its tags. The only door for callers.

Nothing is visible before the end: a failed, interrupted or killed build leaves the old tags where they were.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from builder.pipeline.progress import Emit, silent
from builder.pipeline.request import BuildRequest, BuildResult

if TYPE_CHECKING:
    from builder.store import Store
    from runtime.container import Launcher


def build(
    request: BuildRequest,
    store: Store,
    launcher: Callable[[], Launcher],
    *,
    clock: Callable[[], float],
    emit: Emit = silent,
) -> BuildResult:
    """Build *request* into *store* and return what was made.

    *launcher* is called at most once, at the first step that must run, so that a cached build starts no process. The
    caller owns the launcher and closes it. *clock* gives unix seconds.

    Raises DockerfileError (text, words, unknown stage), StepFailed (a step, with exit code and excerpt), ImageNotFound,
    other EngineErrors, and KeyboardInterrupt after everything has been stopped and recorded.
    """
    raise NotImplementedError
