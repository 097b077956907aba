"""Published ports of a container, as they are now."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builder.engine.containers import Definition
    from builder.engine.session import Engine
    from builder.store.containers import Container
    from runtime.ports import PortMapping


def live(engine: Engine, container: Container) -> tuple[PortMapping, ...]:
    """The ports that are forwarded now, with the host ports that were chosen."""
    return tuple(
        port
        for endpoint in engine.networks.endpoints()
        if endpoint.container == container.id
        for port in endpoint.ports
    )


def published(engine: Engine, container: Container) -> tuple[tuple[str, str], ...]:
    """("80/tcp", "0.0.0.0:8080") for each published port."""
    ports = sorted(live(engine, container), key=lambda port: (port.container_port, port.protocol))
    return tuple(
        (f"{port.container_port}/{port.protocol}", f"{port.host_ip or '0.0.0.0'}:{port.host_port}") for port in ports
    )


def summary(engine: Engine, container: Container, definition: Definition) -> str:
    """The PORTS column: published ones with their host ports, exposed ones bare."""
    network = definition.request.network
    # most containers publish nothing, and what networks are made of takes 7 ms to load
    shown = published(engine, container) if network.ports or network.publish_all else ()
    names = {inside for inside, _ in shown}
    return ", ".join(
        [
            *(f"{outside}->{inside}" for inside, outside in shown),
            *(each for each in definition.exposed if each not in names),
        ]
    )
