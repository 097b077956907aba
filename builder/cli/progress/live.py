"""Progress on a terminal: the steps with their times, redrawn in place, running ones with their last lines.

A thread redraws ten times a second, so that the times of running steps move; it holds no state of its own.  Lines that
are finished and do not fit any more scroll away above, so the whole list can be read at the end.
"""

from __future__ import annotations

import shutil
import time as clock
from collections.abc import Iterator
from threading import Event as Flag
from threading import Lock, Thread
from typing import IO

from builder.cli.progress.numbered import exporting
from builder.cli.progress.output import Lines, without_controls
from builder.cli.units import size
from builder.pipeline import progress as p

_BLUE, _RED, _YELLOW, _DIM, _OFF = "\x1b[34m", "\x1b[31m", "\x1b[33m", "\x1b[2m", "\x1b[0m"
_HIDE, _SHOW, _CLEAR_DOWN = "\x1b[?25l", "\x1b[?25h", "\x1b[J"


class _Step:
    __slots__ = ("ended", "error", "lines", "name", "progress", "started", "state", "why")

    def __init__(self, name: str, started: float) -> None:
        self.name = name
        self.started = started
        self.ended: float | None = None
        self.state = "running"
        self.error = ""
        self.why = ""
        self.progress = ""
        self.lines = Lines(started)


class LiveView:
    """The live view.  Close it: it hides the cursor and owns a thread."""

    def __init__(self, stream: IO[str], *, color: bool, step_lines: int = 6) -> None:
        self._stream = stream
        self._color = color
        self._step_lines = step_lines
        self._steps: dict[int, _Step] = {}
        self._total = 0
        self._begun = 0.0
        self._skew: float | None = None
        self._drawn = 0
        self._finished = False
        self._lock = Lock()
        self._stop = Flag()
        self._thread: Thread | None = None

    def __call__(self, event: p.Event) -> None:
        """Take one event; the next redraw shows it."""
        with self._lock:
            self._take(event)
        if self._thread is None:
            self._thread = Thread(target=self._redraw, name="progress", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop redrawing, write the final state once, show the cursor."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            if self._steps:
                self._draw(final=True)
                self._stream.write(_SHOW)
                self._stream.flush()

    def tail(self, number: int) -> list[str]:
        """The last lines of step `number`."""
        step = self._steps.get(number)
        return step.lines.tail() if step else []

    def _take(self, event: p.Event) -> None:
        if isinstance(event, p.BuildWarning):
            return  # told at the end, by the command
        # the build's clock need not be ours: running times are drawn on the build's
        self._skew = event.time - clock.monotonic()
        if not self._begun:
            self._begun = event.time
        match event:
            case p.BuildStarted():
                self._total = len(event.steps)
            case p.StepStarted():
                self._steps[event.number] = step = _Step(event.name, event.time)
                step.why = event.why
            case p.StepOutput():
                if event.number in self._steps:
                    self._steps[event.number].lines.take(event.stream, event.data, event.time)
            case p.StepProgress():
                if event.number in self._steps:
                    self._steps[event.number].progress = _progress(event)
            case p.StepCached():
                self._end(event.number, event.name, event.time, "cached")
            case p.StepDone():
                self._end(event.number, event.name, event.time, "done")
            case p.StepFailed():
                self._end(event.number, event.name, event.time, "canceled" if event.cancelled else "error")
                self._steps[event.number].error = event.error
            case p.BuildDone():
                self._finished = True
                if not event.stored:
                    return
                number = max(self._steps, default=0) + 1
                self._end(number, "exporting to image", event.time, "done")
                self._end(number + 1, f"=> {exporting(event.image_id, index=event.index)}", event.time, "done")
                for at, tag in enumerate(event.tags, number + 2):
                    self._end(at, f"=> naming to {tag}", event.time, "done")

    def _end(self, number: int, name: str, time: float, state: str) -> None:
        step = self._steps.setdefault(number, _Step(name, time))
        step.lines.finish(time)
        step.ended = time
        step.state = state

    def _redraw(self) -> None:
        self._stream.write(_HIDE)
        while not self._stop.wait(0.1):
            with self._lock:
                self._draw(final=False)

    def _draw(self, *, final: bool) -> None:
        columns, rows = shutil.get_terminal_size((80, 24))
        now = clock.monotonic() + (self._skew or 0.0)
        lines = list(self._picture(now, columns, final=final))
        if not final and len(lines) > rows - 1:
            # only what fits can be moved over again; the newest lines matter
            lines = [lines[0], *lines[len(lines) - (rows - 2) :]]
        up = f"\x1b[{self._drawn}A\r" if self._drawn else "\r"
        self._stream.write(up + "".join(f"\x1b[2K{line}\n" for line in lines) + _CLEAR_DOWN)
        self._stream.flush()
        self._drawn = len(lines)

    def _picture(self, now: float, columns: int, *, final: bool) -> Iterator[str]:
        done = sum(step.ended is not None for step in self._steps.values())
        total = max(self._total, len(self._steps))
        failed = any(step.state == "error" for step in self._steps.values())
        word = " FINISHED" if self._finished else " FAILED" if failed and final else ""
        end = max((step.ended or now for step in self._steps.values()), default=now) if final else now
        yield f"[+] Building {end - self._begun:.1f}s ({done}/{total}){word}"[:columns]
        for step in self._steps.values():
            yield self._row(step, now, columns)
            running = step.ended is None
            if running and step.why:
                yield self._paint(f" => => cache miss: {without_controls(step.why)}"[: columns - 1], _DIM)
            if running and step.progress:
                yield self._paint(f" => => {step.progress}"[: columns - 1], _DIM)
            if running:
                for line in step.lines.tail()[-self._step_lines :]:
                    yield self._paint(f" => => # {without_controls(line.partition(' ')[2])}"[: columns - 1], _DIM)

    def _row(self, step: _Step, now: float, columns: int) -> str:
        seconds = f"{max((step.ended or now) - step.started, 0.0):.1f}s"
        mark = {"cached": "CACHED ", "error": "ERROR ", "canceled": "CANCELED "}.get(step.state, "")
        text = f" => {mark}{without_controls(step.name)}"
        room = max(columns - len(seconds) - 2, 10)
        text = text if len(text) <= room else text[: room - 3] + "..."
        row = f"{text:<{room}} {seconds}"
        colour = {"error": _RED, "canceled": _YELLOW, "done": _BLUE, "cached": _BLUE}.get(step.state, "")
        return self._paint(row, colour)

    def _paint(self, text: str, colour: str) -> str:
        return f"{colour}{text}{_OFF}" if self._color and colour else text


def _progress(event: p.StepProgress) -> str:
    def amount(count: int) -> str:
        return size(count) if event.unit in ("B", "bytes") else f"{count} {event.unit}"

    total = f" / {amount(event.total)}" if event.total is not None else ""
    return f"{event.what} {amount(event.current)}{total}"
