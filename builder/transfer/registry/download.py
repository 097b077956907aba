"""One blob into the store: streamed, hashed on the way, continued where it broke off, from whichever place has it.

What has come is kept, so a cut connection costs only the rest (a Range request), and a killed process costs nothing
more than reading what is there once again to hash it. Nothing is a blob before it has its size and its digest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from builder.errors import DigestMismatch, RegistryError, RegistryUnreachable
from builder.transfer.registry.client import Cut
from builder.transfer.registry.replies import number

if TYPE_CHECKING:
    from builder.oci.descriptors import Descriptor
    from builder.store import Store
    from builder.store.partial import PartialBlob
    from builder.transfer.registry.progress import Watch
    from builder.transfer.registry.repository import Repository


def fetch(store: Store, repositories: Sequence[Repository], descriptor: Descriptor, watch: Watch) -> bool:
    """Bring a blob into the store (and keep it there while this process lives); whether anything was transferred.

    Raises RegistryErrors (of the last of `repositories`), DigestMismatch, StoreErrors, Stopped.
    """
    if store.content.use(descriptor.digest):
        return False
    with store.content.partial(descriptor.digest) as partial:
        # Another process may have brought it while we waited for it.
        if store.content.use(descriptor.digest):
            return False
        if partial.size > descriptor.size:
            partial.restart()
        watch(partial.size)
        resumed = partial.size > 0
        for last, repository in zip(range(len(repositories) - 1, -1, -1), repositories, strict=True):
            try:
                _fill(partial, repository, descriptor, watch)
                try:
                    partial.commit()
                except DigestMismatch:
                    if not resumed:
                        raise
                    # What an earlier process left may be what was wrong: once more from the beginning.
                    resumed = False
                    _fill(partial, repository, descriptor, watch)
                    partial.commit()
                return True
            except DigestMismatch as err:
                if not last:
                    what = f"blob of {repository.endpoint.name} from registry {repository.endpoint.host}"
                    raise DigestMismatch(what, err.expected, err.found) from err
            except RegistryError:
                if not last:
                    raise
    raise AssertionError("the last place gives the blob or an error")


def _fill(partial: PartialBlob, repository: Repository, descriptor: Descriptor, watch: Watch) -> None:
    size = descriptor.size
    failures = 0
    while partial.size < size:
        before = partial.size
        try:
            _read(partial, repository, descriptor, watch)
            if partial.size < size:
                raise Cut("it ended too early")
        except Cut as err:
            counted = repository.host.patience.failures(failures, partial.size - before, err)
            if counted is None:
                endpoint = repository.endpoint
                raise err.error or RegistryUnreachable(
                    endpoint.host,
                    endpoint.repository,
                    f"{repository.named(descriptor.digest)} cannot be fetched from registry {endpoint.host}: "
                    f"{err.text} after {partial.size} of {size} bytes",
                    hint="try again: what has come is kept",
                ) from err
            failures = counted
            repository.client.pause(failures, f"{repository.named(descriptor.digest)}: {err.text}")


def _read(partial: PartialBlob, repository: Repository, descriptor: Descriptor, watch: Watch) -> None:
    with repository.open_blob(descriptor.digest, partial.size) as (start, answer):
        if start != partial.size:
            partial.restart()
            if start < 0:
                return  # the range was refused
        stated = number(answer.headers.get("Content-Length", ""))
        if stated is not None and start + stated != descriptor.size:
            raise _lied(repository, descriptor, f"{start + stated}")
        for chunk in answer.chunks():
            if partial.size + len(chunk) > descriptor.size:
                partial.restart()
                raise _lied(repository, descriptor, f"more than {descriptor.size}")
            partial.write(chunk)
            watch(len(chunk))


def _lied(repository: Repository, descriptor: Descriptor, found: str) -> RegistryError:
    name = repository.named(descriptor.digest)
    return repository.failed(f"{name} has {found} bytes, its descriptor says {descriptor.size}")
