"""`--rm`: the container goes after its exit, whoever is left to remove it.

A `run` in the foreground removes it before it ends.  Where nobody waits the supervisor runs `main` once, after the last
exit.  What a killed foreground leaves, `sweep` of the next command finds.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builder.engine.session import Engine


def argv(root: Path, container_id: str) -> tuple[str, ...]:
    """The command line that removes a container with its anonymous volumes."""
    return (sys.executable, "-I", "-m", "builder.engine.autoremove", str(root), container_id)


def main(root: str, container_id: str) -> None:
    """Remove the container; one that has gone already is fine."""
    from builder.engine import containers
    from builder.engine.session import Engine
    from builder.errors import ContainerNotFound

    with Engine.open(Path(root), clock=lambda: datetime.now(UTC)) as engine:
        try:
            containers.remove(engine, container_id, volumes=True)
        except ContainerNotFound:
            pass


def sweep(engine: Engine) -> None:
    """Remove the containers that are to go after their exit, and have exited.  Costs one query when there are none."""
    listed = engine.store.containers.list()
    if not listed:
        return
    from builder.engine import containers
    from builder.errors import ContainerNotFound

    for container in listed:
        # definitions are compact JSON: this spares reading each of them
        if '"auto_remove":true' not in container.config:
            continue
        # "created" ones have not run yet: someone may be about to start them
        if containers.state(engine, container).status in ("exited", "dead"):
            try:
                containers.remove(engine, container.id, volumes=True)
            except ContainerNotFound:
                continue  # who waited for it was quicker


if __name__ == "__main__":
    main(*sys.argv[1:])
