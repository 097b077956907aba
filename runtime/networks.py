"""Networks that containers join: definitions, addresses, and the wiring of one container.

The state lives in a directory that the caller names (one per lamina root): ``networks.json`` (definitions, durable),
``endpoints.json`` (who is connected now; stale after a reboot), ``lock`` (flock, held for every change). Each entry of
``endpoints.json`` names the process that owns it by pid and start time; what a dead owner left is reaped by the next
command. Bridges are named after the network's id, and one nftables table per root holds all rules of that root, so two
roots on one host never touch each other's.

Typical use, both phases in the process that owns the endpoint (build step or supervisor)::

    networks = Networks(root / "networks")
    endpoint = networks.reserve(EndpointRequest(network="bridge", container=id, ports=...))   # address known: /etc/hosts
    ...                                        # the container's namespaces exist, its first process has not exec'ed
    networks.attach(endpoint, pid)             # veth into /proc/PID/ns/net, addresses, routes, NAT
    ...
    networks.release(id)                       # at exit

``host``, ``none`` and ``container:ID`` are not networks of this module: they are values of ``Spec.namespaces.network``;
`mode` tells which is which.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import PathLike

from runtime.ports import PortMapping

DEFAULT_NETWORK = "bridge"


@dataclass(frozen=True, slots=True)
class NetworkRequest:
    """What ``network create`` asks for. Empty subnet: one from the pool that overlaps no route of the host."""

    name: str
    driver: str = "bridge"
    subnet: str = ""
    gateway: str = ""
    ip_range: str = ""
    internal: bool = False
    labels: tuple[tuple[str, str], ...] = ()
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Network:
    """A defined network. ``subnet`` and ``ip_range`` in CIDR form, ``created`` in RFC 3339 with nanoseconds (UTC)."""

    name: str
    id: str
    driver: str
    subnet: str
    gateway: str
    bridge: str
    ip_range: str = ""
    internal: bool = False
    labels: tuple[tuple[str, str], ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    created: str = ""
    auto_subnet: bool = True

    @property
    def user_defined(self) -> bool:
        """Whether names are resolved on it (Docker: every network but the default one)."""
        return self.name != DEFAULT_NETWORK


@dataclass(frozen=True, slots=True)
class EndpointRequest:
    """What a container wants from one network. ``ip`` and ``mac`` empty: chosen; ``interface`` empty: next free ethN."""

    network: str
    container: str
    name: str = ""
    hostname: str = ""
    aliases: tuple[str, ...] = ()
    ip: str = ""
    mac: str = ""
    interface: str = "eth0"
    ports: tuple[PortMapping, ...] = ()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A container's place in a network. ``ports`` are resolved: each has a host port. ``prefix`` in bits."""

    id: str
    network: str
    network_id: str
    container: str
    name: str
    aliases: tuple[str, ...]
    ip: str
    prefix: int
    gateway: str
    mac: str
    interface: str
    host_interface: str
    internal: bool
    ports: tuple[PortMapping, ...]
    owner_pid: int
    owner_start: int


class Networks:
    """The networks of one lamina root. Cheap to make: nothing is read before the first call."""

    def __init__(self, directory: str | PathLike[str]) -> None:
        raise NotImplementedError

    def create(self, request: NetworkRequest, *, created: str) -> Network:
        """Define a network. Raises NetworkExists, NetworkError (bad or overlapping subnet). Makes no interface yet."""
        raise NotImplementedError

    def get(self, name: str) -> Network:
        """By name, full id or unique id prefix; the default network is made on first use. Raises NetworkNotFound."""
        raise NotImplementedError

    def list(self) -> tuple[Network, ...]:
        """All networks, the default one first, then by name."""
        raise NotImplementedError

    def remove(self, name: str) -> Network:
        """Remove definition, bridge and rules. Raises NetworkInUse when a live container is connected, NetworkNotFound."""
        raise NotImplementedError

    def endpoints(self, network: str | None = None) -> tuple[Endpoint, ...]:
        """Live endpoints (owner alive), of one network or of all."""
        raise NotImplementedError

    def reserve(self, request: EndpointRequest, *, owner: int | None = None) -> Endpoint:
        """Take an address (and host ports) for a container; owner is a pid, by default this process."""
        raise NotImplementedError

    def attach(self, endpoint: Endpoint, pid: int) -> None:
        """Wire the network namespace of process *pid*: veth, addresses, default route, NAT, published ports."""
        raise NotImplementedError

    def connect(self, request: EndpointRequest, pid: int, *, owner: int | None = None) -> Endpoint:
        """`reserve` and `attach` in one: for a container that already runs, or where /etc/hosts does not matter."""
        raise NotImplementedError

    def disconnect(self, container: str, network: str) -> None:
        """Take a running container off one network: interface, rules and address are gone on return."""
        raise NotImplementedError

    def release(self, container: str) -> None:
        """Give back all that *container* held. Idempotent; called at exit, also by those who find it dead."""
        raise NotImplementedError

    def reap(self) -> tuple[str, ...]:
        """Release whatever dead owners left; returns the containers' ids."""
        raise NotImplementedError

    def teardown(self) -> None:
        """Remove every bridge and the nftables table of this root. Definitions stay; the next attach makes them again."""
        raise NotImplementedError
