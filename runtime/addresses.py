"""IPv4 blocks and the pool that networks get theirs from.

The standard library's ``ipaddress`` does this too; importing it costs more than wiring a container does.
"""

from __future__ import annotations

import _socket as socket  # the C part: all that is used, without its enums
from collections.abc import Iterator, Sequence

from runtime.errors import NetworkError
from runtime.values import dataclass

# Private blocks from which new networks are taken, in this order; docker starts at 172.17, so both may share a host.
_POOL = tuple(
    [f"172.{second}.0.0/16" for second in range(30, 19, -1)]
    + [f"10.{second}.0.0/16" for second in range(210, 250)]
    + [f"192.168.{third}.0/20" for third in range(0, 256, 16)]
)


@dataclass(frozen=True, slots=True)
class Block:
    """A block of addresses: the first one as a number, and the prefix length in bits."""

    base: int
    prefix: int

    @classmethod
    def parse(cls, text: str) -> Block:
        """``172.30.0.0/16``; host bits must be zero. Raises NetworkError."""
        address, slash, bits = text.partition("/")
        hint = "write it like 10.5.0.0/16"
        if not slash or not (bits.isascii() and bits.isdigit()) or not 1 <= int(bits) <= 31:
            raise NetworkError(f"invalid subnet {text}: invalid CIDR block notation", hint=hint)
        block = cls.containing(address, int(bits))
        if block.first() != address:
            raise NetworkError(f"invalid subnet {text}: it should be {block}", hint=hint)
        return block

    @classmethod
    def containing(cls, ip: str, prefix: int) -> Block:
        """The block of *prefix* bits that *ip* lies in."""
        return cls(_number(ip) & _mask(prefix), prefix)

    def __str__(self) -> str:
        return f"{self.first()}/{self.prefix}"

    def overlaps(self, other: Block) -> bool:
        """Whether they share an address."""
        mask = _mask(min(self.prefix, other.prefix))
        return self.base & mask == other.base & mask

    def overlaps_any(self, others: Sequence[tuple[str, int]]) -> bool:
        """Whether one of the (address, prefix) pairs shares an address with it."""
        return any(self.overlaps(Block.containing(ip, prefix)) for ip, prefix in others)

    def covers(self, other: Block) -> bool:
        """Whether all of *other* is inside."""
        return other.prefix >= self.prefix and self.overlaps(other)

    def contains(self, ip: str) -> bool:
        """Whether *ip* is inside."""
        return _number(ip) & _mask(self.prefix) == self.base

    def first(self) -> str:
        """The network address."""
        return _text(self.base)

    def first_host(self) -> str:
        """The first address that an interface can have: the usual gateway."""
        return _text(self.base + 1)

    def last(self) -> str:
        """The broadcast address."""
        return _text(self.base | ~_mask(self.prefix) & 0xFFFFFFFF)

    def hosts(self) -> Iterator[str]:
        """Every address in order, network and broadcast address too."""
        return (_text(self.base + offset) for offset in range(1 << (32 - self.prefix)))


def free_block(taken: Sequence[Block]) -> Block:
    """The first block of the pool that overlaps none of *taken*. Raises NetworkError when all are in use."""
    for text in _POOL:
        block = Block.parse(text)
        if not any(block.overlaps(other) for other in taken):
            return block
    raise NetworkError(
        "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network",
        hint="give --subnet, or remove networks that nobody uses",
    )


def _mask(prefix: int) -> int:
    return (0xFFFFFFFF << (32 - prefix)) & 0xFFFFFFFF


def _number(ip: str) -> int:
    try:
        return int.from_bytes(socket.inet_pton(socket.AF_INET, ip), "big")
    except OSError:
        raise NetworkError(f"invalid address {ip}: not an IPv4 address", hint="write it like 10.5.0.7") from None


def _text(number: int) -> str:
    return socket.inet_ntoa(number.to_bytes(4, "big"))
