"""Networks that containers join: definitions, addresses, and the wiring of one container.

The state lives in a directory that the caller names (one per lamina root): ``networks.json`` (definitions, durable),
``endpoints.json`` (who is connected now; stale after a reboot), ``lock`` (flock, held for every change). Each entry of
``endpoints.json`` names the process that owns it by pid and start time; what a dead owner left is reaped by the next
command. Bridges are named after the network's id, and one nftables table per root holds all rules of that root, so two
roots on one host never touch each other's.

Typical use, both phases in the process that owns the endpoint (build step or supervisor)::

    networks = Networks(root / "networks")
    endpoint = networks.reserve(EndpointRequest(network="bridge", container=id, ports=...))   # address known
    ...                                        # the container's namespaces exist, its first process has not exec'ed
    networks.attach(endpoint, pid)             # veth into /proc/PID/ns/net, addresses, routes, NAT
    ...
    networks.release(id)                       # at exit

``host``, ``none`` and ``container:ID`` are not networks of this module: they are values of ``Spec.namespaces.network``;
`mode` tells which is which.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from os import PathLike
from typing import Any

from runtime import addresses, firewall, interfaces, ports, usernet
from runtime.addresses import Block
from runtime.endpoints import EndpointRequest
from runtime.errors import NetworkError, NetworkExists, NetworkInUse, NetworkNotFound
from runtime.firewall import Zone
from runtime.linux import rtnetlink
from runtime.linux.netlink import Netlink
from runtime.ports import Held, PortMapping
from runtime.statefile import process_start
from runtime.states import process_alive

DEFAULT_NETWORK = "bridge"
_RESERVED = ("host", "none", "default", "container")
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")


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
class Endpoint:
    """A container's place in a network. ``ports`` are resolved: each has a host port. ``prefix`` in bits."""

    id: str
    network: str
    network_id: str
    container: str
    name: str
    hostname: str
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
        self._directory = os.path.abspath(os.fspath(directory))
        self._held: dict[str, list[Held]] = {}
        self._helpers: dict[str, usernet.Helper] = {}

    def create(self, request: NetworkRequest, *, created: str) -> Network:
        """Define a network. Raises NetworkExists, NetworkError (bad or overlapping subnet). Makes no interface yet."""
        _check(request)
        with self._state(write=True) as state, rtnetlink.open_route() as route, interfaces.namespace_lock():
            if request.name == DEFAULT_NETWORK or any(network.name == request.name for network in state.networks):
                raise NetworkExists(
                    f"network with name {request.name} already exists",
                    hint=f"see it with: network inspect {request.name}",
                )
            network = _define(request, _taken(state, interfaces.occupied(route)), created=created)
            state.networks.append(network)
            return network

    def get(self, name: str) -> Network:
        """By name, full id or unique id prefix; the default network is made on first use. Raises NetworkNotFound."""
        with self._state(write=False) as state:
            found = _find(state, name)
        if found is not None:
            return found
        if name not in (DEFAULT_NETWORK, "default"):
            raise NetworkNotFound(f"network {name} not found", hint="list them with: network ls")
        with self._state(write=True) as state, rtnetlink.open_route() as route, interfaces.namespace_lock():
            return _default(state, route)

    def list(self) -> tuple[Network, ...]:
        """All networks, the default one first, then by name."""
        with self._state(write=False) as state:
            return tuple(sorted(state.networks, key=lambda network: (network.user_defined, network.name)))

    def remove(self, name: str) -> Network:
        """Remove definition, bridge and rules. Raises NetworkInUse (a live container is connected), NetworkNotFound."""
        if name == DEFAULT_NETWORK:
            raise NetworkError(f"{name} is a pre-defined network and cannot be removed")
        with self._state(write=True) as state:
            network = _find(state, name)
            if network is None:
                raise NetworkNotFound(f"network {name} not found", hint="list them with: network ls")
            self._reap(state)
            users = [endpoint for endpoint in state.endpoints if endpoint.network_id == network.id]
            if users:
                names = ", ".join(f'"{endpoint.name or endpoint.container[:12]}"' for endpoint in users)
                raise NetworkInUse(
                    f"network {network.name} has active endpoints (name:{names})",
                    hint="stop these containers or disconnect them first",
                )
            state.networks.remove(network)
            self._take_down(state, (network.bridge,))
            return network

    def endpoints(self, network: str | None = None) -> tuple[Endpoint, ...]:
        """Live endpoints (owner alive), of one network (name or id) or of all."""
        with self._state(write=False) as state:
            return tuple(
                endpoint
                for endpoint in state.endpoints
                if network in (None, endpoint.network, endpoint.network_id)
                and process_alive(endpoint.owner_pid, endpoint.owner_start)
            )

    def reserve(self, request: EndpointRequest, *, owner: int | None = None) -> Endpoint:
        """Take an address (and host ports) for a container; owner is a pid, by default this process.

        The bridge exists on return. Host ports are held by this object until `release` or its end. A plain user's
        container gets a network of its own instead (`runtime.usernet`).
        """
        if usernet.needed():
            return self._alone(request, owner or os.getpid())
        with self._state(write=True) as state:
            self._reap(state)
            network = _find(state, request.network)
            if network is None and request.network not in (DEFAULT_NETWORK, "default"):
                raise NetworkNotFound(f"network {request.network} not found", hint="list them with: network ls")
            network = self._bridge(state, network)
            used = [endpoint for endpoint in state.endpoints if endpoint.network_id == network.id]
            if any(endpoint.container == request.container for endpoint in used):
                name = request.name or request.container[:12]
                raise NetworkError(f"endpoint with name {name} already exists in network {network.name}")
            identifier = os.urandom(32).hex()
            ip = _address(network, request.ip, {endpoint.ip for endpoint in used})
            endpoint = Endpoint(
                id=identifier,
                network=network.name,
                network_id=network.id,
                container=request.container,
                name=request.name,
                hostname=request.hostname,
                aliases=request.aliases,
                ip=ip,
                prefix=Block.parse(network.subnet).prefix,
                gateway=network.gateway,
                mac=request.mac.lower() or "02:42:" + ":".join(f"{int(part):02x}" for part in ip.split(".")),
                interface=_interface(state, request),
                host_interface=f"veth{identifier[:10]}",
                internal=network.internal,
                ports=self._hold(identifier, request.ports, state, internal=network.internal),
                owner_pid=owner or os.getpid(),
                owner_start=process_start(owner or os.getpid()),
            )
            state.endpoints.append(endpoint)
            return endpoint

    def _alone(self, request: EndpointRequest, owner: int) -> Endpoint:
        if request.network not in (DEFAULT_NETWORK, "default"):
            raise NetworkError(
                f"network {request.network} cannot be joined by a plain user: its bridge takes root",
                hint="leave --network out for a network of the container's own, or use --network host or none",
            )
        with self._state(write=True) as state:
            self._reap(state)
            identifier = os.urandom(32).hex()
            endpoint = Endpoint(
                id=identifier,
                network=DEFAULT_NETWORK,
                network_id="",
                container=request.container,
                name=request.name,
                hostname=request.hostname,
                aliases=request.aliases,
                ip=usernet.ADDRESS,
                prefix=usernet.PREFIX,
                gateway=usernet.GATEWAY,
                mac="",
                interface=usernet.INTERFACE,
                host_interface="",
                internal=False,
                ports=self._hold(identifier, request.ports, state, internal=False),
                owner_pid=owner,
                owner_start=process_start(owner),
            )
            for held in self._held.pop(identifier, ()):
                held.close()  # chosen and free; the helper will listen there itself, and no fork may keep it
            state.endpoints.append(endpoint)
            return endpoint

    def attach(self, endpoint: Endpoint, pid: int) -> None:
        """Wire the network namespace of process *pid*: veth, addresses, default route, NAT, published ports."""
        if not endpoint.host_interface:
            self._helpers[endpoint.container] = usernet.start(pid, endpoint.ports)
            return
        with self._state(write=False) as state:
            network = _find(state, endpoint.network_id)
            if network is None:
                raise NetworkNotFound(f"network {endpoint.network} not found", hint="it was removed meanwhile")
            firewall.ensure(state.table, _zones(state))
            firewall.allow_beside_docker(network.bridge)
        gateway = "" if network.internal else endpoint.gateway
        interfaces.wire(
            pid,
            interfaces.Wire(
                host_name=endpoint.host_interface,
                bridge=network.bridge,
                name=endpoint.interface,
                ip=endpoint.ip,
                prefix=endpoint.prefix,
                mac=endpoint.mac,
                gateway=gateway,
            ),
        )

    def connect(self, request: EndpointRequest, pid: int, *, owner: int | None = None) -> Endpoint:
        """`reserve` and `attach` in one: for a container that already runs, or where /etc/hosts does not matter."""
        endpoint = self.reserve(request, owner=owner)
        try:
            self.attach(endpoint, pid)
        except (OSError, NetworkError):
            self._drop((endpoint,))
            raise
        return endpoint

    def disconnect(self, container: str, network: str) -> None:
        """Take a running container off one network: interface, rules and address are gone on return."""
        known = self.get(network)
        gone = [endpoint for endpoint in self._of(container) if endpoint.network_id == known.id]
        if not gone:
            raise NetworkError(f"container {container[:12]} is not connected to network {known.name}")
        for endpoint in gone:
            interfaces.unwire(endpoint.host_interface)
        self._drop(gone)

    def release(self, container: str, *, unwire: bool = True) -> None:
        """Give back all that *container* held. Idempotent; called at exit, also by those who find it dead.

        Removing an interface waits some 20 ms for the kernel; who knows that the network namespace has died with the
        container says ``unwire=False`` and leaves that to the kernel.
        """
        helper = self._helpers.pop(container, None)
        if helper is not None:
            helper.stop()
        gone = self._of(container)
        if unwire:
            for endpoint in gone:
                if endpoint.host_interface:
                    interfaces.unwire(endpoint.host_interface)
        if gone:
            self._drop(gone)

    def reap(self) -> tuple[str, ...]:
        """Release whatever dead owners left; returns the containers' ids."""
        with self._state(write=True) as state:
            return self._reap(state)

    def teardown(self, *, idle: bool = False) -> bool:
        """Remove every bridge and the nftables table of this root. Definitions stay; the next attach makes them again.

        With *idle* nothing is done while a live container is connected; False tells it.
        """
        with self._state(write=True) as state:
            self._reap(state)
            if idle and state.endpoints:
                return False
            self._take_down(state, tuple(network.bridge for network in state.networks))
            firewall.remove(state.table)
            return True

    def _of(self, container: str) -> tuple[Endpoint, ...]:
        with self._state(write=False) as state:
            return tuple(endpoint for endpoint in state.endpoints if endpoint.container == container)

    def _drop(self, gone: Sequence[Endpoint]) -> None:
        identifiers = {endpoint.id for endpoint in gone}
        with self._state(write=True) as state:
            state.endpoints[:] = [endpoint for endpoint in state.endpoints if endpoint.id not in identifiers]
            if any(endpoint.ports and endpoint.host_interface for endpoint in gone):
                firewall.ensure(state.table, _zones(state))
        for identifier in identifiers:
            for held in self._held.pop(identifier, ()):
                held.close()

    def _reap(self, state: _State) -> tuple[str, ...]:
        dead = [e for e in state.endpoints if not process_alive(e.owner_pid, e.owner_start)]
        for endpoint in dead:
            state.endpoints.remove(endpoint)
            for held in self._held.pop(endpoint.id, ()):
                held.close()
            with rtnetlink.open_route() as route:
                left = interfaces.find_bridge(route, endpoint.host_interface)
            if left is not None:
                interfaces.unwire(endpoint.host_interface)
        if any(endpoint.ports and endpoint.host_interface for endpoint in dead):
            firewall.ensure(state.table, _zones(state))
        return tuple(dict.fromkeys(endpoint.container for endpoint in dead))

    def _bridge(self, state: _State, network: Network | None) -> Network:
        """The network with its bridge up; the default network is defined when it is not, and may move its subnet."""
        with rtnetlink.open_route() as route:
            if network is not None and interfaces.find_bridge(route, network.bridge) is not None:
                return network
            with interfaces.namespace_lock():
                self._sweep(route)
                if network is None:
                    network = _default(state, route)
                occupied = interfaces.occupied(route)
                if Block.parse(network.subnet).overlaps_any(occupied):
                    if not network.auto_subnet:
                        raise NetworkError(
                            f"subnet {network.subnet} of network {network.name} overlaps with a route of this host",
                            hint="remove the network and create it with another --subnet",
                        )
                    others = [other for other in state.networks if other.id != network.id]
                    moved = _move(network, _taken(replace_networks(state, others), occupied))
                    state.networks[state.networks.index(network)] = moved
                    network = moved
                prefix = Block.parse(network.subnet).prefix
                owner = f"{state.root}:{self._directory}"
                interfaces.make_bridge(route, interfaces.Bridge(network.bridge, network.gateway, prefix, owner))
                return network

    def _sweep(self, route: Netlink) -> None:
        """Remove bridges and tables of roots whose directory is gone; one that is in use is never touched."""
        for name, owner, has_ports in interfaces.owned_bridges(route):
            root, _, directory = owner.partition(":")
            # The lock is there from a root's first moment; its networks are written after the bridge was made.
            if has_ports or directory == self._directory or os.path.exists(os.path.join(directory, "lock")):
                continue
            interfaces.unwire(name)
            firewall.forget_beside_docker(name)
            firewall.remove(_table(root))

    def _take_down(self, state: _State, bridges: Sequence[str]) -> None:
        for bridge in bridges:
            interfaces.unwire(bridge)
            firewall.forget_beside_docker(bridge)
        if bridges and state.networks:
            firewall.ensure(state.table, _zones(state))

    def _hold(
        self, identifier: str, wanted: Sequence[PortMapping], state: _State, *, internal: bool
    ) -> tuple[PortMapping, ...]:
        if not wanted or internal:
            return ()
        taken = frozenset((p.protocol, p.host_ip, p.host_port) for e in state.endpoints for p in e.ports)
        held: list[Held] = []
        try:
            for mapping in wanted:
                mine = frozenset((h.mapping.protocol, h.mapping.host_ip, h.mapping.host_port) for h in held)
                held.append(ports.hold(mapping, taken=taken | mine))
        except (OSError, NetworkError):
            for one in held:
                one.close()
            raise
        self._held[identifier] = held
        return tuple(one.mapping for one in held)

    @contextmanager
    def _state(self, *, write: bool) -> Iterator[_State]:
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        lock = os.open(os.path.join(self._directory, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX if write else fcntl.LOCK_SH)
            state = _load(self._directory)
            networks, endpoints = tuple(state.networks), tuple(state.endpoints)
            yield state
            if not write:
                return
            if tuple(state.networks) != networks:
                definitions = {"root": state.root, "networks": [asdict(network) for network in state.networks]}
                _save(self._directory, "networks.json", definitions, durable=True)
            if tuple(state.endpoints) != endpoints:
                live = {"boot": state.boot, "endpoints": [asdict(endpoint) for endpoint in state.endpoints]}
                _save(self._directory, "endpoints.json", live, durable=False)
        finally:
            os.close(lock)


@dataclass(slots=True)
class _State:
    """Both files, while the lock is held. ``root`` names the table and marks the bridges."""

    root: str
    boot: str
    networks: list[Network]
    endpoints: list[Endpoint]

    @property
    def table(self) -> str:
        return _table(self.root)


def _table(root: str) -> str:
    return f"lamina-{root}"


def _load(directory: str) -> _State:
    with open("/proc/sys/kernel/random/boot_id") as file:
        boot = file.read().strip()
    defined = _json(os.path.join(directory, "networks.json"))
    live = _json(os.path.join(directory, "endpoints.json"))
    return _State(
        root=defined.get("root") or os.urandom(6).hex(),
        boot=boot,
        networks=[_network(item) for item in defined.get("networks", ())],
        # Pids and interfaces of an earlier boot mean nothing now.
        endpoints=[_endpoint(item) for item in live.get("endpoints", ())] if live.get("boot") == boot else [],
    )


def _json(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            data = json.load(file)
    except FileNotFoundError:
        return {}
    except ValueError as err:
        raise NetworkError(f"{path} is damaged: {err}", hint="remove the file; networks must be created again") from err
    return data if isinstance(data, dict) else {}


def _save(directory: str, name: str, data: dict[str, Any], *, durable: bool) -> None:
    path = os.path.join(directory, name)
    temporary = f"{path}.new"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(data, file)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    os.rename(temporary, path)


def _network(item: dict[str, Any]) -> Network:
    pairs = {name: tuple((key, value) for key, value in item.get(name, ())) for name in ("labels", "options")}
    return Network(**{**item, **pairs})


def _endpoint(item: dict[str, Any]) -> Endpoint:
    mappings = tuple(PortMapping(**mapping) for mapping in item["ports"])
    return Endpoint(**{**item, "aliases": tuple(item["aliases"]), "ports": mappings})


def _find(state: _State, name: str) -> Network | None:
    if name == "default":
        name = DEFAULT_NETWORK
    for network in state.networks:
        if name in (network.name, network.id):
            return network
    matches = [network for network in state.networks if name and network.id.startswith(name)]
    if len(matches) > 1:
        raise NetworkError(f"network id prefix {name} is ambiguous", hint="give more digits, or the name")
    return matches[0] if matches else None


def replace_networks(state: _State, networks: Sequence[Network]) -> _State:
    """The same state with other definitions."""
    return _State(state.root, state.boot, list(networks), state.endpoints)


def _default(state: _State, route: Netlink) -> Network:
    found = _find(state, DEFAULT_NETWORK)
    if found is None:
        found = _define(NetworkRequest(DEFAULT_NETWORK), _taken(state, interfaces.occupied(route)), created="")
        state.networks.append(found)
    return found


def _taken(state: _State, occupied: Sequence[tuple[str, int]]) -> tuple[Block, ...]:
    defined = [Block.parse(network.subnet) for network in state.networks]
    return tuple(defined + [Block.containing(ip, prefix) for ip, prefix in occupied])


def _define(request: NetworkRequest, taken: Sequence[Block], *, created: str) -> Network:
    if request.subnet:
        block = Block.parse(request.subnet)
        if any(block.overlaps(other) for other in taken):
            raise NetworkError(
                "invalid pool request: Pool overlaps with other one on this address space",
                hint=f"{block} is in use on this host; choose another --subnet, or none",
            )
    else:
        block = addresses.free_block(taken)
    gateway = request.gateway or block.first_host()
    if not block.contains(gateway):
        raise NetworkError(f"no matching subnet for gateway {gateway}", hint=f"the gateway must be inside {block}")
    if request.ip_range and not block.covers(Block.parse(request.ip_range)):
        raise NetworkError(f"no matching subnet for range {request.ip_range}", hint=f"the range must be inside {block}")
    identifier = os.urandom(32).hex()
    return Network(
        name=request.name,
        id=identifier,
        driver=request.driver,
        subnet=str(block),
        gateway=gateway,
        bridge=f"lm-{identifier[:12]}",
        ip_range=request.ip_range,
        internal=request.internal,
        labels=request.labels,
        options=request.options,
        created=created,
        auto_subnet=not request.subnet,
    )


def _move(network: Network, taken: Sequence[Block]) -> Network:
    """The same network on a free subnet: its own is used by somebody else since the bridge was last up."""
    block = addresses.free_block(taken)
    return replace(network, subnet=str(block), gateway=block.first_host(), ip_range="")


def _check(request: NetworkRequest) -> None:
    if not _NAME.fullmatch(request.name) or request.name in _RESERVED:
        raise NetworkError(
            f'invalid network name "{request.name}"',
            hint="letters, digits, _ . - are allowed; host and none are reserved",
        )
    if request.driver != "bridge":
        raise NetworkError(f'network driver "{request.driver}" is not available', hint="bridge is")


def _address(network: Network, wanted: str, used: set[str]) -> str:
    block = Block.parse(network.subnet)
    if wanted:
        if not block.contains(wanted) or wanted in (block.first(), block.last()):
            raise NetworkError(
                f"invalid address {wanted}: it does not belong to subnet {block} of network {network.name}",
                hint="choose one inside the subnet",
            )
        if wanted in used or wanted == network.gateway:
            raise NetworkError("address already in use", hint=f"{wanted} is taken in network {network.name}")
        return wanted
    pool = Block.parse(network.ip_range) if network.ip_range else block
    for ip in pool.hosts():
        if ip not in used and ip not in (network.gateway, block.first(), block.last()):
            return ip
    raise NetworkError(f"no available IPv4 addresses on network {network.name}", hint=f"all of {pool} are in use")


def _interface(state: _State, request: EndpointRequest) -> str:
    used = {endpoint.interface for endpoint in state.endpoints if endpoint.container == request.container}
    if request.interface and request.interface not in used:
        return request.interface
    number = 0
    while f"eth{number}" in used:
        number += 1
    return f"eth{number}"


def _zones(state: _State) -> tuple[Zone, ...]:
    zones = []
    for network in sorted(state.networks, key=lambda network: network.id):
        block = Block.parse(network.subnet)
        published = tuple(
            (endpoint.ip, mapping)
            for endpoint in state.endpoints
            if endpoint.network_id == network.id
            for mapping in endpoint.ports
        )
        zones.append(Zone(network.bridge, block.first(), block.prefix, network.internal, published))
    return tuple(zones)
