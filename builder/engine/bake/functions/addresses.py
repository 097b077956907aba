"""IP networks in CIDR notation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from builder.engine.bake.values import Unfit, Value, integer, text

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network


def _network(value: Value) -> IPv4Network | IPv6Network:
    import ipaddress

    written = text(value)
    try:
        if "/" not in written:
            raise ValueError
        return ipaddress.ip_network(written, strict=False)
    except ValueError:
        raise Unfit(f"invalid CIDR expression: invalid CIDR address: {written}") from None


def _cidrhost(prefix: Value, host: Value) -> Value:
    network, number = _network(prefix), integer(host)
    at = number if number >= 0 else network.num_addresses + number
    if not 0 <= at < network.num_addresses:
        bits = network.max_prefixlen - network.prefixlen
        raise Unfit(f"prefix of {network.prefixlen} does not accommodate a host numbered {number} ({bits} bits)")
    return str(network.network_address + at)


def _cidrnetmask(prefix: Value) -> Value:
    network = _network(prefix)
    if network.version != 4:
        raise Unfit("only IPv4 networks have a netmask address")
    return str(network.netmask)


def _cidrsubnet(prefix: Value, newbits: Value, netnum: Value) -> Value:
    network, bits, number = _network(prefix), integer(newbits), integer(netnum)
    if bits < 0 or network.prefixlen + bits > network.max_prefixlen:
        raise Unfit(f"not enough remaining address space for a subnet with a prefix of {network.prefixlen + bits} bits")
    if not 0 <= number < 1 << bits:
        raise Unfit(f"prefix extension of {bits} does not accommodate a subnet numbered {number}")
    size = network.max_prefixlen - network.prefixlen - bits
    return f"{network.network_address + (number << size)}/{network.prefixlen + bits}"


def _cidrsubnets(prefix: Value, *newbits: Value) -> Value:
    network = _network(prefix)
    made: list[Value] = []
    at = int(network.network_address)
    last = at + network.num_addresses
    for one in newbits:
        length = network.prefixlen + integer(one)
        if not network.prefixlen < length <= network.max_prefixlen:
            raise Unfit("each number of new bits must be at least one and fit into an address")
        size = 1 << (network.max_prefixlen - length)
        at = -(-at // size) * size
        if at + size > last:
            raise Unfit("not enough remaining address space for another subnet")
        made.append(f"{type(network.network_address)(at)}/{length}")
        at += size
    return tuple(made)


FUNCTIONS: Mapping[str, Callable[..., Value]] = {
    "cidrhost": _cidrhost,
    "cidrnetmask": _cidrnetmask,
    "cidrsubnet": _cidrsubnet,
    "cidrsubnets": _cidrsubnets,
}
