"""Images in and out: save, load, import, bootstrap."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from builder.engine import images

if TYPE_CHECKING:
    from builder.engine.session import Engine
    from builder.oci.digests import Digest
    from builder.store.changesets import Sink
    from builder.store.tarstream import Readable
    from builder.transfer import bootstrap as maker
    from builder.transfer.docker_archive import Loaded


def save(
    engine: Engine,
    names: Sequence[str],
    target: Path | Sink,
    *,
    platforms: Sequence[str] = (),
    most: int | None = None,
    merged: Callable[[str, int, int], object] | None = None,
) -> int:
    """Write images as one archive to a file (whole or not at all) or to a sink; returns its bytes.

    Of several for different platforms those for `platforms` (none: all) are written. Those of more than `most` layers
    (0: any number; None: what docker takes) have adjacent ones merged; `merged` is told their name, layers and what is
    left of them.
    """
    from builder.store.derived import DOCKER_MAX_LAYERS
    from builder.transfer import docker_archive

    most = DOCKER_MAX_LAYERS if most is None else most
    chosen = images.platforms(platforms)
    if isinstance(target, Path):
        return docker_archive.save_file(engine.store, names, target, platforms=chosen, most=most, merged=merged)
    return docker_archive.save(engine.store, names, target, platforms=chosen, most=most, merged=merged)


def load(
    engine: Engine, source: Readable | Path, emit: Callable[[Loaded], object], *, platforms: Sequence[str] = ()
) -> tuple[Loaded, ...]:
    """Read the images of an archive, or of a directory that is an OCI layout, with `platforms` only those for these;
    `emit` is told of each as it comes in.

    Raises ArchiveInvalid, ContextError, PlatformNotFound, InvalidPlatform.
    """
    from builder.transfer import docker_archive, layout_in

    chosen = images.platforms(platforms)
    if isinstance(source, Path):
        return layout_in.load(engine.store, source, platforms=chosen, emit=emit)
    return docker_archive.load(engine.store, source, platforms=chosen, emit=emit)


def import_image(
    engine: Engine,
    stream: Readable,
    *,
    reference: str = "",
    changes: Sequence[str] = (),
    message: str = "",
    platform: str = "",
) -> Digest:
    """Make an image of a root file system's tar; `changes` are Dockerfile instructions for its config."""
    from builder.engine.changes import apply
    from builder.oci import platforms
    from builder.transfer import importer

    return importer.import_image(
        engine.store,
        stream,
        created=engine.clock(),
        reference=reference or None,
        message=message,
        platform=platforms.parse(platform) if platform else platforms.host(os.uname().machine),
        edit=(lambda config: apply(config, changes)) if changes else None,
    )


def bootstrap(engine: Engine, request: maker.Request, emit: Callable[[maker.Progress], object]) -> maker.Bootstrapped:
    """Make a base image without any registry."""
    from builder.transfer import bootstrap as maker

    return maker.bootstrap(engine.store, request, engine.launcher(), emit=emit)
