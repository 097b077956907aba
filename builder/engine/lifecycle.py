"""What happens to containers: start, stop, kill, pause, wait. Each verb takes a name and finds the container.
`exec` is in `entering`.

A container is run by its supervisor (`runtime.supervisor_client`); the config is written anew at each start, since the
layers, the networks and the namespaces that it names may have moved meanwhile.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from builder.engine import autoremove, containers, specs
from builder.errors import WrongState
from runtime.values import replace

if TYPE_CHECKING:
    from pathlib import Path

    from builder.engine.session import Engine
    from builder.store.containers import Container
    from runtime.endpoints import EndpointRequest
    from runtime.supervised import Config
    from runtime.supervisor_client import Session


def start(
    engine: Engine, container: Container, *, attach: bool = False, console_size: tuple[int, int] | None = None
) -> Session | None:
    """Start a container; with `attach` its session, connected before the first byte.

    Raises ContainerError, WrongState."""
    from runtime import supervisor_client

    status = containers.state(engine, container).status
    if status == "paused":
        raise WrongState("cannot start a paused container, try unpause instead")
    if status in ("running", "restarting"):
        return supervisor_client.attach(containers.directory(engine, container)) if attach else None
    directory = containers.directory(engine, container)
    config = specs.supervised(engine, container, console_size=console_size)
    if not attach and containers.definition(container).request.auto_remove:
        config = replace(config, at_exit=autoremove.argv(engine.root, container.id))
    _write_config(directory, config)
    return engine.supervisor().start(directory, attach=attach)


def leave(engine: Engine, container: Container) -> None:
    """Whoever was attached goes, the container stays: from now on it removes itself, if it was made with `--rm`."""
    from runtime import supervisor_client

    if containers.definition(container).request.auto_remove:
        directory = containers.directory(engine, container)
        config = specs.supervised(engine, container)
        _write_config(directory, replace(config, at_exit=autoremove.argv(engine.root, container.id)))
        supervisor_client.update(directory)


def change_endpoints(engine: Engine, container: Container, endpoints: tuple[EndpointRequest, ...]) -> None:
    """A running container gets *endpoints* when its restart policy starts it again; names are answered from now on."""
    from runtime import supervisor_client
    from runtime.supervised import Config

    directory = containers.directory(engine, container)
    config = Config.from_dict(json.loads((directory / "config.json").read_bytes()))
    _write_config(directory, replace(config, endpoints=endpoints))
    supervisor_client.update(directory)


def _write_config(directory: Path, config: Config) -> None:
    temporary = directory / "config.json.new"
    temporary.write_text(json.dumps(config.to_dict(), separators=(",", ":")), encoding="utf-8")
    temporary.replace(directory / "config.json")


def attach(engine: Engine, name: str) -> Session:
    """Join a running container's streams. Raises WrongState when it does not run."""
    from runtime import supervisor_client

    container = containers.find(engine, name)
    status = containers.state(engine, container).status
    if status == "paused":
        raise WrongState("You cannot attach to a paused container, unpause it first")
    if status == "restarting":
        raise WrongState("You cannot attach to a restarting container, wait until it is running")
    if status != "running":
        raise WrongState("You cannot attach to a stopped container, start it first")
    return supervisor_client.attach(containers.directory(engine, container))


def stop(engine: Engine, name: str, *, timeout: int | None = None, signal: str = "") -> None:
    """Stop a container; one that does not run is stopped already."""
    from runtime import supervisor_client

    container = containers.find(engine, name)
    if containers.is_running(engine, container):
        supervisor_client.stop(containers.directory(engine, container), timeout=timeout, signal=signal)


def restart(engine: Engine, name: str, *, timeout: int | None = None, signal: str = "") -> None:
    """Stop, then start."""
    stop(engine, name, timeout=timeout, signal=signal)
    start(engine, containers.find(engine, name))


def kill(engine: Engine, name: str, signal: str = "SIGKILL") -> None:
    """Send a signal. Raises WrongState when the container does not run."""
    from builder.engine.options.limits import parse_signal
    from runtime import supervisor_client

    parse_signal(signal)
    container = _running(engine, name, f"cannot kill container: {name}")
    supervisor_client.kill(containers.directory(engine, container), signal)


def pause(engine: Engine, name: str) -> None:
    """Freeze all processes."""
    from runtime import supervisor_client

    container = _running(engine, name, f"cannot pause container {name}")
    if containers.state(engine, container).status == "paused":
        raise WrongState(f"Container {container.id} is already paused")
    supervisor_client.pause(containers.directory(engine, container))


def unpause(engine: Engine, name: str) -> None:
    """Thaw."""
    from runtime import supervisor_client

    container = containers.find(engine, name)
    if containers.state(engine, container).status != "paused":
        raise WrongState(f"Container {container.id} is not paused")
    supervisor_client.unpause(containers.directory(engine, container))


def wait(engine: Engine, name: str) -> int:
    """Block until the container has ended for good; its exit code."""
    from runtime import supervisor_client

    container = containers.find(engine, name)
    if not containers.is_running(engine, container):
        return containers.state(engine, container).exit_code
    return supervisor_client.wait(containers.directory(engine, container))


def log_path(engine: Engine, container: Container) -> str:
    """Where the container's output is kept."""
    from runtime.logwriter import FILE_NAME

    return os.fspath(containers.directory(engine, container) / FILE_NAME)


def supervisor_end(engine: Engine, container: Container) -> int | None:
    """A descriptor that is readable when the container's supervisor has ended; None when there is none."""
    pid = containers.state(engine, container).supervisor_pid
    if not pid:
        return None
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def _running(engine: Engine, name: str, prefix: str) -> Container:
    container = containers.find(engine, name)
    if not containers.is_running(engine, container):
        text = f"container {container.id} is not running"
        raise WrongState(f"{prefix}: {text}" if prefix else text)
    return container
