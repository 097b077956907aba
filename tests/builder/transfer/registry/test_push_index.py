"""Push of an index: all of it, byte for byte, from wherever it can be had; one made here is written anew."""

import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from registryserver import RegistryServer, digest

from builder.errors import NotFound, PlatformNotFound, Unsupported
from builder.oci import descriptors as d
from builder.oci import digests, platforms
from builder.oci.manifests import Index, Manifest
from builder.oci.references import Reference
from builder.store import Store, validate
from builder.transfer.compression import Compression, Packing
from builder.transfer.importer import import_image
from builder.transfer.registry.pull import pull
from builder.transfer.registry.push import push

AMD64, ARM64, S390X = (platforms.parse(f"linux/{each}") for each in ("amd64", "arm64", "s390x"))


@pytest.fixture
def pulled(store: Store, registry: RegistryServer, connect: Any, layer: Any) -> bytes:
    """The bytes of app:1, an attested index for three platforms, of which amd64 and arm64 have been pulled."""
    shared = layer(shared=b"s" * 5000)
    images = {str(each): [shared, layer(own=str(each).encode())] for each in (AMD64, ARM64, S390X)}
    document = registry.put_index("app", "1", images, attested=True)
    for each in (AMD64, ARM64):
        got = pull(store, connect(), Reference.parse(f"{registry.host}/app:1"), platform=each)
        validate.image(store, got.image_id, full=True)
        assert got.digest == digest(document)
    return document


def _named(store: Store, source: str, name: str) -> Reference:
    reference = Reference.parse(name)
    store.images.tag(reference, store.images.target(source))
    return reference


def _whole(registry: RegistryServer, repository: str, document: bytes) -> None:
    """All that an index lists is in the repository."""
    for each in Index.from_json(document).manifests:
        kind, data = registry.manifests[repository, each.digest]
        assert (kind, digest(data), len(data)) == (each.media_type, each.digest, each.size)
        manifest = Manifest.from_json(data)
        for blob in (manifest.config, *manifest.layers):
            assert blob.digest in registry.repositories[repository] and len(registry.blobs[blob.digest]) == blob.size


def test_a_pull_brings_only_what_was_asked_for(store: Store, registry: RegistryServer, pulled: bytes) -> None:
    index = Index.from_json(pulled)
    asked = {each[1].rpartition("/")[2] for each in registry.seen("GET .*(manifests|blobs)")}
    assert not asked & {each.digest for each in index.manifests[2:]}
    assert store.images.target(f"{registry.host}/app:1") == digest(pulled)


def test_to_another_registry_all_of_it_goes_byte_for_byte(
    store: Store, registry: RegistryServer, connect: Any, pulled: bytes, tmp_path: Any
) -> None:
    with RegistryServer() as other:
        name = _named(store, f"{registry.host}/app:1", f"{other.host}/new/app:2")
        assert push(store, connect(), name).manifest.digest == digest(pulled)
        assert other.manifests["new/app", "2"] == (d.OCI_INDEX, pulled)
        _whole(other, "new/app", pulled)
        requests = len(other.requests)
        push(store, connect(), name)
        assert not any(each[0] in ("PATCH", "POST") for each in other.requests[requests:]), "all is there"
        with Store.open(tmp_path / "other") as again:
            got = pull(again, connect(), name, platform=S390X)
            validate.image(again, got.image_id, full=True)
    assert store.images.target(f"{name.name}@{digest(pulled)}") == digest(pulled)


def test_within_a_registry_blobs_are_mounted(
    store: Store, registry: RegistryServer, connect: Any, pulled: bytes
) -> None:
    name = _named(store, f"{registry.host}/app:1", f"{registry.host}/copy:1")
    received = registry.received
    assert push(store, connect(), name).manifest.digest == digest(pulled)
    _whole(registry, "copy", pulled)
    configs = sum(len(store.images.get(one.id).raw) for one in store.images.list())
    assert registry.received == received + configs


def test_what_cannot_be_had_is_named_before_anything_is_sent(
    store: Store, registry: RegistryServer, connect: Any, pulled: bytes
) -> None:
    with RegistryServer() as other:
        name = _named(store, f"{registry.host}/app:1", f"{other.host}/app:1")
        absent = Index.from_json(pulled).manifests[2].digest
        del registry.manifests["app", absent]
        with pytest.raises(NotFound, match="neither here nor where they were seen: linux/s390x") as error:
            push(store, connect(), name)
        assert "--platform linux/amd64" in (error.value.hint or "")
        assert not other.blobs and not other.manifests


def test_one_platform_alone(store: Store, registry: RegistryServer, connect: Any, pulled: bytes) -> None:
    arm = Index.from_json(pulled).manifests[1]
    with RegistryServer() as other:
        name = _named(store, f"{registry.host}/app:1", f"{other.host}/app:arm")
        assert push(store, connect(), name, platform=ARM64).manifest.digest == arm.digest
        assert set(other.manifests) == {("app", "arm"), ("app", arm.digest)}
        with pytest.raises(PlatformNotFound, match=r"specified platform \(linux/s390x\)"):
            push(store, connect(), name, platform=S390X)


def test_one_made_here_gets_manifests_with_packed_layers(
    store: Store, registry: RegistryServer, connect: Any, layer: Any, tmp_path: Any
) -> None:
    when = datetime(2024, 1, 1, tzinfo=UTC)
    images = [
        import_image(store, io.BytesIO(layer(a=str(each).encode() * 999)), created=when, platform=each)
        for each in (AMD64, ARM64)
    ]
    made = store.indexes.make(images)
    name = Reference.parse(f"{registry.host}/app:1")
    store.images.tag(name, made)
    first = push(store, connect(), name)
    kind, document = registry.manifests["app", "1"]
    assert (kind, digest(document)) == (d.OCI_INDEX, first.manifest.digest) and first.manifest.digest != made
    _whole(registry, "app", document)
    assert push(store, connect(), name).manifest == first.manifest
    assert store.images.target(str(name)) == made, "the name still means what it meant"
    docker = push(store, connect(), name, packing=Packing(Compression.GZIP, docker=True))
    assert docker.manifest.media_type == d.DOCKER_INDEX
    with Store.open(tmp_path / "other") as other:
        for image, platform in zip(images, (AMD64, ARM64), strict=True):
            got = pull(other, connect(), name, platform=platform, exact=True)
            assert got.image_id == image
            validate.image(other, image, full=True)


def test_an_index_in_an_index_is_refused(store: Store, registry: RegistryServer, connect: Any) -> None:
    below = d.Descriptor(d.OCI_INDEX, digests.of(b"x"), 1)
    name = Reference.parse(f"{registry.host}/app:1")
    store.images.tag(name, store.indexes.put(Index((below,)).to_json(), d.OCI_INDEX))
    with pytest.raises(Unsupported, match="lists what is no image"):
        push(store, connect(), name)


def test_a_registry_that_gives_another_manifest_gives_none(
    store: Store, registry: RegistryServer, connect: Any, pulled: bytes
) -> None:
    absent = Index.from_json(pulled).manifests[2]
    registry.manifests["app", absent.digest] = (d.OCI_MANIFEST, json.dumps({"schemaVersion": 2}).encode())
    with RegistryServer() as other, pytest.raises(NotFound, match="linux/s390x"):
        push(store, connect(), _named(store, f"{registry.host}/app:1", f"{other.host}/app:1"))
