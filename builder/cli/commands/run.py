"""run and create."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from builder.cli import container_flags
from builder.cli.flags import BOOL, Command, Flag, UsageError, Values, switch
from runtime.values import replace

if TYPE_CHECKING:
    from builder.cli.context import Cli
    from builder.engine.requests import ContainerRequest
    from builder.store.containers import Container
    from runtime.supervisor_client import Session


def create(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Make a container and print its id."""
    request = _attached(container_flags.request(cli, values, arguments), values)
    cli.out(_create(cli, values, request).id)
    return 0


def _attached(request: ContainerRequest, values: Values) -> ContainerRequest:
    """With all streams that were named, or all there are; stdin ends with the first client that had it."""
    streams = tuple(word.lower() for word in values.all("attach")) or (
        ("stdin",) * request.open_stdin + ("stdout",) + ("stderr",) * (not request.tty)
    )
    return replace(request, attach=streams, stdin_once=request.open_stdin and "stdin" in streams)


def _create(cli: Cli, values: Values, request: ContainerRequest) -> Container:
    from builder.engine import containers
    from builder.errors import ImageNotFound
    from builder.oci.references import Reference

    cidfile = values.text("cidfile")
    if cidfile and os.path.exists(cidfile):
        raise UsageError(f"container ID file found, make sure the other container isn't running or delete {cidfile}")
    if containers.lacks_network(request):
        cli.say(
            "warning: this container uses the host's network: one of its own needs pasta or slirp4netns, and access"
        )
        cli.say("to /dev/net/tun")
    joined = request.network.attachments
    if joined and joined[0].network == "host" and (request.network.ports or request.network.publish_all):
        cli.say("WARNING: Published ports are discarded when using host network mode")
    policy = values.text("pull")
    if policy not in ("always", "missing", "never"):
        raise UsageError(f'invalid pull option: \'{policy}\': must be one of "always", "missing" or "never"')
    if policy == "always":
        _pull(cli, values, request)
    try:
        container = containers.create(cli.engine, request)
    except ImageNotFound as error:
        from builder.engine.registries import may_bring

        if policy == "never" or error.reference != request.image or not may_bring(cli.engine, error):
            raise
        cli.say(f"Unable to find image '{Reference.parse(request.image).tagged().familiar()}' locally")
        _pull(cli, values, request)
        container = containers.create(cli.engine, request)
    _warn(cli, request, container)
    if cidfile:
        with open(cidfile, "x", encoding="ascii") as file:
            file.write(container.id)
    return container


def _warn(cli: Cli, request: ContainerRequest, container: Container) -> None:
    """docker's warning of an image that is made for another machine, when nobody has asked for that one."""
    from builder.engine import images

    found = None if request.platform else images.mismatch(cli.engine, container.image)
    if found is not None:
        cli.say(
            f"WARNING: The requested image's platform ({found[0]}) does not match the detected host platform "
            f"({found[1]}) and no specific platform was requested"
        )


def _pull(cli: Cli, values: Values, request: ContainerRequest) -> None:
    """Pull the image; stdout is the container's, so what there is to tell goes to stderr."""
    import sys

    from builder.cli.progress.transfers import open_view
    from builder.engine import registries

    view = open_view(sys.stderr, terminal=cli.terminal_err())
    emit = (lambda message: None) if values.on("quiet") else view
    registries.pull(cli.engine, cli.env, request.image, emit, platform=request.platform)


def run(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Make a container, start it, and stay with it unless -d."""
    from contextlib import suppress

    detach, attach = values.on("detach"), values.all("attach")
    if detach and attach:
        raise UsageError("conflicting options: cannot specify both --attach and --detach")
    # First of all: while it starts, we load what we need ourselves.
    cli.engine.prepare_supervisor(networks=not {"none", "host"} & set(values.all("network")))

    from builder.cli import terminal
    from builder.engine import containers, lifecycle
    from builder.errors import ContainerNotFound

    keys = terminal.parse_keys(values.text("detach-keys") or terminal.DETACH)
    request = container_flags.request(cli, values, arguments)
    if not detach:
        request = _attached(request, values)
    if request.tty and "stdin" in request.attach and not detach and not cli.terminal_in():
        cli.say("the input device is not a TTY")
        return 1
    container = _create(cli, values, request)
    try:
        session = lifecycle.start(
            cli.engine, container, attach=not detach, console_size=terminal.size(1) if request.tty else None
        )
    except BaseException:
        if request.auto_remove:
            containers.remove(cli.engine, container.id, force=True, volumes=True)
        raise
    if session is None:
        cli.out(container.id)
        return 0
    code = _stay(cli, container, request, session, sig_proxy=values.on("sig-proxy"), keys=keys)
    if code is None:
        lifecycle.leave(cli.engine, container)
        return 0
    if request.auto_remove:
        with suppress(ContainerNotFound):  # the sweep of another command may have been quicker
            containers.remove(cli.engine, container.id, force=True, volumes=True)
    return code


def _stay(
    cli: Cli, container: Container, request: ContainerRequest, session: Session, *, sig_proxy: bool, keys: bytes
) -> int | None:
    from builder.cli import terminal
    from builder.engine import containers

    try:
        return terminal.follow(
            session,
            stdin="stdin" in request.attach,
            terminal=request.tty,
            sig_proxy=sig_proxy and not request.tty,
            keys=keys,
            streams=("stdout" in request.attach or request.tty, "stderr" in request.attach or request.tty),
        )
    except EOFError:
        return containers.state(cli.engine, container).exit_code
    finally:
        session.close()


COMMANDS = {
    "run": Command(
        "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        "Create and run a new container from an image",
        run,
        flags=(
            *container_flags.FLAGS,
            switch("detach", "Run container in background and print container ID", short="d"),
            Flag("detach-keys", "Override the key sequence for detaching a container"),
            Flag("sig-proxy", "Proxy received signals to the process", kind=BOOL, default=True),
        ),
        arguments=(1, None),
        stop_at_argument=True,
        complete="image",
        aliases="lamina container run, lamina run",
    ),
    "create": Command(
        "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        "Create a new container",
        create,
        flags=container_flags.FLAGS,
        arguments=(1, None),
        stop_at_argument=True,
        complete="image",
        aliases="lamina container create, lamina create",
    ),
}
