"""Descriptors: what points at a blob (media type, digest, size), and the media types that we know."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from builder.errors import InvalidDigest
from builder.oci import digests, platforms
from runtime.values import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.oci.documents import Json, Object

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = OCI_LAYER + "+gzip"
OCI_LAYER_ZSTD = OCI_LAYER + "+zstd"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = DOCKER_LAYER + ".gzip"
DOCKER_FOREIGN_LAYER_GZIP = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"

INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_INDEX})
MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
CONFIG_TYPES = frozenset({OCI_CONFIG, DOCKER_CONFIG})

_BASE64 = r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
_TOKEN = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A pointer to a blob: `size` in bytes, `data` the base64 text of an embedded copy. `extra` are unknown fields."""

    media_type: str
    digest: digests.Digest
    size: int
    urls: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: platforms.Platform | None = None
    artifact_type: str | None = None
    data: str | None = None
    extra: Mapping[str, Json] = field(default_factory=dict)

    @staticmethod
    def from_object(source: Object) -> Descriptor:
        """Read one. Raises InvalidDocument."""
        media_type = media_type_of(source, "mediaType")
        if media_type is None:
            source.fail("mediaType", "is missing")
        text = source.required("digest")
        try:
            digest = digests.parse(text)
        except InvalidDigest as err:
            source.fail("digest", err.message)
        platform = source.object("platform")
        urls = source.strings("urls") or ()
        if not all(re.match(r"[A-Za-z][A-Za-z0-9+.-]*:\S+$", url) for url in urls):
            source.fail("urls", "must be absolute URLs")
        data = source.string("data")
        if data is not None and not re.fullmatch(_BASE64, data):
            source.fail("data", "is not base64")
        return Descriptor(
            media_type=media_type,
            digest=digest,
            size=source.integer("size", low=0),
            urls=urls,
            annotations=source.string_map("annotations"),
            platform=None if platform is None else platform_of(platform),
            artifact_type=media_type_of(source, "artifactType"),
            data=data,
            extra=source.rest(),
        )

    def to_json(self) -> dict[str, object]:
        """As a JSON object, fields in the order of the specification."""
        document: dict[str, object] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.urls:
            document["urls"] = list(self.urls)
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        if self.data is not None:
            document["data"] = self.data
        if self.platform is not None:
            document["platform"] = platform_to_json(self.platform)
        if self.artifact_type is not None:
            document["artifactType"] = self.artifact_type
        return document | dict(self.extra)


def media_type_of(source: Object, key: str) -> str | None:
    """A media type (RFC 6838) in field `key`, or None when absent. Raises InvalidDocument."""
    value = source.string(key)
    if value is not None and not re.fullmatch(f"{_TOKEN}/{_TOKEN}", value):
        source.fail(key, f"{value[:100]!r} is not a media type")
    return value


def platform_of(source: Object) -> platforms.Platform:
    """The platform object of an index entry, as written (not normalised, so that it is written again as it was)."""
    return platforms.Platform(
        os=source.word("os", needed=True),
        architecture=source.word("architecture", needed=True),
        variant=source.word("variant"),
        os_version=source.word("os.version"),
        os_features=source.strings("os.features") or (),
    )


def platform_to_json(platform: platforms.Platform) -> dict[str, object]:
    """As a JSON object."""
    document: dict[str, object] = {"architecture": platform.architecture, "os": platform.os}
    if platform.os_version:
        document["os.version"] = platform.os_version
    if platform.os_features:
        document["os.features"] = list(platform.os_features)
    if platform.variant:
        document["variant"] = platform.variant
    return document
