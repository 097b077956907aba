"""From a container's definition to what the runtime is given: the spec, and the supervisor's config.

Docker's defaults come from `runtime.defaults`; here they are bent as the user asked.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import TYPE_CHECKING

from builder.engine import containers, rootfs
from builder.engine.options.environment import merged
from builder.engine.options.limits import DeviceRequest
from builder.engine.options.mounts import MountType
from builder.errors import InvalidInput, WrongState
from runtime import defaults
from runtime.spec import Device, Mount, Namespaces, Process, Resources, Rlimit, Rootfs, Spec
from runtime.values import replace

if TYPE_CHECKING:
    from builder.engine.containers import Definition, MountPoint
    from builder.engine.requests import LimitRequest
    from builder.engine.session import Engine
    from builder.store.containers import Container
    from runtime.endpoints import EndpointRequest
    from runtime.ports import PortMapping
    from runtime.supervised import Config, Health


def supervised(engine: Engine, container: Container, *, console_size: tuple[int, int] | None = None) -> Config:
    """The supervisor's whole config. Raises InvalidInput, ContainerNotFound, WrongState (a shared namespace's owner
    does not run), SpecInvalid."""
    from runtime.supervised import Config, LogConfig, RestartPolicy

    definition = containers.definition(container)
    request = definition.request
    network = request.network
    return Config(
        spec=_spec(engine, container, definition, console_size).to_dict(),
        name=container.name,
        restart=RestartPolicy(*request.restart),
        log=LogConfig(request.log_driver, request.log_options),
        health=_health(definition),
        networks_directory=str(engine.store.networks_dir),
        endpoints=endpoints(container, definition),
        hosts=(*network.extra_hosts, *_linked(engine, definition)),
        dns=network.dns,
        dns_search=network.dns_search,
        dns_options=network.dns_options,
        stop_signal=definition.stop_signal,
        stop_timeout=definition.stop_timeout,
        stdin_open=request.open_stdin,
        stdin_once=request.stdin_once,
        joined=tuple((name, str(containers.directory(engine, other))) for name, other in _others(engine, definition)),
    )


def process(definition: Definition, hostname: str, *, console_size: tuple[int, int] | None = None) -> Process:
    """The container's first process."""
    request, security = definition.request, definition.request.security
    # docker's own variables come first, in this order, and give way to the image's and the user's
    own = (defaults.PATH, f"HOSTNAME={hostname}", *(("TERM=xterm",) if request.tty else ()))
    return Process(
        argv=definition.argv,
        env=merged((*own, *definition.env)),
        cwd=definition.workdir,
        user=definition.user,
        additional_groups=security.group_add,
        terminal=request.tty,
        console_size=console_size,
        capabilities=defaults.capabilities(security.cap_add, security.cap_drop),
        no_new_privileges=_option(security.options, "no-new-privileges") in ("", "true"),
        rlimits=tuple(Rlimit(limit.name, limit.soft, limit.hard) for limit in request.limits.ulimits),
        oom_score_adj=request.limits.oom_score_adj,
    )


def _spec(engine: Engine, container: Container, definition: Definition, console_size: tuple[int, int] | None) -> Spec:
    request, security, limits = definition.request, definition.request.security, definition.request.limits
    root = rootfs.rootfs(engine, container, readonly=security.readonly_root)
    mounts = tuple(_mount(engine, mount) for mount in definition.mounts)
    hostname, domainname = containers.hostname(engine, container)
    first = process(definition, hostname, console_size=console_size)
    spec = defaults.container_spec(container.id, root, first, namespaces=_namespaces(engine, definition))
    if security.privileged:
        spec = defaults.privileged(spec)
    elif not spec.process.capabilities or "ALL" in (name.upper() for name in security.cap_drop):
        # container_spec takes "none" for "the default ones"
        wanted = defaults.capabilities(security.cap_add, security.cap_drop)
        spec = replace(spec, process=replace(spec.process, capabilities=wanted))
    seccomp = _option(security.options, "seccomp")
    if seccomp is not None:
        spec = replace(spec, seccomp="default" if seccomp in ("builtin", "default") else seccomp)
    if _option(security.options, "systempaths") == "unconfined":
        spec = replace(spec, masked_paths=(), readonly_paths=())
    return replace(
        spec,
        hostname=hostname,
        domainname=domainname,
        mounts=mounts,
        resources=_resources(limits),
        devices=tuple(_device(device) for device in limits.devices),
        sysctls=(*spec.sysctls, *limits.sysctls),
        shm_size=limits.shm_size or spec.shm_size,
        init=request.init,
        cgroup_parent=limits.cgroup_parent,
    )


def _option(options: Sequence[str], name: str) -> str | None:
    """The value of `name=value` or `name:value`; "" for the bare name, None when it is not there."""
    for text in reversed(options):
        if text == name:
            return ""
        if text.startswith((f"{name}=", f"{name}:")):
            return text[len(name) + 1 :]
    return None


