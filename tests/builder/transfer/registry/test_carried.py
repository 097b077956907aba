"""What an index says of an image that came in it, when somebody wants to read it."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from registryserver import CONFIG, INDEX, MANIFEST, RegistryServer, digest

from builder.errors import InvalidDocument, RegistryNotFound
from builder.oci import platforms
from builder.oci.digests import Digest
from builder.oci.references import Reference
from builder.store import Store, validate
from builder.transfer.registry.carried import carried
from builder.transfer.registry.pull import pull

AMD64 = platforms.parse("linux/amd64")
SPDX, SLSA = "https://spdx.dev/Document", "https://slsa.dev/provenance/v1"


def never() -> Any:
    raise AssertionError("no registry is needed")


@pytest.fixture
def pulled(store: Store, registry: RegistryServer, connect: Any, layer: Any) -> Callable[..., Digest]:
    """Pull app:1, about which an attestation manifest beside it has an SBOM; the image's id."""

    def make(*, subject: str = "", listed: str = SPDX, **statement: Any) -> Digest:
        registry.put_image("app", "image", [layer(a=b"a")])
        kind, data = registry.manifests["app", "image"]
        image = {"mediaType": kind, "digest": digest(data), "size": len(data)}
        stated = {
            "_type": "https://in-toto.io/Statement/v0.1",
            "predicateType": SPDX,
            "subject": [{"name": "_", "digest": {"sha256": (subject or digest(data))[7:]}}],
            "predicate": {"name": "thing", "ä": 1},
        } | statement
        blob = registry.put_blob("app", json.dumps(stated).encode())
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, **registry.put_blob("app", b"{}")},
            "layers": [
                {
                    "mediaType": "application/vnd.in-toto+json",
                    "annotations": {"in-toto.io/predicate-type": listed},
                    **blob,
                }
            ],
        }
        attached = registry.put_manifest("app", "attached", manifest)
        notes = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": digest(data)}
        size = len(registry.manifests["app", "attached"][1])
        members = [
            {**image, "platform": {"os": "linux", "architecture": "amd64"}},
            {
                **{"mediaType": MANIFEST, "digest": attached, "size": size, "annotations": notes},
                "platform": {"os": "unknown", "architecture": "unknown"},
            },
        ]
        document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": members}
        registry.put_manifest("app", "1", document, INDEX)
        got = pull(store, connect(), Reference.parse(f"{registry.host}/app:1"), platform=AMD64)
        validate.image(store, got.image_id, full=True)
        registry.requests.clear()
        return got.image_id

    return make


def test_it_is_fetched_once_and_kept_with_the_index(
    store: Store, registry: RegistryServer, connect: Any, pulled: Any
) -> None:
    image = pulled()
    assert carried(store, connect, image, [SLSA]) is None
    found = carried(store, connect, image, [SLSA, SPDX])
    assert found is not None and (found.type, json.loads(found.data)) == (SPDX, {"name": "thing", "ä": 1})
    assert len(registry.seen("GET .*manifests")) == len(registry.seen("GET .*blobs")) == 1
    assert carried(store, never, image, [SPDX]) == found
    store.collect()
    assert carried(store, never, image, [SPDX]) == found


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"subject": f"sha256:{'0' * 64}"}, "subject"),
        ({"predicateType": SLSA}, "predicateType"),
        ({"predicate": None}, "predicate: is missing"),
        ({"predicate": "x"}, "predicate: is missing"),
    ],
)
def test_a_statement_about_something_else_is_refused(
    store: Store, connect: Any, pulled: Any, how: dict[str, Any], message: str
) -> None:
    image = pulled(**how)
    with pytest.raises(InvalidDocument, match=message):
        carried(store, connect, image, [SPDX])


def test_what_the_registry_has_not_any_more_is_said(
    store: Store, registry: RegistryServer, connect: Any, pulled: Any
) -> None:
    image = pulled()
    del registry.manifests["app", digest(registry.manifests["app", "attached"][1])]
    with pytest.raises(RegistryNotFound):
        carried(store, connect, image, [SPDX])
