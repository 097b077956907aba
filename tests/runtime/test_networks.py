"""Networks of one root: definitions, addresses, wiring, rules, and what dead owners leave. Real bridges and rules."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtime import interfaces
from runtime.addresses import Block
from runtime.container import Launcher, Running
from runtime.endpoints import EndpointRequest
from runtime.errors import NetworkError, NetworkExists, NetworkInUse, NetworkNotFound
from runtime.linux import nftables, rtnetlink
from runtime.networks import Networks
from runtime.networkstate import Network, NetworkRequest
from runtime.ports import PortMapping

pytestmark = pytest.mark.root


@pytest.fixture
def networks(tmp_path: Path) -> Iterator[Networks]:
    found = Networks(tmp_path / "networks")
    try:
        yield found
    finally:
        for network in found.list():
            if network.user_defined:
                found.remove(network.name)
        found.teardown()


def links() -> set[str]:
    with rtnetlink.open_route() as route:
        return {link.name for link in rtnetlink.links(route)}


def request(network: str = "bridge", **fields: object) -> EndpointRequest:
    return EndpointRequest(network, os.urandom(32).hex(), **fields)  # type: ignore[arg-type]


def test_definitions(networks: Networks) -> None:
    made = networks.create(NetworkRequest("mine", labels=(("a", "b"),)), created="now")
    assert networks.get("mine") == networks.get(made.id) == networks.get(made.id[:8]) == made
    assert Block.parse(made.subnet).contains(made.gateway)
    other = networks.create(NetworkRequest("other"), created="now")
    assert not Block.parse(made.subnet).overlaps(Block.parse(other.subnet))
    assert networks.get("bridge").name == "bridge"
    assert [network.name for network in networks.list()] == ["bridge", "mine", "other"]
    with pytest.raises(NetworkExists):
        networks.create(NetworkRequest("mine"), created="")
    with pytest.raises(NetworkNotFound, match="network nosuch not found"):
        networks.get("nosuch")
    with pytest.raises(NetworkError, match="pre-defined"):
        networks.remove("bridge")
    assert made.bridge not in links()  # nothing is made before somebody joins


@pytest.mark.parametrize(
    "wrong",
    [
        NetworkRequest("host"),
        NetworkRequest("a/b"),
        NetworkRequest("x", driver="overlay"),
        NetworkRequest("x", subnet="10.1.2.3.4/8"),
        NetworkRequest("x", subnet="127.0.0.0/8"),
        NetworkRequest("x", subnet="10.211.7.0/24", gateway="10.9.9.9"),
        NetworkRequest("x", subnet="10.211.7.0/24", ip_range="10.211.0.0/16"),
    ],
)
def test_definitions_that_cannot_be(networks: Networks, wrong: NetworkRequest) -> None:
    with pytest.raises(NetworkError):
        networks.create(wrong, created="")
    assert networks.list() == ()


def test_addresses_are_given_once_and_given_back(networks: Networks) -> None:
    networks.create(NetworkRequest("mine"), created="")
    wanted = [request("mine") for _ in range(3)]
    ips = [networks.reserve(each).ip for each in wanted]
    assert len(set(ips)) == 3
    networks.release(wanted[1].container)
    assert networks.reserve(request("mine")).ip == ips[1]
    with pytest.raises(NetworkError, match="address already in use"):
        networks.reserve(request("mine", ip=ips[0]))
    with pytest.raises(NetworkError, match="does not belong"):
        networks.reserve(request("mine", ip="8.8.8.8"))
    with pytest.raises(NetworkInUse, match="has active endpoints"):
        networks.remove("mine")
    for endpoint in networks.endpoints("mine"):
        networks.release(endpoint.container)


def test_two_roots_take_different_subnets(networks: Networks, tmp_path: Path) -> None:
    second = Networks(tmp_path / "second")
    try:
        one, two = request(), request()
        networks.reserve(one)
        second.reserve(two)
        mine, theirs = networks.get("bridge"), second.get("bridge")
        assert not Block.parse(mine.subnet).overlaps(Block.parse(theirs.subnet))
        assert {mine.bridge, theirs.bridge} <= links()
        networks.release(one.container)
        networks.teardown()
        assert theirs.bridge in links()
        second.release(two.container)
    finally:
        second.teardown()


def test_what_a_dead_owner_had_is_free_again(networks: Networks) -> None:
    owner = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE)
    wanted = request(ports=(PortMapping(80),))
    networks.reserve(wanted, owner=owner.pid)
    assert [endpoint.container for endpoint in networks.endpoints()] == [wanted.container]
    owner.communicate()
    assert networks.endpoints() == ()
    assert networks.reap() == (wanted.container,)
    assert networks.reap() == ()


def test_host_ports(networks: Networks) -> None:
    first = networks.reserve(request(ports=(PortMapping(80), PortMapping(53, "udp"))))
    port = first.ports[0].host_port
    assert port > 0
    with pytest.raises(NetworkError, match="port is already allocated"):
        networks.reserve(request(ports=(PortMapping(80, host_port=port),)))
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        with pytest.raises(NetworkError, match="address already in use"):
            networks.reserve(request(ports=(PortMapping(80, host_port=taken),)))
    networks.release(first.container)
    again = networks.reserve(request(ports=(PortMapping(80, host_port=port),)))
    assert again.ports[0].host_port == port
    networks.release(again.container)


@pytest.fixture
def sleeper(box: object, launcher: Launcher) -> Iterator[Running]:
    running = launcher.start(box.spec("sleep", "1000"), stdout=2, stderr=2)  # type: ignore[attr-defined]
    yield running
    running.close()


@contextmanager
def interfaces_of(pid: int) -> Iterator[None]:
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with interfaces.inside(namespace):
            yield
    finally:
        os.close(namespace)


def namespace_links(pid: int) -> dict[str, bool]:
    with interfaces_of(pid):
        route = rtnetlink.open_route()
    with route:
        return {link.name: link.up for link in rtnetlink.links(route)}


def test_a_container_is_wired_and_unwired(networks: Networks, sleeper: Running) -> None:
    internal: Network = networks.create(NetworkRequest("inside", internal=True), created="")
    wanted = request(ports=(PortMapping(80),))
    endpoint = networks.connect(wanted, sleeper.pid)
    second = networks.connect(EndpointRequest("inside", wanted.container, mac="02:42:00:00:00:09"), sleeper.pid)
    assert (endpoint.interface, second.interface) == ("eth0", "eth1")
    assert namespace_links(sleeper.pid) == {"lo": True, "eth0": True, "eth1": True}
    with interfaces_of(sleeper.pid):
        route = rtnetlink.open_route()
    with route:
        addresses = {ip for _, ip, _ in rtnetlink.addresses(route)}
        assert {endpoint.ip, second.ip} <= addresses
        defaults = [way for way in rtnetlink.routes(route) if way.prefix == 0]
        assert len(defaults) == 1  # the internal network has no way out
    with nftables.open_netfilter() as netfilter:
        table = next(
            name
            for name in nftables.tables(netfilter)
            if name.startswith("lamina-")
            and nftables.has_chain(netfilter, name, "forward")
            and any(
                internal.bridge in nftables.interface_names(rule)
                for _, rule in nftables.rules(netfilter, name, "forward")
            )
        )
        assert nftables.rules(netfilter, table, "prerouting")
    networks.disconnect(wanted.container, "inside")
    assert "eth1" not in namespace_links(sleeper.pid)
    networks.release(wanted.container)
    assert namespace_links(sleeper.pid) == {"lo": True}
    with nftables.open_netfilter() as netfilter:
        assert nftables.rules(netfilter, table, "prerouting") == ()


def test_teardown_leaves_nothing(networks: Networks) -> None:
    wanted = request()
    networks.reserve(wanted)
    bridge = networks.get("bridge").bridge
    networks.release(wanted.container)
    networks.teardown()
    assert bridge not in links()


def test_what_a_removed_root_left_goes_with_the_next_bridge(networks: Networks, tmp_path: Path) -> None:
    gone = Networks(tmp_path / "gone")
    wanted = request(ports=(PortMapping(80),))
    gone.reserve(wanted)
    gone.release(wanted.container)
    bridge = gone.get("bridge").bridge
    root = json.loads((tmp_path / "gone" / "networks.json").read_text())["root"]
    with nftables.open_netfilter() as netfilter:
        assert f"lamina-{root}" in nftables.tables(netfilter)
    assert bridge in links()
    shutil.rmtree(tmp_path / "gone")
    other = request()
    networks.reserve(other)
    networks.release(other.container)
    assert bridge not in links()
    with nftables.open_netfilter() as netfilter:
        assert f"lamina-{root}" not in nftables.tables(netfilter)
