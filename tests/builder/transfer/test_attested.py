"""Statements and the manifests that carry them, as BuildKit's attestation storage and OCI's referrers have them."""

import json

import pytest

from builder.oci import descriptors as d
from builder.oci import digests, purls
from builder.oci.manifests import Manifest
from builder.oci.platforms import Platform
from builder.oci.references import Reference
from builder.store.attestations import Predicate
from builder.store.indexes import Member
from builder.transfer.attested import Form, attachments

AMD64 = Platform("linux", "amd64")
IMAGE = d.Descriptor(d.OCI_MANIFEST, digests.of(b"image"), 5, platform=AMD64)
SPDX, SLSA = "https://spdx.dev/Document", "https://slsa.dev/provenance/v1"
PREDICATES = (Predicate(SLSA, b'{"n":1.10}'), Predicate(SPDX, b'{"spdxVersion": "SPDX-2.3"}\n'))
NAMES = (Reference.parse("app:1"), Reference.parse("example.com:5000/team/app"))


@pytest.mark.parametrize(
    ("name", "purl"),
    [
        ("alpine", "pkg:docker/alpine@latest?platform=linux%2Famd64"),
        ("me/app:1.0_x", "pkg:docker/me/app@1.0_x?platform=linux%2Famd64"),
        ("localhost:5000/a/b:c", "pkg:docker/localhost:5000/a/b@c?platform=linux%2Famd64"),
        (f"a@{IMAGE.digest}", f"pkg:docker/a?digest={IMAGE.digest}&platform=linux%2Famd64"),
    ],
)
def test_the_package_url_of_an_image(name: str, purl: str) -> None:
    assert purls.of_image(Reference.parse(name), AMD64) == purl


def test_a_statement_names_its_subject_and_keeps_the_bytes_of_the_predicate() -> None:
    (made,) = attachments(PREDICATES[:1], IMAGE, NAMES)
    data = made.blobs[1][1]
    assert b'"predicate":{"n":1.10}' in data
    assert json.loads(data) == {
        "_type": "https://in-toto.io/Statement/v1",
        "predicateType": SLSA,
        "subject": [
            {"name": name, "digest": {"sha256": digests.hex_of(IMAGE.digest)}}
            for name in (
                "pkg:docker/app@1?platform=linux%2Famd64",
                "pkg:docker/example.com:5000/team/app@latest?platform=linux%2Famd64",
            )
        ],
        "predicate": {"n": 1.1},
    }
    (unnamed,) = attachments(PREDICATES[:1], IMAGE)
    assert json.loads(unnamed.blobs[1][1])["subject"][0]["name"] == "_"


@pytest.mark.parametrize("form", Form)
def test_what_carries_the_statements(form: Form) -> None:
    made = attachments(PREDICATES, IMAGE, NAMES, form=form)
    assert len(made) == (2 if form is Form.REFERRERS else 1)
    types = []
    for each in made:
        manifest = Manifest.from_json(each.document, media_type=each.descriptor.media_type)
        assert (each.descriptor.digest, each.descriptor.size) == (digests.of(each.document), len(each.document))
        named = (manifest.config, *manifest.layers)
        assert named == tuple(described for described, _ in each.blobs)
        assert all((one.digest, one.size) == (digests.of(data), len(data)) for one, data in each.blobs)
        assert all(layer.media_type == "application/vnd.in-toto+json" for layer in manifest.layers)
        types += [layer.annotations["in-toto.io/predicate-type"] for layer in manifest.layers]
        if form is Form.REFERRERS:
            assert manifest.annotations == manifest.layers[0].annotations == each.descriptor.annotations
            assert manifest.artifact_type == each.descriptor.artifact_type == "application/vnd.in-toto+json"
        else:
            assert not Member(each.descriptor).is_image and Member(IMAGE).is_image
            assert str(each.descriptor.platform) == "unknown/unknown"
            assert each.descriptor.annotations == {
                "vnd.docker.reference.type": "attestation-manifest",
                "vnd.docker.reference.digest": IMAGE.digest,
            }
        if form is Form.INDEX:
            config = json.loads(each.blobs[0][1])
            assert manifest.config.media_type == d.OCI_CONFIG and manifest.subject is None
            assert config["rootfs"]["diff_ids"] == [layer.digest for layer in manifest.layers]
            assert (config["os"], config["architecture"]) == ("unknown", "unknown")
        else:
            assert manifest.subject == d.Descriptor(d.OCI_MANIFEST, IMAGE.digest, IMAGE.size)
            assert manifest.config.media_type == d.OCI_EMPTY and each.blobs[0][1] == b"{}"
    assert types == [SLSA, SPDX]


def test_nothing_attested_is_nothing_attached() -> None:
    assert attachments((), IMAGE) == ()
