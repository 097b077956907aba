"""Networks as users see them: those of the runtime, and `host` and `none`, which have no bridge and no state."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from runtime.networkstate import DEFAULT_NETWORK, Network

if TYPE_CHECKING:
    from builder.engine.session import Engine

_DRIVERS = {"host": "host", "none": "null"}
PREDEFINED = (DEFAULT_NETWORK, *_DRIVERS)


def listed(engine: Engine) -> tuple[Network, ...]:
    """All networks, by name."""
    return tuple(sorted((*engine.networks.list(), *map(_bare, _DRIVERS)), key=lambda network: network.name))


def find(engine: Engine, name: str) -> Network:
    """By name, id, or the unique start of an id. Raises NetworkNotFound."""
    return _bare(name) if name in _DRIVERS else engine.networks.get(name)


def _bare(name: str) -> Network:
    return Network(name, hashlib.sha256(f"network {name}".encode()).hexdigest(), _DRIVERS[name], "", "", "")
