"""Cache mounts as a user asks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.errors import CacheMountInUse
from builder.oci import documents

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from builder.engine.session import Engine
    from builder.store.cachemounts import CacheMount
    from builder.store.tarstream import Readable
    from builder.transfer.layout import Out


def remove(engine: Engine, word: str) -> tuple[str, ...]:
    """Remove those with this id or name; their names. Raises NotFound, CacheMountInUse."""
    mounts = engine.store.cache_mounts
    names = {each.name for each in mounts.find(word)}
    busy = names & mounts.in_use()
    if busy:
        raise CacheMountInUse(word)
    gone = engine.store.collect(rules=((0, lambda item: item.id in names),)).of("cache mount")
    if len(gone) < len(names):
        raise CacheMountInUse(word)
    return tuple(item.name for item in gone)


def chosen(engine: Engine, words: Sequence[str]) -> tuple[CacheMount, ...]:
    """Those with these ids or names, all without words. Raises NotFound."""
    mounts = engine.store.cache_mounts
    if not words:
        return mounts.list()
    return tuple({each.name: each for word in words for each in mounts.find(word)}.values())


def export(engine: Engine, words: Sequence[str], out: Out) -> tuple[str, ...]:
    """Write cache mounts as an OCI image layout; their names. Raises NotFound, OSError, StoreErrors."""
    from builder.transfer import mount_archive

    mounts = chosen(engine, words)
    mount_archive.write(engine.store, mounts, out)
    return tuple(each.name for each in mounts)


def push(engine: Engine, words: Sequence[str], reference: str, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Push cache mounts to a registry; their names. Raises NotFound, RegistryErrors, StoreErrors."""
    from builder.oci.references import Reference
    from builder.transfer.registry import mounts as registry
    from builder.transfer.registry.session import Registries

    mounts = chosen(engine, words)
    with Registries(environment) as registries:
        registry.push(engine.store, registries, Reference.parse(reference), mounts)
    return tuple(each.name for each in mounts)


def pull(engine: Engine, reference: str, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Bring cache mounts from a registry; their names. Raises RegistryErrors and as `mount_archive.read`."""
    from builder.oci.references import Reference
    from builder.transfer.registry import mounts as registry
    from builder.transfer.registry.session import Registries

    with Registries(environment) as registries:
        return registry.pull(engine.store, registries, Reference.parse(reference))


def read_directory(engine: Engine, path: Path) -> tuple[str, ...]:
    """Bring the cache mounts of an OCI layout. Raises ContextError and as `mount_archive.read`."""
    from builder.transfer import layout_in, mount_archive

    with layout_in.opened(path) as layout:
        top = mount_archive.chosen(layout.index())
        return mount_archive.read(engine.store, layout.blob(top, documents.LIMIT), layout)


def read_archive(engine: Engine, stream: Readable) -> tuple[str, ...]:
    """Bring the cache mounts of a tar of an OCI layout. Raises as `read_directory`."""
    from builder.oci.manifests import Index
    from builder.transfer import mount_archive, outer

    with outer.open_archive(stream, engine.store, None) as archive:
        top = mount_archive.chosen(Index.from_json(archive.read("index.json", documents.LIMIT)))
        return mount_archive.read(engine.store, archive.blob(top, documents.LIMIT), archive)
