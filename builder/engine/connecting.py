"""Containers on further networks: connected and disconnected now if they run, and at each start from then on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from builder.engine import codec, containers, lifecycle, specs
from builder.engine.requests import Attachment
from builder.errors import Conflict
from runtime.values import replace

if TYPE_CHECKING:
    from builder.engine.containers import Definition
    from builder.engine.session import Engine
    from builder.store.containers import Container


def connect(engine: Engine, network: str, name: str, *, aliases: tuple[str, ...] = (), ip: str = "") -> None:
    """Connect the container *name* to *network*.

    Raises ContainerNotFound, NetworkNotFound, NetworkError, WrongState (it shares another's network), Conflict.
    """
    from runtime.endpoints import EndpointRequest

    container = containers.find(engine, name)
    definition = containers.definition(container)
    joined = definition.request.network.attachments or (Attachment("bridge"),)
    containers.check_connectable(joined[0].network)
    network = engine.networks.get(network).name
    if any(each.network == network for each in joined):
        raise Conflict(f"endpoint with name {container.name} already exists in network {network}")
    state = containers.state(engine, container)
    if state.pid:
        taken = [each for each in engine.networks.endpoints() if each.container == container.id]
        request = EndpointRequest(
            network=network,
            container=container.id,
            name=container.name,
            aliases=aliases,
            ip=ip,
            interface=f"eth{len(taken)}",
        )
        engine.networks.connect(request, state.pid, owner=state.supervisor_pid or None)
    _keep(engine, container, definition, (*joined, Attachment(network, aliases, ip)))


def disconnect(engine: Engine, network: str, name: str) -> None:
    """Take the container *name* off *network*; its last one it has again at the next start, as with docker.

    Raises ContainerNotFound, NetworkNotFound, NetworkError (it is not connected).
    """
    from runtime.errors import NetworkError

    container = containers.find(engine, name)
    definition = containers.definition(container)
    joined = definition.request.network.attachments or (Attachment("bridge"),)
    network = engine.networks.get(network).name
    state = containers.state(engine, container)
    if state.pid:
        engine.networks.disconnect(container.id, network)
    elif all(each.network != network for each in joined):
        raise NetworkError(f"container {container.id[:12]} is not connected to network {network}")
    left = tuple(each for each in joined if each.network != network)
    if left:
        _keep(engine, container, definition, left)


def _keep(engine: Engine, container: Container, definition: Definition, attachments: tuple[Attachment, ...]) -> None:
    """Have the container on *attachments* from its next start on, also one by its restart policy."""
    request = definition.request
    network = replace(request.network, attachments=attachments)
    definition = replace(definition, request=replace(request, network=network))
    config = json.dumps(codec.to_plain(definition), separators=(",", ":"))
    engine.store.containers.set_config(container.id, config)
    if containers.is_running(engine, container):
        lifecycle.change_endpoints(engine, container, specs.endpoints(container, definition))
