"""Strict JSON: what two readers could understand differently is refused, the rest keeps its meaning."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import InvalidDocument
from builder.oci import documents

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(TEXT, VALUES, max_size=5))
def test_what_is_written_is_read_again(document: dict[str, object]) -> None:
    assert documents.load(documents.dump(document), "thing").rest() == document


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: json.dumps(text).encode()))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        documents.load(data, "thing")
    except InvalidDocument as err:
        assert err.message.startswith("invalid thing: ")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"a": 1, "a": 2}', "occurs twice"),
        (b'{"x": {"a": 1, "a": 1}}', "occurs twice"),
        (b'{"a": NaN}', "not a JSON number"),
        (b'{"a": -Infinity}', "not a JSON number"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"\\udc00": 1}', "surrogate"),
        (b'\xef\xbb\xbf{"a": 1}', "not JSON"),
        (b'{"a": "\xff"}', "not UTF-8 (byte 7)"),
        (b"[]", "must be a JSON object"),
        (b'{"a": 1} x', "not JSON"),
        (b"", "not JSON"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "nested deeper than 64"),
        (b"[" * 100_000, "nested deeper than 64"),
        (b'{"a": [' + b"[]," * 1_000_001 + b"0]}", "more than 2000000 values"),
    ],
)
def test_hostile_documents_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        documents.load(data, "thing")
    assert reason in caught.value.message


def test_a_document_may_only_have_so_many_bytes() -> None:
    with pytest.raises(InvalidDocument, match="has 13 bytes, more than the 12"):
        documents.load(b'{"a": "1234"}', "thing", limit=12)
    assert documents.load(b'{"a": "1234"}', "thing", limit=13).string("a") == "1234"


def test_a_field_of_the_wrong_type_is_named_with_its_path() -> None:
    source = documents.load(b'{"config": {"Env": ["A=1", 2], "Tty": 1, "L": {"a": 3}}, "n": true}', "image config")
    inner = source.object("config")
    assert inner is not None
    for ask, where in (
        (lambda: inner.strings("Env"), "config.Env[1]"),
        (lambda: inner.boolean("Tty"), "config.Tty"),
        (lambda: inner.string_map("L"), "config.L.a"),
        (lambda: source.integer("n"), "n"),
        (lambda: source.objects("config"), "config"),
        (lambda: source.required("none"), "none"),
    ):
        with pytest.raises(InvalidDocument) as caught:
            ask()
        assert caught.value.where == where


def test_a_known_field_in_another_case_is_refused() -> None:
    source = documents.load(b'{"Os": "linux", "other": 1}', "image config")
    assert source.string("os") is None
    with pytest.raises(InvalidDocument, match="differs only in case"):
        source.rest()


def test_null_counts_as_absent() -> None:
    source = documents.load(b'{"a": null}', "thing")
    assert "a" not in source
    assert (source.string("a"), source.strings("a"), source.object("a"), source.objects("a")) == (None, None, None, ())
    assert source.integer("a", default=7) == 7


@pytest.mark.parametrize("text", ["linux\n", "\x1b[2J", "a\u202eb", "x" * 129, "\x00"])
def test_a_word_moves_nothing_beside_it(text: str) -> None:
    with pytest.raises(InvalidDocument, match=r"invalid thing: os: must be at most 128 letters"):
        documents.load(documents.dump({"os": text}), "thing").word("os")
    assert documents.load(b'{"os": "linux"}', "thing").word("os", needed=True) == "linux"
