"""gc, and prune and du of the build cache."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from builder.cli import units
from builder.cli.flags import Command, Flag, UsageError, Values, many, switch

if TYPE_CHECKING:
    from builder.cli.context import Cli
    from builder.cli.tables import Row
    from builder.engine.collection import Explained
    from builder.engine.gclimits import Limit, Limits
    from builder.store.cacheitems import CacheItem, Select


def prune(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Remove build cache."""
    from builder.engine import collection
    from builder.engine import prune as verbs
    from builder.engine.gclimits import Limit, disk_free

    select = _select(cli, values)
    what = "all build cache" if values.on("all") else "all dangling build cache"
    if not values.on("force") and not cli.confirm(
        f"WARNING! This will remove {what}.\nAre you sure you want to continue?"
    ):
        return 1
    names = ("max-used-space", "reserved-space", "min-free-space", "keep-storage")
    most, reserved, free, kept = (_size(values, name) for name in names)
    reserved = reserved or kept
    limit = Limit(most or (None if free else reserved), "", reserved, free)
    items = {item.id: item for item in collection.cache_items(cli.engine)} if free or values.on("verbose") else {}
    keep = limit.budget(sum(item.cost for item in items.values()), disk_free(cli.engine.root))
    pruned = verbs.prune_cache(cli.engine, keep=keep, select=select, everything=values.on("all"))
    if values.on("verbose"):
        for name in pruned.names:
            for line in (*_details(cli, items[name]), "") if name in items else (name, ""):
                cli.out(line)
    elif pruned.names:
        cli.out("Deleted build cache objects:")
        for name in (*pruned.names, ""):
            cli.out(name)
    cli.out(f"Total:\t{units.size(pruned.freed, digits=4)}")
    return 0


def _size(values: Values, name: str) -> int:
    from builder.engine.options.units import parse_bytes
    from builder.errors import InvalidInput

    text = values.text(name)
    try:
        return parse_bytes(text) if text else 0
    except InvalidInput as err:
        raise UsageError(f'invalid argument "{text}" for "--{name}" flag: {err.message}') from err


def _select(cli: Cli, values: Values) -> Select | None:
    """The filters as one question about a cache item; None without filters."""
    if not values.given("filter"):
        return None
    from builder.engine.options import cachefilters

    return cachefilters.parse(values.all("filter"), now=int(cli.now().timestamp() * 1e9))


def du(cli: Cli, values: Values, arguments: list[str]) -> int:
    """What the build cache takes."""
    from builder.cli.tables import Table
    from builder.engine import collection

    select = _select(cli, values)
    items = [item for item in collection.cache_items(cli.engine) if select is None or select(item)]
    format = values.text("format") or ("pretty" if values.on("verbose") else "table")
    if format == "json":
        for item in items:
            cli.out(json.dumps(_document(item), ensure_ascii=False))
        return 0
    if format == "pretty":
        for item in items:
            for line in (*_details(cli, item), ""):
                cli.out(line)
    elif items:
        names = ("ID", "Reclaimable", "Size", "LastUsedAt")
        Table(names, _HEADERS).show([_row(cli, item) for item in items], cli.out, format=format)
    if format not in ("pretty", "table") or select is not None:
        return 0
    shared = sum(item.size for item in items if item.shared)
    free = sum(item.cost for item in items if not item.in_use)
    total = sum(item.size for item in items)
    if shared:
        cli.out(f"Shared:\t\t{units.size(shared, digits=4)}\nPrivate:\t{units.size(total - shared, digits=4)}")
    cli.out(f"Reclaimable:\t{units.size(free, digits=4)}\nTotal:\t\t{units.size(total, digits=4)}")
    return 0


_HEADERS = {
    "ID": "ID",
    "Reclaimable": "RECLAIMABLE",
    "Size": "SIZE",
    "LastUsedAt": "LAST ACCESSED",
    "CreatedAt": "CREATED AT",
    "Mutable": "MUTABLE",
    "Shared": "SHARED",
    "Description": "DESCRIPTION",
    "UsageCount": "USAGE COUNT",
    "Type": "TYPE",
}


def _row(cli: Cli, item: CacheItem) -> Row:
    """As buildx has it: what steps write to has a star, and the size of what an image has as well."""
    return {
        "ID": item.id + "*" * item.mutable,
        "Reclaimable": _yes(not item.in_use),
        "Size": units.size(item.size, digits=4) + "*" * item.shared,
        "LastUsedAt": units.age(units.moment(item.last_used), cli.now()),
        "CreatedAt": units.timestamp(units.moment(item.created)),
        "Mutable": _yes(item.mutable),
        "Shared": _yes(item.shared),
        "Description": item.text,
        "UsageCount": str(item.uses),
        "Type": item.kind.value,
    }


def _yes(truth: object) -> str:
    return "true" if truth else "false"


def _details(cli: Cli, item: CacheItem) -> list[str]:
    return [
        f"ID:\t\t{item.id}",
        f"Created at:\t{units.timestamp(units.moment(item.created))}",
        f"Mutable:\t{_yes(item.mutable)}",
        f"Reclaimable:\t{_yes(not item.in_use)}",
        f"Shared:\t\t{_yes(item.shared)}",
        f"Size:\t\t{units.size(item.size, digits=4)}",
        f"Description:\t{item.text}",
        f"Usage count:\t{item.uses}",
        f"Last used:\t{units.age(units.moment(item.last_used), cli.now())}",
        f"Type:\t\t{item.kind}",
    ]


