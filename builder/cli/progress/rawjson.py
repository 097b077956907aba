"""Progress for tools: one JSON object a line, in the form of BuildKit's SolveStatus.

A line has `vertexes`, `statuses`, `logs` or `warnings`, each a list.  A vertex is named by a digest: of the build's
id and the step's number, so that lines of one build belong together and two builds never mix.
"""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import UTC, datetime
from hashlib import sha256
from typing import IO

from builder.cli.harmless import harmless
from builder.cli.progress.output import Lines
from builder.pipeline import progress as p

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.transfer.registry.progress import Message


class RawJsonView:
    """One SolveStatus a line."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._build = ""
        self._started: dict[int, str] = {}
        self._lines: dict[int, Lines] = {}

    def __call__(self, event: p.Event) -> None:
        """Write the event as a line."""
        match event:
            case p.BuildStarted():
                self._build = event.build_id
                self._put("vertexes", [self._vertex(number, name) for number, name in event.steps])
            case p.StepStarted():
                self._started[event.number] = _moment(event.time)
                self._lines[event.number] = Lines(event.time)
                self._put("vertexes", [self._vertex(event.number, event.name)])
                if event.why:
                    status: dict[str, object] = {"id": f"cache miss: {event.why}", "vertex": self._digest(event.number)}
                    moment = _moment(event.time)
                    status |= {"timestamp": moment, "started": moment, "completed": moment}
                    self._put("statuses", [status | {"current": 0}])
            case p.StepOutput():
                self._lines.setdefault(event.number, Lines(event.time)).take(event.stream, event.data, event.time)
                log: dict[str, object] = {"vertex": self._digest(event.number), "stream": event.stream}
                data = b64encode(event.data).decode("ascii")
                self._put("logs", [log | {"data": data, "timestamp": _moment(event.time)}])
            case p.StepProgress():
                status = {"id": event.what, "vertex": self._digest(event.number), "current": event.current}
                if event.total is not None:
                    status["total"] = event.total
                self._put("statuses", [status | {"timestamp": _moment(event.time)}])
            case p.StepCached():
                moment = _moment(event.time)
                done = {"started": self._started.get(event.number, moment), "completed": moment, "cached": True}
                self._put("vertexes", [self._vertex(event.number, event.name) | done])
            case p.StepDone():
                self._put("vertexes", [self._vertex(event.number, event.name) | {"completed": _moment(event.time)}])
            case p.StepFailed():
                error = {"completed": _moment(event.time), "error": event.error}
                self._put("vertexes", [self._vertex(event.number, event.name) | error])
            case p.BuildWarning():
                warning: dict[str, object] = {"level": 1, "short": _base64(event.short)}
                if event.detail:
                    warning["detail"] = [_base64(event.detail)]
                if event.url:
                    warning["url"] = event.url
                if event.line:
                    end = {"line": max(event.line, event.last)}
                    warning["range"] = [{"start": {"line": event.line}, "end": end}]
                self._put("warnings", [warning])
            case p.BuildDone(stored=True):
                moment = _moment(event.time)
                name = f"exporting to image {event.image_id}"
                self._put("vertexes", [self._vertex(0, name) | {"started": moment, "completed": moment}])
        self._stream.flush()

    def close(self) -> None:
        """Nothing to undo."""

    def tail(self, number: int) -> list[str]:
        """The last lines of step `number`."""
        lines = self._lines.get(number)
        return lines.tail() if lines else []

    def _digest(self, number: int) -> str:
        return "sha256:" + sha256(f"{self._build} {number}".encode()).hexdigest()

    def _vertex(self, number: int, name: str) -> dict[str, object]:
        vertex: dict[str, object] = {"digest": self._digest(number), "name": name}
        if number in self._started:
            vertex["started"] = self._started[number]
        return vertex

    def _put(self, kind: str, items: list[dict[str, object]]) -> None:
        _write(self._stream, kind, items)


class RawJsonTransfers:
    """Images that come before there is a plan: a line about one is a vertex, its layers are statuses of the last."""

    def __init__(self, stream: IO[str], now: Callable[[], float]) -> None:
        self._stream = stream
        self._now = now
        self._vertex = ""
        self._started: dict[str, str] = {}

    def __call__(self, message: Message) -> None:
        """Write the message as a line."""
        moment = _moment(self._now())
        text = harmless(message.status)  # a registry's words may be in it
        if not message.id or text.startswith("Pulling from"):
            name = f"{message.id}: {text}" if message.id else text
            self._vertex = "sha256:" + sha256(f"{moment} {name}".encode()).hexdigest()
            vertex: dict[str, object] = {"digest": self._vertex, "name": name}
            vertex |= {"started": moment, "completed": moment}
            _write(self._stream, "vertexes", [vertex])
        else:
            started = self._started.setdefault(message.id, moment)
            status = {"id": message.id, "vertex": self._vertex, "name": text, "current": message.current}
            times = {"timestamp": moment, "started": started}
            if message.total:
                status["total"] = message.total
            elif text in ("Pull complete", "Already exists"):
                times["completed"] = moment
            _write(self._stream, "statuses", [status | times])
        self._stream.flush()


def _write(stream: IO[str], kind: str, items: list[dict[str, object]]) -> None:
    stream.write(json.dumps({kind: items}, separators=(",", ":"), ensure_ascii=False) + "\n")


def _base64(text: str) -> str:
    return b64encode(text.encode("utf-8", "replace")).decode("ascii")


def _moment(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
