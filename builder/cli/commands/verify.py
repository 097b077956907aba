"""verify: builds twice, and says what came out different."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import TYPE_CHECKING

from builder.cli.build_view import Closing, explain, progress_view
from builder.cli.commands.build import FLAGS, wish
from builder.cli.flags import Command, Flag, Values
from builder.cli.progress import progress_mode

if TYPE_CHECKING:
    from builder.cli.context import Cli
    from builder.engine.verify import Difference, Verification
    from builder.pipeline.progress import Emit

_SHOWN = 40
"""Differences of one layer that the text shows."""
_USED = frozenset(
    {
        "output",
        "load",
        "push",
        "annotation",
        "tag",
        "iidfile",
        "metadata-file",
        "check",
        "call",
        "cache-from",
        "cache-to",
    }
)
"""Options of `build` about a result, of which nothing stays here."""


def verify(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Exit code 0 when both builds gave the same image, 1 when not or when one failed."""
    from builder.engine import builds
    from builder.engine import verify as verifying

    asked = wish(cli, values, arguments)
    quiet = values.on("quiet")
    mode = "quiet" if quiet else progress_mode(cli, values)
    stdin = cli.raw_in() if asked.source == "-" or asked.dockerfile == "-" else None
    open_views: list[Closing] = []

    def views(title: str) -> Emit:
        for earlier in open_views:
            earlier.close()
        if not quiet:
            cli.say(f"== {title}")
        open_views.append(Closing(cli, progress_view(cli, mode), asked, tell=False))
        return open_views[-1]

    try:
        outcome = verifying.verify(cli.engine, asked, stdin=stdin, views=views)
    except builds.problems() as error:
        if not open_views:
            raise
        open_views[-1].close()
        explain(cli, error, open_views[-1])
        return 1
    finally:
        for each in open_views:
            each.close()
    if values.text("format") == "json":
        _tell_json(cli, outcome)
    else:
        _tell(cli, outcome)
    return 0 if outcome.reproducible else 1


def _tell(cli: Cli, outcome: Verification) -> None:
    cli.out(f"SOURCE_DATE_EPOCH {outcome.epoch}")
    if outcome.reproducible:
        cli.out(f"reproducible: both builds gave {outcome.images[0]}")
        return
    cli.out(f"not reproducible: {outcome.images[0]} and {outcome.images[1]}")
    for _, group in groupby(outcome.differences, key=lambda one: (one.platform, one.layer)):
        found = list(group)
        cli.out(_heading(found[0]))
        for line in _lines(found[:_SHOWN]):
            cli.out(line)
        if len(found) > _SHOWN:
            cli.out(f"  … and {len(found) - _SHOWN} more (--format json shows all)")
    cli.say("hint: ARG SOURCE_DATE_EPOCH in a stage tells its programs the time to use; many know that variable")


def _heading(one: Difference) -> str:
    platform = f"{one.platform} " if one.platform else ""
    if not one.layer:
        return f"{platform}config"
    place = f"Dockerfile:{one.line} " if one.line else ""
    return f"{platform}layer {one.layer}: {place}{one.instruction}"


def _lines(found: Iterable[Difference]) -> Iterable[str]:
    for one in found:
        if one.attribute == "existence":
            yield f"  {one.path}: only in the {'first' if one.first else 'second'} build ({one.first or one.second})"
        else:
            yield f"  {one.path}: {one.attribute}: {one.first or '-'} | {one.second or '-'}"


def _tell_json(cli: Cli, outcome: Verification) -> None:
    from builder.cli import gotemplate

    cli.out(
        gotemplate.to_json(
            {
                "Reproducible": outcome.reproducible,
                "Images": list(outcome.images),
                "SourceDateEpoch": outcome.epoch,
                "Differences": [
                    {
                        "Platform": one.platform,
                        "Layer": one.layer,
                        "Instruction": one.instruction,
                        "Line": one.line,
                        "Path": one.path,
                        "Attribute": one.attribute,
                        "First": one.first,
                        "Second": one.second,
                    }
                    for one in outcome.differences
                ],
            }
        )
    )


COMMANDS = {
    "verify": Command(
        "[OPTIONS] PATH | URL | -",
        "Build twice and compare: is the image the same, file by file?",
        verify,
        flags=(
            *(flag for flag in FLAGS if flag.name not in _USED),
            Flag("format", "Output format: json or text", complete="json"),
        ),
        arguments=(1, 1),
        complete="file",
    )
}
