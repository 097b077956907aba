"""Images: list, tag, remove, history."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from builder.errors import ImageNotFound, InvalidInput, InvalidReference, LayerNotFound
from builder.oci.references import Reference
from runtime.values import dataclass

if TYPE_CHECKING:
    from builder.engine.session import Engine
    from builder.oci.digests import Digest
    from builder.oci.platforms import Platform
    from builder.store.images import Image, Removal
    from builder.store.listing import Listed


@dataclass(frozen=True, slots=True)
class HistoryLine:
    """One step of an image, newest first. `image` is "" where no image is known; `size` in bytes."""

    image: str
    created: str | None
    created_by: str
    size: int
    comment: str


def find(engine: Engine, name: str, platform: str = "") -> Image:
    """The image that a reference or (short) id means, of several the one for a platform ("": this machine's first).

    Raises ImageNotFound, PlatformNotFound, AmbiguousId, InvalidReference, InvalidPlatform.
    """
    images = engine.store.images
    return images.get(images.resolve(name, platform=wanted(platform)))


def held(engine: Engine, name: str, platform: str = "", *, again: bool = False) -> Image:
    """As `find`, and nobody can collect its layers any more; what the name means now if somebody just did so.

    Raises as `find`, LayerNotFound.
    """
    try:
        image = find(engine, name, platform)
        engine.store.snapshots.use(image.layers)
    except (ImageNotFound, LayerNotFound):
        if again:
            raise
        return held(engine, name, platform, again=True)
    return image


def wanted(text: str) -> Platform | None:
    """A platform as the user wrote it, what it leaves out being this machine's; None for "". Raises InvalidPlatform."""
    if not text:
        return None
    from builder.oci import platforms

    return platforms.parse(text, default=platforms.host(os.uname().machine))


def platforms(texts: Sequence[str]) -> tuple[Platform, ...]:
    """As `wanted`, for several. Raises InvalidPlatform."""
    return tuple(platform for text in texts if (platform := wanted(text)) is not None)


def mismatch(engine: Engine, image_id: str) -> tuple[Platform, Platform] | None:
    """(the image's platform, this machine's) when the image is not made for this machine."""
    from builder.oci import digests, platforms

    images, here = engine.store.images, platforms.host(os.uname().machine)
    full = digests.Digest(image_id)
    try:
        return None if images.choose(full, here) else (images.get(full).config.platform, here)
    except ImageNotFound:
        return None  # its name was all that the container needed of it


def list_images(engine: Engine) -> tuple[Listed, ...]:
    """All images, newest first."""
    return engine.store.images.list()


def shown(engine: Engine) -> tuple[Listed, ...]:
    """As `list_images`, as users see them: several of one index are one."""
    return engine.store.images.shown()


def tag(engine: Engine, source: str, target: str) -> None:
    """Give the image or index `source` the further name `target`. Raises ImageNotFound, InvalidReference."""
    try:
        reference = Reference.parse(target)
    except InvalidReference as err:
        message = f'Error parsing reference: "{target}" is not a valid repository/tag: {err.message}'
        raise InvalidReference(target, message=message) from None
    if reference.digest is not None:
        raise InvalidInput("refusing to create a tag with a digest reference")
    engine.store.images.tag(reference, engine.store.images.target(source))


def remove(
    engine: Engine, name: str, *, force: bool = False, prune_parents: bool = True, only: Sequence[str] = ()
) -> tuple[Removal, ...]:
    """Remove by name or id with docker's rules, with platforms in `only` the images for these.

    Raises ImageNotFound, PlatformNotFound, ImageInUse, InvalidPlatform.
    """
    from builder.engine import containers

    removed = engine.store.images.remove(
        name,
        force=force,
        prune_parents=prune_parents,
        running=[each.id for each in containers.listed(engine) if containers.is_running(engine, each)],
        platforms=platforms(only),
    )
    engine.store.collect()
    return removed


def history(engine: Engine, name: str, platform: str = "") -> tuple[HistoryLine, ...]:
    """The steps of an image, newest first. Raises as `find`."""
    image = find(engine, name, platform)
    sizes = [engine.store.snapshots.get(layer).size or 0 for layer in image.layers]
    lines = []
    position = 0
    for step in image.config.history:
        size = 0
        if not step.empty_layer and position < len(sizes):
            size = sizes[position]
            position += 1
        lines.append(HistoryLine("", step.created, step.created_by, size, step.comment))
    if lines:
        last = lines[-1]
        lines[-1] = HistoryLine(image.id, last.created, last.created_by, last.size, last.comment)
    return tuple(reversed(lines))


def size_of(engine: Engine, layers: Sequence[str]) -> int:
    """The bytes of the files in `layers`."""
    from builder.store.snapshots import LayerID

    return sum(engine.store.snapshots.get(LayerID(layer)).size or 0 for layer in layers)


def layers_of(engine: Engine, image_id: Digest) -> tuple[str, ...]:
    """The layers of an image, bottom first."""
    return tuple(engine.store.images.layers(image_id))