def _document(item: CacheItem) -> dict[str, object]:
    return {
        "ID": item.id,
        "CreatedAt": units.moment(item.created).isoformat(),
        "Mutable": item.mutable,
        "Reclaimable": not item.in_use,
        "Shared": item.shared,
        "Size": str(item.size),
        "Description": item.text,
        "UsageCount": item.uses,
        "LastUsedAt": units.moment(item.last_used).isoformat(),
        "Type": item.kind.value,
    }


def gc(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Remove what nothing needs and keep the build cache to its limit; say who keeps the rest."""
    from builder.engine import collection, gclimits

    dry_run, explain = values.on("dry-run"), values.on("explain")
    limits = gclimits.limits(cli.engine.root, cli.env, values.text("max-used"))
    found = collection.collect(cli.engine, limits, dry_run=dry_run, explain=explain)
    if values.text("format") == "json":
        cli.out(json.dumps(_gc_document(found, limits), ensure_ascii=False, indent=2))
        return 0
    if values.text("format"):
        raise UsageError(f'invalid argument "{values.text("format")}" for "--format" flag: only json')
    word = "would go" if dry_run else "gone"
    for item in found.collected.items:
        if explain or dry_run or item.kind in ("image", "layer", "cache mount", "failed step"):
            size = f" {units.size(item.size, digits=4)}" if item.size else ""
            cli.out(f"{word}: {item.kind} {item.name[:19]}{size}: {item.reason}")
    for held in found.kept:
        cli.out(f"kept: layer {held.layer[:19]} {units.size(held.size, digits=4)}: {'; '.join(held.holders)}")
    for rule in limits.rules:
        cli.out(f"Build cache limit: {limit_text(rule)}")
    freed = units.size(found.collected.freed, digits=4)
    cli.out(f"{'Would reclaim' if dry_run else 'Total reclaimed space'}: {freed}")
    return 0


def limit_text(rule: Limit) -> str:
    """One rule for people, and who says so."""
    sizes = [("", rule.most), ("at least ", rule.reserved), ("leaving free ", rule.free)]
    told = ", ".join(word + units.size(size, digits=4) for word, size in sizes if size or (not word and size == 0))
    what = f" of {', '.join(rule.filters)}" if rule.filters else ""
    return f"{told}{what} ({rule.source})"


def _gc_document(found: Explained, limits: Limits) -> dict[str, object]:
    return {
        "maxUsed": limits.rules[-1].most,
        "limits": [
            {
                "maxUsed": rule.most,
                "reserved": rule.reserved,
                "minFree": rule.free,
                "filters": list(rule.filters),
                "source": rule.source,
            }
            for rule in limits.rules
        ],
        "dryRun": found.collected.dry_run,
        "freed": found.collected.freed,
        "gone": [
            {"kind": each.kind, "name": each.name, "size": each.size, "reason": each.reason}
            for each in found.collected.items
        ],
        "kept": [{"layer": each.layer, "size": each.size, "holders": list(each.holders)} for each in found.kept],
    }


def keep_to_limit(cli: Cli) -> None:
    """The build cache stays below its limit by itself; that this fails is no matter of the build's."""
    from builder.engine import collection, gclimits
    from builder.errors import EngineError

    try:
        collected = collection.after_build(cli.engine, gclimits.limits(cli.engine.root, cli.env))
    except EngineError as error:
        cli.say(f"WARNING: build cache: {error.message}")
        return
    if collected is not None and collected.freed:
        cli.say(f"build cache: {units.size(collected.freed, digits=4)} used longest ago removed (lamina gc --explain)")


_FILTER = many("filter", 'Provide filter values (e.g., "until=24h", "type=exec.cachemount")', word="filter")
_VERBOSE = switch("verbose", "Provide a more verbose output")

COMMANDS = {
    "prune": Command(
        "[OPTIONS]",
        "Remove build cache",
        prune,
        flags=(
            switch("force", "Do not prompt for confirmation", short="f"),
            switch("all", "Remove all unused build cache, not just dangling ones", short="a"),
            _FILTER,
            Flag("keep-storage", "Amount of disk space to keep for cache", word="bytes", hidden=True),
            Flag("reserved-space", "Amount of disk space always allowed to keep for cache", word="bytes"),
            Flag("max-used-space", "Maximum amount of disk space allowed to keep for cache", word="bytes"),
            Flag("min-free-space", "Target amount of free disk space after pruning", word="bytes"),
            _VERBOSE,
        ),
        arguments=(0, 0),
    ),
    "du": Command(
        "[OPTIONS]",
        "Show the size of the build cache",
        du,
        flags=(_FILTER, _VERBOSE, Flag("format", "Format the output: table, pretty, json, or a template")),
        arguments=(0, 0),
    ),
    "gc": Command(
        "[OPTIONS]",
        "Remove what nothing needs, and build cache beyond its limit",
        gc,
        flags=(
            switch("dry-run", "Only say what would go, and why"),
            switch("explain", "Name what keeps every layer that stays"),
            Flag(
                "max-used",
                "Most that build cache may take: 20GB, 10% (or $LAMINA_GC_MAX_USED, gc.max-used or builder.gc in"
                " daemon.json, a tenth of the disk)",
                word="bytes",
            ),
            Flag("format", "Format the output: json", complete="json"),
        ),
        arguments=(0, 0),
    ),
}
