"""network create, ls, rm, inspect, connect, disconnect."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.cli.commands.inspect import COMMANDS as INSPECT
from builder.cli.flags import Command, Flag, UsageError, Values, many, switch

if TYPE_CHECKING:
    from builder.cli.context import Cli
    from builder.cli.tables import Row


def create(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Make a network and print its id."""
    from builder.engine.networks import PREDEFINED
    from builder.engine.options.environment import parse_label
    from builder.engine.options.limits import pair
    from builder.errors import InvalidInput
    from runtime.networkstate import NetworkRequest

    for name in ("subnet", "gateway", "ip-range"):
        if len(values.all(name)) > 1:
            raise UsageError(f"--{name}: one of a network is supported")
    if arguments[0] in PREDEFINED:
        raise InvalidInput(f"operation is not permitted on predefined {arguments[0]} network")
    first = {name: (values.all(name) or ("",))[0] for name in ("subnet", "gateway", "ip-range")}
    network = cli.engine.networks.create(
        NetworkRequest(
            arguments[0],
            driver=values.text("driver"),
            subnet=first["subnet"],
            gateway=first["gateway"],
            ip_range=first["ip-range"],
            internal=values.on("internal"),
            labels=tuple(map(parse_label, values.all("label"))),
            options=tuple(pair(text, what="driver option") for text in values.all("opt")),
        ),
        created=cli.engine.now_text(),
    )
    cli.out(network.id)
    return 0


def ls(cli: Cli, values: Values, arguments: list[str]) -> int:
    """List networks."""
    from builder.cli import filters
    from builder.cli.tables import Table
    from builder.engine import networks
    from builder.errors import InvalidInput

    wanted = filters.parse(values.all("filter"), ("driver", "id", "label", "name", "scope", "type", "dangling"))
    for kind in wanted.get("type", ()):
        if kind not in ("builtin", "custom"):
            raise InvalidInput(f"invalid filter: 'type={kind}'", hint="builtin or custom")
    dangling = filters.truth(wanted, "dangling")
    used = {each.network_id for each in cli.engine.networks.endpoints()}
    full = values.on("no-trunc")
    rows: list[Row] = []
    for network in networks.listed(cli.engine):
        if "type" in wanted and ("builtin" if network.name in networks.PREDEFINED else "custom") not in wanted["type"]:
            continue
        if "scope" in wanted and "local" not in wanted["scope"]:
            continue
        if dangling is not None and (network.name in networks.PREDEFINED or network.id in used) == dangling:
            continue
        if "name" in wanted and not any(text in network.name for text in wanted["name"]):
            continue
        if "id" in wanted and not any(network.id.startswith(text) for text in wanted["id"]):
            continue
        if "driver" in wanted and network.driver not in wanted["driver"]:
            continue
        if not filters.labelled(dict(network.labels), wanted.get("label", ())):
            continue
        rows.append(
            {
                "ID": network.id if full else network.id[:12],
                "Name": network.name,
                "Driver": network.driver,
                "Scope": "local",
                "Internal": str(network.internal).lower(),
                "CreatedAt": network.created,
                "Labels": ",".join(f"{key}={value}" for key, value in network.labels),
                "Label": lambda key, labels=dict(network.labels): labels.get(key, ""),
                "IPv6": "false",
            }
        )
    if values.on("quiet"):
        for row in rows:
            cli.out(str(row["ID"]))
        return 0
    headers = {"ID": "NETWORK ID", "Name": "NAME", "Driver": "DRIVER", "Scope": "SCOPE", "Internal": "INTERNAL"}
    headers |= {"CreatedAt": "CREATED AT", "Labels": "LABELS", "IPv6": "IPV6"}
    Table(("ID", "Name", "Driver", "Scope"), headers).show(rows, cli.out, format=values.text("format"))
    return 0


def rm(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Remove networks."""

    from builder.engine.networks import PREDEFINED
    from builder.errors import Conflict
    from runtime.errors import NetworkNotFound

    def one(name: str) -> None:
        if name in PREDEFINED:
            raise Conflict(f"{name} is a pre-defined network and cannot be removed")
        try:
            cli.engine.networks.remove(name)
        except NetworkNotFound as error:
            if not values.on("force"):
                raise
            cli.say(f"Error: {error.message}")
        else:
            cli.out(name)

    return cli.each(arguments, one, echo=False)


def connect(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Connect a container."""
    from builder.engine import connecting

    connecting.connect(cli.engine, *arguments, aliases=tuple(values.all("alias")), ip=values.text("ip"))
    return 0


def disconnect(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Take a container off a network."""
    from builder.engine import connecting

    connecting.disconnect(cli.engine, *arguments)
    return 0


COMMANDS = {
    "create": Command(
        "[OPTIONS] NETWORK",
        "Create a network",
        create,
        flags=(
            switch("attachable", "Enable manual container attachment", hidden=True),
            Flag("driver", "Driver to manage the Network", short="d", default="bridge"),
            many("gateway", "IPv4 gateway for the network"),
            switch("internal", "Restrict external access to the network"),
            many("ip-range", "Allocate container ip from a sub-range"),
            many("label", "Set metadata on a network"),
            many("opt", "Set driver specific options", short="o", word="map"),
            many("subnet", "Subnet in CIDR format that represents a network segment"),
        ),
        arguments=(1, 1),
    ),
    "ls": Command(
        "[OPTIONS]",
        "List networks",
        ls,
        flags=(
            many("filter", 'Provide filter values (e.g. "driver=bridge")', short="f", word="filter"),
            Flag("format", "Format output using a custom template"),
            switch("no-trunc", "Do not truncate the output"),
            switch("quiet", "Only display network IDs", short="q"),
        ),
        arguments=(0, 0),
    ),
    "rm": Command(
        "NETWORK [NETWORK...]",
        "Remove one or more networks",
        rm,
        flags=(switch("force", "Do not error if the network does not exist", short="f"),),
        arguments=(1, None),
        complete="network",
    ),
    "inspect": INSPECT["network"],
    "connect": Command(
        "[OPTIONS] NETWORK CONTAINER",
        "Connect a container to a network",
        connect,
        flags=(many("alias", "Add network-scoped alias for the container"), Flag("ip", "IPv4 address")),
        arguments=(2, 2),
        complete="network",
    ),
    "disconnect": Command(
        "[OPTIONS] NETWORK CONTAINER",
        "Disconnect a container from a network",
        disconnect,
        flags=(switch("force", "Force the container to disconnect from a network", short="f"),),
        arguments=(2, 2),
        complete="network",
    ),
}
