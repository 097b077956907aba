"""Crash points: named instants at which a test may end the process as `kill -9` would.

`crashpoint("layer-renamed")` does nothing unless that name was armed. Tests arm one in a child process, and the command
line from LAMINA_CRASHPOINT; then they open the store again and look whether its contract held. NAMES lists every point,
so that a test can go through all of them.
"""

from __future__ import annotations

import os

NAMES = (
    "active-row",
    "active-directory",
    "layer-renamed",
    "layer-row",
    "digests-row",
    "discard-removed",
    "failed-renamed",
    "failed-row",
    "flat-merged",
    "flat-renamed",
    "blob-written",
    "blob-renamed",
    "layers-synced",
    "image-row",
    "index-row",
    "reference-row",
    "container-row",
    "container-removed",
    "remove-rows",
    "sweep-rows",
    "collect-rows",
    "collect-half",
)

_armed: set[str] = set()


def arm(name: str) -> None:
    """End the process at the point `name` (exit status 137, no clean-up). Raises ValueError for an unknown name."""
    if name not in NAMES:
        raise ValueError(f"unknown crash point {name}")
    _armed.add(name)


def crashpoint(name: str) -> None:
    """Mark an instant after which everything may stop."""
    if name in _armed:
        os._exit(137)
