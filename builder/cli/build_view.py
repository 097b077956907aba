"""What a command that builds shows on stderr: progress, images that come first, warnings at the end, why it failed."""

from __future__ import annotations

import sys

from builder.cli.harmless import harmless
from builder.cli.progress import open_view

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.cli.context import Cli
    from builder.cli.progress import View
    from builder.cli.progress.transfers import TransferView
    from builder.engine.builds import BuildWish
    from builder.pipeline.progress import BuildWarning
    from builder.transfer.registry.progress import Message


def pull_view(cli: Cli, mode: str) -> Callable[[Message], object]:
    """How images look that must be pulled before there is a plan: as with `pull`, on stderr."""
    if mode in ("quiet", "none"):
        return lambda message: None
    if mode == "rawjson":
        from builder.cli.progress.rawjson import RawJsonTransfers

        return RawJsonTransfers(sys.stderr, lambda: cli.now().timestamp())
    view: TransferView | None = None

    def show(message: Message) -> None:
        nonlocal view
        if view is None:
            from builder.cli.progress.transfers import open_view

            view = open_view(sys.stderr, terminal=mode != "plain" and cli.terminal_err())
        view(message)

    return show


def progress_view(cli: Cli, mode: str) -> View:
    """The view on stderr: a raw stream of JSON is data for tools, but docker writes it there as all progress."""
    lines = cli.env.get("BUILDKIT_TTY_LOG_LINES", "")
    return open_view(
        mode,
        sys.stderr,
        terminal=cli.terminal_err(),
        color="NO_COLOR" not in cli.env,
        lines=int(lines) if lines.isascii() and lines.isdigit() else 6,
    )


class Closing:
    """A view that is closed once, then tells the warnings; it remembers which step failed."""

    def __init__(self, cli: Cli, view: View, asked: BuildWish | None, *, tell: bool) -> None:
        self.view = view
        self.failed: tuple[int, str] | None = None
        self._cli = cli
        self._asked = asked
        self._tell = tell
        self.warnings: list[BuildWarning] = []
        self._open = True

    def __call__(self, event: object) -> None:
        from builder.pipeline.progress import BuildWarning, StepFailed

        if isinstance(event, StepFailed) and not event.cancelled:
            self.failed = (event.number, event.name)
        if isinstance(event, BuildWarning):
            self.warnings.append(event)
        self.view(event)  # type: ignore[arg-type]

    def __enter__(self) -> Closing:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the view, and tell."""
        if self._open:
            self._open = False
            self.view.close()
            if self.warnings and self._tell:
                self._warn()

    def _warn(self) -> None:
        from builder.cli.warnings import shown

        cli, asked = self._cli, self._asked
        dockerfile = None
        if cli.debug and asked is not None:
            dockerfile = cli.cwd / (asked.dockerfile or f"{asked.source}/Dockerfile")
        color = cli.terminal_err() and "NO_COLOR" not in cli.env
        for line in shown(self.warnings, color=color, dockerfile=dockerfile):
            cli.say(line)


def explain(cli: Cli, error: Exception, closing: Closing, *, what: str = "failed to build") -> None:
    """The failing step's last lines, the Dockerfile around it, and what went wrong, as BuildKit ends a build."""
    if closing.failed is not None:
        number, name = closing.failed
        cli.say("------\n > " + name + ":")
        for line in closing.view.tail(number)[-20:]:
            cli.say(line)
        cli.say("------")
    excerpt = getattr(error, "excerpt", "")
    text = excerpt() if callable(excerpt) else excerpt
    if text:
        cli.say(harmless(text.rstrip("\n")))
    message = getattr(error, "message", None) or str(error)
    span = getattr(error, "span", None)
    place = f"dockerfile parse error on line {span.start.line}: " if span is not None and closing.failed is None else ""
    from parser.redact import hidden

    cli.say(harmless(hidden(f"ERROR: {what}: failed to solve: {place}{message}")))
    hint = getattr(error, "hint", None)
    if hint:
        cli.say(harmless(f"hint: {hint}"))
