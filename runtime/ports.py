"""Published ports: docker's ``-p`` notation, and holding a host port so that nobody else takes it.

Forwarding is in `runtime.firewall`; this module only parses and reserves.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PortMapping:
    """One published port. ``host_ip`` empty: every address of the host; ``host_port`` 0: one is chosen."""

    container_port: int
    protocol: str = "tcp"
    host_ip: str = ""
    host_port: int = 0


def parse(text: str) -> tuple[PortMapping, ...]:
    """``[[ip:][hostPort[-hostPort]]:]containerPort[-containerPort][/proto]`` → one mapping per port.

    Raises NetworkError with docker's words (``invalid containerPort: abc``).
    """
    raise NotImplementedError
