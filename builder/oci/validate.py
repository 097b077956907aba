"""Is an image consistent? The part that its documents alone can answer; `builder.store.validate` looks at the disk,
too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.errors import InvalidImage
from builder.oci import digests
from builder.oci.configs import ImageConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.oci.digests import DiffID, Digest
    from builder.oci.manifests import Manifest


def image(image_id: Digest, raw: bytes, diff_ids: Sequence[DiffID | None], *, foreign: bool = False) -> ImageConfig:
    """Check the config `raw` of the image against its id and the recorded digests of its layers, bottom first.

    `foreign`: another tool made it, and its history may say what it likes. Returns the config. Raises InvalidDocument
    (no image config), InvalidImage (parts contradict each other).
    """
    if digests.of(raw) != image_id:
        raise InvalidImage(image_id, f"its config has digest {digests.of(raw)}")
    config = ImageConfig.from_json(raw)
    layers(image_id, config, diff_ids, foreign=foreign)
    return config


def layers(image_id: Digest, config: ImageConfig, diff_ids: Sequence[DiffID | None], *, foreign: bool = False) -> None:
    """Check a config against the recorded digests of its layers, and its history against both. Raises InvalidImage."""
    if len(config.diff_ids) != len(diff_ids):
        raise InvalidImage(image_id, f"{len(config.diff_ids)} diff_ids for {len(diff_ids)} layers")
    for position, (found, diff_id) in enumerate(zip(diff_ids, config.diff_ids, strict=True)):
        if found is None:
            raise InvalidImage(image_id, f"layer {position} has not been hashed")
        if found != diff_id:
            raise InvalidImage(image_id, f"layer {position} has diff_id {found}, the config says {diff_id}")
    with_layer = sum(not entry.empty_layer for entry in config.history)
    if not foreign and config.history and with_layer != len(config.diff_ids):
        raise InvalidImage(image_id, f"history tells of {with_layer} layers, there are {len(config.diff_ids)}")


def manifest(document: Manifest, raw_config: bytes) -> ImageConfig:
    """Check a manifest against the bytes of its config. Raises InvalidDocument, InvalidImage."""
    image_id = document.config.digest
    if digests.of(raw_config) != image_id or len(raw_config) != document.config.size:
        raise InvalidImage(image_id, "the manifest names another config")
    config = ImageConfig.from_json(raw_config)
    if len(config.diff_ids) != len(document.layers):
        raise InvalidImage(image_id, f"{len(config.diff_ids)} diff_ids for {len(document.layers)} layers")
    return config
