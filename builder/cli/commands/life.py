"""start, stop, restart, kill, pause, unpause, wait, rm, rename: the life of containers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.cli.flags import BOOL, INT, Command, Flag, UsageError, Values, switch

if TYPE_CHECKING:
    from builder.cli.context import Cli


def start(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Start containers; with -a or -i one, and stay with it."""
    from builder.cli import terminal
    from builder.engine import containers, lifecycle

    attach = values.on("attach") or values.on("interactive")
    if not attach:
        return cli.each(arguments, lambda name: lifecycle.start(cli.engine, containers.find(cli.engine, name)))
    if len(arguments) > 1:
        raise UsageError("you cannot start and attach multiple containers at once")
    container = containers.find(cli.engine, arguments[0])
    request = containers.definition(container).request
    keys = terminal.parse_keys(values.text("detach-keys") or terminal.DETACH)
    session = lifecycle.start(
        cli.engine, container, attach=True, console_size=terminal.size(1) if request.tty else None
    )
    assert session is not None
    try:
        code = terminal.follow(
            session,
            stdin=values.on("interactive") and request.open_stdin,
            terminal=request.tty,
            sig_proxy=values.on("sig-proxy") and not request.tty,
            keys=keys,
            streams=(True, True),
        )
    except EOFError:
        code = containers.state(cli.engine, container).exit_code
    finally:
        session.close()
    return 0 if code is None else code


def stop(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Stop containers: the stop signal, then SIGKILL after the timeout."""
    from builder.engine import lifecycle

    timeout, signal = _stopping(values)
    return cli.each(arguments, lambda name: lifecycle.stop(cli.engine, name, timeout=timeout, signal=signal))


def restart(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Stop and start again."""
    from builder.engine import lifecycle

    timeout, signal = _stopping(values)
    return cli.each(arguments, lambda name: lifecycle.restart(cli.engine, name, timeout=timeout, signal=signal))


def _stopping(values: Values) -> tuple[int | None, str]:
    from builder.engine.options.limits import parse_signal

    seconds = values.number("timeout") if values.given("timeout") else values.number("time")
    if values.text("signal"):
        parse_signal(values.text("signal"))
    return seconds, values.text("signal")


def kill(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Send a signal."""
    from builder.engine import lifecycle

    signal = values.text("signal") or "SIGKILL"
    return cli.each(arguments, lambda name: lifecycle.kill(cli.engine, name, signal))


def pause(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Freeze containers."""
    from builder.engine import lifecycle

    return cli.each(arguments, lambda name: lifecycle.pause(cli.engine, name))


def unpause(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Thaw containers."""
    from builder.engine import lifecycle

    return cli.each(arguments, lambda name: lifecycle.unpause(cli.engine, name))


def wait(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Print the exit codes of containers when they have ended."""
    from builder.engine import lifecycle

    return cli.each(arguments, lambda name: cli.out(str(lifecycle.wait(cli.engine, name))), echo=False)


def rm(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Remove containers; --force makes one that is not there no error."""
    from builder.engine import containers
    from builder.errors import ContainerNotFound

    if values.on("link"):
        raise UsageError("--link: links between containers are not kept; leave it out")

    def one(name: str) -> None:
        try:
            containers.remove(cli.engine, name, force=values.on("force"), volumes=values.on("volumes"))
        except ContainerNotFound as error:
            if not values.on("force"):
                raise
            cli.say(f"Error: {error.message}")
        else:
            cli.out(name)

    return cli.each(arguments, one, echo=False)


def rename(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Give a container another name."""
    from builder.engine import containers

    containers.rename(cli.engine, *arguments)
    return 0


_STOP = (
    Flag("signal", "Signal to send to the container", short="s"),
    Flag("time", "Seconds to wait before killing the container", kind=INT, hidden=True),
    Flag("timeout", "Seconds to wait before killing the container (-1: for ever)", short="t", kind=INT),
)


def _several(name: str, short: str, run: object, *flags: Flag) -> Command:
    return Command(
        "[OPTIONS] CONTAINER [CONTAINER...]" if flags else "CONTAINER [CONTAINER...]",
        short,
        run,  # type: ignore[arg-type]
        flags=flags,
        arguments=(1, None),
        complete="container",
        aliases=f"lamina container {name}, lamina {name}",
    )


COMMANDS = {
    "start": _several(
        "start",
        "Start one or more stopped containers",
        start,
        switch("attach", "Attach STDOUT/STDERR and forward signals", short="a"),
        switch("interactive", "Attach container's STDIN", short="i"),
        Flag("detach-keys", "Override the key sequence for detaching a container"),
        Flag("sig-proxy", "Proxy received signals to the process", kind=BOOL, default=True, hidden=True),
    ),
    "stop": _several("stop", "Stop one or more running containers", stop, *_STOP),
    "restart": _several("restart", "Restart one or more containers", restart, *_STOP),
    "kill": _several(
        "kill",
        "Kill one or more running containers",
        kill,
        Flag("signal", "Signal to send to the container", short="s"),
    ),
    "pause": _several("pause", "Pause all processes within one or more containers", pause),
    "unpause": _several("unpause", "Unpause all processes within one or more containers", unpause),
    "wait": _several("wait", "Block until one or more containers stop, then print their exit codes", wait),
    "rm": _several(
        "rm",
        "Remove one or more containers",
        rm,
        switch("force", "Force the removal of a running container (uses SIGKILL)", short="f"),
        switch("link", "Remove the specified link", short="l"),
        switch("volumes", "Remove anonymous volumes associated with the container", short="v"),
    ),
    "rename": Command("CONTAINER NEW_NAME", "Rename a container", rename, arguments=(2, 2), complete="container"),
}
