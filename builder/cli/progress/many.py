"""Several builds in one view: their steps numbered through, each named after its target."""

from __future__ import annotations

from collections.abc import Callable

from builder.cli.progress.numbered import exporting
from builder.pipeline import progress as p
from runtime.values import replace


class Many:
    """Turns (target, event) into events of one build. Call it from one thread at a time.

    With a single target nothing is renamed. The last target's BuildDone is the whole's; those before it are shown as
    steps of their own.
    """

    def __init__(self, emit: Callable[[p.Event], None], *, targets: int) -> None:
        self._emit = emit
        self._left = targets
        self._named = targets > 1
        self._build = ""
        self._names: list[str] = []
        self._numbers: dict[tuple[str, int], int] = {}

    def __call__(self, target: str, event: p.Event) -> None:
        """Take one event of *target*."""
        match event:
            case p.BuildStarted():
                self._build = self._build or event.build_id
                for number, name in event.steps:
                    self._number(target, number, name)
                steps = tuple(enumerate(self._names, 1))
                self._emit(replace(event, build_id=self._build, steps=steps))
            case p.BuildWarning():
                self._emit(replace(event, message=self._prefixed(target, event.message)))
            case p.BuildDone():
                self._left -= 1
                self._done(target, event)
            case p.StepOutput() | p.StepProgress():
                self._emit(replace(event, number=self._numbers[target, event.number]))
            case _:
                number = self._number(target, event.number, event.name)
                self._emit(replace(event, number=number, name=self._names[number - 1]))

    def _number(self, target: str, number: int, name: str) -> int:
        key = (target, number)
        if key not in self._numbers:
            self._names.append(self._renamed(target, name))
            self._numbers[key] = len(self._names)
        return self._numbers[key]

    def _renamed(self, target: str, name: str) -> str:
        """ "[build 2/5] RUN make" as "[app build 2/5] RUN make"."""
        if not self._named:
            return name
        return f"[{target} {name[1:].lstrip()}" if name.startswith("[") else f"[{target}] {name}"

    def _prefixed(self, target: str, text: str) -> str:
        return f"{target}: {text}" if self._named else text

    def _done(self, target: str, event: p.BuildDone) -> None:
        if self._left == 0:
            self._emit(event)
            return
        if not event.stored:
            return
        number = self._number(target, 0, "exporting to image")
        name = self._names[number - 1]
        lines = (exporting(event.image_id, index=event.index), *(f"naming to {tag}" for tag in event.tags))
        self._emit(p.StepStarted(number, name, event.time))
        self._emit(p.StepOutput(number, 1, "".join(f"{line}\n" for line in lines).encode(), event.time))
        self._emit(p.StepDone(number, name, event.time))
