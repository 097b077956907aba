"""What is written down of a step: its cache record, and the digests of the layer that it made."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from builder.pipeline import lookup
from builder.store.buildcache import CacheRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from builder.pipeline.lookup import StepState
    from builder.pipeline.steps import StepSpec
    from builder.store import Store
    from builder.store.snapshots import LayerID


def cache_record(
    step: StepSpec,
    states: Sequence[StepState],
    layer: LayerID,
    footings: Mapping[int, str | None],
    *,
    content_key: str,
    duration_us: int,
    build: str | None = None,
) -> CacheRecord:
    """The record by which *layer* is found again, as what *step* gives on what lies below it now.

    *footings* are those of the steps that it needs (`lookup.footing`); one that is not known counts by its key alone.
    """
    state = states[step.number - 1]
    below = None if step.parent is None else footings[step.parent]
    return CacheRecord(
        key=state.key,
        step=state.step,
        text=step.text,
        leaves=state.leaves,
        parent=lookup.parent_key(step, states),
        layer=layer,
        content_key=content_key or None,
        result=json.dumps({"below": below, "sources": [footings.get(number) for number in step.inputs]}),
        build=build,
        duration_us=duration_us,
        place=state.place,
    )


def hash_layer(store: Store, layer: LayerID, path: Path) -> None:
    """Compute and keep the digests and sizes of *layer*, whose directory is *path*. Raises OSError, StoreError."""
    from builder.store import changesets

    store.snapshots.set_digests(layer, changesets.write(path))
