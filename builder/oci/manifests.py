"""Manifests (one image: config and layers) and indexes (several manifests, usually one per platform).

Docker's schema 2 documents differ from OCI's only in media types, so one type reads and writes both. A document that
could be taken for the other kind (both `layers` and `manifests`), or whose media type contradicts the one that it was
delivered with, is refused: GHSA-5j5w-g665-5m35, CVE-2021-41190.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.oci import documents
from builder.oci.descriptors import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    INDEX_TYPES,
    MANIFEST_TYPES,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    media_type_of,
)
from runtime.values import dataclass, field, replace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.oci.documents import Json, Object

MAX_LAYERS = 10_000


@dataclass(frozen=True, slots=True)
class Manifest:
    """Config and layers (bottom first) of one image. `extra` are unknown fields."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    media_type: str = OCI_MANIFEST
    annotations: Mapping[str, str] = field(default_factory=dict)
    subject: Descriptor | None = None
    artifact_type: str | None = None
    extra: Mapping[str, Json] = field(default_factory=dict)

    @staticmethod
    def from_json(data: bytes, *, media_type: str | None = None) -> Manifest:
        """Read one; `media_type` is what it was announced as. Raises InvalidDocument."""
        source = documents.load(data, "manifest")
        _check_head(source, MANIFEST_TYPES, media_type, foreign=("manifests", "fsLayers"))
        stated = source.string("mediaType")
        config = source.object("config")
        if config is None:
            source.fail("config", "is missing")
        if "layers" not in source and source.string("artifactType") is None and stated is None:
            source.fail("layers", "is missing")
        layers = source.objects("layers")
        if len(layers) > MAX_LAYERS:
            source.fail("layers", f"has {len(layers)} entries, more than {MAX_LAYERS}")
        subject = source.object("subject")
        return Manifest(
            config=Descriptor.from_object(config),
            layers=tuple(Descriptor.from_object(layer) for layer in layers),
            media_type=stated or media_type or OCI_MANIFEST,
            annotations=source.string_map("annotations"),
            subject=None if subject is None else Descriptor.from_object(subject),
            artifact_type=media_type_of(source, "artifactType"),
            extra=source.rest(),
        )

    def to_json(self) -> bytes:
        """The document; the same value always gives the same bytes."""
        document: dict[str, object] = {"schemaVersion": 2, "mediaType": self.media_type}
        if self.artifact_type is not None:
            document["artifactType"] = self.artifact_type
        document["config"] = self.config.to_json()
        document["layers"] = [layer.to_json() for layer in self.layers]
        if self.subject is not None:
            document["subject"] = self.subject.to_json()
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        return documents.dump(document | dict(self.extra))


@dataclass(frozen=True, slots=True)
class Index:
    """Manifests in order of preference. `extra` are unknown fields."""

    manifests: tuple[Descriptor, ...]
    media_type: str = OCI_INDEX
    annotations: Mapping[str, str] = field(default_factory=dict)
    subject: Descriptor | None = None
    artifact_type: str | None = None
    extra: Mapping[str, Json] = field(default_factory=dict)

    @staticmethod
    def from_json(data: bytes, *, media_type: str | None = None) -> Index:
        """Read one; `media_type` is what it was announced as. Raises InvalidDocument."""
        source = documents.load(data, "index")
        _check_head(source, INDEX_TYPES, media_type, foreign=("layers", "config", "fsLayers"))
        stated = source.string("mediaType")
        if "manifests" not in source:
            source.fail("manifests", "is missing")
        manifests = source.objects("manifests")
        if len(manifests) > MAX_LAYERS:
            source.fail("manifests", f"has {len(manifests)} entries, more than {MAX_LAYERS}")
        subject = source.object("subject")
        return Index(
            manifests=tuple(Descriptor.from_object(manifest) for manifest in manifests),
            media_type=stated or media_type or OCI_INDEX,
            annotations=source.string_map("annotations"),
            subject=None if subject is None else Descriptor.from_object(subject),
            artifact_type=media_type_of(source, "artifactType"),
            extra=source.rest(),
        )

    def to_json(self) -> bytes:
        """The document; the same value always gives the same bytes."""
        document: dict[str, object] = {"schemaVersion": 2, "mediaType": self.media_type}
        if self.artifact_type is not None:
            document["artifactType"] = self.artifact_type
        document["manifests"] = [manifest.to_json() for manifest in self.manifests]
        if self.subject is not None:
            document["subject"] = self.subject.to_json()
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        return documents.dump(document | dict(self.extra))

    def relisted(self, new: Mapping[str, Descriptor], more: Sequence[Descriptor] = ()) -> Index:
        """With other manifests instead of those with the digests in `new`, listed as these were, and with `more`.

        It is docker's kind of index when all of them are docker's manifests.
        """
        manifests = []
        for each in self.manifests:
            other = new.get(each.digest, each)
            if other.digest != each.digest:
                each = replace(each, media_type=other.media_type, digest=other.digest, size=other.size, data=None)
            manifests.append(each)
        manifests += more
        media_type = DOCKER_INDEX if {each.media_type for each in manifests} == {DOCKER_MANIFEST} else OCI_INDEX
        return replace(self, manifests=tuple(manifests), media_type=media_type)


def _check_head(source: Object, known: frozenset[str], announced: str | None, *, foreign: tuple[str, ...]) -> None:
    """Refuse another schema version, another kind of document, and a media type that is not the announced one."""
    if source.integer("schemaVersion") != 2:
        source.fail("schemaVersion", "must be 2; older images must be converted first")
    for key in foreign:
        if key in source:
            source.fail(key, "belongs to another kind of document, so this one is ambiguous")
    stated = source.string("mediaType")
    if stated is not None and stated not in known:
        source.fail("mediaType", f"{stated[:100]!r} is not one of {', '.join(sorted(known))}")
    if stated is not None and announced is not None and stated != announced:
        source.fail("mediaType", f"{stated} was announced as {announced[:100]}")
