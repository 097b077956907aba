"""What one lamina root knows of its networks: definitions, who is connected, and the files that keep both.

It decides which subnet a network gets and which address a container; nothing of the host is touched but the files.
``networks.json`` holds the definitions and is durable, ``endpoints.json`` who is connected (nothing after a reboot),
``lock`` is held for every change. A file is replaced whole or stays as it was.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from runtime import addresses
from runtime.addresses import Block
from runtime.endpoints import EndpointRequest
from runtime.errors import NetworkError
from runtime.ports import PortMapping
from runtime.values import asdict, dataclass, field, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

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


@contextmanager
def opened(directory: str, *, write: bool) -> Iterator[State]:
    """What the files in *directory* say, while the lock is held; with *write* what was changed is kept at the end.

    Raises NetworkError: a file is damaged, or cannot be written (it stays as it was then).
    """
    with _files(directory):
        os.makedirs(directory, mode=0o700, exist_ok=True)
        lock = os.open(os.path.join(directory, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX if write else fcntl.LOCK_SH)
        state = _load(directory)
        yield state
        if write:
            state.save()
    finally:
        os.close(lock)


@dataclass(slots=True)
class State:
    """Both files, while the lock is held. *root* names the table and marks the bridges."""

    directory: str
    root: str
    boot: str
    networks: list[Network]
    endpoints: list[Endpoint]
    _kept: tuple[tuple[Network, ...], tuple[Endpoint, ...]] = field(init=False)

    def __post_init__(self) -> None:
        self._kept = (tuple(self.networks), tuple(self.endpoints))

    def save(self) -> None:
        """Write what has changed since it was read or written. Raises NetworkError."""
        networks, endpoints = tuple(self.networks), tuple(self.endpoints)
        if networks != self._kept[0]:
            definitions = {"root": self.root, "networks": [asdict(network) for network in networks]}
            _save(self.directory, "networks.json", definitions, durable=True)
            self._kept = (networks, self._kept[1])
        if endpoints != self._kept[1]:
            live = {"boot": self.boot, "endpoints": [asdict(endpoint) for endpoint in endpoints]}
            _save(self.directory, "endpoints.json", live, durable=False)
            self._kept = (networks, endpoints)

    def find(self, name: str) -> Network | None:
        """By name, id or unique start of an id. Raises NetworkError when several ids start so."""
        if name == "default":
            name = DEFAULT_NETWORK
        for network in self.networks:
            if name in (network.name, network.id):
                return network
        matches = [network for network in self.networks if name and network.id.startswith(name)]
        if len(matches) > 1:
            raise NetworkError(f"network id prefix {name} is ambiguous", hint="give more digits, or the name")
        return matches[0] if matches else None

    def define(self, request: NetworkRequest, occupied: Sequence[tuple[str, int]], *, created: str) -> Network:
        """Add a network on a subnet that is free of the others' and of the routes *occupied*. Raises NetworkError."""
        taken = _blocks(self.networks, occupied)
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
            text = f"no matching subnet for range {request.ip_range}"
            raise NetworkError(text, hint=f"the range must be inside {block}")
        identifier = os.urandom(32).hex()
        network = Network(
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
        self.networks.append(network)
        return network

    def move(self, network: Network, occupied: Sequence[tuple[str, int]]) -> Network:
        """The same network on a free subnet: its own is used by somebody else since the bridge was last up."""
        others = [other for other in self.networks if other.id != network.id]
        block = addresses.free_block(_blocks(others, occupied))
        moved = replace(network, subnet=str(block), gateway=block.first_host(), ip_range="")
        self.networks[self.networks.index(network)] = moved
        return moved

    def address(self, network: Network, wanted: str) -> str:
        """An address of *network* that nobody has, *wanted* if it is given. Raises NetworkError."""
        used = {endpoint.ip for endpoint in self.endpoints if endpoint.network_id == network.id}
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

    def interface(self, request: EndpointRequest) -> str:
        """The name of the container's next interface."""
        used = {endpoint.interface for endpoint in self.endpoints if endpoint.container == request.container}
        if request.interface and request.interface not in used:
            return request.interface
        number = 0
        while f"eth{number}" in used:
            number += 1
        return f"eth{number}"


def check(request: NetworkRequest) -> None:
    """Raises NetworkError for a name or a driver that no network can have."""
    if not _NAME.fullmatch(request.name) or request.name in _RESERVED:
        raise NetworkError(
            f'invalid network name "{request.name}"',
            hint="letters, digits, _ . - are allowed; host and none are reserved",
        )
    if request.driver != "bridge":
        raise NetworkError(f'network driver "{request.driver}" is not available', hint="bridge is")


def _blocks(networks: Sequence[Network], occupied: Sequence[tuple[str, int]]) -> tuple[Block, ...]:
    defined = [Block.parse(network.subnet) for network in networks]
    return tuple(defined + [Block.containing(ip, prefix) for ip, prefix in occupied])


def _load(directory: str) -> State:
    with open("/proc/sys/kernel/random/boot_id") as file:
        boot = file.read().strip()
    defined = _json(os.path.join(directory, "networks.json"))
    live = _json(os.path.join(directory, "endpoints.json"))
    return State(
        directory=directory,
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
    try:
        with _files(path), open(temporary, "w", encoding="utf-8") as file:
            json.dump(data, file)
            file.flush()
            if durable:
                os.fsync(file.fileno())
            os.rename(temporary, path)
    except NetworkError:
        with suppress(OSError):
            os.unlink(temporary)
        raise


@contextmanager
def _files(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        full = err.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "make room on its disk: lamina system prune" if full else "the directory must be writable"
        raise NetworkError(f"cannot write {path}: {(err.strerror or str(err)).lower()}", hint=hint) from err


def _network(item: dict[str, Any]) -> Network:
    pairs = {name: tuple((key, value) for key, value in item.get(name, ())) for name in ("labels", "options")}
    return Network(**{**item, **pairs})


def _endpoint(item: dict[str, Any]) -> Endpoint:
    mappings = tuple(PortMapping(**mapping) for mapping in item["ports"])
    return Endpoint(**{**item, "aliases": tuple(item["aliases"]), "ports": mappings})