def _resources(limits: LimitRequest) -> Resources:
    if not limits.cpus:
        return limits.resources
    if limits.resources.cpu_quota or limits.resources.cpu_period:
        raise InvalidInput("Conflicting options: Nano CPUs and CPU Period cannot both be set")
    return replace(limits.resources, cpu_period=100_000, cpu_quota=max(limits.cpus // 10_000, 1000))


def _namespaces(engine: Engine, definition: Definition) -> Namespaces:
    request, security = definition.request, definition.request.security
    attachments = request.network.attachments
    network = attachments[0].network if attachments else "bridge"
    if network.startswith("container:"):
        network = _shared(engine, network, "net")
    elif network != "host":
        network = "none"
    private = "private"
    return Namespaces(
        network=network,
        pid=_namespace(engine, security.pid, "pid") or private,
        ipc=_namespace(engine, security.ipc, "ipc") or private,
        uts=_namespace(engine, security.uts, "uts") or private,
        cgroup="host" if security.cgroup == "host" or (security.privileged and not security.cgroup) else private,
    )


def _others(engine: Engine, definition: Definition) -> list[tuple[str, Container]]:
    """The namespaces that are other containers', by their names in the spec."""
    security, attachments = definition.request.security, definition.request.network.attachments
    network = attachments[0].network if attachments else ""
    modes = {"network": network, "pid": security.pid, "ipc": security.ipc, "uts": security.uts}
    return [
        (name, containers.find(engine, mode.removeprefix("container:")))
        for name, mode in modes.items()
        if mode.startswith("container:")
    ]


def _namespace(engine: Engine, mode: str, kind: str) -> str:
    if mode.startswith("container:"):
        return _shared(engine, mode, kind)
    return "host" if mode == "host" else ""


def _shared(engine: Engine, mode: str, kind: str) -> str:
    other = containers.find(engine, mode.removeprefix("container:"))
    pid = containers.state(engine, other).pid
    if not pid:
        raise WrongState(f"cannot join {kind} namespace of a non running container: {other.name}")
    return f"/proc/{pid}/ns/{kind}"


def _mount(engine: Engine, mount: MountPoint) -> Mount:
    request = mount.request
    access = ("ro",) if request.readonly else ()
    if request.type is MountType.TMPFS:
        # what docker forbids on one (programs, devices, set-uid) the runtime forbids unless it is among the options
        return Mount("tmpfs", "tmpfs", request.target, (*request.options, *access))
    if request.type is MountType.IMAGE:
        layers = engine.store.images.layers(engine.store.images.resolve(mount.source))
        lowers = tuple(map(str, engine.store.snapshots.lowers(layers)))
        return Mount("overlay", "", request.target, access, subpath=request.subpath, rootfs=Rootfs(lowers))
    kind = "bind" if request.recursive == "disabled" else "rbind"
    options = (kind, *access, *((request.propagation,) if request.propagation else ()))
    return Mount("bind", mount.source, request.target, options, subpath=request.subpath)


def _device(device: DeviceRequest) -> Device:
    try:
        status = os.stat(device.host)
    except OSError as err:
        raise InvalidInput(
            f'error gathering device information while adding custom device "{device.host}": {err.strerror}'
        ) from err
    if not stat.S_ISCHR(status.st_mode) and not stat.S_ISBLK(status.st_mode):
        raise InvalidInput(f'error gathering device information: "{device.host}" is not a device')
    return Device(
        device.container,
        "c" if stat.S_ISCHR(status.st_mode) else "b",
        os.major(status.st_rdev),
        os.minor(status.st_rdev),
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        access=device.permissions,
    )


def _health(definition: Definition) -> Health | None:
    from runtime.supervised import Health

    check = definition.health
    if check is None:
        return None
    kind, *rest = check.test
    argv = ("/bin/sh", "-c", *rest) if kind == "CMD-SHELL" else tuple(rest)
    return Health(
        argv=argv,
        interval=check.interval / 1e9 or 30.0,
        timeout=check.timeout / 1e9 or 30.0,
        start_period=check.start_period / 1e9,
        start_interval=check.start_interval / 1e9 or 5.0,
        retries=check.retries or 3,
    )


def endpoints(container: Container, definition: Definition) -> tuple[EndpointRequest, ...]:
    """What the container asks of its networks."""
    from builder.engine.requests import Attachment
    from runtime.endpoints import EndpointRequest

    attachments = definition.request.network.attachments or (Attachment("bridge"),)
    if attachments[0].network in ("host", "none") or attachments[0].network.startswith("container:"):
        return ()
    ports = _ports(definition)
    return tuple(
        EndpointRequest(
            network=attachment.network,
            container=container.id,
            name=container.name,
            hostname=definition.request.hostname,
            aliases=(*attachment.aliases, container.id[:12]),
            ip=attachment.ip,
            mac=attachment.mac,
            interface=f"eth{at}",
            ports=ports if at == 0 else (),
        )
        for at, attachment in enumerate(attachments)
    )


def _linked(engine: Engine, definition: Definition) -> list[tuple[str, str]]:
    """The names of `--link` with the addresses that the linked containers have now. Raises WrongState."""
    found = []
    for name, alias in definition.request.network.links:
        other = containers.find(engine, name)
        address = next((each.ip for each in engine.networks.endpoints() if each.container == other.id), None)
        if address is None:
            raise WrongState(f"Cannot link to a non running container: /{other.name} AS {alias}")
        found += [(each, address) for each in dict.fromkeys((alias, other.id[:12], other.name))]
    return found


def _ports(definition: Definition) -> tuple[PortMapping, ...]:
    from runtime.ports import PortMapping

    network = definition.request.network
    published = {(port.container_port, port.protocol) for port in network.ports}
    extra = []
    for text in definition.exposed if network.publish_all else ():
        number, _, protocol = text.partition("/")
        if (int(number), protocol or "tcp") not in published:
            extra.append(PortMapping(int(number), protocol or "tcp"))
    return (*network.ports, *extra)
