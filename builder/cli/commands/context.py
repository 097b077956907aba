"""context: what a build would read. Docker's contexts are daemons to talk to; here is no daemon, only files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from builder.cli.flags import Command, Flag, Values, many

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.cli.context import Cli
    from builder.engine.contexts import Seen
    from builder.pipeline.survey import Amount, Verdict

SHOWN = 20
"""Rows of the lists; `--format json` has all of them."""


def list_context(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Show what is in the contexts of a build, or why a path is or is not."""
    from builder.cli.commands.build import named_context
    from builder.engine import contexts
    from builder.engine.builds import BuildWish

    wish = BuildWish(
        source=arguments[0] if arguments else ".",
        cwd=cli.cwd,
        dockerfile=values.text("file") or None,
        contexts=tuple(named_context(text) for text in values.all("build-context")),
        environment=cli.env,
    )
    stdin = cli.raw_in() if "-" in (wish.source, wish.dockerfile) else None
    paths = [_inside(cli, wish.source, path) for path in values.all("why")]
    for seen in contexts.look(cli.engine, wish, paths, stdin=stdin):
        if values.text("format") == "json":
            from builder.cli import gotemplate

            cli.out(gotemplate.to_json(_document(seen)))
        elif paths:
            for verdict in seen.verdicts:
                cli.out((f"{seen.name}: " if seen.name else "") + _sentence(verdict))
        else:
            _show(cli, seen)
    return 0


def _inside(cli: Cli, source: str, path: str) -> str:
    """*path* from the top of the context, when it was typed as an absolute one of the host."""
    top = os.path.realpath(cli.cwd / source)
    if path.startswith("/") and (path == top or path.startswith(f"{top}/")):
        return os.path.relpath(path, top)
    return path


def _sentence(verdict: Verdict) -> str:
    where = "left out" if verdict.ignored else "in the context"
    if not verdict.exists:
        where = "would be " + where
    why = f"by {verdict.place}: {verdict.pattern}" if verdict.place else "no pattern matches"
    but = ", but for what later patterns take back" if verdict.partly else ""
    return f"{verdict.path}: {where} ({why}{but})"


def _show(cli: Cli, seen: Seen) -> None:
    from builder.cli.tables import aligned
    from builder.cli.units import size

    cli.out(f"{f'Context {seen.name}' if seen.name else 'Context'}: {seen.source}")
    if seen.survey is None:
        cli.out("an image: nothing is ignored in it\n")
        return
    found = seen.survey
    if seen.dockerfile:
        cli.out(f"Dockerfile: {seen.dockerfile}")
    cli.out(f"Ignore file: {seen.ignore_file or 'none'}")
    cli.out(f"In it: {_amount(found.inside)}; left out: {_amount(found.ignored)}\n")
    rows = [["SIZE", "FILES", "LEFT OUT", "NAME"]]
    rows += [
        [size(inside.size), str(inside.files), size(ignored.size) if ignored.files else "-", name]
        for name, inside, ignored in found.entries[:SHOWN]
    ]
    for line in aligned(rows):
        cli.out(line)
    if len(found.entries) > SHOWN:
        cli.out(f"and {len(found.entries) - SHOWN} more names")
    if found.largest:
        cli.out("\nLargest files:")
        for line in aligned([[size(count), path] for path, count in found.largest]):
            cli.out(line)
    cli.out("")


def _amount(amount: Amount) -> str:
    from builder.cli.units import size

    return f"{size(amount.size)} in {amount.files} file{'' if amount.files == 1 else 's'}"


def _document(seen: Seen) -> Mapping[str, object]:
    """One context as a line of JSON; sizes are bytes."""
    document: dict[str, object] = {
        "Name": seen.name,
        "Source": seen.source,
        "Dockerfile": seen.dockerfile,
        "IgnoreFile": seen.ignore_file,
    }
    if seen.survey is not None:
        found = seen.survey
        document |= {
            "Files": found.inside.files,
            "Size": found.inside.size,
            "IgnoredFiles": found.ignored.files,
            "IgnoredSize": found.ignored.size,
            "Entries": [
                {
                    "Name": name,
                    "Files": inside.files,
                    "Size": inside.size,
                    "IgnoredFiles": ignored.files,
                    "IgnoredSize": ignored.size,
                }
                for name, inside, ignored in found.entries
            ],
            "Largest": [{"Path": path, "Size": count} for path, count in found.largest],
        }
    if seen.verdicts:
        document["Why"] = [
            {
                "Path": one.path,
                "Exists": one.exists,
                "Ignored": one.ignored,
                "Pattern": one.pattern,
                "Place": one.place,
                "Partly": one.partly,
            }
            for one in seen.verdicts
        ]
    return document


COMMANDS = {
    "context ls": Command(
        "[OPTIONS] [PATH | URL | -]",
        "List what is in a build context, how big it is, and which line of an ignore file decided",
        list_context,
        flags=(
            many("build-context", "Additional build contexts (e.g., name=path)", word="stringArray"),
            Flag("file", 'Name of the Dockerfile (default: "PATH/Dockerfile")', short="f", complete="file"),
            Flag("format", "Output format: json or the usual lists", complete="json"),
            many("why", "Say which pattern decided about this path, and list nothing else", word="path"),
        ),
        arguments=(0, 1),
        complete="file",
        aliases="lamina context ls, lamina context list",
    )
}
