"""Signatures in a registry: added to those that are there, and each reason for which one does not hold."""

import base64
import json
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from dockerregistry import need
from registryserver import CONFIG, INDEX, MANIFEST, RegistryServer

from builder.errors import InvalidDocument, InvalidReference, LimitExceeded, RegistryNotFound
from builder.oci import claims, digests
from builder.oci.references import Reference
from builder.store import Store
from builder.transfer import keys
from builder.transfer.registry import signatures
from builder.transfer.registry.session import Registries

Connect = Any


class Pair:
    """A key pair without a password, as cosign has it."""

    def __init__(self) -> None:
        private, public = keys.generate(b"")
        self.signing = keys.load_signing(private, lambda: b"", "k")
        self.verifying = keys.load_verifying(public, "k")


@pytest.fixture(scope="session")
def pair() -> Pair:
    return Pair()


@pytest.fixture
def app(registry: RegistryServer, layer: Any) -> Reference:
    registry.put_image("app", "1", [layer(a=b"a")])
    return Reference.parse(f"{registry.host}/app:1")


def reasons(registries: Registries, reference: Reference, pair: Pair, **more: Any) -> list[str]:
    _, found = signatures.verify(registries, reference, pair.verifying, more.pop("annotations", {}), **more)
    return [each.reason for each in found]


def sign(store: Store, registries: Registries, reference: Reference, pair: Pair, **more: str) -> digests.Digest:
    (digest,) = signatures.sign(store, registries, reference, pair.signing, more)
    return digest


def test_a_signature_is_where_cosign_looks_and_is_made_once(
    store: Store, registry: RegistryServer, connect: Connect, app: Reference, pair: Pair
) -> None:
    registries = connect()
    assert reasons(registries, app, pair) == []
    digest = sign(store, registries, app, pair)
    assert digest == digests.of(registry.manifests["app", "1"][1])
    _, first = registry.manifests["app", claims.tag_of(digest)]
    sign(store, registries, app, pair)
    assert registry.manifests["app", claims.tag_of(digest)][1] == first
    manifest = json.loads(first)
    (layer,) = manifest["layers"]
    payload = registry.blobs[layer["digest"]]
    assert layer["mediaType"] == "application/vnd.dev.cosign.simplesigning.v1+json"
    assert json.loads(payload)["critical"]["image"]["docker-manifest-digest"] == digest
    assert pair.verifying.verifies(
        payload, base64.b64decode(layer["annotations"]["dev.cosignproject.cosign/signature"])
    )
    assert json.loads(registry.blobs[manifest["config"]["digest"]])["rootfs"]["diff_ids"] == [layer["digest"]]
    assert reasons(registries, app, pair) == [""]


def test_one_that_openssl_made_holds(
    registry: RegistryServer, connect: Connect, app: Reference, tmp_path: Path
) -> None:
    digest = digests.of(registry.manifests["app", "1"][1])
    critical = {"type": claims.TYPE, "identity": {}, "image": {"docker-manifest-digest": digest}}
    payload = json.dumps({"optional": {"Bundle": None}, "critical": critical}, indent=3).encode()
    need("openssl")
    run = partial(subprocess.run, check=True, capture_output=True)
    key, public = tmp_path / "key", tmp_path / "public"
    run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key])
    run(["openssl", "pkey", "-in", key, "-pubout", "-out", public])
    signature = run(["openssl", "dgst", "-sha256", "-sign", key], input=payload).stdout
    annotations = {claims.SIGNATURE: base64.b64encode(signature).decode()}
    layer = {"mediaType": claims.MEDIA_TYPE, "annotations": annotations, **registry.put_blob("app", payload)}
    config = {"mediaType": CONFIG, **registry.put_blob("app", b"{}")}
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]}
    registry.put_manifest("app", claims.tag_of(digest), manifest)
    verifying = keys.load_verifying(public.read_bytes(), "k")
    _, (found,) = signatures.verify(connect(), app, verifying, {})
    assert found.reason == "" and found.payload == payload


def test_one_that_holds_is_enough_and_annotations_narrow_it(
    store: Store, registry: RegistryServer, connect: Connect, app: Reference, pair: Pair
) -> None:
    registries, other = connect(), Pair()
    sign(store, registries, app, other)
    sign(store, registries, app, pair, team="a")
    assert [bool(each) for each in reasons(registries, app, pair)] == [True, False]
    assert "with another key" in reasons(registries, app, pair)[0]
    assert reasons(registries, app, pair, annotations={"team": "a"})[1] == ""
    assert "without the annotation team=b" in reasons(registries, app, pair, annotations={"team": "b"})[1]


