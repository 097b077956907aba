"""version, info, df, fsck."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from builder.cli import units
from builder.cli.flags import Command, Flag, Values, switch

if TYPE_CHECKING:
    from builder.cli.context import Cli


def version(cli: Cli, values: Values, arguments: list[str]) -> int:
    """What this is."""
    from builder import VERSION
    from builder.oci import platforms

    kernel = os.uname()
    facts = {
        "Version": VERSION,
        "ApiVersion": "",
        "PythonVersion": sys.version.split()[0],
        "Os": "linux",
        "Arch": platforms.host(kernel.machine).architecture,
        "KernelVersion": kernel.release,
    }
    if values.text("format"):
        return _formatted(cli, values.text("format"), {"Client": facts, "Server": facts} | facts)
    cli.out("Client: lamina")
    for name, value in facts.items():
        if value:
            cli.out(f" {name + ':':<18}{value}")
    return 0


def info(cli: Cli, values: Values, arguments: list[str]) -> int:
    """The store and this host."""
    from builder import VERSION
    from builder.engine import containers, images
    from runtime import usernet

    states = [containers.state(cli.engine, each).status for each in containers.listed(cli.engine)]
    kernel = os.uname()
    facts: dict[str, object] = {
        "Containers": len(states),
        "ContainersRunning": states.count("running"),  # type: ignore[arg-type]
        "ContainersPaused": states.count("paused"),  # type: ignore[arg-type]
        "ContainersStopped": sum(status not in ("running", "paused", "restarting") for status in states),
        "Images": len(images.list_images(cli.engine)),
        "ServerVersion": VERSION,
        "Driver": "overlay",
        "LoggingDriver": "json-file",
        "CgroupVersion": "2" if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else "1",
        "KernelVersion": kernel.release,
        "OperatingSystem": _system(),
        "OSType": "linux",
        "Architecture": kernel.machine,
        "NCPU": os.cpu_count() or 1,
        "MemTotal": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "DefaultRuntime": "lamina",
        "SecurityOptions": ["name=seccomp,profile=builtin"] + ["name=rootless"] * usernet.needed(),
        "Name": kernel.nodename,
        "DockerRootDir": str(cli.root),
        "BuildCacheLimit": _cache_limit(cli),
    }
    if values.text("format"):
        return _formatted(cli, values.text("format"), facts)
    labels = {"DockerRootDir": "Store", "NCPU": "CPUs", "MemTotal": "Total Memory", "ServerVersion": "Version"}
    labels["BuildCacheLimit"] = "Build Cache Limit"
    for name, value in facts.items():
        text = units.binary_size(value) if name == "MemTotal" and isinstance(value, int) else str(value)
        cli.out(f"{labels.get(name, name)}: {text}")
    return 0


def _cache_limit(cli: Cli) -> str:
    """Where the limit comes from too; a file that is wrong is said and is no reason to say nothing else."""
    from builder.cli.commands.cache import limit_text
    from builder.engine import gclimits
    from builder.errors import EngineError

    try:
        return "; ".join(map(limit_text, gclimits.limits(cli.root, cli.env).rules))
    except EngineError as err:
        return f"unknown: {err.message}"


def _system() -> str:
    try:
        with open("/etc/os-release", encoding="utf-8") as file:
            lines = dict(line.rstrip("\n").partition("=")[::2] for line in file)
    except OSError:
        return "Linux"
    return lines.get("PRETTY_NAME", "Linux").strip('"')


def _formatted(cli: Cli, format: str, facts: object) -> int:
    from builder.cli import gotemplate

    cli.out(gotemplate.to_json(facts) if format == "json" else gotemplate.Template(format).render(facts))
    return 0


def df(cli: Cli, values: Values, arguments: list[str]) -> int:
    """What the store's things take."""
    from builder.cli.tables import Table
    from builder.engine import usage

    if values.on("verbose"):
        from builder.cli import diskusage

        diskusage.show(cli)
        return 0

    rows = [
        {
            "Type": each.kind,
            "TotalCount": str(each.total),
            "Active": str(each.active),
            "Size": units.size(each.size, digits=4),
            "Reclaimable": units.size(each.reclaimable, digits=4)
            + (f" ({round(100 * each.reclaimable / each.size)}%)" if each.size else ""),
        }
        for each in usage.disk(cli.engine)
    ]
    headers = {
        "Type": "TYPE",
        "TotalCount": "TOTAL",
        "Active": "ACTIVE",
        "Size": "SIZE",
        "Reclaimable": "RECLAIMABLE",
    }
    Table(list(headers), headers).show(rows, cli.out, format=values.text("format"))
    return 0


def fsck(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Check the store; with --repair put it right. Ends with 1 while something is wrong."""
    problems = cli.engine.store.fsck(repair=values.on("repair"), full=values.on("full"))
    for problem in problems:
        if values.on("json"):
            import json

            cli.out(json.dumps(problem.to_json()))
        else:
            cli.out(str(problem))
    if not problems:
        cli.say("the store is clean")
        return 0
    if values.on("repair"):
        left = cli.engine.store.fsck(full=values.on("full"))
        cli.say(f"{len(problems)} problems found, {len(left)} left")
        return 1 if left else 0
    cli.say(f"{len(problems)} problems found; lamina fsck --repair puts them right")
    return 1


_FORMAT = Flag("format", "Format output using a custom template", short="f")

COMMANDS = {
    "version": Command("[OPTIONS]", "Show the lamina version information", version, flags=(_FORMAT,), arguments=(0, 0)),
    "info": Command("[OPTIONS]", "Display system-wide information", info, flags=(_FORMAT,), arguments=(0, 0)),
    "df": Command(
        "[OPTIONS]",
        "Show disk usage",
        df,
        flags=(Flag("format", "Format output using a custom template"), switch("verbose", "Show details", short="v")),
        arguments=(0, 0),
    ),
    "fsck": Command(
        "[OPTIONS]",
        "Check the store and repair it",
        fsck,
        flags=(
            switch("full", "Read every layer and compare its digest"),
            switch("json", "Print each problem as a JSON object on a line of its own"),
            switch("repair", "Put right what is wrong"),
        ),
        arguments=(0, 0),
    ),
}
