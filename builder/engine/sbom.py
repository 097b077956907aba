"""The bill of materials of an image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from builder.engine import images, rootfs
from builder.insight import packages, sbom
from builder.oci.times import parse

if TYPE_CHECKING:
    from builder.engine.session import Engine


def attached(
    engine: Engine, environment: Mapping[str, str], name: str, formats: Iterable[str], *, platform: str = ""
) -> str | None:
    """The bill of materials that is attached to an image, in the first of these formats that there is.

    Raises as `attestations.attached`.
    """
    from builder.engine import attestations

    types = (attestations.SBOM_TYPES[one] for one in formats)
    found = attestations.attached(engine, environment, name, types, platform=platform)
    return None if found is None else found.data.decode()


def subject(engine: Engine, name: str, *, called: str = "", platform: str = "") -> sbom.Subject:
    """What an image contains; the document calls it *called* rather than *name* if that is given.

    Raises as `images.held`, MountFailed.
    """
    image = images.held(engine, name, platform)
    with rootfs.image_files(engine, image) as files:
        found, distribution = packages.find(files), packages.distribution(files)
    created = parse(image.config.created or "") or 0
    moment = datetime.fromtimestamp(created // 1_000_000_000, UTC)
    return sbom.Subject(called or name, str(image.id), moment, found, distribution)
