"""cache-mount: the directories of RUN --mount=type=cache as things one can see and remove."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from builder.cli import units
from builder.cli.flags import Command, Flag, UsageError, Values, switch

if TYPE_CHECKING:
    from builder.cli.context import Cli
    from builder.cli.tables import Row

_HEADERS = {
    "Name": "NAME",
    "ID": "ID",
    "From": "FROM",
    "Size": "SIZE",
    "CreatedSince": "CREATED",
    "LastUsed": "LAST USED",
    "Uses": "USES",
}


def ls(cli: Cli, values: Values, arguments: list[str]) -> int:
    """List cache mounts."""
    from builder.cli.tables import Table

    mounts = cli.engine.store.cache_mounts.list()
    if values.on("quiet"):
        for each in mounts:
            cli.out(each.name)
        return 0
    now = cli.now()
    rows: list[Row] = [
        {
            "Name": each.name if values.on("no-trunc") else each.name[:12],
            "ID": each.id or "<none>",
            "From": each.origin,
            "Size": units.size(each.size(), digits=4),
            "CreatedSince": units.age(units.moment(each.created), now),
            "LastUsed": units.age(units.moment(each.last_used), now),
            "Uses": str(each.uses),
        }
        for each in mounts
    ]
    Table(["Name", "ID", "Size", "CreatedSince", "LastUsed", "Uses"], _HEADERS).show(
        rows, cli.out, format=values.text("format")
    )
    return 0


def du(cli: Cli, values: Values, arguments: list[str]) -> int:
    """The sizes of cache mounts and their sum."""
    from builder.cli.tables import aligned

    mounts = cli.engine.store.cache_mounts
    chosen = [each for word in arguments for each in mounts.find(word)] if arguments else mounts.list()
    sizes = [(each, each.size()) for each in chosen]
    for line in aligned([[units.size(size, digits=4), each.id or each.name] for each, size in sizes]):
        cli.out(line)
    cli.out(f"Total: {units.size(sum(size for _, size in sizes), digits=4)}")
    return 0


def rm(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Remove cache mounts by id or name; one that a step uses is refused."""
    from builder.engine import cachemounts

    def one(word: str) -> None:
        for name in cachemounts.remove(cli.engine, word):
            cli.out(name)

    return cli.each(arguments, one, echo=False)


def export(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Cache mounts (all without arguments) to a tar, a directory, or a registry."""
    from builder.engine import cachemounts

    output, reference = values.text("output"), values.text("push")
    if bool(output) == bool(reference):
        raise UsageError("one of --output and --push says where to")
    if output.endswith(_PACKED) and not (cli.cwd / output).is_dir():
        raise UsageError(f"--output {output}: what is in the tar is packed already, so name it FILE.tar")
    engine = cli.engine  # before a file is opened: a plain user's has mounts of its own
    if reference:
        names = cachemounts.push(engine, arguments, reference, cli.env)
    elif output == "-":
        if cli.terminal_out():
            raise UsageError("cowardly refusing to save to a terminal; use -o or redirect")
        from builder.transfer.layout import TarOut

        names = cachemounts.export(engine, arguments, TarOut(cli.raw_out().write))
    elif output.endswith(".tar"):
        from builder.transfer.layout import TarOut
        from builder.transfer.outfile import whole_file

        with whole_file(cli.cwd / output) as sink:
            names = cachemounts.export(engine, arguments, TarOut(sink))
    else:
        from builder.transfer.layout import DirectoryOut

        names = cachemounts.export(engine, arguments, DirectoryOut(cli.cwd / output))
    for name in names:
        cli.say(name)
    return 0


def import_(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Cache mounts from a tar, a directory, or a registry; those that are here already are replaced."""
    from builder.cli.commands.transfer import about_archive
    from builder.engine import cachemounts

    reference = values.text("pull")
    if bool(arguments) == bool(reference):
        raise UsageError("a file, a directory, or --pull says where from")
    if reference:
        names = cachemounts.pull(cli.engine, reference, cli.env)
    else:
        path = arguments[0] if arguments[0] != "-" else ""
        with about_archive(path, _TAKEN), ExitStack() as undo:
            if path and (cli.cwd / path).is_dir():
                names = cachemounts.read_directory(cli.engine, cli.cwd / path)
            else:
                file = undo.enter_context(open(cli.cwd / path, "rb")) if path else cli.raw_in()
                names = cachemounts.read_archive(cli.engine, file)
    for name in names:
        cli.out(name)
    return 0


_PACKED = (".tgz", ".gz", ".zst", ".xz", ".bz2")
_TAKEN = "cache-mount import takes what cache-mount export writes, also packed"

COMMANDS = {
    "ls": Command(
        "[OPTIONS]",
        "List cache mounts",
        ls,
        flags=(
            Flag("format", "Format output using a custom template"),
            switch("quiet", "Only display names", short="q"),
            switch("no-trunc", "Don't truncate output"),
        ),
        arguments=(0, 0),
    ),
    "du": Command("[CACHE-MOUNT...]", "Show the size of cache mounts", du, arguments=(0, None)),
    "export": Command(
        "[OPTIONS] [CACHE-MOUNT...]",
        "Write cache mounts to a tar, a directory or a registry",
        export,
        flags=(
            Flag("output", "FILE.tar, a directory, or - for standard output", short="o", complete="file"),
            Flag("push", "A reference in a registry", word="reference"),
        ),
        arguments=(0, None),
    ),
    "import": Command(
        "[OPTIONS] [FILE|DIRECTORY|-]",
        "Take cache mounts from a tar, a directory or a registry",
        import_,
        flags=(Flag("pull", "A reference in a registry", word="reference"),),
        arguments=(0, 1),
        complete="file",
    ),
    "rm": Command("CACHE-MOUNT [CACHE-MOUNT...]", "Remove one or more cache mounts", rm, arguments=(1, None)),
}
