"""Containers: made from an image and a request, found by name, listed, removed, renamed.

A container is a row of the store (name, image, its writable layer) whose `config` is a `Definition` as JSON, and a
directory that the supervisor works in. The definition is what `create` decided; what happens to it is `lifecycle`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from builder.engine import codec, images, refusals
from builder.engine.options.environment import merged
from builder.engine.options.mounts import MountRequest, MountType
from builder.engine.requests import Attachment, ContainerRequest, HealthRequest
from builder.errors import InvalidInput, NotFound, WrongState
from runtime.values import dataclass, replace

if TYPE_CHECKING:
    from pathlib import Path

    from builder.engine.session import Engine
    from builder.oci.configs import ContainerConfig
    from builder.store.containers import Container
    from runtime.states import ContainerState


@dataclass(frozen=True, slots=True)
class MountPoint:
    """A mount as `create` resolved it: `source` is the host path (a VOLUME's directory), `name` the volume."""

    request: MountRequest
    source: str = ""
    name: str = ""
    anonymous: bool = False


@dataclass(frozen=True, slots=True)
class Definition:
    """What was asked for and what it comes to with the image's config. `argv` is entrypoint and command."""

    request: ContainerRequest
    argv: tuple[str, ...]
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    env: tuple[str, ...]
    user: str
    workdir: str
    labels: tuple[tuple[str, str], ...]
    stop_signal: str
    stop_timeout: int
    exposed: tuple[str, ...]
    health: HealthRequest | None
    mounts: tuple[MountPoint, ...] = ()


def create(engine: Engine, request: ContainerRequest) -> Container:
    """Make a container; it does not run yet.

    Raises ImageNotFound, PlatformNotFound, NameInUse, InvalidName, InvalidInput, VolumeError, NetworkNotFound; nothing
    is left then.
    """
    image = images.held(engine, request.image, request.platform)
    if not request.network.attachments and lacks_network(request):
        request = replace(request, network=replace(request.network, attachments=(Attachment("host"),)))
    definition = resolve(request, image.config.config)
    refusals.check(request)
    _check_networks(engine, request)
    active = engine.store.snapshots.prepare(image.layers)
    made: list[str] = []
    try:
        mounts = _mounts(engine, request, image.config.config, made)
        definition = replace(definition, mounts=mounts)
        container = engine.store.containers.create(
            image=image.id,
            layer=active.key,
            config=json.dumps(codec.to_plain(definition), separators=(",", ":")),
            name=request.name or None,
            mounted={mount.source for mount in mounts if mount.request.type is MountType.IMAGE},
        )
    except BaseException:
        engine.store.snapshots.discard(active)
        for name in made:
            engine.volumes.remove(name, in_use=lambda _: ())
        raise
    if any(_wants_copy(mount) for mount in mounts):
        _populate(engine, container, mounts)
    return container


def lacks_network(request: ContainerRequest) -> bool:
    """Whether a container that asks for no network gets the host's: as a plain user whom no program connects.

    One that publishes ports is not given it, since the ports would be others: its start then says what is missing.
    """
    from runtime import usernet

    network = request.network
    if network.attachments or network.ports or network.publish_all:
        return False
    return usernet.needed() and not usernet.usable()


def resolve(request: ContainerRequest, image: ContainerConfig) -> Definition:
    """What `request` comes to on an image. Raises InvalidInput when there is no command. Pure."""
    entrypoint = image.entrypoint or () if request.entrypoint is None else request.entrypoint
    # a new entrypoint makes the image's CMD meaningless, so docker drops it
    command = request.command or (() if request.entrypoint is not None else image.cmd or ())
    argv = (*entrypoint, *command)
    if not argv:
        raise InvalidInput("no command specified", hint="the image has no CMD: give a command after the image's name")
    health = _health(request.health, image)
    published = (f"{port.container_port}/{port.protocol}" for port in request.network.ports)
    return Definition(
        request=request,
        argv=argv,
        entrypoint=tuple(entrypoint),
        command=tuple(command),
        env=_environment(request.env, image.env),
        user=request.user or image.user,
        workdir=request.workdir or image.working_dir or "/",
        labels=tuple((dict(image.labels) | dict(request.labels)).items()),
        stop_signal=request.stop_signal or image.stop_signal or "SIGTERM",
        stop_timeout=request.stop_timeout if request.stop_timeout is not None else image.stop_timeout or 10,
        exposed=tuple(dict.fromkeys((*image.exposed_ports, *request.network.expose, *published))),
        health=health,
    )


def _environment(asked: Sequence[str], image: Sequence[str]) -> tuple[str, ...]:
    """What was asked for, then what the image has besides, as docker merges them; a bare name takes from the image."""
    names = {each.partition("=")[0] for each in asked}
    return (*merged(asked), *(each for each in image if each.partition("=")[0] not in names))


def _health(asked: HealthRequest | None, image: ContainerConfig) -> HealthRequest | None:
    base = image.healthcheck
    own = asked or HealthRequest()
    test = own.test or (base.test if base else ())
    if not test or test[0] == "NONE":
        return None
    return HealthRequest(
        test=test,
        interval=own.interval or (base.interval if base else 0),
        timeout=own.timeout or (base.timeout if base else 0),
        start_period=own.start_period or (base.start_period if base else 0),
        start_interval=own.start_interval or (base.start_interval if base else 0),
        retries=own.retries or (base.retries if base else 0),
    )


def _check_networks(engine: Engine, request: ContainerRequest) -> None:
    for attachment in request.network.attachments:
        name = attachment.network
        if name.startswith("container:"):
            engine.store.containers.get(name.removeprefix("container:"))
        elif name not in ("host", "none", "bridge"):
            engine.networks.get(name)
    for name, _ in request.network.links:
        try:
            engine.store.containers.get(name)
        except NotFound as err:
            raise InvalidInput(f"could not get container for {name}: {err.message}") from err


def _mounts(
    engine: Engine, request: ContainerRequest, image: ContainerConfig, made: list[str]
) -> tuple[MountPoint, ...]:
    import os

    by_target: dict[str, MountPoint] = {}
    for source in request.volumes_from:
        name, _, mode = source.partition(":")
        for mount in definition(engine.store.containers.get(name)).mounts:
            if mount.request.type is not MountType.TMPFS:
                wanted = replace(mount.request, readonly=mount.request.readonly or mode == "ro")
                by_target[mount.request.target] = replace(mount, request=wanted, anonymous=False)
    asked = {mount.target for mount in request.mounts}
    declared = [MountRequest(MountType.VOLUME, path) for path in image.volumes if path not in asked | set(by_target)]
    seen: set[str] = set()
    for mount_request in (*request.mounts, *declared):
        if mount_request.target in seen:
            raise InvalidInput(f"Duplicate mount point: {mount_request.target}")
        seen.add(mount_request.target)
        if mount_request.type is MountType.BIND:
            if not os.path.exists(mount_request.source):
                if not mount_request.create_source:
                    raise InvalidInput(
                        f'invalid mount config for type "bind": bind source path does not exist: {mount_request.source}'
                    )
                os.makedirs(mount_request.source, exist_ok=True)
            by_target[mount_request.target] = MountPoint(mount_request, mount_request.source)
        elif mount_request.type is MountType.VOLUME:
            by_target[mount_request.target] = _volume(engine, mount_request, made)
        elif mount_request.type is MountType.IMAGE:
            by_target[mount_request.target] = MountPoint(mount_request, images.held(engine, mount_request.source).id)
        else:
            by_target[mount_request.target] = MountPoint(mount_request)
    return tuple(by_target.values())


def _volume(engine: Engine, request: MountRequest, made: list[str]) -> MountPoint:
    if request.driver not in ("", "local"):
        raise InvalidInput(f'volume driver "{request.driver}" not found', hint="only the driver local is supported")
    known = {volume.name for volume in engine.volumes.list()}
    volume = engine.volumes.create(
        request.source,
        created=engine.now_text(),
        labels=dict(request.labels),
        options=dict(request.driver_options),
    )
    if volume.name not in known:
        made.append(volume.name)
    return MountPoint(request, volume.mountpoint, volume.name, anonymous=not request.source)


def _wants_copy(mount: MountPoint) -> bool:
    return mount.request.type is MountType.VOLUME and not mount.request.no_copy


def _populate(engine: Engine, container: Container, mounts: Sequence[MountPoint]) -> None:
    """First use of volumes: they get what the image has at their place."""
    import os

    from builder.engine.rootfs import image_root

    root = image_root(engine, container)
    try:
        for mount in mounts:
            if _wants_copy(mount):
                engine.volumes.populate(mount.name, root, mount.request.target)
    finally:
        os.close(root)


def find(engine: Engine, name: str) -> Container:
    """By name, id or the start of an id. Raises ContainerNotFound, AmbiguousId."""
    return engine.store.containers.get(name)


def listed(engine: Engine) -> tuple[Container, ...]:
    """All containers, newest first."""
    return engine.store.containers.list()


def definition(container: Container) -> Definition:
    """What a container was made to be. Raises StoreCorrupt."""
    return codec.from_plain(Definition, json.loads(container.config))


def check_connectable(network: str) -> None:
    """Raises WrongState, in docker's words, when who was started with *network* can join no other."""
    if network == "host" or network.startswith("container:"):
        raise WrongState(
            "container sharing network namespace with another container or host cannot be connected to any other"
            " network"
        )
    if network == "none":
        raise WrongState(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode"
        )


def hostname(engine: Engine, container: Container) -> tuple[str, str]:
    """(hostname, domainname) of a container: those of the container whose network it shares, the host's if it has the
    host's network or names, the start of its id if nothing was asked for. Raises ContainerNotFound."""
    import os

    seen: set[str] = set()
    while True:
        seen.add(container.id)
        request = definition(container).request
        network = request.network.attachments[0].network if request.network.attachments else ""
        if not network.startswith("container:"):
            break
        container = find(engine, network.removeprefix("container:"))
        if container.id in seen:  # a renaming made two of them name each other
            break
    if not request.hostname and (network == "host" or request.security.uts == "host"):
        return os.uname().nodename, request.domainname
    return request.hostname or container.id[:12], request.domainname


def directory(engine: Engine, container: Container) -> Path:
    """Where the container's supervisor works."""
    return engine.store.container_dir(container.id)


def state(engine: Engine, container: Container) -> ContainerState:
    """What the container is doing now."""
    from runtime import supervisor_client

    return supervisor_client.state(directory(engine, container))


def has_network(engine: Engine, container: Container) -> bool:
    """Whether its network namespace is its own."""
    attachments = definition(container).request.network.attachments
    return not attachments or not (attachments[0].network == "host" or attachments[0].network.startswith("container:"))


def is_running(engine: Engine, container: Container) -> bool:
    """Whether it has processes (paused and restarting ones count)."""
    return state(engine, container).status in ("running", "paused", "restarting")


def remove(engine: Engine, name: str, *, force: bool = False, volumes: bool = False) -> None:
    """Remove a container, with its anonymous volumes if `volumes`. Raises WrongState when it runs, without `force`."""
    from runtime import supervisor_client

    container = find(engine, name)
    status = state(engine, container).status
    if status in ("running", "paused", "restarting"):
        if not force:
            raise WrongState(
                f'cannot remove container "{container.name}": container is {status}: '
                "stop the container before removing or force remove"
            )
        supervisor_client.stop(directory(engine, container), timeout=0)
    mounts = definition(container).mounts
    engine.store.containers.remove(container.id)
    if volumes:
        for mount in mounts:
            if mount.anonymous and not volume_users(engine, mount.name):
                engine.volumes.remove(mount.name, in_use=lambda _: (), force=True)


def volume_users(engine: Engine, name: str) -> tuple[str, ...]:
    """The ids of the containers that have a volume."""
    return tuple(
        each.id for each in listed(engine) if any(mount.name == name for mount in definition(each).mounts if mount.name)
    )


def rename(engine: Engine, name: str, new: str) -> None:
    """Give a container another name. Raises NameInUse, InvalidName."""
    container = find(engine, name)
    if new.removeprefix("/") == container.name:
        raise InvalidInput("Renaming a container with the same name as its current name")
    engine.store.containers.rename(container.id, new)
