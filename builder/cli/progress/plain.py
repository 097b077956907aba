"""Progress for pipes and logs: BuildKit's numbered lines, each step's lines under its own heading."""

from __future__ import annotations

from typing import IO

from builder.cli.progress.numbered import Numbered
from builder.cli.progress.output import Lines
from builder.cli.units import size
from builder.pipeline import progress as p


class PlainView:
    """See `Numbered`."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._numbered = Numbered(stream)
        self._lines: dict[int, Lines] = {}
        self._names: dict[int, str] = {}

    def __call__(self, event: p.Event) -> None:
        """Write the event's lines."""
        match event:
            case p.BuildStarted():
                self._names.update(event.steps)
            case p.StepStarted():
                self._lines[event.number] = Lines(event.time)
                self._names[event.number] = event.name
                self._line(event.number, *([f"cache miss: {event.why}"] if event.why else []))
            case p.StepOutput():
                lines = self._lines.setdefault(event.number, Lines(event.time))
                self._line(event.number, *lines.take(event.stream, event.data, event.time))
            case p.StepProgress():
                if event.total is not None and event.current >= event.total:
                    amount = size(event.current) if event.unit in ("B", "bytes") else f"{event.current} {event.unit}"
                    self._line(event.number, f"{event.what} {amount} done")
            case p.StepCached():
                self._names[event.number] = event.name
                self._numbered.cached(event.number, event.name)
            case p.StepDone():
                self._finish(event.number, event.time, "DONE {:.1f}s")
            case p.StepFailed():
                self._names[event.number] = event.name
                self._finish(
                    event.number, event.time, "CANCELED" if event.cancelled else f"ERROR: {_plain(event.error)}"
                )
            case p.BuildDone(stored=True):
                number = max(self._names, default=0) + 1
                self._numbered.exported(number, event.image_id, event.tags, index=event.index)
        self._stream.flush()

    def close(self) -> None:
        """Nothing to undo: all that was written stays."""

    def tail(self, number: int) -> list[str]:
        """The last lines of step `number`."""
        lines = self._lines.get(number)
        return lines.tail() if lines else []

    def _finish(self, number: int, time: float, text: str) -> None:
        lines = self._lines.setdefault(number, Lines(time))
        self._line(number, *lines.finish(time), text.replace("{:.1f}", f"{time - lines.started:.1f}"))
        self._numbered.over()

    def _line(self, number: int, *texts: str) -> None:
        self._numbered.lines(number, self._names.get(number, ""), *texts)


class SilentView:
    """`quiet` and `none`: shows nothing, but remembers what a failure must show."""

    def __init__(self) -> None:
        self._lines: dict[int, Lines] = {}

    def __call__(self, event: p.Event) -> None:
        """Remember the output."""
        match event:
            case p.StepStarted():
                self._lines[event.number] = Lines(event.time)
            case p.StepOutput():
                lines = self._lines.setdefault(event.number, Lines(event.time))
                lines.take(event.stream, event.data, event.time)
            case p.StepFailed():
                if event.number in self._lines:
                    self._lines[event.number].finish(event.time)

    def close(self) -> None:
        """Nothing to undo."""

    def tail(self, number: int) -> list[str]:
        """The last lines of step `number`."""
        lines = self._lines.get(number)
        return lines.tail() if lines else []


def _plain(text: str) -> str:
    return text.replace("\n", " ")
