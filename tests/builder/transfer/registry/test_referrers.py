"""What is attested of an image goes with it: in an index, or as referrers, listed by the registry or under a tag."""

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from registryserver import INDEX, MANIFEST, RegistryServer, digest

from builder.errors import InvalidDocument
from builder.oci import descriptors as d
from builder.oci import platforms
from builder.oci.manifests import Index, Manifest
from builder.oci.references import Reference
from builder.store import Store, validate
from builder.store.attestations import Predicate
from builder.transfer.attested import Form
from builder.transfer.compression import Compression, Packing
from builder.transfer.importer import import_image
from builder.transfer.registry.pull import pull
from builder.transfer.registry.push import push
from builder.transfer.registry.referrers import listed, tag_of

AMD64, ARM64 = (platforms.parse(f"linux/{each}") for each in ("amd64", "arm64"))
SPDX, SLSA = "https://spdx.dev/Document", "https://slsa.dev/provenance/v1"
PREDICATES = (Predicate(SLSA, b'{"a":1}'), Predicate(SPDX, b'{"b":2}'))


@pytest.fixture(params=[False, True], ids=["tag schema", "API"])
def server(request: Any) -> Iterator[RegistryServer]:
    with RegistryServer(referrers=request.param) as made:
        yield made


def make(store: Store, layer: Any, name: str, platform: platforms.Platform = AMD64) -> Any:
    created = datetime(2024, 1, 1, tzinfo=UTC)
    image = import_image(store, io.BytesIO(layer(a=name.encode())), created=created, platform=platform, reference=name)
    store.attestations.put(image, PREDICATES)
    validate.image(store, image, full=True)
    return image


def statements(server: RegistryServer, manifest: Manifest) -> dict[str, Any]:
    found = [json.loads(server.blobs[layer.digest]) for layer in manifest.layers]
    return {each["predicateType"]: each for each in found}


def read(server: RegistryServer, name: str, reference: str) -> tuple[str, bytes]:
    return server.manifests[name, reference]


@pytest.mark.parametrize("form", [Form.INDEX, Form.ARTIFACT])
def test_an_attested_image_is_an_index_that_a_pull_brings_back(
    store: Store, server: RegistryServer, connect: Any, layer: Any, form: Form, tmp_path: Any
) -> None:
    reference = Reference.parse(f"{server.host}/app:1")
    image = make(store, layer, str(reference))
    pushed = push(store, connect(), reference, form=form)
    kind, document = read(server, "app", "1")
    assert (kind, pushed.manifest.digest) == (INDEX, digest(document))
    first, attached = Index.from_json(document).manifests
    assert first.platform == AMD64 and first.media_type == MANIFEST
    manifest = Manifest.from_json(read(server, "app", attached.digest)[1])
    assert (manifest.subject is None) == (form is Form.INDEX)
    found = statements(server, manifest)
    assert set(found) == {SLSA, SPDX} and found[SLSA]["predicate"] == {"a": 1}
    assert found[SPDX]["subject"] == [
        {"name": f"pkg:docker/{server.host}/app@1?platform=linux%2Famd64", "digest": {"sha256": first.digest[7:]}}
    ]
    assert store.images.resolve(f"{server.host}/app@{pushed.manifest.digest}") == image
    # the same again is the same, and all of it is in the store as if it had been pulled
    sent = len(server.seen("PUT .*/blobs/"))
    assert push(store, connect(), reference, form=form).manifest == pushed.manifest
    assert len(server.seen("PUT .*/blobs/")) == sent
    with Store.open(tmp_path / "second") as second:
        got = pull(second, connect(), reference, platform=AMD64)
        assert (got.image_id, got.digest) == (image, pushed.manifest.digest)
        second.images.tag(Reference.parse(f"{server.host}/copy:1"), second.images.target(str(reference)))
        push(second, connect(), Reference.parse(f"{server.host}/copy:1"))
    assert read(server, "copy", "1") == (kind, document)


