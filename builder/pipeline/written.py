"""What is written down of a step: its cache record, and the digests of the layer that it made."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from builder.pipeline import lookup
from builder.store.buildcache import CacheRecord

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from builder.pipeline.lookup import StepState
    from builder.pipeline.steps import StepSpec
    from builder.store import Store
    from builder.store.snapshots import LayerID


def cache_record(
    step: StepSpec, states: Sequence[StepState], layer: LayerID, *, content_key: str, build: str, duration_us: int
) -> CacheRecord:
    """The record by which *layer* is found again, as what *step* gives on what lies below it now."""
    state = states[step.number - 1]
    below = lookup.layers_below(step, states)
    assert below is not None
    tops = [lookup.top(states[number - 1].layers or ()) for number in step.inputs]
    return CacheRecord(
        key=state.key,
        step=state.step,
        text=step.text,
        leaves=state.leaves,
        parent=lookup.parent_key(step, states),
        layer=layer,
        content_key=content_key,
        result=json.dumps({"below": lookup.top(below), "sources": tops}),
        build=build,
        duration_us=duration_us,
        place=state.place,
    )


def hash_layer(store: Store, layer: LayerID, path: Path) -> None:
    """Compute and keep the digests and sizes of *layer*, whose directory is *path*. Raises OSError, StoreError."""
    from builder.store import changesets

    made = changesets.write(path)
    store.snapshots.set_digests(
        layer,
        diff_id=made.diff_id,
        content_digest=made.content_digest,
        size=made.content_size,
        tar_size=made.size,
        files=made.files,
    )
