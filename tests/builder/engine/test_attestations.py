"""--attest, --sbom and --provenance, as buildx reads them."""

import pytest

from builder.engine.options.attestations import AttestationWish, Kind, ProvenanceWish, SbomWish, canonical, parse
from builder.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        ("type=sbom", AttestationWish(sbom=SbomWish())),
        ("type=sbom,generator=lamina,format=cyclonedx", AttestationWish(sbom=SbomWish(("cyclonedx",)))),
        ("type=sbom,format=spdx+cyclonedx", AttestationWish(sbom=SbomWish(("spdx", "cyclonedx")))),
        ("type=provenance", AttestationWish(provenance=ProvenanceWish())),
        ("type=provenance,disabled=true", AttestationWish(dropped=frozenset({Kind.PROVENANCE}))),
        (
            'type=provenance,mode=min,builder-id=https://ci.test/1,"reproducible=true",inline-only=true,version=v1',
            AttestationWish(
                provenance=ProvenanceWish(most=False, builder="https://ci.test/1", reproducible=True, inline=True)
            ),
        ),
    ],
)
def test_an_attestation(text: str, wish: AttestationWish) -> None:
    assert parse([text]) == wish
    assert bool(wish) != bool(wish.dropped)


@pytest.mark.parametrize(
    ("text", "full"),
    [("true", "type=sbom"), ("1", "type=sbom"), ("false", "type=sbom,disabled=true"), ("a=b", "type=sbom,a=b")],
)
def test_the_short_forms(text: str, full: str) -> None:
    assert canonical(Kind.SBOM, text) == full


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["mode=min"], "attestation type not specified"),
        (["type=vuln"], 'unknown attestation type "vuln"'),
        (["type=sbom", "type=sbom,disabled=true"], "duplicate attestation field sbom"),
        (["sbom"], "invalid value sbom"),
        (["type=sbom,generator=docker/buildkit-syft-scanner"], "generator docker/buildkit-syft-scanner is not run"),
        (["type=sbom,format=x"], 'unknown format "x"'),
        (["type=sbom,mode=min"], 'unknown attribute "mode" of attestation sbom'),
        (["type=provenance,mode=mid"], 'invalid mode "mid"'),
        (["type=provenance,filename=../x"], 'invalid filename "../x"'),
        (["type=provenance,version=v0.2"], "provenance version v0.2 is not made"),
        (["type=provenance,reproducible=maybe"], 'invalid reproducible of attestation provenance: "maybe"'),
        (['"type=sbom'], "invalid attestation"),
    ],
)
def test_what_is_refused(texts: list[str], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(texts)
    assert caught.value.message.startswith(message)
