"""volume create, ls, rm, inspect."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.cli.commands.inspect import COMMANDS as INSPECT
from builder.cli.flags import Command, Flag, Values, many, switch

if TYPE_CHECKING:
    from builder.cli.context import Cli
    from builder.cli.tables import Row

HEADERS = {
    "Driver": "DRIVER",
    "Name": "VOLUME NAME",
    "Scope": "SCOPE",
    "Mountpoint": "MOUNTPOINT",
    "Labels": "LABELS",
    "Links": "LINKS",
    "Size": "SIZE",
}


def create(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Make a volume and print its name."""
    from builder.engine.options.environment import parse_label
    from builder.engine.options.limits import pair
    from builder.errors import InvalidInput

    if values.text("driver") != "local":
        raise InvalidInput(f'plugin "{values.text("driver")}" not found', hint="only the driver local is supported")
    volume = cli.engine.volumes.create(
        arguments[0] if arguments else values.text("name"),
        created=cli.engine.now_text(),
        labels=dict(map(parse_label, values.all("label"))),
        options=dict(pair(text, what="driver option") for text in values.all("opt")),
    )
    cli.out(volume.name)
    return 0


def ls(cli: Cli, values: Values, arguments: list[str]) -> int:
    """List volumes."""
    from builder.cli import filters
    from builder.cli.tables import Table
    from builder.engine import containers

    wanted = filters.parse(values.all("filter"), ("dangling", "driver", "label", "name"))
    dangling = filters.truth(wanted, "dangling")
    rows: list[Row] = []
    for volume in cli.engine.volumes.list():
        labels = dict(volume.labels)
        if dangling is not None and bool(containers.volume_users(cli.engine, volume.name)) == dangling:
            continue
        if "name" in wanted and not any(text in volume.name for text in wanted["name"]):
            continue
        if "driver" in wanted and volume.driver not in wanted["driver"]:
            continue
        if not filters.labelled(labels, wanted.get("label", ())):
            continue
        rows.append(
            {
                "Driver": volume.driver,
                "Name": volume.name,
                "Scope": "local",
                "Mountpoint": volume.mountpoint,
                "Labels": ",".join(f"{key}={value}" for key, value in labels.items()),
                "Label": lambda key, labels=labels: labels.get(key, ""),
                "Links": "N/A",
                "Size": "N/A",
            }
        )
    if values.on("quiet"):
        for row in rows:
            cli.out(str(row["Name"]))
        return 0
    Table(("Driver", "Name"), HEADERS).show(rows, cli.out, format=values.text("format"))
    return 0


def rm(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Remove volumes."""
    from builder.engine import containers

    def one(name: str) -> None:
        cli.engine.volumes.remove(
            name, in_use=lambda each: containers.volume_users(cli.engine, each), force=values.on("force")
        )

    return cli.each(arguments, one)


COMMANDS = {
    "create": Command(
        "[OPTIONS] [VOLUME]",
        "Create a volume",
        create,
        flags=(
            Flag("driver", "Specify volume driver name", short="d", default="local"),
            many("label", "Set metadata for a volume"),
            Flag("name", "Specify volume name", hidden=True),
            many("opt", "Set driver specific options", short="o", word="map"),
        ),
        arguments=(0, 1),
    ),
    "ls": Command(
        "[OPTIONS]",
        "List volumes",
        ls,
        flags=(
            many("filter", 'Provide filter values (e.g. "dangling=true")', short="f", word="filter"),
            Flag("format", "Format output using a custom template"),
            switch("quiet", "Only display volume names", short="q"),
        ),
        arguments=(0, 0),
    ),
    "rm": Command(
        "[OPTIONS] VOLUME [VOLUME...]",
        "Remove one or more volumes",
        rm,
        flags=(switch("force", "Force the removal of one or more volumes", short="f"),),
        arguments=(1, None),
        complete="volume",
    ),
    "inspect": INSPECT["volume"],
}
