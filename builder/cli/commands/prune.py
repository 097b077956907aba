"""prune of containers, images, volumes, networks, the build cache, and all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from builder.cli import units
from builder.cli.flags import Command, Flag, Values, many, switch

if TYPE_CHECKING:
    from builder.cli.context import Cli
    from builder.engine.prune import Pruned
    from builder.store.cacheitems import Select

_KEYS = ("until", "label", "label!")


def _asked(cli: Cli, values: Values, warning: str) -> bool:
    return values.on("force") or cli.confirm(f"WARNING! {warning}\nAre you sure you want to continue?")


def _passes(cli: Cli, values: Values) -> Callable[[int, dict[str, str]], bool]:
    from builder.cli import filters

    wanted = filters.parse(values.all("filter"), _KEYS)
    until = _until(cli, wanted)

    def passes(created: int, labels: dict[str, str]) -> bool:
        if until is not None and created > until:
            return False
        if not filters.labelled(labels, wanted.get("label", ())):
            return False
        return not any(filters.labelled(labels, [text]) for text in wanted.get("label!", ()))

    return passes


def _unused_since(cli: Cli, values: Values) -> Select | None:
    """The filters as far as they say anything of build cache, which has no labels."""
    from builder.cli import filters

    until = _until(cli, filters.parse(values.all("filter"), _KEYS))
    return None if until is None else lambda item: item.last_used <= until


def _until(cli: Cli, wanted: Mapping[str, Sequence[str]]) -> int | None:
    from builder.engine.options.units import parse_moment

    return min((parse_moment(text, cli.now()) for text in wanted.get("until", ())), default=None)


def _told(cli: Cli, title: str, pruned: Pruned) -> int:
    if pruned.names:
        cli.out(f"Deleted {title}:")
        for name in pruned.names:
            cli.out(name)
        cli.out("")
    return pruned.freed


def _total(cli: Cli, freed: int) -> int:
    cli.out(f"Total reclaimed space: {units.size(freed, digits=4)}")
    return 0


def _containers(cli: Cli, values: Values) -> int:
    from builder.engine import containers, prune

    passes = _passes(cli, values)
    gone = prune.prune_containers(
        cli.engine, lambda each: passes(each.created, dict(containers.definition(each).labels))
    )
    return _told(cli, "Containers", gone)


def _images(cli: Cli, values: Values) -> int:
    from builder.engine import prune

    passes = _passes(cli, values)

    def select(image: object) -> bool:
        from builder.store.listing import Listed

        assert isinstance(image, Listed)
        return passes(image.created or 0, dict(cli.engine.store.images.get(image.id).config.config.labels))

    return _told(cli, "Images", prune.prune_images(cli.engine, select, everything=values.on("all")))


def container(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Remove stopped containers."""
    if not _asked(cli, values, "This will remove all stopped containers."):
        return 0
    return _total(cli, _containers(cli, values))


def image(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Remove unused images."""
    what = "all images without at least one container associated to them" if values.on("all") else "all dangling images"
    if not _asked(cli, values, f"This will remove {what}."):
        return 0
    code = _total(cli, _images(cli, values))
    from builder.cli.commands.cache import keep_to_limit

    keep_to_limit(cli)  # what the images had as well is now build cache's alone
    return code


def volume(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Remove unused volumes."""
    from builder.engine import prune

    kind = "all local volumes" if values.on("all") else "anonymous local volumes"
    if not _asked(cli, values, f"This will remove {kind} not used by at least one container."):
        return 0
    return _total(cli, _told(cli, "Volumes", prune.prune_volumes(cli.engine, everything=values.on("all"))))


def network(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Remove unused networks."""
    if not _asked(cli, values, "This will remove all custom networks not used by at least one container."):
        return 0
    _networks(cli, values)
    return 0


def _networks(cli: Cli, values: Values) -> int:
    from builder.engine import prune
    from builder.engine.options.units import parse_moment

    passes = _passes(cli, values)
    gone = prune.prune_networks(
        cli.engine, lambda each: passes(parse_moment(each.created, cli.now()), dict(each.labels))
    )
    return _told(cli, "Networks", gone)


def system(cli: Cli, values: Values, arguments: list[str]) -> int:
    """All of the above."""
    from builder.engine import prune

    lines = ["all stopped containers", "all networks not used by at least one container"]
    lines += ["the bridges and firewall rules on this host, if no container uses them"]
    lines += ["all anonymous volumes not used by at least one container"] * values.on("volumes")
    lines += ["all images without at least one container" if values.on("all") else "all dangling images"]
    lines += ["all build cache" if values.on("all") else "unused build cache"]
    if not _asked(cli, values, "This will remove:\n" + "\n".join(f"  - {line}" for line in lines) + "\n"):
        return 0
    freed = _containers(cli, values)
    _networks(cli, values)
    prune.release_host(cli.engine)
    if values.on("volumes"):
        freed += _told(cli, "Volumes", prune.prune_volumes(cli.engine, everything=False))
    freed += _images(cli, values)
    freed += prune.prune_cache(cli.engine, everything=values.on("all"), select=_unused_since(cli, values)).freed
    return _total(cli, freed)


_FORCE = switch("force", "Do not prompt for confirmation", short="f")
_FILTER = many("filter", 'Provide filter values (e.g. "until=<timestamp>")', word="filter")
_ALL = switch("all", "Remove all unused, not just dangling or anonymous ones", short="a")


def _command(short: str, run: Callable[[Cli, Values, list[str]], int], *flags: Flag) -> Command:
    return Command("[OPTIONS]", short, run, flags=flags, arguments=(0, 0))


COMMANDS = {
    "container": _command("Remove all stopped containers", container, _FORCE, _FILTER),
    "image": _command("Remove unused images", image, _FORCE, _FILTER, _ALL),
    "volume": _command("Remove unused local volumes", volume, _FORCE, _FILTER, _ALL),
    "network": _command("Remove all unused networks", network, _FORCE, _FILTER),
    "system": _command(
        "Remove unused data", system, _FORCE, _FILTER, _ALL, switch("volumes", "Prune anonymous volumes")
    ),
}
