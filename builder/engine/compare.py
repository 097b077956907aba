"""diff of two images: opens both and hands them to `insight.compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.engine import images, rootfs
from builder.insight import compare, packages

if TYPE_CHECKING:
    from builder.engine.session import Engine
    from builder.insight.listing import Listing
    from builder.store.images import Image

_CHUNK = 1 << 20


def compare_images(engine: Engine, before: str, after: str, *, platform: str = "") -> compare.Comparison:
    """What differs between two images, both for `platform`. Raises as `images.held`, MountFailed."""
    first, second = images.held(engine, before, platform), images.held(engine, after, platform)
    with rootfs.image_files(engine, first) as ours, rootfs.image_files(engine, second) as theirs:
        return compare.compare(
            _view(engine, before, first, ours),
            _view(engine, after, second, theirs),
            lambda path: _same_bytes(ours.root, theirs.root, path),
        )


def _view(engine: Engine, name: str, image: Image, files: Listing) -> compare.View:
    return compare.View(
        name=name,
        config=image.config,
        layers=tuple(map(str, image.config.diff_ids)),
        size=images.size_of(engine, image.layers),
        entries=files.entries,
        packages=packages.find(files),
    )


def _same_bytes(ours: int, theirs: int, path: str) -> bool:
    from builder.pipeline import trees

    with (
        open(trees.open_file(ours, path.lstrip("/")), "rb", buffering=0) as first,
        open(trees.open_file(theirs, path.lstrip("/")), "rb", buffering=0) as second,
    ):
        while True:
            block = first.read(_CHUNK)
            if block != second.read(_CHUNK):
                return False
            if not block:
                return True
