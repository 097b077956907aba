"""What a container asks of a network: a value that travels in its config, without what it takes to make it true."""

from __future__ import annotations

from runtime.ports import PortMapping
from runtime.values import dataclass


@dataclass(frozen=True, slots=True)
class EndpointRequest:
    """What a container wants from one network. Empty ``ip`` and ``mac``: chosen; empty ``interface``: next free."""

    network: str
    container: str
    name: str = ""
    hostname: str = ""
    aliases: tuple[str, ...] = ()
    ip: str = ""
    mac: str = ""
    interface: str = "eth0"
    ports: tuple[PortMapping, ...] = ()
