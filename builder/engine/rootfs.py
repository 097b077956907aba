"""A container's and an image's file system from outside: as values for the runtime, and as an open directory."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from builder.errors import ContainerNotFound, LayerNotFound

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from builder.engine.session import Engine
    from builder.insight.listing import Listing
    from builder.store.containers import Container
    from builder.store.images import Image
    from builder.store.snapshots import Active, LayerID
    from runtime.spec import Rootfs


def active(engine: Engine, container: Container) -> Active:
    """The container's writable snapshot. Raises ContainerNotFound (it was removed meanwhile), LayerNotFound."""
    try:
        return engine.store.snapshots.active(container.layer or "")
    except LayerNotFound:
        engine.store.containers.get(container.id)
        raise


def rootfs(engine: Engine, container: Container, *, readonly: bool = False) -> Rootfs:
    """What is mounted as the container's root."""
    from runtime.spec import Rootfs

    snapshot = active(engine, container)
    lowers = tuple(map(str, snapshot.lowers))
    return Rootfs(lowers, str(snapshot.upper), str(snapshot.work), readonly=readonly, keep_mount_points=True)


def image_root(engine: Engine, container: Container) -> int:
    """A descriptor on the container's image, without what the container wrote; the caller closes it."""
    from runtime.rootfs import open_rootfs
    from runtime.spec import Rootfs

    return open_rootfs(Rootfs(tuple(map(str, active(engine, container).lowers)), readonly=True))


def layers_root(engine: Engine, layers: Sequence[LayerID]) -> int:
    """A descriptor on a stack of layers (bottom first), to read; the caller closes it. Nobody collects them meanwhile.

    Raises LayerNotFound, MountFailed.
    """
    from runtime.rootfs import open_rootfs
    from runtime.spec import Rootfs

    engine.store.snapshots.use(layers)
    return open_rootfs(Rootfs(tuple(map(str, engine.store.snapshots.lowers(layers))), readonly=True))


@contextmanager
def image_files(engine: Engine, image: Image) -> Iterator[Listing]:
    """All files of an image, open for the block. Raises LayerNotFound, MountFailed, OSError."""
    import os

    from builder.insight.listing import listing

    root = layers_root(engine, image.layers)
    try:
        yield listing(root)
    finally:
        os.close(root)


def merged_root(engine: Engine, container: Container) -> int:
    """A descriptor on everything the container sees on its own file system, to read; the caller closes it.

    The upper directory is the topmost lower here: reading beside a running container disturbs neither.
    """
    from runtime.rootfs import open_rootfs
    from runtime.spec import Rootfs

    snapshot = active(engine, container)
    return open_rootfs(Rootfs((str(snapshot.upper), *map(str, snapshot.lowers)), readonly=True))


def upper_size(engine: Engine, container: Container) -> int:
    """The bytes of the files that the container wrote; 0 when it was removed meanwhile."""
    import os

    total = 0
    try:
        upper = active(engine, container).upper
    except ContainerNotFound:
        return total
    for top, _, files in os.walk(upper):
        for name in files:
            try:
                total += os.lstat(os.path.join(top, name)).st_size
            except OSError:
                continue  # it has gone meanwhile
    return total