def test_referrers_leave_the_image_as_it_is_and_are_found(
    store: Store, server: RegistryServer, connect: Any, layer: Any
) -> None:
    reference = Reference.parse(f"{server.host}/app:1")
    make(store, layer, str(reference))
    for _ in range(2):
        pushed = push(store, connect(), reference, form=Form.REFERRERS)
        assert read(server, "app", "1")[0] == MANIFEST
        target = connect().target(reference)
        found = listed(target, pushed.manifest.digest)
        assert sorted(each.annotations["in-toto.io/predicate-type"] for each in found) == [SLSA, SPDX]
    assert {each.artifact_type for each in found} == {"application/vnd.in-toto+json"}
    assert (("app", tag_of(pushed.manifest.digest)) in server.manifests) == (not server.lists_referrers)
    for each in found:
        manifest = Manifest.from_json(read(server, "app", each.digest)[1])
        assert manifest.subject is not None and manifest.subject.digest == pushed.manifest.digest
        (statement,) = statements(server, manifest).values()
        assert statement["subject"][0]["digest"] == {"sha256": pushed.manifest.digest[7:]}
    store.attestations.put(store.images.resolve(str(reference)), [Predicate("https://other.test/x", b"{}")])
    push(store, connect(), reference, form=Form.REFERRERS)
    assert len(listed(connect().target(reference), pushed.manifest.digest)) == 3
    assert listed(connect().target(reference), digest_of(b"nothing")) == ()


def digest_of(data: bytes) -> Any:
    return digest(data)


def test_with_a_platform_the_image_goes_alone(store: Store, registry: RegistryServer, connect: Any, layer: Any) -> None:
    reference = Reference.parse(f"{registry.host}/app:1")
    make(store, layer, str(reference))
    assert push(store, connect(), reference, platform=AMD64).manifest.media_type == MANIFEST
    assert not [name for name in registry.manifests if name[1].startswith("sha256-")]


def test_something_else_under_the_tag_of_the_list_is_said(
    store: Store, registry: RegistryServer, connect: Any, layer: Any
) -> None:
    reference = Reference.parse(f"{registry.host}/app:1")
    make(store, layer, str(reference))
    pushed = push(store, connect(), reference, form=Form.REFERRERS)
    registry.put_image("app", tag_of(pushed.manifest.digest), [layer(a=b"x")])
    store.attestations.put(store.images.resolve(str(reference)), [Predicate("https://other.test/x", b"{}")])
    with pytest.raises(InvalidDocument):
        push(store, connect(), reference, form=Form.REFERRERS)


def test_each_image_of_an_index_that_was_made_here_has_its_own(
    store: Store, registry: RegistryServer, connect: Any, layer: Any, tmp_path: Any
) -> None:
    images = [make(store, layer, f"{registry.host}/x:{each.architecture}", each) for each in (AMD64, ARM64)]
    reference = Reference.parse(f"{registry.host}/multi:1")
    store.images.tag(reference, store.indexes.make(images))
    push(store, connect(), reference)
    manifests = Index.from_json(read(registry, "multi", "1")[1]).manifests
    assert [str(each.platform) for each in manifests] == ["linux/amd64", "linux/arm64"] + ["unknown/unknown"] * 2
    about = [each.annotations["vnd.docker.reference.digest"] for each in manifests[2:]]
    assert about == [each.digest for each in manifests[:2]]
    with Store.open(tmp_path / "second") as second:
        assert pull(second, connect(), reference, platform=ARM64).image_id == images[1]
    alone = push(store, connect(), reference, form=Form.REFERRERS)
    (first, second_) = Index.from_json(read(registry, "multi", "1")[1]).manifests
    assert alone.manifest.media_type == INDEX
    for each in (first, second_):
        assert len(listed(connect().target(reference), each.digest)) == 2


def test_what_stands_beside_attestations_has_ocis_media_types(
    store: Store, registry: RegistryServer, connect: Any, layer: Any
) -> None:
    reference = Reference.parse(f"{registry.host}/app:1")
    make(store, layer, str(reference))
    push(store, connect(), reference, packing=Packing(Compression.GZIP, docker=True))
    (first, _) = Index.from_json(read(registry, "app", "1")[1]).manifests
    manifest = Manifest.from_json(read(registry, "app", first.digest)[1])
    assert (manifest.media_type, manifest.config.media_type) == (d.OCI_MANIFEST, d.OCI_CONFIG)
