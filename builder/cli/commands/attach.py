"""attach, exec, logs: the streams of containers that exist."""

from __future__ import annotations

import os

from builder.cli.flags import BOOL, Command, Flag, UsageError, Values, many, switch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.cli.context import Cli
    from runtime.container import Launcher, Running
    from runtime.logs import Record


def attach(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Join a running container; the exit code is the container's."""
    from builder.cli import terminal
    from builder.engine import containers, lifecycle

    keys = terminal.parse_keys(values.text("detach-keys") or terminal.DETACH)
    container = containers.find(cli.engine, arguments[0])
    request = containers.definition(container).request
    stdin = request.open_stdin and not values.on("no-stdin")
    if request.tty and stdin and not cli.terminal_in():
        cli.say("the input device is not a TTY")
        return 1
    session = lifecycle.attach(cli.engine, container.id)
    try:
        code = terminal.follow(
            session,
            stdin=stdin,
            terminal=request.tty,
            sig_proxy=values.on("sig-proxy") and not request.tty,
            keys=keys,
            streams=(True, True),
        )
    except EOFError:
        return containers.state(cli.engine, container).exit_code
    finally:
        session.close()
    if code is None:
        cli.say("read escape sequence")
        return 1
    return code


def exec_(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Run a command in a running container; the exit code is the command's."""
    from runtime.container import Launcher

    tty, interactive = values.on("tty"), values.on("interactive")
    detach = values.on("detach")
    if tty and interactive and not detach and not cli.terminal_in():
        cli.say("the input device is not a TTY")
        return 1
    cli.become()
    with Launcher() as launcher:
        launcher.stir()  # it loads while we do, and while we look for the container
        return _exec(cli, values, arguments, launcher)


def _exec(cli: Cli, values: Values, arguments: list[str], launcher: Launcher) -> int:
    from builder.engine.entering import ExecRequest, enter
    from builder.store import names

    name, *argv = arguments
    tty, interactive = values.on("tty"), values.on("interactive")
    detach = values.on("detach")
    keys = _keys(values) if tty or values.given("detach-keys") else b""
    request = ExecRequest(
        argv=tuple(argv),
        env=tuple(_environment(cli, values)),
        user=values.text("user"),
        workdir=values.text("workdir"),
        tty=tty,
        privileged=values.on("privileged"),
        console_size=_console_size() if tty else None,
    )
    directory = f"{cli.store}/containers/{names.container(cli.database, name)[0]}"
    with open(os.devnull, "r+b") as null:
        stdin = 0 if interactive and not detach else None
        streams = (stdin, null.fileno(), null.fileno()) if detach else (stdin, 1, 2)
        running = enter(launcher, directory, request, streams=streams)
    if detach:
        launcher.leave(running)
        return 0
    if running.console is not None and not _joined(cli, launcher, running, keys, interactive=interactive):
        return 1
    end = running.wait()
    if end.error is not None:
        raise end.error
    return end.code


def _environment(cli: Cli, values: Values) -> list[str]:
    from builder.engine.options.environment import parse_env, parse_env_file

    env: list[str] = []
    for path in values.all("env-file"):
        with open(path, "rb") as file:
            env += parse_env_file(file.read(), path, cli.env.get)
    return env + [parse_env(text, cli.env.get) for text in values.all("env")]


def _keys(values: Values) -> bytes:
    from builder.cli import terminal

    return terminal.parse_keys(values.text("detach-keys") or terminal.DETACH)


def _console_size() -> tuple[int, int] | None:
    from builder.cli import terminal

    return terminal.size(1)


def _joined(cli: Cli, launcher: Launcher, running: Running, keys: bytes, *, interactive: bool) -> bool:
    """Pass the terminal through until the process has ended; False when the user left it."""
    from builder.cli import terminal

    assert running.console is not None
    try:
        terminal.join_console(running.console, stdin=interactive, keys=keys)
    except terminal.Detached:
        cli.say("read escape sequence")
        launcher.leave(running)
        return False
    os.close(running.console)
    return True


def logs(cli: Cli, values: Values, arguments: list[str]) -> int:
    """What a container wrote: stdout to stdout, stderr to stderr."""
    from builder.cli import terminal
    from builder.engine import containers, lifecycle
    from builder.engine.options.units import parse_moment
    from runtime import logs as journal

    container = containers.find(cli.engine, arguments[0])
    definition = containers.definition(container)
    if definition.request.log_driver == "none":
        cli.say("Error: configured logging driver does not support reading")
        return 1
    tail = values.text("tail")
    if tail not in ("", "all") and not tail.isdigit():
        raise UsageError(f'invalid argument "{tail}" for "-n, --tail" flag: a number or all')
    query = journal.Query(
        tail=int(tail) if tail.isdigit() else -1,
        since=parse_moment(values.text("since"), cli.now()) if values.text("since") else 0,
        until=parse_moment(values.text("until"), cli.now()) if values.text("until") else 0,
    )
    path = lifecycle.log_path(cli.engine, container)
    supervisor = lifecycle.supervisor_end(cli.engine, container) if values.on("follow") else None
    if values.on("follow"):
        records = journal.follow(
            path, query, running=lambda: containers.is_running(cli.engine, container), supervisor=supervisor
        )
    else:
        records = journal.read(path, query)
    labels = ",".join(f"{key}={value}" for key, value in definition.request.log_options) if values.on("details") else ""
    for record in records:
        line = _line(record, labels, timestamps=values.on("timestamps"), details=values.on("details"))
        terminal.write_all(2 if record.stream == "stderr" else 1, line)
    return 0


def _line(record: Record, labels: str, *, timestamps: bool, details: bool) -> bytes:
    from runtime.logwriter import rfc3339nano

    front = (rfc3339nano(record.time_ns) + " " if timestamps else "") + (labels + " " if details else "")
    return front.encode() + record.data


_KEYS = Flag("detach-keys", "Override the key sequence for detaching a container")

COMMANDS = {
    "attach": Command(
        "[OPTIONS] CONTAINER",
        "Attach local standard input, output, and error streams to a running container",
        attach,
        flags=(
            _KEYS,
            switch("no-stdin", "Do not attach STDIN"),
            Flag("sig-proxy", "Proxy all received signals to the process", kind=BOOL, default=True),
        ),
        arguments=(1, 1),
        complete="container",
    ),
    "exec": Command(
        "[OPTIONS] CONTAINER COMMAND [ARG...]",
        "Execute a command in a running container",
        exec_,
        flags=(
            switch("detach", "Detached mode: run command in the background", short="d"),
            _KEYS,
            many("env", "Set environment variables", short="e"),
            many("env-file", "Read in a file of environment variables", complete="file"),
            switch("interactive", "Keep STDIN open even if not attached", short="i"),
            switch("privileged", "Give extended privileges to the command"),
            switch("tty", "Allocate a pseudo-TTY", short="t"),
            Flag("user", 'Username or UID (format: "<name|uid>[:<group|gid>]")', short="u"),
            Flag("workdir", "Working directory inside the container", short="w"),
        ),
        arguments=(2, None),
        stop_at_argument=True,
        complete="container",
    ),
    "logs": Command(
        "[OPTIONS] CONTAINER",
        "Fetch the logs of a container",
        logs,
        flags=(
            switch("details", "Show extra details provided to logs"),
            switch("follow", "Follow log output", short="f"),
            Flag("since", 'Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m")'),
            Flag("tail", "Number of lines to show from the end of the logs", short="n", default="all"),
            switch("timestamps", "Show timestamps", short="t"),
            Flag("until", 'Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m")'),
        ),
        arguments=(1, 1),
        complete="container",
    ),
}
