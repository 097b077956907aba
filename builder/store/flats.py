"""Flat directories: the lower part of a deep stack of layers merged into one, so that overlay can mount it.

The kernel takes 500 lower directories. A stack deeper than MAX_LOWERS is cut at a multiple of STRIDE so that between
TAIL and MAX_LOWERS layers stay single; what is below is merged once and shared by every stack with the same layers
there. The next flat is made from the one before and the STRIDE layers between, so a build of n steps copies the base
n / STRIDE times. A flat is a cache: its key is computed from its layers, and losing it costs a merge. It is never
synced, so one of an earlier boot counts as lost.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from builder.errors import LayerNotFound
from builder.oci import digests
from builder.store import trees
from builder.store.crash import crashpoint
from builder.store.diskfaults import disk_errors
from builder.store.leases import FLAT, boot_id
from builder.store.locks import Locks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from builder.store.database import Database
    from builder.store.layout import Layout
    from builder.store.leases import Lease
    from builder.store.snapshots import LayerID

MAX_LOWERS = 400
STRIDE = 300
TAIL = 100


def cut(depth: int) -> int:
    """How many of `depth` layers are mounted as one flat directory (0: none)."""
    if depth <= MAX_LOWERS:
        return 0
    return (depth - TAIL) // STRIDE * STRIDE


def keys(layer_ids: Sequence[str]) -> tuple[str, ...]:
    """Keys of the flats that a stack of these layers (bottom first) is mounted with; () for a shallow stack."""
    depth = cut(len(layer_ids))
    return (key_of(layer_ids[:depth]),) if depth else ()


def key_of(layer_ids: Sequence[str]) -> str:
    """The key of the flat of exactly these layers."""
    return digests.hex_of(digests.of("\n".join(layer_ids).encode()))[:32]


class Flats:
    """The flat directories of one store."""

    def __init__(
        self, database: Database, layout: Layout, lease: Callable[[], Lease], clock: Callable[[], int]
    ) -> None:
        self._database = database
        self._layout = layout
        self._lease = lease
        self._clock = clock
        self._locks = Locks(layout.directory("locks"))

    def split(self, layer_ids: tuple[LayerID, ...]) -> tuple[Path, tuple[LayerID, ...]]:
        """The flat directory for the bottom of the stack, made if need be, and the layers above it.

        The layers must be leased or belong to a container: then the flat is protected with them.
        """
        depth = cut(len(layer_ids))
        return self._ensure(layer_ids[:depth]), layer_ids[depth:]

    def _ensure(self, layer_ids: tuple[LayerID, ...]) -> Path:
        key = key_of(layer_ids)
        path = self._layout.directory("flat") / key
        if self._is_there(key, path):
            return path
        with self._locks.hold(f"flat {key}"):
            if not self._is_there(key, path):
                self._make(key, path, layer_ids)
        return path

    def _is_there(self, key: str, path: Path) -> bool:
        if self._database.row("SELECT 1 FROM flats WHERE key = ? AND boot = ?", (key, boot_id())) is None:
            return False
        if not path.is_dir():
            return False
        now, lease = self._clock(), self._lease()
        with self._database.write():
            if self._database.run("UPDATE flats SET last_used = ? WHERE key = ?", (now, key)) != 1:
                return False
            lease.protect(FLAT, [key])
        return path.is_dir()

    def _make(self, key: str, path: Path, layer_ids: tuple[LayerID, ...]) -> None:
        below = layer_ids[: len(layer_ids) - STRIDE]
        sources = [str(self._ensure(below))] if below else []
        layers = self._layout.directory("layers")
        sources += [str(layers / layer_id) for layer_id in layer_ids[len(below) :]]
        temporary = f"{self._layout.directory('tmp')}/{self._lease().id}.{key}"
        with disk_errors("merge layers"):
            try:
                os.mkdir(temporary, 0o755)
                trees.merge(sources, temporary)
            except FileNotFoundError as err:
                trees.remove(temporary)
                raise LayerNotFound(os.path.basename(str(err.filename))) from err
            except BaseException:
                trees.remove(temporary)
                raise
            crashpoint("flat-merged")
            # Leased before it has its name, so that a sweep beside us lets the directory without a row be.
            self._lease().protect(FLAT, [key])
            trees.remove(path)
            os.rename(temporary, path)
        crashpoint("flat-renamed")
        now = self._clock()
        with self._database.write():
            self._database.run(
                "INSERT OR REPLACE INTO flats (key, layers, boot, created, last_used) VALUES (?, ?, ?, ?, ?)",
                (key, json.dumps(list(layer_ids)), boot_id(), now, now),
            )
