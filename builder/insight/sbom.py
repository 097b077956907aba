"""Software bills of materials: what package managers installed, as CycloneDX 1.6 or SPDX 2.3 documents.

The documents are made by the libraries of those formats (the extra `attest`). The same image always gives the same
document: identifiers come from the image's digest, times from its config.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from builder import VERSION
from builder.errors import Unsupported
from runtime.values import dataclass

if TYPE_CHECKING:
    from builder.insight.packages import Distribution, Package

_NAMESPACE = uuid.UUID("5bd3f6a6-0d8a-5a3c-9d3e-2f1f6c9b7a10")


@dataclass(frozen=True, slots=True)
class Subject:
    """What the document is about: an image's name, its id ("sha256:…"), when it was created, and what is in it."""

    name: str
    image_id: str
    created: datetime
    packages: tuple[Package, ...]
    distribution: Distribution | None


def _missing(name: str | None) -> Unsupported:
    return Unsupported(f"this needs the package {name}", hint="pip install 'lamina[attest]'")


def require(formats: Iterable[str]) -> None:
    """Find out, without loading them, whether the libraries for these of FORMATS are there. Raises Unsupported."""
    from importlib.util import find_spec

    for name in formats:
        package = {"cyclonedx": "cyclonedx", "spdx": "spdx_tools"}[name]
        if find_spec(package) is None:
            raise _missing(package)


def cyclonedx(subject: Subject) -> str:
    """A CycloneDX 1.6 document in JSON. Raises Unsupported without the extra."""
    try:
        from cyclonedx.model import HashAlgorithm, HashType
        from cyclonedx.model.bom import Bom, BomMetaData
        from cyclonedx.model.component import Component, ComponentType
        from cyclonedx.model.dependency import Dependency
        from cyclonedx.model.tool import ToolRepository
        from cyclonedx.output import make_outputter
        from cyclonedx.schema import OutputFormat, SchemaVersion
        from packageurl import PackageURL
    except ImportError as err:
        raise _missing(err.name) from err
    digest = subject.image_id.removeprefix("sha256:")
    about = Component(
        name=subject.name,
        type=ComponentType.CONTAINER,
        version=subject.image_id,
        bom_ref=subject.image_id,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)],
    )
    tool = Component(name="lamina", version=VERSION, type=ComponentType.APPLICATION, bom_ref="lamina")
    bom = Bom(
        serial_number=uuid.uuid5(_NAMESPACE, subject.image_id),
        metadata=BomMetaData(component=about, timestamp=subject.created, tools=ToolRepository(components=[tool])),
    )
    for package in subject.packages:
        purl = package.purl(subject.distribution)
        part = Component(
            name=package.name,
            version=package.version,
            type=ComponentType.LIBRARY,
            purl=PackageURL.from_string(purl),
            bom_ref=f"{purl}#{package.source}",
        )
        bom.components.add(part)
    parts = [Dependency(part.bom_ref) for part in bom.components]
    bom.dependencies.update([Dependency(about.bom_ref, parts), *parts])
    # The writer wants to register each part once more, and goes through all that are registered for each.
    bom.register_dependency = lambda *_, **__: None  # type: ignore[method-assign]
    text: str = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=2)
    return text


def spdx(subject: Subject) -> str:
    """An SPDX 2.3 document in JSON. Raises Unsupported without the extra."""
    import json

    try:
        from spdx_tools.spdx.jsonschema.document_converter import DocumentConverter
        from spdx_tools.spdx.model.actor import Actor, ActorType
        from spdx_tools.spdx.model.checksum import Checksum, ChecksumAlgorithm
        from spdx_tools.spdx.model.document import CreationInfo, Document
        from spdx_tools.spdx.model.package import (
            ExternalPackageRef,
            ExternalPackageRefCategory,
            PackagePurpose,
        )
        from spdx_tools.spdx.model.package import Package as SpdxPackage
        from spdx_tools.spdx.model.relationship import Relationship, RelationshipType
        from spdx_tools.spdx.model.spdx_no_assertion import SpdxNoAssertion
    except ImportError as err:
        raise _missing(err.name) from err
    digest = subject.image_id.removeprefix("sha256:")
    about = SpdxPackage(
        spdx_id="SPDXRef-image",
        name=subject.name,
        version=subject.image_id,
        download_location=SpdxNoAssertion(),
        files_analyzed=False,
        checksums=[Checksum(ChecksumAlgorithm.SHA256, digest)],
        primary_package_purpose=PackagePurpose.CONTAINER,
    )
    parts = [
        SpdxPackage(
            spdx_id=f"SPDXRef-package-{number}",
            name=package.name,
            version=package.version or None,
            download_location=SpdxNoAssertion(),
            files_analyzed=False,
            source_info=f"found in {package.source}",
            comment=f"license as stated: {package.license}" if package.license else None,
            external_references=[
                ExternalPackageRef(
                    ExternalPackageRefCategory.PACKAGE_MANAGER, "purl", package.purl(subject.distribution)
                )
            ],
        )
        for number, package in enumerate(subject.packages, 1)
    ]
    relations = [Relationship("SPDXRef-DOCUMENT", RelationshipType.DESCRIBES, about.spdx_id)]
    relations += [Relationship(about.spdx_id, RelationshipType.CONTAINS, part.spdx_id) for part in parts]
    document = Document(
        CreationInfo(
            spdx_version="SPDX-2.3",
            spdx_id="SPDXRef-DOCUMENT",
            name=subject.name,
            document_namespace=f"urn:uuid:{uuid.uuid5(_NAMESPACE, subject.image_id)}",
            creators=[Actor(ActorType.TOOL, f"lamina-{VERSION}")],
            # SPDX has whole seconds in UTC.
            created=subject.created.astimezone(UTC).replace(microsecond=0, tzinfo=None),
        ),
        packages=[about, *parts],
        relationships=relations,
    )
    plain = DocumentConverter().convert(document)  # type: ignore[no-untyped-call]
    return json.dumps(plain, indent=2, ensure_ascii=False)


FORMATS: Mapping[str, Callable[[Subject], str]] = {"cyclonedx": cyclonedx, "spdx": spdx}
"""By the word that the user gives with --format."""
