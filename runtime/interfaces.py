"""Bridges here and interfaces in containers: what `runtime.networks` decides is made real here.

Knows no state files. Root in the network namespace it runs in is needed for all of it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from runtime.errors import NetworkError
from runtime.linux import rtnetlink as rt
from runtime.linux.netlink import Netlink
from runtime.linux.process import CLONE_NEWNET, setns
from runtime.values import dataclass

_ALIAS = "lamina:"
_DEFAULT_MTU = 1500


@dataclass(frozen=True, slots=True)
class Wire:
    """One interface to be: inside as ``name`` with address and MAC, outside as a port of ``bridge``.

    ``gateway`` empty: no default route (internal networks).
    """

    host_name: str
    bridge: str
    name: str
    ip: str
    prefix: int
    mac: str
    gateway: str


@dataclass(frozen=True, slots=True)
class Bridge:
    """A bridge to be: its own address in the network, and whose it is (``owner``, kept as the link's alias)."""

    name: str
    ip: str
    prefix: int
    owner: str


@contextmanager
def namespace_lock() -> Iterator[None]:
    """Exclude every other lamina in this network namespace, whatever its root: subnets are chosen under it.

    The lock is an flock on the namespace itself, so it needs no agreed path and dies with its holder.
    """
    import fcntl

    descriptor = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def uplink_mtu(route: Netlink) -> int:
    """The MTU of the interface that the default route leaves by; packets must not be larger than that."""
    for way in rt.routes(route):
        if way.prefix == 0:
            return next((link.mtu for link in rt.links(route) if link.index == way.interface), _DEFAULT_MTU)
    return _DEFAULT_MTU


def occupied(route: Netlink) -> tuple[tuple[str, int], ...]:
    """(network address, prefix) of everything that the host already reaches or is, default route left out."""
    ways = [(way.destination, way.prefix) for way in rt.routes(route) if way.prefix]
    return tuple(ways + [(ip, prefix) for _, ip, prefix in rt.addresses(route)])


def find_bridge(route: Netlink, name: str) -> rt.Link | None:
    """The bridge, or None."""
    try:
        return rt.link(route, name)
    except OSError as err:
        if err.errno == errno.ENODEV:
            return None
        raise


def make_bridge(route: Netlink, bridge: Bridge) -> None:
    """Make a bridge with its address, and the host forward for it. Raises NetworkError when not allowed."""
    from _socket import inet_aton

    # Locally administered and from the address: stable, so nobody's ARP cache is wrong when it is made again.
    mac = b"\x02\x42" + inet_aton(bridge.ip)
    try:
        rt.add_bridge(route, bridge.name, mtu=uplink_mtu(route), mac=mac, alias=_ALIAS + bridge.owner)
        index = rt.link(route, bridge.name).index
        _sysctl(f"ipv6/conf/{bridge.name}/disable_ipv6", "1", optional=True)
        # Publishing on 127.0.0.1 sends packets with a loopback source over the bridge.
        _sysctl(f"ipv4/conf/{bridge.name}/route_localnet", "1")
        rt.add_address(route, index, bridge.ip, bridge.prefix)
        forward()
    except PermissionError as err:
        raise NetworkError(
            f"cannot make bridge {bridge.name}: {err.strerror}", hint="bridge networks need root (CAP_NET_ADMIN)"
        ) from err


def forward() -> None:
    """Make the host forward IPv4. Other engines rely on it too, so it is never switched off again."""
    with open("/proc/sys/net/ipv4/ip_forward") as file:
        if file.read().strip() == "1":
            return
    _sysctl("ipv4/ip_forward", "1")


def owned_bridges(route: Netlink) -> tuple[tuple[str, str, bool], ...]:
    """Every lamina bridge here: (name, owner, whether it has ports)."""
    links = rt.links(route)
    masters = {link.master for link in links}
    return tuple(
        (link.name, link.alias.removeprefix(_ALIAS), link.index in masters)
        for link in links
        if link.kind == "bridge" and link.alias.startswith(_ALIAS)
    )


def wire(pid: int, wanted: Wire) -> None:
    """Give the network namespace of process *pid* its interface, up, with address and routes; loopback comes up too."""
    with rt.open_route() as here:
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            bridge = rt.link(here, wanted.bridge)
            mac = bytes.fromhex(wanted.mac.replace(":", ""))
            rt.add_veth(here, rt.Veth(wanted.host_name, bridge.index, bridge.mtu, wanted.name, mac), namespace)
            try:
                with inside(namespace):
                    # There is no IPv6 on these networks: a link-local address would only make programs try it.
                    _sysctl(f"ipv6/conf/{wanted.name}/disable_ipv6", "1", optional=True)
                    there = rt.open_route()
                with there:
                    _configure(there, wanted)
            except OSError:
                unwire(wanted.host_name)
                raise
        finally:
            os.close(namespace)


def unwire(host_name: str) -> None:
    """Remove an interface pair; no effect when the kernel has done so with its namespace."""
    with rt.open_route() as route:
        try:
            rt.delete_link(route, host_name)
        except OSError as err:
            # a plain user may not even ask for the end of what is not there
            if err.errno != errno.ENODEV and not (err.errno == errno.EPERM and find_bridge(route, host_name) is None):
                raise


def loopback_up(pid: int) -> None:
    """Bring the loopback of process *pid*'s network namespace up (``--network none``)."""
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with inside(namespace):
            there = rt.open_route()
        with there:
            rt.set_up(there, rt.link(there, "lo").index)
    finally:
        os.close(namespace)


@contextmanager
def inside(namespace: int) -> Iterator[None]:
    """This thread in another network namespace; other threads are not moved. Sockets made in it stay there."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(namespace, CLONE_NEWNET)
        try:
            yield
        finally:
            setns(home, CLONE_NEWNET)
    finally:
        os.close(home)


def _configure(there: Netlink, wanted: Wire) -> None:
    lo = rt.link(there, "lo")
    if not lo.up:
        rt.set_up(there, lo.index)
    index = rt.link(there, wanted.name).index
    rt.add_address(there, index, wanted.ip, wanted.prefix, broadcast=_broadcast(wanted.ip, wanted.prefix))
    rt.set_up(there, index)
    if wanted.gateway and not any(way.prefix == 0 for way in rt.routes(there)):
        rt.add_default_route(there, index, wanted.gateway)


def _broadcast(ip: str, prefix: int) -> str:
    from _socket import inet_aton, inet_ntoa

    number = int.from_bytes(inet_aton(ip), "big") | ((1 << (32 - prefix)) - 1)
    return inet_ntoa(number.to_bytes(4, "big"))


def _sysctl(path: str, value: str, *, optional: bool = False) -> None:
    # Opened by this thread, so it is the setting of the namespace that the thread is in.
    try:
        with open(f"/proc/sys/net/{path}", "w") as file:
            file.write(value)
    except FileNotFoundError:
        if not optional:
            raise
    except OSError as err:
        if err.errno != errno.EROFS:
            raise
        if not optional:
            raise NetworkError(
                f"cannot set net.{path.replace('/', '.')}: /proc/sys is read-only",
                hint="inside a container, give it --privileged or use --network host",
            ) from err
