"""ps, top, port, stats: what containers are doing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from builder.cli import units
from builder.cli.flags import INT, Command, Flag, Values, many, switch

if TYPE_CHECKING:
    from builder.cli.context import Cli
    from builder.cli.tables import Row
    from builder.store.containers import Container
    from runtime.states import ContainerState

_HEADERS = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "RunningFor": "CREATED",
    "Status": "STATUS",
    "State": "STATE",
    "Health": "HEALTH",
    "HealthStatus": "HEALTH STATUS",
    "Ports": "PORTS",
    "Names": "NAMES",
    "Size": "SIZE",
    "Labels": "LABELS",
    "Mounts": "MOUNTS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Networks": "NETWORKS",
    "Platform": "PLATFORM",
}
_FILTERS = (
    *("id", "name", "label", "status", "exited", "ancestor", "before", "since", "volume", "network"),
    *("publish", "expose", "health", "is-task"),
)


def ps(cli: Cli, values: Values, arguments: list[str]) -> int:
    """List containers."""
    from builder.cli import filters
    from builder.cli.tables import Table
    from builder.engine import containers

    wanted = filters.parse(values.all("filter"), _FILTERS)
    _check(wanted)
    last = 1 if values.on("latest") else values.number("last") or -1
    everything = values.on("all") or last > 0 or "status" in wanted or "exited" in wanted
    rows: list[Row] = []
    for container in containers.listed(cli.engine):
        state = containers.state(cli.engine, container)
        if not everything and state.status not in ("running", "paused", "restarting"):
            continue
        if _wanted(cli, container, state, wanted):
            rows.append(container_row(cli, container, state, full=values.on("no-trunc"), size=values.on("size")))
    if last > 0:
        rows = rows[:last]
    if values.on("quiet") and not values.text("format"):
        for row in rows:
            cli.out(str(row["ID"]))
        return 0
    usual = ["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"]
    if values.on("size"):
        usual.append("Size")
    Table(usual, _HEADERS).show(rows, cli.out, format=values.text("format"))
    return 0


def container_row(cli: Cli, container: Container, state: ContainerState, *, full: bool, size: bool) -> Row:
    from builder.engine import containers, ports

    definition = containers.definition(container)
    created = datetime.fromtimestamp(container.created / 1_000_000_000, UTC)
    labels = dict(definition.labels)
    # docker puts words with a blank in quotes, but never the program's own name
    program, *words = definition.argv
    command = " ".join([program, *(f"'{word}'" if " " in word else word for word in words)])
    mounts = [mount.name or mount.source for mount in definition.mounts if mount.name or mount.source]
    attachments = definition.request.network.attachments
    return {
        "ID": container.id if full else container.id[:12],
        "Image": definition.request.image,
        "Command": f'"{command if full else units.ellipsis(command, 20)}"',
        "CreatedAt": units.timestamp(created),
        "RunningFor": units.age(created, cli.now()),
        "Status": status_text(state, cli.now()),
        "State": str(state.status),
        "Health": state.health.status if state.health else "",
        "HealthStatus": state.health.status if state.health else "",
        "Ports": ports.summary(cli.engine, container, definition) if state.pid else "",
        "Names": container.name,
        "Size": _size(cli, container) if size else "0B",
        "Labels": ",".join(f"{key}={value}" for key, value in labels.items()),
        "Label": lambda key: labels.get(key, ""),
        "Mounts": ",".join(mount if full else units.ellipsis(mount, 15) for mount in mounts),
        "LocalVolumes": str(sum(bool(mount.name) for mount in definition.mounts)),
        "Networks": ",".join(each.network for each in attachments) or "bridge",
        "Platform": "",
    }


def _size(cli: Cli, container: Container) -> str:
    from builder.engine import images, rootfs
    from builder.errors import ContainerNotFound

    own = rootfs.upper_size(cli.engine, container)
    try:
        below = images.size_of(cli.engine, rootfs.active(cli.engine, container).parents)
    except ContainerNotFound:
        below = 0  # it was removed meanwhile
    return f"{units.size(own)} (virtual {units.size(own + below)})"


def status_text(state: ContainerState, now: datetime) -> str:
    """`Up 2 hours (healthy)`, `Exited (0) 5 seconds ago`, `Created`."""
    from builder.cli.filters import parsed_moment

    started, finished = parsed_moment(state.started_at or None), parsed_moment(state.finished_at or None)
    if state.status in ("running", "paused"):
        text = f"Up {units.duration(now - started) if started else 'Less than a second'}"
        if state.status == "paused":
            return text + " (Paused)"
        if state.health:
            starting = state.health.status == "starting"
            text += " (health: starting)" if starting else f" ({state.health.status})"
        return text
    if state.status == "restarting":
        return f"Restarting ({state.exit_code}) {units.age(finished, now) if finished else ''}".rstrip()
    if state.status == "exited":
        return f"Exited ({state.exit_code}) {units.age(finished, now) if finished else ''}".rstrip()
    return "Dead" if state.status == "dead" else "Created"


def _wanted(cli: Cli, container: Container, state: ContainerState, wanted: dict[str, list[str]]) -> bool:
    import re

    from builder.cli.filters import labelled
    from builder.engine import containers
    from builder.errors import ImageNotFound

    def some(key: str, test: object) -> bool:
        return key not in wanted or any(test(value) for value in wanted[key])  # type: ignore[operator]

    definition = containers.definition(container)
    engine = cli.engine
    published = [(each.host_port or each.container_port, each.protocol) for each in definition.request.network.ports]
    networks = [each.network for each in definition.request.network.attachments] or ["bridge"]
    volumes = {text for mount in definition.mounts for text in (mount.name, mount.source, mount.request.target)}
    health = state.health.status if state.health else "none"

    def ancestor(name: str) -> bool:
        try:
            image_id = engine.store.images.resolve(name)
        except ImageNotFound:
            return False
        theirs = engine.store.images.layers(container.image)  # type: ignore[arg-type]
        ours = engine.store.images.layers(image_id)
        return container.image == image_id or (bool(ours) and theirs[: len(ours)] == ours)

    return (
        some("id", container.id.startswith)
        and some(
            "name", lambda pattern: any(re.search(pattern, each) for each in (container.name, f"/{container.name}"))
        )
        and some("status", lambda status: state.status == status)
        and some("exited", lambda code: state.status == "exited" and str(state.exit_code) == code)
        and some("health", lambda status: health == status)
        and some("network", lambda name: name in networks)
        and some("volume", lambda name: name in volumes)
        and some("ancestor", ancestor)
        and some("before", lambda name: container.created < containers.find(engine, name).created)
        and some("since", lambda name: container.created > containers.find(engine, name).created)
        and some("expose", lambda text: any(_within(text, *each.partition("/")[::2]) for each in definition.exposed))
        and some("publish", lambda text: any(_within(text, *each) for each in published))
        and labelled(dict(definition.labels), wanted.get("label", ()))
    )


_STATES = ("created", "running", "paused", "restarting", "removing", "exited", "dead")
_HEALTH = ("starting", "healthy", "unhealthy", "none")


def _check(wanted: dict[str, list[str]]) -> None:
    """Raises InvalidInput, in docker's words, for a filter whose value can match nothing."""
    import re

    from builder.cli import filters
    from builder.errors import InvalidInput

    filters.truth(wanted, "is-task")
    for status in wanted.get("status", ()):
        if status not in _STATES:
            raise InvalidInput(f"invalid filter 'status={status}'", hint="one of " + ", ".join(_STATES))
    for health in wanted.get("health", ()):
        if health not in _HEALTH:
            raise InvalidInput(f"unrecognized filter value for health: {health}", hint="one of " + ", ".join(_HEALTH))
    for code in wanted.get("exited", ()):
        if not code.lstrip("-").isdigit():
            raise InvalidInput(f"invalid filter 'exited={code}'", hint="an exit code")
    for key in ("publish", "expose"):
        for text in wanted.get(key, ()):
            if not re.fullmatch(r"\d+(-\d+)?(/(tcp|udp|sctp))?", text):
                raise InvalidInput(f"invalid filter '{key}={text}'", hint="PORT, PORT-PORT, or either with /PROTOCOL")
    for pattern in wanted.get("name", ()):
        try:
            re.compile(pattern)
        except re.error as err:
            raise InvalidInput(f"invalid filter 'name={pattern}': {err}") from None


