"""Is a build reproducible? It is done twice, and the two images are compared file by file.

The second time in a store of its own, from a copy of the context in another directory with other times, without any
cache, at a later time. What SOURCE_DATE_EPOCH can fix is fixed in both; what still differs is named: the layer, the
instruction that made it, the path, the attribute and both values. (Steps see the same host name, uid and paths
everywhere, so those are not varied.)
"""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from builder.engine import builds, prune
from builder.engine.session import Engine
from builder.pipeline.copy_step import CopySpec, materialise, select
from builder.pipeline.trees import Tree
from builder.store import layerdiff
from runtime.values import dataclass, replace

if TYPE_CHECKING:
    from builder.engine.builds import BuildWish
    from builder.oci.digests import Digest
    from builder.pipeline.progress import Emit
    from builder.pipeline.request import BuildResult
    from builder.store.images import Image

DEFAULT_EPOCH = 315_532_800
"""1980-01-01, the earliest time that a zip file can say: used when neither the user nor the Dockerfile names one."""
MOST = 10_000
"""Differences that are kept of one layer."""
_APART = 1.1
"""Seconds between the builds: a time in whole seconds must not be the same by luck."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not the same in both images; `platform` is theirs where there are several.

    `layer` counts from 1 at the bottom, 0 is the config; `instruction` made the layer, in `line` of the Dockerfile (0:
    not known). `path` is a file's, or a field's of the config.
    """

    layer: int
    instruction: str
    line: int
    path: str
    attribute: str
    first: str
    second: str
    platform: str = ""


@dataclass(frozen=True, slots=True)
class Verification:
    """The outcome: both images' ids, the time that stood in for all later ones, and what differs."""

    images: tuple[str, str]
    epoch: int
    differences: tuple[Difference, ...]

    @property
    def reproducible(self) -> bool:
        """Whether both builds gave the same image."""
        return self.images[0] == self.images[1]


def verify(engine: Engine, wish: BuildWish, *, stdin: BinaryIO | None, views: Callable[[str], Emit]) -> Verification:
    """Build `wish` twice and compare; nothing stays of either, but the first one's steps are cached.

    `views` gives what each build tells its events to. Raises as `builds.build`.
    """
    typed = b"" if stdin is None else stdin.read()
    asked = replace(wish, tags=(), outputs=())
    with ExitStack() as undo:
        scratch = undo.enter_context(engine.store.scratch())
        started = engine.store.clock()
        first, bases, epoch = _build(engine, asked, typed, views("first build"))
        ended = time.monotonic()
        moved = _moved(asked, scratch)
        other = undo.enter_context(Engine.open(scratch / "store", clock=engine.clock))
        undo.callback(prune.release_host, other)  # its bridge and firewall rules go before its directory
        for name, image in bases:
            from builder.transfer.duplicate import copy_image

            copy_image(engine.store, other.store, image, name)
        time.sleep(max(0.0, ended + _APART - time.monotonic()))
        second, *_ = _build(other, replace(moved, no_cache=True), typed, views("second build"))
        found: list[Difference] = []
        for mine, theirs in zip(first.images, second.images, strict=True):
            if mine.id != theirs.id:
                one, two = engine.store.images.get(mine.id), other.store.images.get(theirs.id)
                platform = str(theirs.platform) if second.indexed else ""
                found += (
                    replace(each, platform=platform) for each in _compare(engine, one, other, two, theirs.origins)
                )
        builds.forget(engine, first, started)
    return Verification((first.image_id, second.image_id), epoch, tuple(found))


def _build(
    engine: Engine, wish: BuildWish, typed: bytes, emit: Emit
) -> tuple[BuildResult, tuple[tuple[str, Digest], ...], int]:
    from builder.engine.registries import puller
    from builder.pipeline import build as pipeline

    with ExitStack() as undo:
        request = builds.request_for(engine, wish, io.BytesIO(typed), undo)
        fetch = puller(engine, wish.environment, str)
        epoch = pipeline.epoch(request, engine.store, fetch)
        if epoch is None:
            epoch = DEFAULT_EPOCH
            request = replace(request, build_args={**request.build_args, "SOURCE_DATE_EPOCH": str(epoch)})
        result = pipeline.build(
            request, engine.store, engine.launcher, clock=lambda: engine.clock().timestamp(), emit=emit, fetch=fetch
        )
        return result, pipeline.bases(request, engine.store), epoch


def _moved(wish: BuildWish, scratch: Path) -> BuildWish:
    """The same build from a copy of its context, as a fresh checkout would be: other directory, other times.

    A context that has the store in it stays where it is: the copy would be a part of what is copied.
    """
    source = _local(wish)
    if source is None or scratch.resolve().is_relative_to(source.resolve()):
        return wish
    copy = scratch / "context"
    copy.mkdir()
    # As a COPY of all of it, which owners mean nothing to: a plain user can give files to nobody else.
    fd = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with Tree(fd, "context", keeps_owner=False) as tree, select(CopySpec((".",), "/"), tree) as everything:
        materialise(everything, upper=copy, root=None)
    for top, directories, files in os.walk(copy):
        for name in (*directories, *files):
            os.utime(os.path.join(top, name), follow_symlinks=False)
    named = wish.dockerfile
    if named is not None and named != "-" and "://" not in named:
        named = str(wish.cwd / named)
    return replace(wish, source=str(copy), dockerfile=named)


def _local(wish: BuildWish) -> Path | None:
    """The directory that is the context, if it is one."""
    source = wish.cwd / wish.source
    return source if wish.source != "-" and source.is_dir() else None


def _compare(
    engine: Engine, one: Image, other: Engine, two: Image, origins: tuple[tuple[int, str], ...]
) -> Iterator[Difference]:
    mine, theirs = json.loads(one.raw), json.loads(two.raw)
    for document in (mine, theirs):
        del document["rootfs"]  # says what the layers say
    for path, first, second in _fields("", mine, theirs):
        yield Difference(0, "", 0, path, "config", first, second)
    made = [line.created_by for line in two.config.history if not line.empty_layer]
    if len(one.layers) != len(two.layers):
        yield Difference(0, "", 0, "rootfs", "layers", str(len(one.layers)), str(len(two.layers)))
    inherited = len(two.layers) - len(origins)
    for at, (left, right) in enumerate(zip(one.layers, two.layers, strict=False)):
        a, b = engine.store.snapshots.get(left), other.store.snapshots.get(right)
        if a.diff_id == b.diff_id:
            continue
        line, text = origins[at - inherited] if at >= inherited >= 0 else (0, made[at] if at < len(made) else "")
        for count, found in enumerate(layerdiff.differences(a.path, b.path)):
            if count == MOST:
                break
            yield Difference(at + 1, text, line, *found)


def _fields(path: str, one: object, two: object) -> Iterator[tuple[str, str, str]]:
    """The leaves of two JSON documents that differ, with their paths."""
    if isinstance(one, dict) and isinstance(two, dict):
        for key in sorted({*one, *two}):
            yield from _fields(f"{path}.{key}" if path else key, one.get(key), two.get(key))
    elif isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        for at, (left, right) in enumerate(zip(one, two, strict=True)):
            yield from _fields(f"{path}[{at}]", left, right)
    elif one != two:
        yield path, json.dumps(one), json.dumps(two)
