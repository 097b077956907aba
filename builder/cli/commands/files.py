"""cp, diff, export, commit: the files of containers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from builder.cli.flags import BOOL, Command, Flag, UsageError, Values, many, switch

if TYPE_CHECKING:
    from builder.cli.context import Cli


def diff(cli: Cli, values: Values, arguments: list[str]) -> int:
    """One line for each path of a container: A, C or D. Of two images: everything that differs."""
    if len(arguments) == 2:
        from builder.cli import comparison
        from builder.engine.compare import compare_images

        render = comparison.RENDERERS[_chosen_format(values)]
        found = compare_images(cli.engine, *arguments, platform=values.text("platform"))
        cli.out(render(found))
        return 1 if values.on("exit-code") and not found.same else 0
    for flag in ("format", "exit-code", "platform"):
        if values.given(flag):
            raise UsageError(f"--{flag} is for the comparison of two images: lamina diff IMAGE1 IMAGE2")
    from builder.engine import difference

    for change in difference.changes(cli.engine, arguments[0]):
        cli.out(f"{change.kind} {change.path}")
    return 0


def _chosen_format(values: Values) -> str:
    from builder.cli.comparison import RENDERERS

    chosen = values.text("format") or "text"
    if chosen not in RENDERERS:
        raise UsageError(f'invalid argument "{chosen}" for "--format" flag: one of {", ".join(RENDERERS)}')
    return chosen


def export(cli: Cli, values: Values, arguments: list[str]) -> int:
    """A container's file system as a tar, never to a terminal."""
    from builder.engine import copying

    engine = cli.engine  # before the file is opened: a plain user's has mounts of its own
    if values.text("output"):
        from builder.transfer.outfile import whole_file

        with whole_file(Path(values.text("output"))) as write:
            copying.export(engine, arguments[0], write)
        return 0
    if cli.terminal_out():
        cli.say("Error: cowardly refusing to save to a terminal. Use the -o flag or redirect")
        return 1
    stream = cli.raw_out()
    copying.export(engine, arguments[0], stream.write)
    stream.flush()
    return 0


def commit(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Make an image of a container and print its id."""
    from builder.engine import commit as verbs

    request = verbs.CommitRequest(
        container=arguments[0],
        reference=arguments[1] if len(arguments) > 1 else "",
        author=values.text("author"),
        message=values.text("message"),
        changes=values.all("change"),
        pause=values.on("pause") and not values.on("no-pause"),
    )
    cli.out(verbs.commit(cli.engine, request))
    return 0


def cp(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Copy between a container and here; `-` is a tar stream."""
    from builder.errors import InvalidInput

    source, target = (_split(text) for text in arguments)
    if source[0] and target[0]:
        raise InvalidInput("copying between containers is not supported")
    if not source[0] and not target[0]:
        raise InvalidInput("must specify at least one container source")
    if source[0]:
        return _from_container(cli, values, source[0], source[1], target[1])
    return _to_container(cli, values, source[1], target[0], target[1])


def _split(text: str) -> tuple[str, str]:
    """(container, path); an absolute or dotted path is one of this host even with a colon in it."""
    if text.startswith(("/", ".")) or text == "-":
        return "", text
    name, colon, path = text.partition(":")
    return (name, path) if colon else ("", text)


def _from_container(cli: Cli, values: Values, name: str, path: str, target: str) -> int:
    from builder.engine import copying

    follow = values.on("follow-link")
    if target == "-":
        copying.read(cli.engine, name, path, cli.raw_out(), follow=follow)  # type: ignore[arg-type]
        return 0
    local = Path(target)
    kind = copying.kind(cli.engine, name, path)
    if not local.is_dir() and target.endswith("/") and kind != "directory":
        cli.say(f'Error: destination "{target}" must be a directory')
        return 1
    if not local.parent.is_dir():
        cli.say(f'Error: invalid output path: directory "{os.path.abspath(local.parent)}" does not exist')
        return 1
    from builder.engine import hostcopy

    hostcopy.receive(cli.engine, name, path, local, follow=follow, keep_owner=values.on("archive"))
    _tell(cli, values, f"Successfully copied to {os.path.abspath(target)}")
    return 0


def _to_container(cli: Cli, values: Values, source: str, name: str, path: str) -> int:
    from builder.engine import copying, hostcopy

    if source == "-":
        copying.write(cli.engine, name, path, cli.raw_in(), owner=None)
        return 0
    hostcopy.send(
        cli.engine, Path(source), source, name, path, follow=values.on("follow-link"), to_user=values.on("archive")
    )
    _tell(cli, values, f"Successfully copied to {name}:{path}")
    return 0


def _tell(cli: Cli, values: Values, text: str) -> None:
    if not values.on("quiet") and cli.terminal_err():
        cli.say(text)


COMMANDS = {
    "diff": Command(
        "CONTAINER | [OPTIONS] IMAGE1 IMAGE2",
        "Inspect changes to files or directories on a container's filesystem, or compare two images",
        diff,
        flags=(
            Flag(
                "format",
                "Compare two images as text, json or markdown",
                complete="text json markdown",
            ),
            switch("exit-code", "Exit with 1 when two images differ"),
            Flag("platform", "Compare the images for this platform: os[/arch[/variant]]"),
        ),
        arguments=(1, 2),
        complete="container",
    ),
    "export": Command(
        "[OPTIONS] CONTAINER",
        "Export a container's filesystem as a tar archive",
        export,
        flags=(Flag("output", "Write to a file, instead of STDOUT", short="o", complete="file"),),
        arguments=(1, 1),
        complete="container",
    ),
    "commit": Command(
        "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
        "Create a new image from a container's changes",
        commit,
        flags=(
            Flag("author", 'Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")', short="a"),
            many("change", "Apply Dockerfile instruction to the created image", short="c"),
            Flag("message", "Commit message", short="m"),
            Flag("pause", "Pause container during commit", short="p", kind=BOOL, default=True),
            switch("no-pause", "Disable pausing container during commit"),
        ),
        arguments=(1, 2),
        complete="container",
    ),
    "cp": Command(
        "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|- or SRC_PATH|- CONTAINER:DEST_PATH",
        "Copy files/folders between a container and the local filesystem",
        cp,
        flags=(
            switch("archive", "Archive mode (copy all uid/gid information)", short="a"),
            switch("follow-link", "Always follow symbol link in SRC_PATH", short="L"),
            switch("quiet", "Suppress progress output during copy", short="q"),
        ),
        arguments=(2, 2),
        complete="container",
    ),
}