def test_what_was_altered_or_moved_does_not_hold(
    store: Store, registry: RegistryServer, connect: Connect, app: Reference, pair: Pair, layer: Any
) -> None:
    registries = connect()
    digest = sign(store, registries, app, pair)
    kind, document = registry.manifests["app", claims.tag_of(digest)]
    manifest = json.loads(document)
    (signed,) = manifest["layers"]
    payload = registry.blobs[signed["digest"]]

    def with_layer(**changes: Any) -> list[str]:
        registry.put_manifest("app", claims.tag_of(digest), {**manifest, "layers": [{**signed, **changes}]}, kind)
        return reasons(registries, app, pair)

    altered = registry.put_blob("app", payload.replace(b'"optional":null', b'"optional":{"a":"b"}'))
    assert "what it signs was altered" in with_layer(**altered)[0]
    for damaged in ("%", "é"):
        assert "a signature that is damaged" in with_layer(annotations={claims.SIGNATURE: damaged})[0]
    assert "another kind" in with_layer(annotations={})[0]
    assert "another kind" in with_layer(mediaType="application/x")[0]
    assert "a claim of 99999999 bytes" in with_layer(size=99_999_999)[0]
    untrue = registry.put_blob("app", b'{"critical":{}}')
    good = base64.b64encode(pair.signing.sign(b'{"critical":{}}')).decode()
    assert "invalid signed claim" in with_layer(**untrue, annotations={claims.SIGNATURE: good})[0]
    # the signature of one image put beside another
    registry.put_image("app", "2", [layer(b=b"b")])
    second = Reference.parse(f"{registry.host}/app:2")
    other = digests.of(registry.manifests["app", "2"][1])
    registry.put_manifest("app", claims.tag_of(other), document, kind)
    assert f"is for another image, {digest}" in reasons(registries, second, pair)[0]
    # a tag that moved is another image
    registry.manifests["app", "1"] = registry.manifests["app", "2"]
    registry.manifests.pop(("app", claims.tag_of(other)))
    assert reasons(registries, app, pair) == []
    registry.put_manifest("app", claims.tag_of(other), b"{}", kind)
    with pytest.raises(InvalidDocument):
        reasons(registries, app, pair)
    registry.put_manifest("app", claims.tag_of(other), {**manifest, "layers": [signed] * 501}, kind)
    with pytest.raises(LimitExceeded):
        reasons(registries, app, pair)


def test_the_name_counts_when_it_is_asked_for(
    store: Store, registry: RegistryServer, connect: Connect, app: Reference, pair: Pair, layer: Any
) -> None:
    registries = connect()
    digest = sign(store, registries, app, pair)
    registry.put_image("copy", "1", [layer(a=b"a")])
    for name in ("1", claims.tag_of(digest)):
        kind, document = registry.manifests["app", name]
        registry.put_manifest("copy", name, document, kind)
    registry.repositories["copy"] |= registry.repositories["app"]
    copy = Reference.parse(f"{registry.host}/copy:1")
    assert reasons(registries, copy, pair) == [""]
    assert "was made for the name" in reasons(registries, copy, pair, same_name=True)[0]
    assert reasons(registries, app, pair, same_name=True) == [""]
    by_digest = signatures.image_of(f"{registry.host}/app:1@{digest}")
    assert by_digest.tag is None and reasons(registries, by_digest, pair, same_name=True) == [""]


def test_an_index_is_signed_with_what_it_names_if_that_is_wanted(
    store: Store, registry: RegistryServer, connect: Connect, pair: Pair, layer: Any
) -> None:
    manifests = []
    for architecture in ("amd64", "arm64"):
        registry.put_image("multi", architecture, [layer(a=architecture.encode())], architecture=architecture)
        kind, data = registry.manifests["multi", architecture]
        platform = {"os": "linux", "architecture": architecture}
        manifests.append({"mediaType": kind, "digest": digests.of(data), "size": len(data), "platform": platform})
    top = registry.put_manifest("multi", "1", {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}, INDEX)
    multi = Reference.parse(f"{registry.host}/multi:1")
    registries = connect()
    assert signatures.sign(store, registries, multi, pair.signing, {}) == (top,)
    assert len(signatures.sign(store, registries, multi, pair.signing, {}, recursive=True)) == 3
    assert reasons(registries, Reference.parse(f"{registry.host}/multi:arm64"), pair) == [""]


def test_what_is_not_there_cannot_be_signed(
    store: Store, registry: RegistryServer, connect: Connect, pair: Pair
) -> None:
    with pytest.raises(RegistryNotFound):
        sign(store, connect(), Reference.parse(f"{registry.host}/nothing:1"), pair)
    with pytest.raises(InvalidReference):
        signatures.image_of("A B")
