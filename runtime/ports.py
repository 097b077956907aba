"""Published ports: docker's ``-p`` notation, and holding a host port so that nobody else takes it.

Forwarding is in `runtime.firewall`; this module only parses and reserves.
"""

from __future__ import annotations

import _socket as socket  # the C part: all that is used, without its enums
import errno

from runtime.errors import NetworkError
from runtime.values import dataclass, replace

PROTOCOLS = ("tcp", "udp", "sctp")


@dataclass(frozen=True, slots=True)
class PortMapping:
    """One published port. ``host_ip`` empty: every address of the host; ``host_port`` 0: one is chosen.

    ``host_last`` > 0: any free port from ``host_port`` to it (``-p 8000-9000:80``).
    """

    container_port: int
    protocol: str = "tcp"
    host_ip: str = ""
    host_port: int = 0
    host_last: int = 0


def parse(text: str) -> tuple[PortMapping, ...]:
    """``[[ip:][hostPort[-hostPort]]:]containerPort[-containerPort][/proto]`` → one mapping per port.

    Raises NetworkError with docker's words (``invalid containerPort: abc``).
    """
    rest, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in PROTOCOLS:
        raise NetworkError(f"invalid proto: {protocol}", hint="tcp, udp and sctp are allowed")
    host, _, container = rest.rpartition(":")
    if not container:
        raise NetworkError(f"no port specified: {text}<empty>", hint="write [[ip:]hostPort:]containerPort[/proto]")
    ip, host_ports = "", host
    if ":" in host:
        ip, _, host_ports = host.rpartition(":")
        ip = ip.strip("[]")
        _check_ip(ip)
    elif host.count(".") == 3:  # ip::port has an empty host port; "ip:port" alone is not docker's form
        raise NetworkError(f"invalid hostPort: {host}", hint=f"write {host}::{container} for any port of that address")
    first, last = _range(container, "containerPort")
    if host_ports in ("", "0"):  # any free port
        return tuple(PortMapping(port, protocol, ip) for port in range(first, last + 1))
    host_first, host_last = _range(host_ports, "hostPort")
    if last - first == host_last - host_first:
        return tuple(
            PortMapping(port, protocol, ip, host_first + offset) for offset, port in enumerate(range(first, last + 1))
        )
    if first != last:
        raise NetworkError(
            f"invalid ranges specified for container and host Ports: {container} and {host_ports}",
            hint="both ranges need the same length",
        )
    return (PortMapping(first, protocol, ip, host_first, host_last),)


class Held:
    """A host port that is ours as long as this is open. ``mapping`` has its host port."""

    def __init__(self, mapping: PortMapping, sock: socket.socket) -> None:
        self.mapping = mapping
        self.socket = sock

    def close(self) -> None:
        """Let the port go."""
        self.socket.close()


def hold(mapping: PortMapping, *, taken: frozenset[tuple[str, str, int]] = frozenset()) -> Held:
    """Take the host port of *mapping*, one of its range, or any when it has none.

    *taken* holds (protocol, host ip, port) of other containers. Raises NetworkError when the port is in use.
    """
    first = mapping.host_port
    for port in range(first, max(first, mapping.host_last) + 1):
        if any(
            other == (mapping.protocol, ip, port) for other in taken for ip in _overlapping(mapping.host_ip, other[1])
        ):
            problem = "port is already allocated"
            continue
        try:
            sock = _bind(mapping.protocol, mapping.host_ip or "0.0.0.0", port)
        except OSError as err:
            if err.errno not in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL):
                raise
            problem = {
                errno.EADDRINUSE: "address already in use",
                errno.EACCES: "permission denied",
                errno.EADDRNOTAVAIL: "cannot assign requested address",
            }[err.errno]
            continue
        return Held(replace(mapping, host_port=sock.getsockname()[1], host_last=0), sock)
    shown = f"{mapping.host_ip or '0.0.0.0'}:{first}"
    raise NetworkError(
        f"failed to bind host port {shown}/{mapping.protocol}: {problem}",
        hint="publish another port, or stop what uses this one",
    )


def _bind(protocol: str, ip: str, port: int) -> socket.socket:
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    sock = socket.socket(socket.AF_INET, kind | socket.SOCK_CLOEXEC)
    try:
        if kind == socket.SOCK_STREAM:
            # Connections of an earlier listener may linger in TIME_WAIT; a live listener still conflicts with listen().
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((ip, port))
        if kind == socket.SOCK_STREAM:
            sock.listen(16)
        sock.setblocking(False)  # noqa: FBT003
    except OSError:
        sock.close()
        raise
    return sock


def _overlapping(wanted: str, other: str) -> tuple[str, ...]:
    return (other,) if wanted in ("", "0.0.0.0", other) or other in ("", "0.0.0.0") else ()


def _range(text: str, what: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    numbers = []
    for part in (first, last) if dash else (first,):
        if not (part.isascii() and part.isdigit()) or not 0 < int(part) < 65536:
            raise NetworkError(
                f"invalid {what}: {text}", hint="ports are numbers from 1 to 65535, or a range 8000-8010"
            )
        numbers.append(int(part))
    if numbers[-1] < numbers[0]:
        raise NetworkError(f"invalid {what}: {text}", hint="the range ends before it starts")
    return numbers[0], numbers[-1]


def _check_ip(ip: str) -> None:
    if not ip:
        return
    try:
        socket.inet_pton(socket.AF_INET, ip)
    except OSError:
        raise NetworkError(f"invalid IP address: {ip}", hint="host addresses of published ports are IPv4") from None
