"""`--rm` of a container that nobody waits for: the supervisor runs this once, after the last exit.

Not used by a `run` in the foreground, which removes the container itself before it ends.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path


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


if __name__ == "__main__":
    main(*sys.argv[1:])
