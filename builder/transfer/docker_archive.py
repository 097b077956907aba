"""``save`` and ``load``: the archives that docker, podman and skopeo write and read.

``save`` writes what docker 29 does: an OCI image layout (``oci-layout``, ``index.json``, ``blobs/sha256/…``) that is a
docker archive as well (``manifest.json``, ``repositories``). Layers are plain tars, streamed from their directories; nothing is packed on the way.
``load`` reads both, and the older form with a directory per layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builder.oci.digests import Digest
    from builder.store import Store
    from builder.store.apply import Limits, Readable
    from builder.store.changesets import Sink


@dataclass(frozen=True, slots=True)
class Loaded:
    """One image that came in. With *reference*: "Loaded image: R"; without: "Loaded image ID: I"."""

    image_id: Digest
    reference: str | None
    """Familiar form with its tag, for example "busybox:latest"."""


def save(store: Store, names: Sequence[str], sink: Sink) -> int:
    """Write the images *names* (references, or ids, which are saved without a tag) as one archive; returns its bytes.

    A name without a tag stands for all tags of that repository, as docker has it.

    Raises: ImageNotFound, OSError.
    """
    raise NotImplementedError


def save_file(store: Store, names: Sequence[str], path: Path) -> int:
    """As :func:`save` into the file *path*, which appears whole or not at all."""
    raise NotImplementedError


def load(
    store: Store,
    stream: Readable,
    *,
    limits: Limits | None = None,
    emit: Callable[[Loaded], object] | None = None,
) -> tuple[Loaded, ...]:
    """Read an archive (plain or packed, seekable or not) and store and tag its images.

    Every digest is checked. Images of the archive that are whole are kept, even when a later one is broken.

    Raises: ArchiveError (hostile, broken, no image archive), OSError.
    """
    raise NotImplementedError
