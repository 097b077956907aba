"""Links, addresses and routes over rtnetlink: one function per message, raising OSError, deciding nothing.

Constants from linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h, linux/veth.h.
"""

from __future__ import annotations

import _socket as socket  # the C part: all that is used, without its enums
import struct

from runtime.linux.netlink import (
    NETLINK_ROUTE,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Netlink,
    attribute,
    attributes,
    nested,
    text,
    u32,
)
from runtime.values import dataclass

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_RTM_NEWADDR, _RTM_GETADDR = 20, 22
_RTM_NEWROUTE, _RTM_GETROUTE = 24, 26

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER, _IFLA_LINKINFO = 1, 3, 4, 5, 10, 18
_IFLA_NET_NS_PID, _IFLA_IFALIAS, _IFLA_NET_NS_FD = 19, 20, 28
_IFLA_INFO_KIND, _IFLA_INFO_DATA = 1, 2
_VETH_INFO_PEER = 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST = 1, 2, 4
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_TABLE = 1, 4, 5, 15
_RT_TABLE_MAIN, _RTPROT_BOOT, _RTN_UNICAST, _RT_SCOPE_UNIVERSE = 254, 3, 1, 0
_IFF_UP = 1

_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBI")
_RTMSG = struct.Struct("=BBBBBBBBI")


@dataclass(frozen=True, slots=True)
class Link:
    """An interface. ``master`` is the index of the bridge it is a port of, 0 for none; ``alias`` is ifalias."""

    index: int
    name: str
    mtu: int
    up: bool
    master: int
    alias: str
    kind: str


@dataclass(frozen=True, slots=True)
class Route:
    """An IPv4 route of the main table: destination and prefix length, output interface's index, gateway or ""."""

    destination: str
    prefix: int
    interface: int
    gateway: str


def open_route() -> Netlink:
    """A socket for the functions here, in the caller's network namespace."""
    return Netlink(NETLINK_ROUTE)


def links(route: Netlink) -> tuple[Link, ...]:
    """All interfaces of the namespace."""
    return tuple(_link(body) for body in route.dump(_RTM_GETLINK, _ifinfo(), call="dump links"))


def link(route: Netlink, name: str) -> Link:
    """One interface by name; OSError(ENODEV) when there is none."""
    return _link(route.get(_RTM_GETLINK, _ifinfo() + text(_IFLA_IFNAME, name), call=f"get link {name}"))


def add_bridge(route: Netlink, name: str, *, mtu: int, mac: bytes, alias: str) -> None:
    """Make a bridge and bring it up; *mac* is set so that it does not follow the ports'."""
    route.request(
        _RTM_NEWLINK,
        NLM_F_CREATE | NLM_F_EXCL,
        _ifinfo(up=True)
        + text(_IFLA_IFNAME, name)
        + u32(_IFLA_MTU, mtu)
        + attribute(_IFLA_ADDRESS, mac)
        + nested(_IFLA_LINKINFO, text(_IFLA_INFO_KIND, "bridge")),
        call=f"add bridge {name}",
    )
    # ifalias is not taken when a link is made, only when one is changed.
    route.request(
        _RTM_NEWLINK, 0, _ifinfo() + text(_IFLA_IFNAME, name) + text(_IFLA_IFALIAS, alias), call=f"alias {name}"
    )


@dataclass(frozen=True, slots=True)
class Veth:
    """A pair to be made: one end a port of a bridge here, the other inside another network namespace."""

    host_name: str
    bridge: int
    mtu: int
    peer_name: str
    peer_mac: bytes


def add_veth(route: Netlink, veth: Veth, namespace: int) -> None:
    """Make both ends in one message, the host's up; *namespace* is a descriptor of the peer's network namespace.

    The peer cannot come up here: the kernel configures it before the two know each other (ENOTCONN).
    """
    peer = (
        _ifinfo()
        + text(_IFLA_IFNAME, veth.peer_name)
        + u32(_IFLA_MTU, veth.mtu)
        + attribute(_IFLA_ADDRESS, veth.peer_mac)
        + u32(_IFLA_NET_NS_FD, namespace)
    )
    route.request(
        _RTM_NEWLINK,
        NLM_F_CREATE | NLM_F_EXCL,
        _ifinfo(up=True)
        + text(_IFLA_IFNAME, veth.host_name)
        + u32(_IFLA_MTU, veth.mtu)
        + u32(_IFLA_MASTER, veth.bridge)
        + nested(
            _IFLA_LINKINFO,
            text(_IFLA_INFO_KIND, "veth"),
            nested(_IFLA_INFO_DATA, nested(_VETH_INFO_PEER, peer)),
        ),
        call=f"add veth {veth.host_name}",
    )


