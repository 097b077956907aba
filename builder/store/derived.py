"""Layers made of other layers without running anything: several merged into one, times cut at SOURCE_DATE_EPOCH.

What comes out is a layer as any other, with its own directory and diff_id, so images of it run, validate and go out in
the ordinary ways. Which layer was made of what is remembered; losing that costs making it again. Contents are copied
(shared where the file system can), since modes, times and link counts of the original must stay.
"""

from __future__ import annotations

import hashlib
import heapq
from typing import TYPE_CHECKING

from builder.errors import LayerNotFound
from builder.store import changesets, trees
from builder.store.layerwalk import walk
from builder.store.snapshots import LayerID

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from builder.store import Store

DOCKER_MAX_LAYERS = 125
"""What docker loads: 127 layers is the limit of its drivers, and it keeps two for each container (moby,
layer/layer_store.go)."""


def merged(store: Store, layers: Sequence[LayerID], *, bottom: bool) -> LayerID:
    """One hashed layer that shows what `layers` (bottom first) show on top of each other.

    With `bottom` nothing is below them, so nothing need stay hidden. Raises LayerNotFound, DiskFull, StoreError.
    """
    if len(layers) == 1:
        return layers[0]
    store.snapshots.use(layers)
    paths = [str(store.snapshots.path(layer)) for layer in layers]
    join = trees.merge if bottom else trees.stack
    return _derived(store, f"merge {bottom} {' '.join(layers)}", lambda upper: join(paths, upper))


def clamped(store: Store, layer: LayerID, latest: int) -> LayerID:
    """`layer` with no modification time after `latest` (unix seconds); itself when there is none.

    Raises LayerNotFound, DiskFull, StoreError.
    """
    store.snapshots.use([layer])
    path = store.snapshots.path(layer)

    def copy(upper: Path) -> None:
        trees.copy(path, upper, latest_mtime=latest * 1_000_000_000)

    key = f"clamp {latest} {layer}"
    known = _known(store, key)
    if known is not None:
        return known
    if all(found.mtime <= latest for found in walk(path)):
        _remember(store, key, layer)
        return layer
    return _derived(store, key, copy)


def groups(sizes: Sequence[int], most: int) -> tuple[int, ...]:
    """How many adjacent layers to merge each time so that at most `most` remain, bottom first; `sizes` in bytes.

    Neighbours with the fewest bytes together are merged first, so little is copied and large layers, which other
    images share, stay what they are.
    """
    counts = [1] * len(sizes)
    weight = list(sizes)
    after = list(range(1, len(sizes) + 1))
    before = list(range(-1, len(sizes) - 1))
    alive = [True] * len(sizes)
    pairs = [(weight[at] + weight[at + 1], at, 1, 1) for at in range(len(sizes) - 1)]
    heapq.heapify(pairs)
    left = len(sizes)
    while left > max(most, 1):
        total, at, mine, theirs = heapq.heappop(pairs)
        right = after[at] if alive[at] else len(sizes)
        # A pair whose halves have grown meanwhile was put again with what it weighs now.
        if right >= len(sizes) or (counts[at], counts[right]) != (mine, theirs) or weight[at] + weight[right] != total:
            continue
        alive[right] = False
        counts[at] += counts[right]
        weight[at] = total
        after[at] = after[right]
        if after[at] < len(sizes):
            before[after[at]] = at
            heapq.heappush(pairs, (total + weight[after[at]], at, counts[at], counts[after[at]]))
        if before[at] >= 0:
            heapq.heappush(pairs, (total + weight[before[at]], before[at], counts[before[at]], counts[at]))
        left -= 1
    return tuple(count for at, count in enumerate(counts) if alive[at])


def grouped(store: Store, layers: Sequence[LayerID], counts: Sequence[int]) -> tuple[LayerID, ...]:
    """`layers` with each group of `counts` adjacent ones merged (see `merged`)."""
    made: list[LayerID] = []
    start = 0
    for count in counts:
        made.append(merged(store, layers[start : start + count], bottom=start == 0))
        start += count
    return tuple(made)


def _derived(store: Store, key: str, make: Callable[[Path], object]) -> LayerID:
    known = _known(store, key)
    if known is not None:
        return known
    from builder.store.diskfaults import disk_errors

    active = store.snapshots.prepare(())
    try:
        with disk_errors("copy a layer"):
            make(active.upper)
        change = changesets.write(active.upper)
        same = store.snapshots.find(change.diff_id)
        if same is not None and same.recipe is None:
            store.snapshots.discard(active)
            _remember(store, key, same.id)
            return same.id
        layer = store.snapshots.commit(active, change)
    except BaseException:
        store.snapshots.discard(active)
        raise
    _remember(store, key, layer.id)
    return layer.id


def _known(store: Store, key: str) -> LayerID | None:
    data = store.files.get_parsed(_digest(key))
    if data is None:
        return None
    layer = LayerID(data.decode("ascii"))
    try:
        store.snapshots.use([layer])
    except LayerNotFound:
        return None
    return layer


def _remember(store: Store, key: str, layer: LayerID) -> None:
    store.files.put_parsed(_digest(key), layer.encode("ascii"))


def _digest(key: str) -> str:
    return hashlib.sha256(b"derived\0" + key.encode()).hexdigest()
