"""What the things in the store take on the disk."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from builder.engine import containers, images, rootfs
from builder.store.cacheitems import cache_items
from runtime.values import dataclass

if TYPE_CHECKING:
    from builder.engine.session import Engine


@dataclass(frozen=True, slots=True)
class Share:
    """One line of `system df`; sizes in bytes."""

    kind: str
    total: int
    active: int
    size: int
    reclaimable: int


def disk(engine: Engine) -> tuple[Share, ...]:
    """Images, containers, volumes and the build cache."""
    made = containers.listed(engine)
    listed = images.list_images(engine)
    in_use = engine.store.images.users()
    used_layers = {layer for image in listed if image.id in in_use for layer in images.layers_of(engine, image.id)}
    all_layers = {layer for image in listed for layer in images.layers_of(engine, image.id)}
    kept = engine.store.packed.kept()  # of pulled layers, so that they go out again as they came
    sizes = {
        layer.id: (layer.size or 0) + (kept.get(layer.diff_id, 0) if layer.diff_id else 0)
        for layer in engine.store.snapshots.list()
    }
    image_size = sum(sizes.get(layer, 0) for layer in all_layers)  # type: ignore[call-overload]
    used_size = sum(sizes.get(layer, 0) for layer in used_layers)  # type: ignore[call-overload]
    running = [each for each in made if containers.is_running(engine, each)]
    written = {each.id: rootfs.upper_size(engine, each) for each in made}
    stopped_size = sum(written[each.id] for each in made if each not in running)
    volumes = engine.volumes.list()
    volume_sizes = {volume.name: tree_size(volume.mountpoint) for volume in volumes}
    users = {name for each in made for name in (mount.name for mount in containers.definition(each).mounts)}
    unused = sum(size for name, size in volume_sizes.items() if name not in users)
    cached = cache_items(engine.store)
    unshared = sum(item.cost for item in cached)
    return (
        Share("Images", len(listed), sum(image.id in in_use for image in listed), image_size, image_size - used_size),
        Share("Containers", len(made), len(running), sum(written.values()), stopped_size),
        Share(
            "Local Volumes",
            len(volumes),
            sum(volume.name in users for volume in volumes),
            sum(volume_sizes.values()),
            unused,
        ),
        Share(
            "Build Cache",
            len(cached),
            sum(item.in_use for item in cached),
            unshared,
            sum(item.cost for item in cached if not item.in_use),
        ),
    )


def tree_size(path: str) -> int:
    """The bytes of all files below `path`."""
    total = 0
    for top, _, files in os.walk(path):
        for name in files:
            try:
                total += os.lstat(os.path.join(top, name)).st_size
            except OSError:
                continue  # it has gone meanwhile
    return total