def _within(text: str, port: int | str, protocol: str) -> bool:
    """Whether a port is the one, or one of those, that `publish` or `expose` names."""
    numbers, _, wanted = text.partition("/")
    first, _, last = numbers.partition("-")
    return int(first) <= int(port) <= int(last or first) and protocol == (wanted or "tcp")


def port(cli: Cli, values: Values, arguments: list[str]) -> int:
    """The published ports of a container, or where one of its ports is published."""
    from builder.engine import containers, ports

    container = containers.find(cli.engine, arguments[0])
    wanted = arguments[1] if len(arguments) > 1 else ""
    wanted = wanted if not wanted or "/" in wanted else f"{wanted}/tcp"
    found = False
    for inside, outside in ports.published(cli.engine, container):
        if wanted in ("", inside):
            cli.out(outside if wanted else f"{inside} -> {outside}")
            found = True
    if wanted and not found:
        cli.say(f"Error: No public port '{wanted}' published for {arguments[0]}")
        return 1
    return 0


def top(cli: Cli, values: Values, arguments: list[str]) -> int:
    """The processes of a container; with options as ps on the host shows them."""
    from builder.cli.tables import aligned
    from builder.engine import processes

    name, *options = arguments
    found = processes.chosen(cli.engine, name, _ps(options)) if options else processes.listing(cli.engine, name)
    for line in aligned([found[0], *found[1]]):
        cli.out(line)
    return 0


