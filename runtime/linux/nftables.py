"""nftables over netlink: expressions, rules, and replacing a whole table in one transaction.

Only IPv4 tables (family ``ip``). Raises OSError, decides nothing. Constants from linux/netfilter/nf_tables.h. An
expression is its encoded bytes; a rule is expressions in order.
"""

from __future__ import annotations

import _socket as socket  # the C part: all that is used, without its enums
import struct

from runtime.linux.netlink import (
    NETLINK_NETFILTER,
    NLM_F_ACK,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_REQUEST,
    Netlink,
    attribute,
    attributes,
    be32,
    each_attribute,
    message,
    nested,
    text,
)
from runtime.values import dataclass

HOOK_PREROUTING, HOOK_INPUT, HOOK_FORWARD, HOOK_OUTPUT, HOOK_POSTROUTING = 0, 1, 2, 3, 4
PRIORITY_RAW, PRIORITY_DNAT, PRIORITY_FILTER, PRIORITY_SNAT = -300, -100, 0, 100

_SUBSYSTEM = 10
_NEWTABLE, _GETTABLE, _DELTABLE, _NEWCHAIN, _GETCHAIN, _NEWRULE, _GETRULE, _DELRULE = 0, 1, 2, 3, 4, 6, 7, 8
_BATCH_BEGIN, _BATCH_END = 16, 17
_FAMILY_IPV4 = 2

_REGISTER_VERDICT, _REGISTER_1, _REGISTER_2 = 0, 1, 2
_META_IIFNAME, _META_OIFNAME, _META_L4PROTO = 6, 7, 16
_PAYLOAD_NETWORK, _PAYLOAD_TRANSPORT = 1, 2
_FIB_ADDRTYPE, _FIB_FLAG_DADDR, _RTN_LOCAL = 3, 2, 2
_NAT_DNAT = 1
_VERDICT_DROP, _VERDICT_ACCEPT = 0, 1
_CT_STATE, _CT_ESTABLISHED_RELATED = 0, 0x2 | 0x4
_IFNAMSIZ = 16
_PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "sctp": 132}


@dataclass(frozen=True, slots=True)
class Chain:
    """A base chain: ``kind`` filter or nat, its hook and priority, and its rules (each the bytes of expressions)."""

    name: str
    kind: str
    hook: int
    priority: int
    rules: tuple[bytes, ...]


def in_interface(name: str, *, negate: bool = False) -> bytes:
    """``iifname [!=] name``."""
    return _meta(_META_IIFNAME) + _compare(_interface(name), negate=negate)


def out_interface(name: str, *, negate: bool = False) -> bytes:
    """``oifname [!=] name``."""
    return _meta(_META_OIFNAME) + _compare(_interface(name), negate=negate)


def source(network: str, prefix: int = 32, *, negate: bool = False) -> bytes:
    """``ip saddr [!=] network/prefix``."""
    return _address(12, network, prefix, negate=negate)


def destination(network: str, prefix: int = 32, *, negate: bool = False) -> bytes:
    """``ip daddr [!=] network/prefix``."""
    return _address(16, network, prefix, negate=negate)


def destination_local() -> bytes:
    """``fib daddr type local``: one of the host's own addresses."""
    load = nested(2, be32(1, _REGISTER_1), be32(2, _FIB_ADDRTYPE), be32(3, _FIB_FLAG_DADDR))
    return _expression("fib", load) + _compare(struct.pack("=I", _RTN_LOCAL))


def destination_port(protocol: str, port: int) -> bytes:
    """``meta l4proto P P dport N``."""
    return (
        _meta(_META_L4PROTO)
        + _compare(bytes([_PROTOCOLS[protocol]]))
        + _payload(_PAYLOAD_TRANSPORT, 2, 2)
        + _compare(struct.pack(">H", port))
    )


def established() -> bytes:
    """``ct state established,related``."""
    load = nested(2, be32(1, _REGISTER_1), be32(2, _CT_STATE))
    mask = struct.pack("=I", _CT_ESTABLISHED_RELATED)
    return _expression("ct", load) + _bitwise(mask) + _compare(b"\0\0\0\0", negate=True)


