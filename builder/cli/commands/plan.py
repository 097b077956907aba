"""plan: what a build would do, step by step, before anything happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.cli.commands.build import FLAGS, wish
from builder.cli.flags import Command, Flag, Values

if TYPE_CHECKING:
    from builder.cli.context import Cli


def plan(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Print the steps: hit or miss, and why."""
    from builder.cli.tables import aligned
    from builder.engine import builds

    asked = wish(cli, values, arguments)
    stdin = cli.raw_in() if asked.source == "-" or asked.dockerfile == "-" else None
    rows = [["#", "CACHE", "STEP", "WHY"]]
    for number, step in enumerate(builds.plan(cli.engine, asked, stdin=stdin), 1):
        rows.append([str(number), step.cache, step.name, step.why])
    if values.text("format") == "json":
        from builder.cli import gotemplate

        for row in rows[1:]:
            cli.out(gotemplate.to_json(dict(zip(("Number", "Cache", "Step", "Why"), row, strict=True))))
        return 0
    for line in aligned(rows):
        cli.out(line.rstrip())
    return 0


COMMANDS = {
    "plan": Command(
        "[OPTIONS] PATH | URL | -",
        "Show what a build would run: hit or miss, and why",
        plan,
        flags=(*FLAGS, Flag("format", "Output format: json or the usual table", complete="json")),
        arguments=(1, 1),
        complete="file",
    )
}
