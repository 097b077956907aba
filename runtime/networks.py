"""Networks that containers join: made, joined and left.

What is known of them lives in a directory that the caller names, one per lamina root (`runtime.networkstate`). Each
endpoint names the process that owns it by pid and start time; what a dead owner left is reaped by the next command.
Bridges are named after the network's id, and one nftables table per root holds all rules of that root, so two
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

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from os import PathLike

from runtime import firewall, interfaces, networkstate, ports, usernet
from runtime.addresses import Block
from runtime.endpoints import EndpointRequest
from runtime.errors import NetworkError, NetworkExists, NetworkInUse, NetworkNotFound
from runtime.firewall import Zone
from runtime.linux import rtnetlink
from runtime.linux.netlink import Netlink
from runtime.networkstate import DEFAULT_NETWORK, Endpoint, Network, NetworkRequest, State
from runtime.ports import Held, PortMapping
from runtime.statefile import process_start
from runtime.states import process_alive


class Networks:
    """The networks of one lamina root. Cheap to make: nothing is read before the first call."""

    def __init__(self, directory: str | PathLike[str]) -> None:
        self._directory = os.path.abspath(os.fspath(directory))
        self._held: dict[str, list[Held]] = {}
        self._helpers: dict[str, usernet.Helper] = {}

    def create(self, request: NetworkRequest, *, created: str) -> Network:
        """Define a network. Raises NetworkExists, NetworkError (bad or overlapping subnet). Makes no interface yet."""
        networkstate.check(request)
        with self._state(write=True) as state, rtnetlink.open_route() as route, interfaces.namespace_lock():
            if request.name == DEFAULT_NETWORK or any(network.name == request.name for network in state.networks):
                raise NetworkExists(
                    f"network with name {request.name} already exists",
                    hint=f"see it with: network inspect {request.name}",
                )
            return state.define(request, interfaces.occupied(route), created=created)

    def get(self, name: str) -> Network:
        """By name, full id or unique id prefix; the default network is made on first use. Raises NetworkNotFound."""
        with self._state(write=False) as state:
            found = state.find(name)
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
            network = state.find(name)
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
        with self._reserving() as (state, identifier):
            network = state.find(request.network)
            if network is None and request.network not in (DEFAULT_NETWORK, "default"):
                raise NetworkNotFound(f"network {request.network} not found", hint="list them with: network ls")
            network = self._bridge(state, network)
            used = [endpoint for endpoint in state.endpoints if endpoint.network_id == network.id]
            if any(endpoint.container == request.container for endpoint in used):
                name = request.name or request.container[:12]
                raise NetworkError(f"endpoint with name {name} already exists in network {network.name}")
            ip = state.address(network, request.ip)
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
                interface=state.interface(request),
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
        with self._reserving() as (state, identifier):
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
            self._let_go(identifier)  # chosen and free; the helper will listen there itself, and no fork may keep it
            state.endpoints.append(endpoint)
            return endpoint

    def attach(self, endpoint: Endpoint, pid: int) -> None:
        """Wire the network namespace of process *pid*: veth, addresses, default route, NAT, published ports."""
        if not endpoint.host_interface:
            self._helpers[endpoint.container] = usernet.start(pid, endpoint.ports)
            return
        with self._state(write=False) as state:
            network = state.find(endpoint.network_id)
            if network is None:
                raise NetworkNotFound(f"network {endpoint.network} not found", hint="it was removed meanwhile")
            firewall.ensure(_table(state.root), _zones(state))
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
            firewall.remove(_table(state.root))
            return True

    def _of(self, container: str) -> tuple[Endpoint, ...]:
        with self._state(write=False) as state:
            return tuple(endpoint for endpoint in state.endpoints if endpoint.container == container)

    def _drop(self, gone: Sequence[Endpoint]) -> None:
        identifiers = {endpoint.id for endpoint in gone}
        with self._state(write=True) as state:
            state.endpoints[:] = [endpoint for endpoint in state.endpoints if endpoint.id not in identifiers]
            if any(endpoint.ports and endpoint.host_interface for endpoint in gone):
                firewall.ensure(_table(state.root), _zones(state))
        for identifier in identifiers:
            self._let_go(identifier)

    def _reap(self, state: State) -> tuple[str, ...]:
        dead = [e for e in state.endpoints if not process_alive(e.owner_pid, e.owner_start)]
        for endpoint in dead:
            state.endpoints.remove(endpoint)
            self._let_go(endpoint.id)
            with rtnetlink.open_route() as route:
                left = interfaces.find_bridge(route, endpoint.host_interface)
            if left is not None:
                interfaces.unwire(endpoint.host_interface)
        if any(endpoint.ports and endpoint.host_interface for endpoint in dead):
            firewall.ensure(_table(state.root), _zones(state))
        return tuple(dict.fromkeys(endpoint.container for endpoint in dead))

    def _bridge(self, state: State, network: Network | None) -> Network:
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
                    network = state.move(network, occupied)
                state.save()  # what is made is known of: a bridge that no file names would stay
                prefix = Block.parse(network.subnet).prefix
                owner = f"{state.root}:{self._directory}"
                interfaces.make_bridge(route, interfaces.Bridge(network.bridge, network.gateway, prefix, owner))
                return network

    def _sweep(self, route: Netlink) -> None:
        """Remove bridges and tables of roots whose directory is gone; one that is in use is never touched."""
        for name, owner, has_ports in interfaces.owned_bridges(route):
            root, _, directory = owner.partition(":")
            # The lock is there from a root's first moment.
            if has_ports or directory == self._directory or os.path.exists(os.path.join(directory, "lock")):
                continue
            interfaces.unwire(name)
            firewall.forget_beside_docker(name)
            firewall.remove(_table(root))

    def _take_down(self, state: State, bridges: Sequence[str]) -> None:
        for bridge in bridges:
            interfaces.unwire(bridge)
            firewall.forget_beside_docker(bridge)
        if bridges and state.networks:
            firewall.ensure(_table(state.root), _zones(state))

    def _hold(
        self, identifier: str, wanted: Sequence[PortMapping], state: State, *, internal: bool
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

    def _let_go(self, identifier: str) -> None:
        for held in self._held.pop(identifier, ()):
            held.close()

    @contextmanager
    def _reserving(self) -> Iterator[tuple[State, str]]:
        """The state, and the id of an endpoint to be: if it cannot be kept, its host ports are given back."""
        identifier = os.urandom(32).hex()
        try:
            with self._state(write=True) as state:
                self._reap(state)
                yield state, identifier
        except (OSError, NetworkError):
            self._let_go(identifier)
            raise

    def _state(self, *, write: bool) -> AbstractContextManager[State]:
        return networkstate.opened(self._directory, write=write)


def _default(state: State, route: Netlink) -> Network:
    found = state.find(DEFAULT_NETWORK)
    return found or state.define(NetworkRequest(DEFAULT_NETWORK), interfaces.occupied(route), created="")


def _table(root: str) -> str:
    return f"lamina-{root}"


def _zones(state: State) -> tuple[Zone, ...]:
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