def delete_link(route: Netlink, name: str) -> None:
    """Remove an interface (a veth takes its peer along); OSError(ENODEV) when there is none."""
    route.request(_RTM_DELLINK, 0, _ifinfo() + text(_IFLA_IFNAME, name), call=f"delete link {name}")


def set_up(route: Netlink, index: int) -> None:
    """Bring an interface up."""
    route.request(_RTM_NEWLINK, 0, _ifinfo(index=index, up=True), call=f"set link {index} up")


def add_address(route: Netlink, index: int, ip: str, prefix: int, *, broadcast: str = "") -> None:
    """Give an interface an IPv4 address; OSError(EEXIST) when it has it."""
    packed = socket.inet_aton(ip)
    payload = (
        _IFADDR.pack(socket.AF_INET, prefix, 0, 0, index)
        + attribute(_IFA_LOCAL, packed)
        + attribute(_IFA_ADDRESS, packed)
    )
    if broadcast:
        payload += attribute(_IFA_BROADCAST, socket.inet_aton(broadcast))
    route.request(_RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, payload, call=f"add address {ip}/{prefix}")


def add_default_route(route: Netlink, index: int, gateway: str) -> None:
    """Send what has no other way through *gateway*."""
    payload = (
        _RTMSG.pack(socket.AF_INET, 0, 0, 0, _RT_TABLE_MAIN, _RTPROT_BOOT, _RT_SCOPE_UNIVERSE, _RTN_UNICAST, 0)
        + attribute(_RTA_GATEWAY, socket.inet_aton(gateway))
        + u32(_RTA_OIF, index)
    )
    route.request(_RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, payload, call=f"add default route via {gateway}")


def addresses(route: Netlink) -> tuple[tuple[int, str, int], ...]:
    """IPv4 addresses of the namespace: (interface index, address, prefix length)."""
    found = []
    for body in route.dump(_RTM_GETADDR, _IFADDR.pack(socket.AF_INET, 0, 0, 0, 0), call="dump addresses"):
        _, prefix, _, _, index = _IFADDR.unpack_from(body)
        values = attributes(body[_IFADDR.size :])
        packed = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS)
        if packed and len(packed) == 4:
            found.append((index, socket.inet_ntoa(packed), prefix))
    return tuple(found)


def routes(route: Netlink) -> tuple[Route, ...]:
    """The IPv4 routes of the main table."""
    found = []
    query = _RTMSG.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)
    for body in route.dump(_RTM_GETROUTE, query, call="dump routes"):
        _, prefix, _, _, table, _, _, kind, _ = _RTMSG.unpack_from(body)
        values = attributes(body[_RTMSG.size :])
        (table,) = struct.unpack("=I", values.get(_RTA_TABLE, struct.pack("=I", table)))
        if table != _RT_TABLE_MAIN or kind != _RTN_UNICAST:
            continue
        (interface,) = struct.unpack("=I", values.get(_RTA_OIF, b"\0\0\0\0"))
        gateway = values.get(_RTA_GATEWAY, b"")
        found.append(
            Route(
                destination=socket.inet_ntoa(values.get(_RTA_DST, b"\0\0\0\0")),
                prefix=prefix,
                interface=interface,
                gateway=socket.inet_ntoa(gateway) if len(gateway) == 4 else "",
            )
        )
    return tuple(found)


def _ifinfo(*, index: int = 0, up: bool = False) -> bytes:
    return _IFINFO.pack(socket.AF_UNSPEC, 0, index, _IFF_UP if up else 0, _IFF_UP if up else 0)


def _link(body: bytes) -> Link:
    _, _, index, flags, _ = _IFINFO.unpack_from(body)
    values = attributes(body[_IFINFO.size :])
    info = attributes(values.get(_IFLA_LINKINFO, b""))
    return Link(
        index=index,
        name=_string(values.get(_IFLA_IFNAME, b"")),
        mtu=struct.unpack("=I", values.get(_IFLA_MTU, b"\0\0\0\0"))[0],
        up=bool(flags & _IFF_UP),
        master=struct.unpack("=I", values.get(_IFLA_MASTER, b"\0\0\0\0"))[0],
        alias=_string(values.get(_IFLA_IFALIAS, b"")),
        kind=_string(info.get(_IFLA_INFO_KIND, b"")),
    )


def _string(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")
