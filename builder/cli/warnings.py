"""What a build says at its end: the warnings, one line each, or with --debug all that is known of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builder.pipeline.progress import BuildWarning
    from parser.source import Source, Span

_YELLOW, _OFF = "\x1b[33m", "\x1b[0m"


def shown(warnings: Sequence[BuildWarning], *, color: bool, dockerfile: Path | None) -> Iterator[str]:
    """The lines, as buildx writes them. `dockerfile` is where excerpts come from: with it everything is told."""
    count = "1 warning found" if len(warnings) == 1 else f"{len(warnings)} warnings found"
    header = count + (":" if dockerfile else " (use lamina --debug to expand):")
    yield ""
    yield f" {_YELLOW}{header}{_OFF}" if color else f" {header}"
    source = None
    if dockerfile is not None and dockerfile.is_file():
        from parser.source import Source

        source = Source.of(dockerfile.read_bytes(), name=dockerfile.name)
    for warning in warnings:
        yield f" - {warning.short}"
        if dockerfile is None:
            continue
        if warning.detail:
            yield warning.detail
        if warning.url:
            yield f"More info: {warning.url}"
        if source is not None and warning.line:
            from parser.source import Span

            yield cited(source, Span.lines(warning.line, max(warning.line, warning.last)))
        yield ""


def cited(source: Source, span: Span) -> str:
    """The lines that a warning is about, below the file's name and their number, as docker shows them."""
    rule = "-" * 20
    # Several lines say enough by themselves: docker puts fewer around them.
    excerpt = source.excerpt(span, context=2 if span.start.line == span.end.line else 1)
    return f"{source.name}:{span.start.line}\n{rule}\n{excerpt}\n{rule}"
