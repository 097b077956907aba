import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from builder.insight import sbom
from builder.insight.packages import Distribution, Ecosystem, Package

SUBJECT = sbom.Subject(
    "app:1",
    "sha256:" + "a" * 64,
    datetime(2026, 1, 1, tzinfo=UTC),
    (
        Package(Ecosystem.DEB, "g++", "4:12.2", "amd64", "", "/var/lib/dpkg/status"),
        Package(Ecosystem.NPM, "@a/b", "1", "", "MIT", "/app/node_modules/@a/b/package.json"),
        Package(Ecosystem.NPM, "@a/b", "1", "", "MIT", "/other/node_modules/@a/b/package.json"),
        Package(Ecosystem.PYPI, "Flask", "", "", "", "/x/METADATA"),
    ),
    Distribution("debian", "12", "Debian"),
)


@pytest.mark.parametrize("write", sbom.FORMATS.values())
def test_the_same_image_gives_the_same_document(write: Callable[[sbom.Subject], str]) -> None:
    assert write(SUBJECT) == write(SUBJECT)


def test_cyclonedx_is_valid_and_names_every_package() -> None:
    text = sbom.cyclonedx(SUBJECT)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    document = json.loads(text)
    assert sorted(each["purl"] for each in document["components"]) == [
        "pkg:deb/debian/g%2B%2B@4:12.2?arch=amd64&distro=debian-12",
        "pkg:npm/%40a/b@1",
        "pkg:npm/%40a/b@1",
        "pkg:pypi/flask",
    ]
    assert document["metadata"]["component"]["version"] == SUBJECT.image_id


def test_spdx_is_valid_and_says_what_the_image_contains() -> None:
    document = json.loads(sbom.spdx(SUBJECT))
    assert validate_full_spdx_document(JsonLikeDictParser().parse(document)) == []
    assert [each["name"] for each in document["packages"]] == ["app:1", "g++", "@a/b", "@a/b", "Flask"]
