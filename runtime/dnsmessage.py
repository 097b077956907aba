"""As much of DNS messages (RFC 1035) as a resolver of container names needs. Pure; times to live in seconds."""

from __future__ import annotations

from struct import pack, unpack

A, PTR, AAAA = 1, 12, 28
SERVER_FAILURE = 2
TTL = 600

_HEADER = 12
_INTERNET = 1
_RESPONSE, _RECURSION_DESIRED, _RECURSION_AVAILABLE = 0x8000, 0x0100, 0x0080


class Question:
    """The one question of a query. *name* in lower case without the last dot, *kind* a record type, *end* where the
    question ends in the message."""

    def __init__(self, identifier: int, flags: int, name: str, kind: int, end: int) -> None:
        self.identifier, self.flags, self.name, self.kind, self.end = identifier, flags, name, kind, end


def parse(message: bytes) -> Question | None:
    """The question of a standard query for one name; None for whatever else."""
    if len(message) < _HEADER + 5:
        return None
    identifier, flags, questions = unpack(">HHH", message[:6])
    if flags & 0xF800 or questions != 1:  # a response, or no standard query
        return None
    labels = []
    at = _HEADER
    while True:
        if at >= len(message):
            return None
        length = message[at]
        at += 1
        if not length:
            break
        if length > 63:  # a pointer has no place in a question
            return None
        labels.append(message[at : at + length].decode("latin-1").lower())
        at += length
    if at + 4 > len(message):
        return None
    kind, family = unpack(">HH", message[at : at + 4])
    return Question(identifier, flags, ".".join(labels), kind, at + 4) if family == _INTERNET else None


def answer(message: bytes, question: Question, records: list[bytes], *, code: int = 0) -> bytes:
    """The response with *records* (from ``address`` or ``pointer``), none of them meaning "no such record"."""
    flags = _RESPONSE | _RECURSION_AVAILABLE | question.flags & _RECURSION_DESIRED | code
    header = pack(">HHHHHH", question.identifier, flags, 1, len(records), 0, 0)
    return header + message[_HEADER : question.end] + b"".join(records)


def address(ip: str) -> bytes:
    """An A record for the name in the question."""
    return pack(">HHHIH", 0xC000 | _HEADER, A, _INTERNET, TTL, 4) + bytes(int(part) for part in ip.split("."))


def pointer(name: str) -> bytes:
    """A PTR record for the name in the question."""
    data = b"".join(bytes((len(label),)) + label.encode() for label in name.split(".")) + b"\0"
    return pack(">HHHIH", 0xC000 | _HEADER, PTR, _INTERNET, TTL, len(data)) + data


def reversed_address(name: str) -> str:
    """``4.3.2.1.in-addr.arpa`` → ``1.2.3.4``; "" for any other name."""
    head, found, rest = name.partition(".in-addr.arpa")
    parts = head.split(".")
    return ".".join(reversed(parts)) if found and not rest and len(parts) == 4 else ""
