"""Docker's notation for published ports."""

from __future__ import annotations

import socket

import pytest

from runtime import ports
from runtime.errors import NetworkError
from runtime.ports import PortMapping


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80", [PortMapping(80)]),
        ("8080:80", [PortMapping(80, host_port=8080)]),
        ("8080:80/UDP", [PortMapping(80, "udp", host_port=8080)]),
        ("127.0.0.1:8080:80", [PortMapping(80, host_ip="127.0.0.1", host_port=8080)]),
        ("127.0.0.1::80", [PortMapping(80, host_ip="127.0.0.1")]),
        ("80-81", [PortMapping(80), PortMapping(81)]),
        ("8080-8081:80-81", [PortMapping(80, host_port=8080), PortMapping(81, host_port=8081)]),
        ("8000-8010:80", [PortMapping(80, host_port=8000, host_last=8010)]),
    ],
)
def test_notation(text: str, expected: list[PortMapping]) -> None:
    assert list(ports.parse(text)) == expected


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("abc", "invalid containerPort: abc"),
        ("0", "invalid containerPort: 0"),
        ("65536", "invalid containerPort: 65536"),
        ("80/icmp", "invalid proto: icmp"),
        ("80:", "no port specified"),
        ("x:80", "invalid hostPort: x"),
        ("81-80", "invalid containerPort: 81-80"),
        ("1-3:80-81", "invalid ranges specified"),
        ("999.1.1.1:80:80", "invalid IP address: 999.1.1.1"),
        ("127.0.0.1:80", "invalid hostPort: 127.0.0.1"),
    ],
)
def test_what_is_no_port(text: str, error: str) -> None:
    with pytest.raises(NetworkError, match=error):
        ports.parse(text)


def test_a_held_port_is_taken_until_it_is_let_go() -> None:
    held = ports.hold(PortMapping(80, host_ip="127.0.0.1"))
    port = held.mapping.host_port
    with pytest.raises(NetworkError, match="address already in use"):
        ports.hold(PortMapping(80, host_ip="127.0.0.1", host_port=port))
    held.close()
    ports.hold(PortMapping(80, host_ip="127.0.0.1", host_port=port)).close()


def test_a_range_gives_its_first_free_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        held = ports.hold(PortMapping(80, host_ip="127.0.0.1", host_port=port, host_last=min(port + 50, 65535)))
        assert port < held.mapping.host_port <= port + 50
        held.close()
    taken = frozenset({("tcp", "", 7)})
    with pytest.raises(NetworkError, match="port is already allocated"):
        ports.hold(PortMapping(80, host_ip="127.0.0.1", host_port=7), taken=taken)
