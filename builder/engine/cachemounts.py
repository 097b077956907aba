"""Cache mounts as a user asks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.errors import Conflict

if TYPE_CHECKING:
    from builder.engine.session import Engine


def remove(engine: Engine, word: str) -> tuple[str, ...]:
    """Remove those with this id or name; their names. Raises NotFound, Conflict (a running step has it)."""
    mounts = engine.store.cache_mounts
    names = {each.name for each in mounts.find(word)}
    busy = names & mounts.in_use()
    if busy:
        raise Conflict(f"cache mount {word} is in use by a running build", hint="wait for the build, or cancel it")
    gone = engine.store.collect(cache_budget=0, select=lambda item: item.id in names).of("cache mount")
    if len(gone) < len(names):
        raise Conflict(f"cache mount {word} is in use by a running build", hint="wait for the build, or cancel it")
    return tuple(item.name for item in gone)
