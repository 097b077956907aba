"""An image from one store into another on the same machine: directories copied, nothing packed or hashed again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.errors import InvalidReference
from builder.oci.references import Reference
from builder.store import trees
from builder.store.diskfaults import disk_errors

if TYPE_CHECKING:
    from builder.oci.digests import Digest
    from builder.store import Store
    from builder.store.snapshots import LayerID


def copy_image(source: Store, target: Store, image_id: Digest, name: str = "") -> None:
    """Copy an image with its names, and `name` as one more. Raises ImageNotFound, DiskFull, StoreError."""
    source.images.use(image_id)
    image = source.images.get(image_id)
    layers = [_copy_layer(source, target, layer) for layer in image.layers]
    target.images.put(image.config, layers, raw=image.raw, origin=image.origin)
    for _, media_type, document in source.images.manifests(image_id):
        target.images.put_manifest(image_id, document, media_type)
    references = list(source.images.references(image_id))
    try:
        named = Reference.parse(name)
    except InvalidReference:
        pass  # an image's id: it is the same there
    else:
        if named.digest is None:
            references.append(named.tagged())
    target.images.tag_all(list(dict.fromkeys(references)), image_id)


def _copy_layer(source: Store, target: Store, layer_id: LayerID) -> LayerID:
    layer = source.snapshots.get(layer_id)
    assert layer.diff_id is not None
    known = target.snapshots.find(layer.diff_id)
    if known is not None:
        return known.id
    if layer.recipe is not None:
        with source.content.open(layer.recipe) as file, target.content.writer() as writer:
            while data := file.read(1 << 20):
                writer.write(data)
    active = target.snapshots.prepare(())
    try:
        with disk_errors("copy a layer"):
            trees.copy(layer.path, active.upper)
        return target.snapshots.commit(active, layer.change, recipe=layer.recipe).id
    except BaseException:
        target.snapshots.discard(active)
        raise
