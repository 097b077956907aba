"""Prune: what is not used goes. Each verb says what went; bytes are what the files took."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from builder.engine import containers, images, rootfs
from builder.errors import ContainerNotFound, ImageNotFound, WrongState
from runtime.values import dataclass

if TYPE_CHECKING:
    from builder.engine.session import Engine
    from builder.store.cacheitems import CacheItem, Select
    from builder.store.containers import Container
    from builder.store.listing import Listed
    from runtime.networkstate import Network


@dataclass(frozen=True, slots=True)
class Pruned:
    """The names or ids that went, and the bytes that were freed."""

    names: tuple[str, ...]
    freed: int


def prune_containers(engine: Engine, select: Callable[[Container], bool]) -> Pruned:
    """Remove containers that do not run."""
    gone, freed = [], 0
    for container in containers.listed(engine):
        if not containers.is_running(engine, container) and select(container):
            size = rootfs.upper_size(engine, container)
            with suppress(ContainerNotFound, WrongState):  # somebody else has removed or started it
                containers.remove(engine, container.id)
                gone.append(container.id)
                freed += size
    return Pruned(tuple(gone), freed)


def prune_images(engine: Engine, select: Callable[[Listed], bool], *, everything: bool) -> Pruned:
    """Remove dangling images, with `everything` all that no container has."""
    from builder.store.images import Deleted

    used = engine.store.images.users()
    gone: list[str] = []
    for image in images.list_images(engine):
        if image.id in used or not (everything or image.dangling) or not _chosen(select, image):
            continue
        for removal in engine.store.images.prune(image.id, tagged=everything):
            gone.append(
                f"deleted: {removal.id}"
                if isinstance(removal, Deleted)
                else f"untagged: {removal.reference.familiar()}"
            )
    for index in images.shown(engine) if everything else ():
        if index.origin == "index" and not engine.store.images.of(index.id) and _chosen(select, index):
            with suppress(ImageNotFound):
                engine.store.images.remove(index.id, force=True)
                gone += [f"untagged: {reference.familiar()}" for reference in index.references]
    return Pruned(tuple(gone), engine.store.collect().freed)


def _chosen(select: Callable[[Listed], bool], image: Listed) -> bool:
    try:
        return select(image)
    except ImageNotFound:
        return False  # somebody else has removed it


def prune_volumes(engine: Engine, *, everything: bool) -> Pruned:
    """Remove anonymous volumes that no container has, with `everything` named ones too."""
    gone = engine.volumes.prune(in_use=lambda name: containers.volume_users(engine, name), everything=everything)
    return Pruned(tuple(name for name, _ in gone), sum(size for _, size in gone))


def prune_networks(engine: Engine, select: Callable[[Network], bool] = lambda _: True) -> Pruned:
    """Remove networks that no container asked for."""
    wanted = {
        attachment.network
        for container in containers.listed(engine)
        for attachment in containers.definition(container).request.network.attachments
    }
    gone = []
    for network in engine.networks.list():
        unused = network.name not in wanted and network.id not in wanted
        if network.user_defined and unused and select(network):
            engine.networks.remove(network.name)
            gone.append(network.name)
    return Pruned(tuple(gone), 0)


def release_host(engine: Engine) -> bool:
    """Remove this store's bridges and firewall rules from the host, unless a container is connected.

    They are made again when a container needs them; a store that will be deleted should not leave them.
    """
    return engine.networks.teardown(idle=True)


def prune_cache(engine: Engine, *, keep: int = 0, select: Select | None = None, everything: bool = False) -> Pruned:
    """Remove build cache beyond `keep` bytes, only what `select` is true for; what images have too, which takes no
    room of its own, only with `everything`."""
    chosen = select

    def dangling(item: CacheItem) -> bool:
        return not item.shared and (select is None or select(item))

    if not everything:
        chosen = dangling
    collected = engine.store.collect(rules=((keep, chosen),))
    names = tuple(item.name for kind in ("layer", "cache mount", "failed step") for item in collected.of(kind))
    return Pruned(names, collected.freed)
