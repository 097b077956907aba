"""commit: what a container wrote becomes a layer, and its config an image."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

from builder.engine import changes, containers, lifecycle, rootfs
from builder.oci.configs import Healthcheck
from builder.oci.references import Reference
from runtime.values import dataclass, replace

if TYPE_CHECKING:
    from builder.engine.containers import Definition
    from builder.engine.session import Engine
    from builder.oci.configs import ImageConfig
    from builder.oci.digests import Digest


@dataclass(frozen=True, slots=True)
class CommitRequest:
    """What to commit, and as what. `changes` are Dockerfile instructions; `pause`: freeze the container meanwhile."""

    container: str
    reference: str = ""
    author: str = ""
    message: str = ""
    changes: tuple[str, ...] = ()
    pause: bool = True


def commit(engine: Engine, request: CommitRequest) -> Digest:
    """Make an image of a container; returns its id. Raises ContainerNotFound, InvalidReference, DockerfileError."""
    from builder.oci import mutate
    from builder.oci.configs import History
    from builder.store import changesets

    reference = Reference.parse(request.reference) if request.reference else None
    container = containers.find(engine, request.container)
    image = engine.store.images.get(engine.store.images.resolve(container.image))
    config = changes.apply(_with_container(engine, container.id, image.config), request.changes)
    snapshots = engine.store.snapshots
    with ExitStack() as undo:
        if request.pause and containers.state(engine, container).status == "running":
            lifecycle.pause(engine, container.id)
            undo.callback(lifecycle.unpause, engine, container.id)
        active = rootfs.active(engine, container)
        # nothing changed: the history says so, and there is no further layer
        layer = snapshots.commit_copy(active) if os.listdir(active.upper) else None
    diff_id, layers = None, image.layers
    if layer is not None:
        facts = changesets.write(layer.path)
        snapshots.set_digests(layer.id, facts)
        diff_id, layers = facts.diff_id, (*layers, layer.id)
    history = History(
        created=engine.now_text(),
        created_by=" ".join(containers.definition(container).argv),
        author=request.author,
        comment=request.message,
    )
    config = mutate.append(replace(config, author=request.author or config.author), diff_id, history)
    image_id = engine.store.images.put(config, layers, origin="commit", parent=image.id)
    if reference is not None:
        engine.store.images.tag(reference, image_id)
    return image_id


def _health(definition: Definition, image: Healthcheck | None) -> Healthcheck | None:
    """The check that the container was given; without one of its own, the image's or that there is none."""
    check = definition.health
    if check is None:
        asked = definition.request.health
        return Healthcheck(("NONE",)) if asked is not None and asked.test == ("NONE",) else image
    return Healthcheck(
        check.test, check.interval, check.timeout, check.start_period, check.start_interval, check.retries
    )


def _with_container(engine: Engine, container_id: str, config: ImageConfig) -> ImageConfig:
    """The image's config with what the container was started with; what was meant for builds on the image goes."""
    definition = containers.definition(containers.find(engine, container_id))
    asked = definition.request
    start = replace(
        config.config,
        env=definition.env,
        entrypoint=definition.entrypoint or None,
        cmd=definition.command or None,
        user=definition.user,
        working_dir="" if definition.workdir == "/" and not config.config.working_dir else definition.workdir,
        labels=dict(definition.labels),
        healthcheck=_health(definition, config.config.healthcheck),
        exposed_ports=definition.exposed,
        on_build=(),
        args_escaped=config.config.args_escaped and asked.command is None and asked.entrypoint is None,
        stop_signal="" if definition.stop_signal == "SIGTERM" else definition.stop_signal,
        volumes=tuple(
            dict.fromkeys(
                [*config.config.volumes, *(mount.request.target for mount in definition.mounts if mount.anonymous)]
            )
        ),
    )
    return replace(config, config=start)