def _ps(options: list[str]) -> str:
    import subprocess

    from builder.errors import InvalidInput

    try:
        done = subprocess.run(["ps", *options], capture_output=True, text=True, errors="replace", check=False)
    except FileNotFoundError:
        raise InvalidInput("ps is not installed on this host", hint="leave its options out") from None
    if done.returncode:
        raise InvalidInput(f"ps: {(done.stderr.strip() or 'failed').splitlines()[0]}")
    return done.stdout


def stats(cli: Cli, values: Values, arguments: list[str]) -> int:
    """What containers use; again every second on a terminal, once with --no-stream or on a pipe."""
    import time

    from builder.cli.tables import Table
    from builder.engine import containers, statistics

    def chosen() -> list[Container]:
        if arguments:
            return [containers.find(cli.engine, name) for name in arguments]
        everything = containers.listed(cli.engine)
        return [each for each in everything if values.on("all") or containers.is_running(cli.engine, each)]

    before = {each.id: (time.monotonic(), statistics.sample(cli.engine, each)) for each in chosen()}
    while True:
        time.sleep(1.0)
        rows: list[Row] = []
        for each in chosen():
            then, old = before.get(each.id, (time.monotonic() - 1.0, statistics.Sample()))
            now, new = time.monotonic(), statistics.sample(cli.engine, each)
            before[each.id] = (now, new)
            percent = max(new.cpu_us - old.cpu_us, 0) / 10_000 / (now - then)
            share = 100 * new.memory / new.limit if new.limit else 0.0
            rows.append(
                {
                    "Container": each.id[:12],
                    "ID": each.id if values.on("no-trunc") else each.id[:12],
                    "Name": each.name,
                    "CPUPerc": f"{percent:.2f}%",
                    "MemUsage": f"{units.binary_size(new.memory)} / {units.binary_size(new.limit)}",
                    "MemPerc": f"{share:.2f}%",
                    "NetIO": f"{units.size(new.received)} / {units.size(new.sent)}",
                    "BlockIO": f"{units.size(new.read)} / {units.size(new.written)}",
                    "PIDs": str(new.processes),
                }
            )
        if cli.terminal_out() and not values.on("no-stream"):
            cli.out("\x1b[H\x1b[2J")
        headers = {"ID": "CONTAINER ID", "Name": "NAME", "CPUPerc": "CPU %", "MemUsage": "MEM USAGE / LIMIT"}
        headers |= {"MemPerc": "MEM %", "NetIO": "NET I/O", "BlockIO": "BLOCK I/O", "PIDs": "PIDS"}
        Table(list(headers), headers | {"Container": "CONTAINER"}).show(rows, cli.out, format=values.text("format"))
        if values.on("no-stream") or not cli.terminal_out():
            return 0


_PS = (
    switch("all", "Show all containers (default shows just running)", short="a"),
    many("filter", "Filter output based on conditions provided", short="f", word="filter"),
    Flag("format", "Format output using a custom template"),
    Flag("last", "Show n last created containers (includes all states)", short="n", kind=INT, default=-1),
    switch("latest", "Show the latest created container (includes all states)", short="l"),
    switch("no-trunc", "Don't truncate output"),
    switch("quiet", "Only display container IDs", short="q"),
    switch("size", "Display total file sizes", short="s"),
)


def _list() -> Command:
    return Command(
        "[OPTIONS]",
        "List containers",
        ps,
        flags=_PS,
        arguments=(0, 0),
        aliases="lamina container ls, lamina container list, lamina container ps, lamina ps",
    )


COMMANDS = {
    "ps": _list(),
    "container ls": _list(),
    "port": Command(
        "CONTAINER [PRIVATE_PORT[/PROTO]]",
        "List port mappings or a specific mapping for the container",
        port,
        arguments=(1, 2),
        complete="container",
    ),
    "stats": Command(
        "[OPTIONS] [CONTAINER...]",
        "Display a live stream of container(s) resource usage statistics",
        stats,
        flags=(
            switch("all", "Show all containers (default shows just running)", short="a"),
            Flag("format", "Format output using a custom template"),
            switch("no-stream", "Disable streaming stats and only pull the first result"),
            switch("no-trunc", "Do not truncate output"),
        ),
        complete="container",
    ),
    "top": Command(
        "CONTAINER [ps OPTIONS]",
        "Display the running processes of a container",
        top,
        arguments=(1, None),
        stop_at_argument=True,
        complete="container",
    ),
}
