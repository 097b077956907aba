"""Manifests and indexes: no document may be taken for another kind, and none loses a field on its way through."""

from __future__ import annotations

import json

import pytest

from builder.errors import InvalidDocument
from builder.oci import descriptors, digests
from builder.oci.descriptors import Descriptor
from builder.oci.manifests import Index, Manifest
from builder.oci.platforms import Platform

CONFIG = Descriptor(descriptors.OCI_CONFIG, digests.of(b"{}"), 2)
LAYER = Descriptor(descriptors.OCI_LAYER_GZIP, digests.of(b"x"), 1, annotations={"a": "b"}, urls=("https://x/y",))


def test_a_manifest_is_written_and_read_again() -> None:
    manifest = Manifest(CONFIG, (LAYER, LAYER), annotations={"k": "v"}, subject=CONFIG, extra={"own": [1, {"x": None}]})
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_an_index_is_written_and_read_again() -> None:
    entry = Descriptor(
        descriptors.OCI_MANIFEST, digests.of(b"m"), 9, platform=Platform("linux", "arm64", "v8", "1", ("sse4",))
    )
    index = Index((entry,), annotations={"k": "v"})
    assert Index.from_json(index.to_json()) == index


def test_an_index_of_other_manifests_is_docker_s_kind_when_all_of_them_are() -> None:
    def entry(media_type: str, data: bytes) -> Descriptor:
        return Descriptor(media_type, digests.of(data), len(data), annotations={"of": "it"})

    old, other = entry(descriptors.OCI_MANIFEST, b"old"), entry(descriptors.OCI_MANIFEST, b"other")
    new = Descriptor(descriptors.DOCKER_MANIFEST, digests.of(b"newer"), 5)
    alone = Index((old,)).relisted({old.digest: new})
    assert alone.media_type == descriptors.DOCKER_INDEX
    assert alone.manifests == (entry(descriptors.DOCKER_MANIFEST, b"newer"),)
    assert Index((old, other)).relisted({old.digest: new}).media_type == descriptors.OCI_INDEX
    assert alone.relisted({}, [other]).media_type == descriptors.OCI_INDEX


@pytest.mark.parametrize(
    ("read", "document"),
    [
        (Manifest.from_json, {"config": CONFIG.to_json(), "layers": [], "manifests": [LAYER.to_json()]}),
        (Index.from_json, {"manifests": [], "layers": [LAYER.to_json()]}),
        (Index.from_json, {"manifests": [], "config": CONFIG.to_json()}),
        (Manifest.from_json, {"config": CONFIG.to_json(), "layers": [], "mediaType": descriptors.OCI_INDEX}),
        (Index.from_json, {"manifests": [], "mediaType": descriptors.OCI_MANIFEST}),
        (Manifest.from_json, {"config": CONFIG.to_json(), "layers": [], "schemaVersion": 1}),
        (Index.from_json, {}),
        (Manifest.from_json, {"layers": []}),
    ],
)
def test_what_could_be_two_kinds_is_none(read: object, document: dict[str, object]) -> None:
    assert callable(read)
    with pytest.raises(InvalidDocument):
        read(json.dumps({"schemaVersion": 2, **document}).encode())


def test_the_announced_media_type_must_be_the_stated_one() -> None:
    data = Manifest(CONFIG, (LAYER,)).to_json()
    assert Manifest.from_json(data, media_type=descriptors.OCI_MANIFEST).config == CONFIG
    with pytest.raises(InvalidDocument, match="was announced as"):
        Manifest.from_json(data, media_type=descriptors.DOCKER_MANIFEST)


def test_without_a_stated_type_the_announced_one_counts() -> None:
    document = {"schemaVersion": 2, "config": CONFIG.to_json(), "layers": [LAYER.to_json()]}
    found = Manifest.from_json(json.dumps(document).encode(), media_type=descriptors.DOCKER_MANIFEST)
    assert found.media_type == descriptors.DOCKER_MANIFEST
