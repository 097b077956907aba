"""The image specification's own examples of right and wrong documents, and its schemas against what we write."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from builder.errors import InvalidDocument
from builder.oci import documents
from builder.oci.configs import ImageConfig
from builder.oci.descriptors import Descriptor
from builder.oci.manifests import Index, Manifest

CORPUS = Path(__file__).parents[4] / "shared" / "corpus" / "oci-image-spec" / "cases.json"


@dataclass(frozen=True, slots=True)
class Case:
    schema: str
    document: bytes
    valid: bool
    comment: str


def _descriptor(data: bytes) -> Descriptor:
    return Descriptor.from_object(documents.load(data, "descriptor"))


READERS: dict[str, Callable[[bytes], object]] = {
    "config-schema.json": ImageConfig.from_json,
    "image-manifest-schema.json": Manifest.from_json,
    "image-index-schema.json": Index.from_json,
    "content-descriptor.json": _descriptor,
}

UNKNOWN_ALGORITHMS = ("+b64:", "+foo-bar:", ".foo-bar:", "+base58:", "+b64u:", "+b64u.unknownlength:")
"""Valid for the schema, refused here: what cannot be checked must not be fetched under its name."""

TOLERATED = {
    "expected failure: Env is invalid": "docker runs images with a variable that has no value",
    "expected failure: empty layer, expected at least one": "FROM scratch without a file has none",
}
"""Invalid for the schema, read here; and why."""


def _cases() -> list[Case]:
    if not CORPUS.exists():
        return []
    return [
        Case(entry["schema"], entry["document"].encode(), entry["valid"], entry["comment"])
        for entry in json.loads(CORPUS.read_text())
        if entry["schema"] in READERS
    ]


def _unknown(case: Case) -> bool:
    return any(name.encode() in case.document for name in UNKNOWN_ALGORITHMS)


CASES = _cases()


@pytest.mark.skipif(not CASES, reason="the reference data is not beside this checkout")
def test_the_corpus_is_the_one_we_know() -> None:
    assert len(CASES) == 65


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.schema.removesuffix('.json')}-{case.comment[:40]}")
def test_valid_documents_are_read_and_invalid_ones_refused(case: Case) -> None:
    read = READERS[case.schema]
    if case.comment in TOLERATED or (case.valid and not _unknown(case)):
        read(case.document)
        return
    with pytest.raises(InvalidDocument):
        read(case.document)


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.valid and not _unknown(case)], ids=lambda case: case.comment[:40]
)
def test_reading_and_writing_loses_nothing(case: Case) -> None:
    read = READERS[case.schema]
    value = read(case.document)
    if isinstance(value, Descriptor):
        assert value.to_json() == json.loads(case.document)
        return
    assert isinstance(value, ImageConfig | Manifest | Index)
    again = read(value.to_json())
    assert again == value
    before, after = json.loads(case.document), json.loads(value.to_json())
    assert _lost(before, after) == []


def _lost(before: object, after: object, where: str = "") -> list[str]:
    """Paths of fields of `before` that `after` does not have with the same value (times and sets keep their form)."""
    if isinstance(before, dict):
        assert isinstance(after, dict), where
        lost = []
        for key, value in before.items():
            if key not in after:
                lost += [] if value in (None, "", False, [], {}) else [f"{where}.{key}"]
            else:
                lost += _lost(value, after[key], f"{where}.{key}")
        return lost
    if isinstance(before, list):
        assert isinstance(after, list) and len(before) == len(after), where
        return [
            path for i, pair in enumerate(zip(before, after, strict=True)) for path in _lost(*pair, f"{where}[{i}]")
        ]
    return [] if before == after else [where]
