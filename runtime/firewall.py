"""What the firewall must be for the networks of one root, as a value, and making it so.

One nftables table per root holds everything: a change replaces the table in one transaction, so it is never half there,
and a table that somebody flushed is noticed and made again. Foreign tables are left alone, except that an iptables
``FORWARD`` chain with docker's policy DROP is asked to let our bridges through (`allow_beside_docker`).
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Sequence

from runtime.linux import nftables as nft
from runtime.linux.nftables import Chain
from runtime.ports import PortMapping
from runtime.values import dataclass

_LOOPBACK = ("127.0.0.0", 8)


@dataclass(frozen=True, slots=True)
class Zone:
    """A bridge and what the firewall must know of it; ``published`` holds (container ip, resolved mapping) pairs."""

    bridge: str
    subnet: str
    prefix: int
    internal: bool
    published: tuple[tuple[str, PortMapping], ...] = ()


def ruleset(zones: Sequence[Zone]) -> tuple[Chain, ...]:
    """The chains for *zones*. Pure: the same zones give the same bytes."""
    published = [(zone, ip, port) for zone in zones if not zone.internal for ip, port in zone.published]
    forwards = [_published_rule(port) + nft.destination_nat(ip, port.container_port) for _, ip, port in published]
    return (
        Chain("loopback", "filter", nft.HOOK_PREROUTING, nft.PRIORITY_RAW, tuple(_loopback(zones))),
        Chain("prerouting", "nat", nft.HOOK_PREROUTING, nft.PRIORITY_DNAT, tuple(forwards)),
        Chain("output", "nat", nft.HOOK_OUTPUT, nft.PRIORITY_DNAT, tuple(forwards)),
        Chain("postrouting", "nat", nft.HOOK_POSTROUTING, nft.PRIORITY_SNAT, tuple(_source_nat(zones))),
        Chain("forward", "filter", nft.HOOK_FORWARD, nft.PRIORITY_FILTER, tuple(_forward(zones))),
    )


def digest(chains: Sequence[Chain]) -> bytes:
    """The mark that tells one rule set from another."""
    text = repr([(chain.name, chain.kind, chain.hook, chain.priority, chain.rules) for chain in chains])
    return hashlib.sha256(text.encode()).digest()


def ensure(table: str, zones: Sequence[Zone]) -> bool:
    """Make the table hold exactly the rules for *zones*; returns whether anything had to change."""
    chains = ruleset(zones)
    mark = digest(chains)
    with nft.open_netfilter() as netfilter:
        try:
            if nft.table_mark(netfilter, table) == mark:
                return False
        except OSError as err:
            if err.errno != errno.ENOENT:
                raise
        nft.replace_table(netfilter, table, chains, mark=mark)
    return True


def remove(table: str) -> None:
    """Remove the root's table; no effect when there is none, or when we may not (and so cannot have made one)."""
    with nft.open_netfilter() as netfilter:
        try:
            nft.delete_table(netfilter, table)
        except OSError as err:
            if err.errno not in (errno.ENOENT, errno.EPERM):
                raise


def allow_beside_docker(bridge: str) -> None:
    """Let *bridge* pass docker's own filter, if docker filters by nftables here.

    Docker sets the policy of iptables' FORWARD chain to DROP; an accept in our table does not overrule that. Its chain
    DOCKER-USER exists for such exceptions. The rules have the form that iptables-nft writes, so it can list them.
    """
    with nft.open_netfilter() as netfilter:
        if not nft.has_chain(netfilter, "filter", "DOCKER-USER"):
            return
        if any(bridge in nft.interface_names(rule) for _, rule in nft.rules(netfilter, "filter", "DOCKER-USER")):
            return
        for match in (nft.in_interface(bridge), nft.out_interface(bridge)):
            nft.insert_rule(netfilter, "filter", "DOCKER-USER", match + nft.counter() + nft.accept())


def forget_beside_docker(bridge: str) -> None:
    """Undo `allow_beside_docker`."""
    with nft.open_netfilter() as netfilter:
        if not nft.has_chain(netfilter, "filter", "DOCKER-USER"):
            return
        for handle, rule in nft.rules(netfilter, "filter", "DOCKER-USER"):
            if bridge in nft.interface_names(rule):
                nft.delete_rule(netfilter, "filter", "DOCKER-USER", handle)


def _published_rule(port: PortMapping) -> bytes:
    address = nft.destination(port.host_ip) if port.host_ip not in ("", "0.0.0.0") else nft.destination_local()
    return address + nft.destination_port(port.protocol, port.host_port)


def _loopback(zones: Sequence[Zone]) -> list[bytes]:
    # route_localnet, which publishing on 127.0.0.1 needs, would let containers reach the host's loopback services
    # by sending them to the bridge (CVE-2020-8558).
    return [nft.in_interface(zone.bridge) + nft.destination(*_LOOPBACK) + nft.drop() for zone in zones]


def _source_nat(zones: Sequence[Zone]) -> list[bytes]:
    rules = []
    for zone in zones:
        if zone.internal:
            continue
        inside = nft.source(zone.subnet, zone.prefix)
        rules.append(inside + nft.out_interface(zone.bridge, negate=True) + nft.masquerade())
        for ip, port in zone.published:
            target = nft.out_interface(zone.bridge) + nft.destination(ip)
            reached = target + nft.destination_port(port.protocol, port.container_port)
            # Hairpin: a neighbour that came through the host's address would be answered directly, past the NAT.
            rules.append(inside + reached + nft.masquerade())
            rules.append(nft.source(*_LOOPBACK) + reached + nft.masquerade())
    return rules


def _forward(zones: Sequence[Zone]) -> list[bytes]:
    rules = []
    # Internal zones first: an accept of another zone must not skip their drops.
    for zone in sorted(zones, key=lambda zone: not zone.internal):
        leaving = nft.in_interface(zone.bridge) + nft.out_interface(zone.bridge, negate=True)
        entering = nft.out_interface(zone.bridge) + nft.in_interface(zone.bridge, negate=True)
        if zone.internal:
            rules += [leaving + nft.drop(), entering + nft.drop()]
            continue
        rules.append(entering + nft.established() + nft.accept())
        for ip, port in zone.published:
            match = nft.destination(ip) + nft.destination_port(port.protocol, port.container_port)
            rules.append(entering + match + nft.accept())
        rules.append(entering + nft.drop())
    return rules
