"""Who keeps what: for every layer of a store, what still needs it. The answer to "why is my disk full?"."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING

from builder.store import trees
from builder.store.leases import LAYER
from runtime.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.store import Store


@dataclass(frozen=True, slots=True)
class Held:
    """A layer, the bytes of its files, and what needs it, in words: 'image "app:1"', 'container "web"', …"""

    layer: str
    size: int
    holders: tuple[str, ...]


def held_layers(store: Store) -> tuple[Held, ...]:
    """All layers that something needs, biggest first."""
    holders = defaultdict[str, dict[str, None]](dict)
    for layer, text in _reasons(store):
        holders[layer][text] = None
    found = []
    for layer, size in store.database.rows("SELECT id, size FROM layers"):
        if layer in holders:
            counted = trees.size(store.layout.directory("layers") / layer) if size is None else int(size)
            found.append(Held(layer, counted, tuple(holders[layer])))
    return tuple(sorted(found, key=lambda each: (-each.size, each.layer)))


def _reasons(store: Store) -> list[tuple[str, str]]:
    """(layer, what needs it), the strongest reasons first."""
    rows = store.database.rows
    found = []
    names = _image_names(store)
    for image, layer in rows("SELECT image, layer FROM image_layers ORDER BY image, position"):
        found.append((layer, f"image {names[image]}"))
    containers = {row[0]: row[1] for row in rows("SELECT id, name FROM containers")}
    for container, parents in rows("SELECT container, parents FROM actives"):
        name = containers.get(container)
        text = f'container "{name}"' if name else "a running step"
        found += [(layer, text) for layer in json.loads(parents)]
    for build, step, parents in rows("SELECT build, step, parents FROM failed"):
        found += [(layer, f"failed step {step} of build {build}") for layer in json.loads(parents)]
    for layer, pid in rows(
        "SELECT lease_items.name, leases.pid FROM lease_items JOIN leases ON leases.id = lease_items.lease"
        " WHERE lease_items.kind = ?",
        (LAYER,),
    ):
        found.append((layer, f"process {pid}"))
    for layer, text in rows("SELECT layer, text FROM cache_records WHERE layer IS NOT NULL ORDER BY last_used DESC"):
        found.append((layer, f"cache of {text[:80]}"))
    return found


def _image_names(store: Store) -> Mapping[str, str]:
    return {
        image.id: " ".join(f'"{each.familiar()}"' for each in image.references) or f"{image.id[7:19]} (without a name)"
        for image in store.images.list()
    }
