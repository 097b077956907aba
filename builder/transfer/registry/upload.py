"""One blob out of the store: looked for, mounted from a neighbour, or sent in chunks and continued where it broke off.

How far an upload has come the registry says itself. Where it goes on is kept in the store, so that the next process
continues it; a registry that has forgotten it, or cannot continue, gets the blob from its beginning.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import RegistryFailed, RegistryNotFound, RegistryUnreachable
from builder.oci import digests
from builder.transfer.registry.client import Cut
from runtime.values import dataclass

if TYPE_CHECKING:
    from builder.oci.digests import Digest
    from builder.store import Store
    from builder.transfer.registry.progress import Watch
    from builder.transfer.registry.repository import Repository, Upload

CHUNK = 32 << 20
"""Bytes of one request; what is lost at most when a connection is cut."""
_PIECE = 1 << 18


def mount(store: Store, target: Repository, digest: Digest) -> str | Upload:
    """The repository that the blob was mounted from, or an upload that has been begun since there was none."""
    host, name = target.endpoint.name.partition("/")[0], target.endpoint.name
    neighbours = [
        each.partition("/")[2]
        for each in store.packed.origins(digest)
        if each.partition("/")[0] == host and each != name
    ][:3]
    upload: Upload | None = None
    for neighbour in neighbours:
        upload = target.mount(digest, neighbour)
        if upload is None:
            return neighbour
        store.packed.forget_origin(digest, f"{host}/{neighbour}")
    return upload or target.begin()


def send(store: Store, target: Repository, digest: Digest, path: Path, begun: Upload | None, watch: Watch) -> None:
    """Send the file at `path`; `begun` is an upload to go on with, if there is one.

    Raises RegistryErrors, Stopped, OSError.
    """
    size = path.stat().st_size
    name = target.endpoint.name
    upload = _known(store, target, digest, size) or begun
    failures, told = 0, 0
    whole = size <= CHUNK
    while True:
        try:
            upload = upload or target.begin()
            if not whole:
                store.packed.set_upload(digest, name, upload.location)
            watch(upload.offset - told)
            told = upload.offset
            while not whole and upload.offset < size:
                length = min(max(CHUNK, upload.least), size - upload.offset)
                upload = target.append(upload, _Pieces(path, upload.offset, length), length)
                store.packed.set_upload(digest, name, upload.location)
                watch(length)
                told += length
                failures = 0
            rest = size - upload.offset
            target.finish(upload, digest, _Pieces(path, upload.offset, rest), rest)
            watch(rest)
            store.packed.set_upload(digest, name, "")
            return
        except Cut as err:
            upload = _continued(target, upload, size)
            there = upload.offset if upload is not None else 0
            counted = target.host.patience.failures(failures, there - told, err)
            if counted is None:
                endpoint = target.endpoint
                raise err.error or RegistryUnreachable(
                    endpoint.host,
                    endpoint.repository,
                    f"blob {digests.short(digest)} cannot be pushed to {name}: {err.text} again and again",
                    hint="try again: what the registry has is not sent twice",
                ) from err
            failures = counted
            target.client.pause(failures, f"{target.named(digest)}: {err.text}")
        except (RegistryFailed, RegistryNotFound):
            # 416 and the like: the registry lost count, or takes no chunks. Once more, in one piece.
            if upload is not None:
                target.cancel(upload)
            store.packed.set_upload(digest, name, "")
            if whole and failures:
                raise
            whole, upload, failures = True, None, failures + 1


def small(store: Store, target: Repository, data: bytes) -> Digest:
    """Send a blob that is in memory, if the target has it not. Raises as `send`."""
    digest = digests.of(data)
    if not target.has_blob(digest):
        with store.scratch() as directory:
            path = directory / "blob"
            path.write_bytes(data)
            send(store, target, digest, path, None, lambda count: None)
    return digest


def _known(store: Store, target: Repository, digest: Digest, size: int) -> Upload | None:
    """The upload that an earlier process had begun, if the registry still has it."""
    location = store.packed.upload(digest, target.endpoint.name)
    if not location:
        return None
    upload = target.resume(location)
    return upload if upload is not None and upload.offset <= size else None


def _continued(target: Repository, upload: Upload | None, size: int) -> Upload | None:
    """The upload as the registry has it now, None to begin again."""
    if upload is None:
        return None
    now = target.resume(upload.location)
    return now if now is not None and now.offset <= size else None


@dataclass(frozen=True, slots=True)
class _Pieces:
    """A part of a file as the body of a request, which may have to be sent again: with another token, or later."""

    path: Path
    offset: int
    length: int

    def __call__(self) -> Iterator[bytes]:
        length = self.length
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            while length and (data := file.read(min(_PIECE, length))):
                length -= len(data)
                yield data
