"""What is signed: byte for byte what cosign signs, and read as strictly as every other document."""

import json

import pytest

from builder.errors import EngineError, InvalidDocument
from builder.oci import claims, digests
from builder.oci.claims import Claim

DIGEST = digests.of(b"x")


def test_a_claim_is_what_cosign_writes() -> None:
    claim = Claim("localhost:5000/app", DIGEST)
    assert claim.to_json().decode() == (
        '{"critical":{"identity":{"docker-reference":"localhost:5000/app"},'
        f'"image":{{"docker-manifest-digest":"{DIGEST}"}},'
        '"type":"cosign container image signature"},"optional":null}'
    )
    assert Claim.from_json(claim.to_json()) == claim
    more = Claim("a", DIGEST, {"b": "2", "a": "1"})
    assert more.to_json().endswith(b'"optional":{"a":"1","b":"2"}}') and Claim.from_json(more.to_json()) == more
    assert claims.tag_of(DIGEST) == f"sha256-{digests.hex_of(DIGEST)}.sig"


def test_what_other_signers_add_is_read_past() -> None:
    document = json.loads(Claim("a", DIGEST).to_json())
    document["optional"] = {"creator": "x 1", "timestamp": 1458239713, "Bundle": {"a": 1}}
    assert Claim.from_json(json.dumps(document).encode()).annotations == {"creator": "x 1"}
    del document["critical"]["identity"]
    assert Claim.from_json(json.dumps(document).encode()).name == ""


@pytest.mark.parametrize(
    ("key", "value"),
    [("type", "atomic container signature"), ("type", None), ("image", None), ("image", {}), ("image", "x")],
)
def test_another_document_is_refused(key: str, value: object) -> None:
    document = json.loads(Claim("a", DIGEST).to_json())
    document["critical"][key] = value
    with pytest.raises(InvalidDocument):
        Claim.from_json(json.dumps(document).encode())
    for data in (b"", b"[]", b"{}", Claim("a", DIGEST).to_json().replace(DIGEST.encode(), b"sha256:0"), b"{" * 70_000):
        with pytest.raises(EngineError):
            Claim.from_json(data)