def destination_nat(ip: str, port: int) -> bytes:
    """``dnat to ip:port``."""
    return (
        _immediate(_REGISTER_1, socket.inet_aton(ip))
        + _immediate(_REGISTER_2, struct.pack(">H", port))
        + _expression(
            "nat",
            nested(2, be32(1, _NAT_DNAT), be32(2, _FAMILY_IPV4), be32(3, _REGISTER_1), be32(5, _REGISTER_2)),
        )
    )


def masquerade() -> bytes:
    """``masquerade``."""
    return _expression("masq", nested(2))


def accept() -> bytes:
    """``accept``."""
    return _verdict(_VERDICT_ACCEPT)


def drop() -> bytes:
    """``drop``."""
    return _verdict(_VERDICT_DROP)


def counter() -> bytes:
    """``counter``."""
    return _expression("counter", nested(2))


def open_netfilter() -> Netlink:
    """A socket for the functions here, in the caller's network namespace."""
    return Netlink(NETLINK_NETFILTER)


def replace_table(netfilter: Netlink, name: str, chains: tuple[Chain, ...], *, mark: bytes) -> None:
    """Make the table be exactly *chains*, whatever it was; *mark* (at most 256 bytes) is kept as its user data."""
    table = text(1, name)
    # Adding first makes the deletion succeed when there is no table: all of it is one transaction.
    work = [
        (_NEWTABLE, NLM_F_CREATE, table),
        (_DELTABLE, 0, table),
        (_NEWTABLE, NLM_F_CREATE, table + attribute(6, mark)),
    ]
    for chain in chains:
        hook = nested(4, be32(1, chain.hook), attribute(2, struct.pack(">i", chain.priority)))
        work.append((_NEWCHAIN, NLM_F_CREATE, table + text(3, chain.name) + hook + text(7, chain.kind)))
    for chain in chains:
        for rule in chain.rules:
            work.append((_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, table + text(2, chain.name) + nested(4, rule)))
    _transaction(netfilter, work, call=f"replace nftables table {name}")


def delete_table(netfilter: Netlink, name: str) -> None:
    """Remove a table with all it has; OSError(ENOENT) when there is none."""
    _transaction(netfilter, [(_DELTABLE, 0, text(1, name))], call=f"delete nftables table {name}")


def table_mark(netfilter: Netlink, name: str) -> bytes:
    """The user data of a table; OSError(ENOENT) when there is none."""
    body = netfilter.get((_SUBSYSTEM << 8) | _GETTABLE, _family() + text(1, name), call=f"get nftables table {name}")
    return attributes(body[4:]).get(6, b"")


def tables(netfilter: Netlink) -> tuple[str, ...]:
    """The names of all tables of the family."""
    bodies = netfilter.dump((_SUBSYSTEM << 8) | _GETTABLE, _family(), call="dump nftables tables")
    return tuple(attributes(body[4:]).get(1, b"").rstrip(b"\0").decode() for body in bodies)


def has_chain(netfilter: Netlink, table: str, chain: str) -> bool:
    """Whether *table* has *chain*."""
    bodies = netfilter.dump((_SUBSYSTEM << 8) | _GETCHAIN, _family(), call="dump nftables chains")
    for body in bodies:
        values = attributes(body[4:])
        if (values.get(1, b"").rstrip(b"\0"), values.get(3, b"").rstrip(b"\0")) == (table.encode(), chain.encode()):
            return True
    return False


def rules(netfilter: Netlink, table: str, chain: str) -> tuple[tuple[int, bytes], ...]:
    """(handle, expressions) of each rule of a chain, in order."""
    query = _family() + text(1, table) + text(2, chain)
    found = []
    for body in netfilter.dump((_SUBSYSTEM << 8) | _GETRULE, query, call=f"dump rules of {table} {chain}"):
        values = attributes(body[4:])
        found.append((struct.unpack(">Q", values[3])[0], values.get(4, b"")))
    return tuple(found)


