"""What is pruned while others remove it, too."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from builder.engine import containers, rootfs
from builder.engine.prune import prune_containers
from builder.engine.requests import ContainerRequest
from builder.engine.session import Engine
from builder.errors import ContainerNotFound
from builder.oci.configs import ImageConfig
from builder.store.containers import Container

pytestmark = pytest.mark.root


def test_a_container_that_somebody_else_removes_is_passed_over(tmp_path: Path) -> None:
    with Engine.open(tmp_path / "store", clock=lambda: datetime.now(UTC)) as engine:
        image = engine.store.images.put(ImageConfig("amd64", "linux"), [])
        request = ContainerRequest(image, command=("x",))
        gone, stays = containers.create(engine, request), containers.create(engine, request)
        looked_at: list[str] = []

        def select(container: Container) -> bool:
            looked_at.append(container.id)
            if container.id == gone.id:
                containers.remove(engine, gone.id)
            return True

        assert prune_containers(engine, select).names == (stays.id,)
        assert set(looked_at) == {gone.id, stays.id}
        assert rootfs.upper_size(engine, gone) == 0
        with pytest.raises(ContainerNotFound):
            rootfs.active(engine, gone)
