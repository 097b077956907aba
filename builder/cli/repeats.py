"""A build that was asked for before: the question as one digest, and the answer when nothing has changed.

The command asks here first (see `builder.pipeline.unchanged`); what it imports, every cached build waits for.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO

    from builder.cli.context import Cli
    from builder.cli.flags import Values
    from builder.pipeline.progress import Emit
    from builder.pipeline.unchanged import Unchanged

_OUTCOME = frozenset({"add-host", "build-arg", "file", "label", "network", "platform", "tag", "target"})
"""Flags whose values say all that they mean for the image."""
_SHOWN = frozenset({"force-rm", "iidfile", "progress", "quiet", "rm"})
"""Flags that mean nothing for it. With any other one a build goes the ordinary way."""
_VARIABLES = ("DOCKER_DEFAULT_PLATFORM", "SOURCE_DATE_EPOCH")
"""Variables that stand for a flag or a build argument that was not given."""


def asked(cli: Cli, values: Values, source: str) -> str:
    """A digest of all that was said of the outcome, "" when that is not all that counts: what is read may be elsewhere,
    or was given by stdin, or a flag wants more than an image."""
    from builder.cli import clientconfig
    from builder.pipeline import looks

    given = values.everything()
    dockerfile = values.text("file")
    if not given.keys() <= _OUTCOME | _SHOWN or "-" in (source, dockerfile) or ":" in source + dockerfile:
        return ""
    arguments = [(text, cli.env.get(text) if "=" not in text else "") for text in values.all("build-arg")]
    defaults = [cli.env.get(name, "") for name in _VARIABLES]
    said = [(name, given[name]) for name in sorted(given.keys() & _OUTCOME)]
    # of the file only its proxies matter; to look for them takes longer than to build once more when it is another
    everything = repr((cli.directory, source, said, arguments, defaults, clientconfig.text(cli.env)))
    return looks.digest(everything.encode("utf-8", "surrogateescape")).hex()


def find(cli: Cli, values: Values, source: str, question: str) -> Unchanged | None:
    """The build, recorded once more, if nothing has changed since this *question* was asked; else None."""
    import time

    from builder.pipeline import unchanged

    if not question:
        return None
    try:
        return unchanged.repeat(cli.store, question, source, values.text("file"), clock=time.time_ns)
    except _problems():
        return None  # the ordinary way meets it again, and tells it


def _problems() -> tuple[type[Exception], ...]:
    from builder.engine.builds import problems

    return problems()


def show(known: Unchanged, stream: IO[str]) -> None:
    """Tell of the build as the plain view does."""
    from builder.cli.progress.numbered import Numbered

    lines = Numbered(stream)
    for number, name in known.steps:
        lines.cached(number, name)
    last = max((number for number, _ in known.steps), default=0)
    lines.exported(last + 1, known.image, known.tags, index=known.index)
    stream.flush()


def tell(known: Unchanged, now: float, emit: Emit) -> None:
    """Tell of the build in events, for any other view; *now* in unix seconds."""
    from builder.pipeline import progress

    warnings = [progress.BuildWarning(*each) for each in known.warnings]
    progress.all_cached(known.build, known.target, known.steps, warnings, now, emit)
    emit(progress.BuildDone(now, known.image, known.tags, index=known.index))
