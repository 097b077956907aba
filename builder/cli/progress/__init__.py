"""How a build looks while it runs: one renderer per mode, all fed with `builder.pipeline.progress` events.

`open_view` chooses: `plain` (BuildKit's numbered lines), `live` (redrawn in place), `rawjson` (a SolveStatus
a line), `quiet` and `none` (nothing).  A view is called from the thread that executes the build, closed by the caller.
An unchanged build has no events: `numbered` writes its lines.
"""

from __future__ import annotations

from builder.cli.flags import Flag, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Protocol

    from builder.cli.context import Cli
    from builder.cli.flags import Values
    from builder.pipeline.progress import Event

    class View(Protocol):
        """A renderer."""

        def __call__(self, event: Event) -> None:
            """Take one event."""

        def close(self) -> None:
            """The build is over: leave the terminal as text that can be scrolled."""

        def tail(self, number: int) -> list[str]:
            """The last lines that step `number` wrote, each with its time, for the report of a failure."""
            ...


MODES = ("auto", "plain", "tty", "quiet", "rawjson", "none")
PROGRESS = Flag(
    "progress", f"Set type of progress output ({', '.join(sorted(MODES))})", complete=" ".join(sorted(MODES))
)
"""The flag of all commands that show it."""


def progress_mode(cli: Cli, values: Values) -> str:
    """The mode that --progress or the environment chooses. Raises UsageError."""
    mode = values.text("progress") or cli.env.get("BUILDKIT_PROGRESS", "") or "auto"
    if mode not in MODES:
        raise UsageError(f"invalid progress mode {mode}; use one of {', '.join(MODES)}")
    return mode


def open_view(mode: str, stream: IO[str], *, terminal: bool, color: bool, lines: int = 6) -> View:
    """The view for `mode`, writing to `stream`; `terminal` decides `auto`, `lines` is a running step's share of it."""
    if mode == "tty" or (mode == "auto" and terminal):
        from builder.cli.progress.live import LiveView

        return LiveView(stream, color=color, step_lines=lines)
    if mode == "rawjson":
        from builder.cli.progress.rawjson import RawJsonView

        return RawJsonView(stream)
    if mode in ("quiet", "none"):
        from builder.cli.progress.plain import SilentView

        return SilentView()
    from builder.cli.progress.plain import PlainView

    return PlainView(stream)
