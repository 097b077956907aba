"""Port specifications of EXPOSE (and of `--publish`): `[[ip:]host:]container[-end][/protocol]`."""

from __future__ import annotations

import re

from parser.errors import DockerfileError

__all__ = ["parse_port"]

_PROTOCOLS = ("tcp", "udp", "sctp")
_RANGE = re.compile(r"([0-9]+)(?:-([0-9]+))?")


def parse_port(spec: str) -> tuple[str, ...]:
    """The container ports of one specification, each as "80/tcp", in order. Raises DockerfileError."""
    ports, slash, protocol = spec.partition("/")
    protocol = protocol.lower() if slash and protocol else "tcp"
    host, _, container = ports.rpartition(":")
    if not container:
        raise DockerfileError(f"no port specified: {spec}<empty>", word=spec)
    if protocol not in _PROTOCOLS:
        raise DockerfileError(f"invalid proto: {protocol}", hint="use tcp, udp or sctp", word=spec)
    first, last = _range(container, spec, "containerPort")
    if host:
        published = host.rpartition(":")[2]
        if published:
            _range(published, spec, "hostPort")
    return tuple(f"{port}/{protocol}" for port in range(first, last + 1))


def _range(text: str, spec: str, what: str) -> tuple[int, int]:
    found = _RANGE.fullmatch(text)
    if found is None:
        raise DockerfileError(f"invalid {what}: {text}", hint="a port is a number from 0 to 65535", word=spec)
    first = int(found[1])
    last = int(found[2]) if found[2] else first
    if max(first, last) > 65535 or last < first:
        raise DockerfileError(f"invalid {what}: {text}", hint="a port is a number from 0 to 65535", word=spec)
    return first, last
