"""The few messages of the name server."""

from __future__ import annotations

from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import dnsmessage


def query(name: str, kind: int = dnsmessage.A, flags: int = 0x0100, questions: int = 1) -> bytes:
    labels = b"".join(bytes((len(label),)) + label.encode() for label in name.split(".") if label)
    return pack(">HHHHHH", 0xBEEF, flags, questions, 0, 0, 0) + labels + b"\0" + pack(">HH", kind, 1)


def test_a_question_and_its_answer() -> None:
    message = query("Web.Mine") + b"trailing"
    question = dnsmessage.parse(message)
    assert question is not None
    assert (question.name, question.kind) == ("web.mine", dnsmessage.A)
    answer = dnsmessage.answer(message, question, [dnsmessage.address("10.1.2.3")])
    assert answer[:12] == pack(">HHHHHH", 0xBEEF, 0x8180, 1, 1, 0, 0)
    assert answer[12 : question.end] == message[12 : question.end]
    assert answer[question.end :] == bytes.fromhex("c00c00010001000002580004") + bytes((10, 1, 2, 3))


def test_an_answer_without_records_and_a_failure() -> None:
    message = query("web", dnsmessage.AAAA, flags=0)
    question = dnsmessage.parse(message)
    assert question is not None
    assert dnsmessage.answer(message, question, [])[2:8] == pack(">HHH", 0x8080, 1, 0)
    assert dnsmessage.answer(message, question, [], code=dnsmessage.SERVER_FAILURE)[3] & 15 == 2


def test_names_of_addresses() -> None:
    assert dnsmessage.reversed_address("4.3.2.1.in-addr.arpa") == "1.2.3.4"
    assert dnsmessage.reversed_address("3.2.1.in-addr.arpa") == ""
    assert dnsmessage.reversed_address("web") == ""
    assert dnsmessage.pointer("web.n")[12:] == b"\x03web\x01n\x00"


@pytest.mark.parametrize(
    "message", [b"", query("a", flags=0x8000), query("a", flags=0x0800), query("a", questions=2), query("a")[:-1],
                query("a")[:12] + b"\xc0\x0c" + query("a")[-4:]],
)  # fmt: skip
def test_what_is_no_query(message: bytes) -> None:
    assert dnsmessage.parse(message) is None


@given(st.binary(max_size=80))
def test_any_bytes(data: bytes) -> None:
    question = dnsmessage.parse(pack(">HHHHHH", 1, 0, 1, 0, 0, 0) + data)
    assert question is None or question.end <= 12 + len(data)