def insert_rule(netfilter: Netlink, table: str, chain: str, rule: bytes) -> None:
    """Put a rule before the others of a chain that somebody else owns."""
    work = [(_NEWRULE, NLM_F_CREATE, text(1, table) + text(2, chain) + nested(4, rule))]
    _transaction(netfilter, work, call=f"insert rule into {table} {chain}")


def delete_rule(netfilter: Netlink, table: str, chain: str, handle: int) -> None:
    """Remove one rule by handle."""
    payload = text(1, table) + text(2, chain) + attribute(3, struct.pack(">Q", handle))
    _transaction(netfilter, [(_DELRULE, 0, payload)], call=f"delete rule of {table} {chain}")


def interface_names(expressions: bytes) -> frozenset[str]:
    """The names that a dumped rule compares interfaces with: enough to know our own rules in a foreign chain."""
    names = set()
    for _, element in each_attribute(expressions):
        values = attributes(element)
        if values.get(1, b"").rstrip(b"\0") != b"cmp":
            continue
        data = attributes(attributes(values.get(2, b"")).get(3, b"")).get(1, b"")
        names.add(data.rstrip(b"\0").decode(errors="replace"))
    return frozenset(names)


def _transaction(netfilter: Netlink, work: list[tuple[int, int, bytes]], *, call: str) -> None:
    batch = struct.pack(">BBH", 0, 0, _SUBSYSTEM)
    begin = netfilter.next_sequence()
    parts = [message(_BATCH_BEGIN, NLM_F_REQUEST, begin, batch)]
    sequences = set()
    for kind, flags, payload in work:
        sequence = netfilter.next_sequence()
        sequences.add(sequence)
        parts.append(
            message((_SUBSYSTEM << 8) | kind, flags | NLM_F_REQUEST | NLM_F_ACK, sequence, _family() + payload)
        )
    parts.append(message(_BATCH_END, NLM_F_REQUEST, netfilter.next_sequence(), batch))
    netfilter.send(b"".join(parts))
    for _ in netfilter.replies(sequences, call=call, around=begin):
        pass


def _family() -> bytes:
    return struct.pack(">BBH", _FAMILY_IPV4, 0, 0)


def _expression(name: str, data: bytes) -> bytes:
    return nested(1, text(1, name), data)


def _meta(key: int) -> bytes:
    return _expression("meta", nested(2, be32(1, _REGISTER_1), be32(2, key)))


def _payload(base: int, offset: int, length: int) -> bytes:
    return _expression("payload", nested(2, be32(1, _REGISTER_1), be32(2, base), be32(3, offset), be32(4, length)))


def _compare(value: bytes, *, negate: bool = False) -> bytes:
    return _expression("cmp", nested(2, be32(1, _REGISTER_1), be32(2, int(negate)), nested(3, attribute(1, value))))


def _bitwise(mask: bytes) -> bytes:
    data = nested(
        2,
        be32(1, _REGISTER_1),
        be32(2, _REGISTER_1),
        be32(3, len(mask)),
        nested(4, attribute(1, mask)),
        nested(5, attribute(1, bytes(len(mask)))),
    )
    return _expression("bitwise", data)


def _immediate(register: int, value: bytes) -> bytes:
    return _expression("immediate", nested(2, be32(1, register), nested(2, attribute(1, value))))


def _verdict(code: int) -> bytes:
    return _expression("immediate", nested(2, be32(1, _REGISTER_VERDICT), nested(2, nested(2, be32(1, code)))))


def _address(offset: int, network: str, prefix: int, *, negate: bool) -> bytes:
    mask = struct.pack(">I", (0xFFFFFFFF << (32 - prefix)) & 0xFFFFFFFF)
    load = _payload(_PAYLOAD_NETWORK, offset, 4)
    if prefix < 32:
        load += _bitwise(mask)
    return load + _compare(socket.inet_aton(network), negate=negate)


def _interface(name: str) -> bytes:
    return name.encode().ljust(_IFNAMSIZ, b"\0")
