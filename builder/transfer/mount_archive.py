"""Cache mounts on their way between machines: an OCI artifact whose layers are the directories, each packed with zstd.

In a directory or a tar it is an OCI image layout, in a registry a manifest under a tag; the blobs are the same, so
other tools can copy it. The annotations of a layer say which cache mount it is. Coming in, a directory appears whole
under its name, in the place of an older one that nobody uses.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import ArchiveInvalid, CacheMountInUse, InvalidDocument, NotFound
from builder.oci import descriptors as d
from builder.oci import digests
from builder.oci.manifests import Index, Manifest
from builder.store import apply, changesets, trees
from builder.store.cachemounts import NAME
from builder.store.diskfaults import disk_errors
from builder.store.leases import CACHE
from builder.transfer.compression import Compression, Packer, Packing
from builder.transfer.layout import REF_NAME
from builder.transfer.outer import blob_name
from runtime.linux.files import AT_FDCWD, RENAME_EXCHANGE, renameat2

if TYPE_CHECKING:
    from builder.oci.descriptors import Descriptor
    from builder.store import Store
    from builder.store.cachemounts import CacheMount
    from builder.store.tarstream import Readable
    from builder.transfer.layout import Out
    from builder.transfer.outer import Blobs

ARTIFACT_TYPE = "application/vnd.lamina.cache-mounts.v1"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
EMPTY = b"{}"
_ID, _FROM, _MOUNT = "lamina.cache-mount.id", "lamina.cache-mount.from", "lamina.cache-mount.name"
_TOP = "lamina.cache-mount.directory"
"""Mode, owner and time of the directory itself, "0755 0:0 1700000000": an archive says them only of what is inside."""
_TOP_FORM = re.compile(r"([0-7]{4}) (\d{1,9}):(\d{1,9}) (\d{1,11})", re.ASCII)
_READ = 1 << 20
_PACKING = Packing(Compression.ZSTD)


@contextmanager
def packed(store: Store, mount: CacheMount) -> Iterator[tuple[Descriptor, Path]]:
    """One cache mount as a blob, in a file that lives as long as the block; steps that want it wait while it is read.

    Raises CacheMountInUse, NotFound (it has been removed meanwhile), OSError, StoreErrors.
    """
    with store.scratch() as directory:
        path, hasher, size = directory / "mount", hashlib.sha256(), 0
        with open(path, "wb", buffering=_READ) as file:

            def out(data: bytes) -> None:
                nonlocal size
                size += len(data)
                hasher.update(data)
                file.write(data)

            packer = Packer(_PACKING, out)
            with _still(store, mount.name, mount.id or mount.name):
                changesets.write(mount.path, packer.write, overlay=False)
                status = mount.path.stat()
            packer.close()
        top = f"{stat.S_IMODE(status.st_mode):04o} {status.st_uid}:{status.st_gid} {int(status.st_mtime)}"
        annotations = {_MOUNT: mount.name, _ID: mount.id, _FROM: mount.origin, _TOP: top}
        digest = digests.parse("sha256:" + hasher.hexdigest())
        yield d.Descriptor(d.OCI_LAYER_ZSTD, digest, size, annotations=annotations), path


@contextmanager
def _still(store: Store, name: str, called: str) -> Iterator[None]:
    """Nobody uses a cache mount during the block, and it stays: a step that comes waits for its beginning.

    Raises CacheMountInUse, NotFound.
    """
    with store.locks.hold(f"new cache {name}"):
        if name in store.cache_mounts.in_use(but=store.lease()):
            raise CacheMountInUse(called)
        store.lease().protect(CACHE, [name])
        if not (store.caches_dir / name).is_dir():
            raise NotFound(f"cache mount {called} has been removed meanwhile")
        yield


def manifest(layers: Sequence[Descriptor]) -> Manifest:
    """The manifest of an artifact with these layers."""
    config = d.Descriptor(EMPTY_TYPE, digests.of(EMPTY), len(EMPTY))
    return Manifest(config=config, layers=tuple(layers), artifact_type=ARTIFACT_TYPE)


def write(store: Store, mounts: Sequence[CacheMount], out: Out, *, tag: str = "latest") -> None:
    """Write cache mounts as an OCI image layout. Raises OSError, StoreErrors."""
    described = []
    for mount in mounts:
        with packed(store, mount) as (layer, path):
            out.stream(blob_name(layer.digest), layer.size, lambda sink, path=path: _copy(path, sink))  # type: ignore[misc]
            described.append(layer)
    document = manifest(described).to_json()
    top = d.Descriptor(
        d.OCI_MANIFEST, digests.of(document), len(document), annotations={REF_NAME: tag}, artifact_type=ARTIFACT_TYPE
    )
    for data in (EMPTY, document):
        out.put(blob_name(digests.of(data)), data)
    out.put("index.json", Index((top,)).to_json())
    out.put("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    out.close()


def _copy(path: Path, sink: Callable[[bytes], object]) -> None:
    with open(path, "rb", buffering=0) as file:
        while data := file.read(_READ):
            sink(data)


def chosen(index: Index) -> Descriptor:
    """The manifest of cache mounts in a layout. Raises NotFound."""
    for each in index.manifests:
        if each.media_type == d.OCI_MANIFEST:
            return each
    raise NotFound("no cache mounts here", hint="lamina cache-mount export writes them")


def read(store: Store, document: bytes, blobs: Blobs) -> tuple[str, ...]:
    """Take all cache mounts of a manifest into the store; their names.

    Raises NotFound (the manifest is of something else), CacheMountInUse (it was to be replaced),
    ArchiveInvalid, InvalidDocument, DigestMismatch, LimitExceeded, StoreErrors.
    """
    parsed = Manifest.from_json(document, media_type=d.OCI_MANIFEST)
    if parsed.artifact_type != ARTIFACT_TYPE:
        raise NotFound("no cache mounts here, but something else", hint="lamina load and lamina pull take images")
    with disk_errors("store a cache mount"):
        return tuple(_take(store, each, blobs) for each in parsed.layers)


def _take(store: Store, layer: Descriptor, blobs: Blobs) -> str:
    name = layer.annotations.get(_MOUNT, "")
    if not NAME.fullmatch(name):
        raise InvalidDocument("cache mount", f"has the name {name[:80]!r}")
    with store.scratch() as directory:
        made = directory / "mount"
        made.mkdir(mode=0o755)
        stream = _Checked(blobs.open_blob(layer), layer)
        root = os.open(made, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            apply.extract_archive(stream, root, "/")
        finally:
            os.close(root)
        stream.finish()
        top = _TOP_FORM.fullmatch(layer.annotations.get(_TOP, "0755 0:0 0"))
        if top is None:
            raise InvalidDocument("cache mount", f"has a directory {layer.annotations[_TOP][:80]!r}")
        os.chown(made, int(top[2]), int(top[3]))
        os.chmod(made, int(top[1], 8))
        os.utime(made, (int(top[4]), int(top[4])))
        _place(store, name, made)
    store.cache_mounts.note_use(name, layer.annotations.get(_ID, ""), layer.annotations.get(_FROM, ""))
    return name


def _place(store: Store, name: str, made: Path) -> None:
    """Under its name; an older one goes, unless a step has it."""
    target = store.caches_dir / name
    with store.locks.hold(f"new cache {name}"):
        if name in store.cache_mounts.in_use(but=store.lease()):
            raise CacheMountInUse(name)
        try:
            # In one step: whoever is killed leaves the one or the other.
            renameat2(AT_FDCWD, str(made), AT_FDCWD, str(target), RENAME_EXCHANGE)
        except FileNotFoundError:
            made.rename(target)
            return
    trees.remove(made)


class _Checked:
    """A blob that is hashed while it is read."""

    def __init__(self, stream: Readable, descriptor: Descriptor) -> None:
        self._stream = stream
        self._descriptor = descriptor
        self._hasher = hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        data = self._stream.read(size)
        self._hasher.update(data)
        return data

    def finish(self) -> None:
        """The rest, then the digest. Raises ArchiveInvalid."""
        while self.read(_READ):
            pass
        if "sha256:" + self._hasher.hexdigest() != self._descriptor.digest:
            raise ArchiveInvalid(f"blob {self._descriptor.digest} has other contents than its digest says")
