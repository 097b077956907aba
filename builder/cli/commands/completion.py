"""completion: the scripts that make bash, zsh and fish complete command lines; `builder.cli.mirror` answers them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.cli.flags import Command, Values

if TYPE_CHECKING:
    from builder.cli.context import Cli


def completion(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Print the script for a shell."""
    from builder.cli import app, mirror

    cli.out(mirror.script(arguments[0], app.mirrored(cli)).strip("\n"))
    return 0


def words(cli: Cli, kinds: str) -> list[str]:
    """What there is of the kinds "container", "image", "volume", "network"; any other word stands for itself."""
    found: list[str] = []
    for kind in kinds.split():
        if kind == "container":
            found += [each.name for each in cli.engine.store.containers.list()]
        elif kind == "image":
            found += [name.familiar() for each in cli.engine.store.images.list() for name in each.references]
        elif kind == "volume":
            found += [each.name for each in cli.engine.volumes.list()]
        elif kind == "network":
            found += [each.name for each in cli.engine.networks.list()] + ["host", "none"]
        else:
            found.append(kind)
    return found


COMMANDS = {
    "completion": Command(
        "bash|zsh|fish",
        "Generate the autocompletion script for the specified shell",
        completion,
        arguments=(1, 1),
        complete="bash zsh fish",
    ),
}
