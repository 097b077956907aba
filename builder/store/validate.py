"""Is an image in the store whole? What `oci.validate` says of its documents, and what only the disk can answer.

Every test that makes an image calls `image`; `fsck` does it for all of them.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from builder.errors import InvalidImage
from builder.oci import validate as pure

if TYPE_CHECKING:
    from builder.oci.configs import ImageConfig
    from builder.oci.digests import Digest
    from builder.store import Store
    from builder.store.snapshots import Layer


def image(store: Store, image_id: Digest, *, full: bool = False) -> ImageConfig:
    """Check that config, layers and directories of an image fit together; `full` reads and hashes every layer.

    Returns the config. Raises ImageNotFound, InvalidDocument (config), InvalidImage (what contradicts what).
    """
    found = store.images.get(image_id)
    layers = []
    for position, layer_id in enumerate(found.layers):
        layer = store.snapshots.peek(layer_id)
        if layer is None:
            raise InvalidImage(image_id, f"layer {position} ({layer_id}) has gone")
        layers.append(layer)
    diff_ids = tuple(layer.diff_id for layer in layers)
    pure.image(image_id, found.raw, diff_ids, foreign=found.origin in ("load", "pull"))
    for position, layer in enumerate(layers):
        if not (layer.path / ".").is_dir():
            raise InvalidImage(image_id, f"layer {position} ({layer.id}) cannot be entered")
        if layer.recipe is not None and not store.content.peek(layer.recipe):
            raise InvalidImage(image_id, f"the recipe of layer {position} ({layer.id}) has gone")
        damage = layer_damage(store, layer) if full else None
        if damage is not None:
            raise InvalidImage(image_id, f"layer {position} ({layer.id}): {damage}")
    return found.config


def layer_damage(store: Store, layer: Layer) -> str | None:
    """Read a hashed layer and compare its digests; what differs, or None. Raises OSError, StoreError."""
    from builder.store import changesets, recipes
    from builder.store.unpack import unpack

    found = changesets.write(layer.path)
    if layer.content_digest is not None and found.content_digest != layer.content_digest:
        return f"its files have content digest {found.content_digest}, recorded is {layer.content_digest}"
    diff_id = str(found.diff_id)
    if layer.recipe is not None:
        hasher = hashlib.sha256()
        with store.content.open(layer.recipe) as recipe:
            recipes.replay(unpack(recipe), layer.path, hasher.update)
        diff_id = "sha256:" + hasher.hexdigest()
    if diff_id != layer.diff_id:
        return f"its tar has digest {diff_id}, recorded is {layer.diff_id}"
    return None
