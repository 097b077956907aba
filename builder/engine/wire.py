"""Docker's JSON: what `inspect` shows of images, containers, volumes and networks, in the Engine API's own spelling.

The only place of the engine where `Id`, `RepoTags` and `HostConfig` are written.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from builder.engine import containers, images, lifecycle, rootfs
from builder.engine.options.mounts import MountType
from builder.errors import ContainerNotFound

if TYPE_CHECKING:
    from builder.engine.containers import Definition, MountPoint
    from builder.engine.session import Engine
    from builder.store.containers import Container
    from builder.store.images import Image
    from runtime.networkstate import Network
    from runtime.states import ContainerState
    from runtime.volumes import Volume

Json = dict[str, Any]
_NEVER = "0001-01-01T00:00:00Z"


def image(engine: Engine, found: Image) -> Json:
    """An image, as GET /images/{name}/json."""
    references = engine.store.images.references(found.id)
    config = found.config
    size = images.size_of(engine, found.layers)
    layers = [str(engine.store.snapshots.path(layer)) for layer in reversed(found.layers)]
    names = ("LowerDir", "UpperDir")
    data = {} if not layers else {"UpperDir": layers[0]} | ({"LowerDir": ":".join(layers[1:])} if layers[1:] else {})
    return {
        "Id": found.id,
        "RepoTags": [each.familiar() for each in references if each.digest is None],
        "RepoDigests": [each.familiar() for each in references if each.digest is not None],
        "Parent": found.parent or "",
        "Comment": config.history[-1].comment if config.history else "",
        "Created": config.created or "",
        "DockerVersion": "",
        "Author": config.author,
        "Config": config.config.to_json(),
        "Architecture": config.architecture,
        **({"Variant": config.variant} if config.variant else {}),
        "Os": config.os,
        "Size": size,
        "GraphDriver": {"Data": {name: data[name] for name in names if name in data} or None, "Name": "overlay2"},
        "RootFS": {"Type": "layers", "Layers": list(config.diff_ids)},
        "Metadata": {"LastTagTime": _nanoseconds(found.created)},
    }


def container(engine: Engine, found: Container, *, size: bool = False) -> Json:
    """A container, as GET /containers/{name}/json."""
    definition = containers.definition(found)
    state = containers.state(engine, found)
    snapshot = rootfs.active(engine, found)
    document: Json = {
        "Id": found.id,
        "Created": _nanoseconds(found.created),
        "Path": definition.argv[0],
        "Args": list(definition.argv[1:]),
        "State": _state(state),
        "Image": found.image,
        "ResolvConfPath": "",
        "HostnamePath": "",
        "HostsPath": "",
        "LogPath": lifecycle.log_path(engine, found),
        "Name": "/" + found.name,
        "RestartCount": state.restart_count,
        "Driver": "overlay2",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": None,
        "HostConfig": host_config(definition),
        "GraphDriver": {
            "Data": {
                "LowerDir": ":".join(map(str, snapshot.lowers)),
                "UpperDir": str(snapshot.upper),
                "WorkDir": str(snapshot.work),
            },
            "Name": "overlay2",
        },
        "Mounts": [_mount(mount) for mount in definition.mounts if mount.request.type is not MountType.TMPFS],
        "Config": _config(found, definition, _hostname(engine, found)),
        "NetworkSettings": _networks(engine, found, definition),
    }
    if size:
        own = rootfs.upper_size(engine, found)
        document["SizeRw"] = own
        document["SizeRootFs"] = own + images.size_of(engine, snapshot.parents)
    return document


def _state(state: ContainerState) -> Json:
    status = str(state.status)
    document: Json = {
        "Status": status,
        "Running": status in ("running", "paused", "restarting"),
        "Paused": status == "paused",
        "Restarting": status == "restarting",
        "OOMKilled": state.oom_killed,
        "Dead": status == "dead",
        "Pid": state.pid,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": state.started_at or _NEVER,
        "FinishedAt": state.finished_at or _NEVER,
    }
    if state.health is not None:
        document["Health"] = {
            "Status": state.health.status,
            "FailingStreak": state.health.failing_streak,
            "Log": [
                {"Start": each.start, "End": each.end, "ExitCode": each.exit_code, "Output": each.output}
                for each in state.health.log
            ],
        }
    return document


def _hostname(engine: Engine, found: Container) -> tuple[str, str]:
    try:
        return containers.hostname(engine, found)
    except ContainerNotFound:  # the one whose network it shared
        return found.id[:12], ""


def _config(found: Container, definition: Definition, hostname: tuple[str, str]) -> Json:
    request = definition.request
    document: Json = {
        "Hostname": hostname[0],
        "Domainname": hostname[1],
        "User": definition.user,
        "AttachStdin": "stdin" in request.attach,
        "AttachStdout": "stdout" in request.attach,
        "AttachStderr": "stderr" in request.attach,
        "ExposedPorts": {port: {} for port in sorted(definition.exposed)},
        "Tty": request.tty,
        "OpenStdin": request.open_stdin,
        "StdinOnce": request.stdin_once,
        "Env": list(definition.env),
        "Cmd": list(definition.command) or None,
        "Image": request.image,
        "Volumes": {mount.request.target: {} for mount in definition.mounts if mount.anonymous} or None,
        "WorkingDir": "" if definition.workdir == "/" else definition.workdir,
        "Entrypoint": list(definition.entrypoint) or None,
        "OnBuild": None,
        "Labels": dict(definition.labels),
        "StopSignal": definition.stop_signal,
        "StopTimeout": definition.stop_timeout,
    }
    if definition.health is not None:
        check = definition.health
        document["Healthcheck"] = {
            "Test": list(check.test),
            "Interval": check.interval,
            "Timeout": check.timeout,
            "StartPeriod": check.start_period,
            "StartInterval": check.start_interval,
            "Retries": check.retries,
        }
    return document


def host_config(definition: Definition) -> Json:
    """What docker keeps apart as HostConfig: all that is about the host."""
    request, security, limits = definition.request, definition.request.security, definition.request.limits
    network, resources = request.network, limits.resources
    bindings: dict[str, list[Json]] = {}
    for port in network.ports:
        host = {"HostIp": port.host_ip, "HostPort": str(port.host_port or "")}
        bindings.setdefault(f"{port.container_port}/{port.protocol}", []).append(host)
    return {
        "Binds": [
            _bind(mount) for mount in definition.mounts if mount.request.legacy and mount.source and not mount.anonymous
        ]
        or None,
        "ContainerIDFile": "",
        "LogConfig": {"Type": request.log_driver, "Config": dict(request.log_options)},
        "NetworkMode": network.attachments[0].network if network.attachments else "bridge",
        "PortBindings": bindings,
        "RestartPolicy": {"Name": request.restart[0], "MaximumRetryCount": request.restart[1]},
        "AutoRemove": request.auto_remove,
        "VolumeDriver": "",
        "VolumesFrom": list(request.volumes_from) or None,
        "ConsoleSize": [0, 0],
        "CapAdd": list(security.cap_add) or None,
        "CapDrop": list(security.cap_drop) or None,
        "CgroupnsMode": security.cgroup or "private",
        "Dns": list(network.dns),
        "DnsOptions": list(network.dns_options),
        "DnsSearch": list(network.dns_search),
        "ExtraHosts": [f"{name}:{address}" for name, address in network.extra_hosts] or None,
        "GroupAdd": list(security.group_add) or None,
        "IpcMode": security.ipc or "private",
        "Cgroup": "",
        "Links": [f"{name}:{alias}" for name, alias in network.links] or None,
        "OomScoreAdj": limits.oom_score_adj or 0,
        "PidMode": security.pid,
        "Privileged": security.privileged,
        "PublishAllPorts": network.publish_all,
        "ReadonlyRootfs": security.readonly_root,
        "SecurityOpt": list(security.options) or None,
        "Tmpfs": {
            mount.request.target: mount.request.mode
            for mount in definition.mounts
            if mount.request.type is MountType.TMPFS
        },
        "UTSMode": security.uts,
        "UsernsMode": security.user,
        "ShmSize": limits.shm_size or 64 << 20,
        "Sysctls": dict(limits.sysctls),
        "Runtime": "lamina",
        "Isolation": "",
        "CpuShares": resources.cpu_shares or 0,
        "Memory": resources.memory or 0,
        "NanoCpus": limits.cpus,
        "CgroupParent": limits.cgroup_parent,
        "BlkioWeight": resources.blkio_weight or 0,
        "CpuPeriod": resources.cpu_period or 0,
        "CpuQuota": resources.cpu_quota or 0,
        "CpusetCpus": resources.cpuset_cpus or "",
        "CpusetMems": resources.cpuset_mems or "",
        "Devices": [
            {"PathOnHost": each.host, "PathInContainer": each.container, "CgroupPermissions": each.permissions}
            for each in limits.devices
        ],
        "MemoryReservation": resources.memory_reservation or 0,
        "MemorySwap": resources.memory_swap or 0,
        "PidsLimit": resources.pids_limit,
        "Ulimits": [{"Name": each.name, "Hard": each.hard, "Soft": each.soft} for each in limits.ulimits],
        "Init": request.init,
    }


def _bind(mount: MountPoint) -> str:
    source = mount.name if mount.request.type is MountType.VOLUME else mount.source
    return f"{source}:{mount.request.target}" + (f":{mount.request.mode}" if mount.request.mode else "")


def _mount(mount: MountPoint) -> Json:
    request = mount.request
    document: Json = {"Type": str(request.type)}
    if mount.name:
        document["Name"] = mount.name
    document |= {"Source": mount.source, "Destination": request.target}
    if mount.name:
        document["Driver"] = "local"
    propagation = request.propagation or ("rprivate" if request.type is MountType.BIND else "")
    # a named volume is shared between containers, as SELinux has it
    mode = request.mode or ("z" if mount.name and not mount.anonymous else "")
    return document | {"Mode": mode, "RW": not request.readonly, "Propagation": propagation}


def _networks(engine: Engine, found: Container, definition: Definition) -> Json:
    published: dict[str, list[Json] | None] = dict.fromkeys(definition.exposed)
    endpoints = [each for each in engine.networks.endpoints() if each.container == found.id]
    # what does not run is on its networks by name only
    names = [each.network for each in definition.request.network.attachments] or ["bridge"]
    joined: Json = {} if endpoints else {name: _unjoined() for name in names if not name.startswith("container:")}
    for endpoint in endpoints:
        for port in endpoint.ports:
            key = f"{port.container_port}/{port.protocol}"
            published[key] = [
                *(published.get(key) or ()),
                {"HostIp": port.host_ip or "0.0.0.0", "HostPort": str(port.host_port)},
            ]
        joined[endpoint.network] = {
            "IPAMConfig": None,
            "Links": None,
            "Aliases": list(endpoint.aliases) or None,
            "MacAddress": endpoint.mac,
            "NetworkID": endpoint.network_id,
            "EndpointID": endpoint.id,
            "Gateway": endpoint.gateway,
            "IPAddress": endpoint.ip,
            "IPPrefixLen": endpoint.prefix,
            "DNSNames": [endpoint.name, *endpoint.aliases],
        }
    first: Json = joined.get("bridge", {})
    return {
        "SandboxID": "",
        "SandboxKey": "",
        "Ports": published if endpoints else {},
        "IPAddress": first.get("IPAddress", ""),
        "IPPrefixLen": first.get("IPPrefixLen", 0),
        "Gateway": first.get("Gateway", ""),
        "MacAddress": first.get("MacAddress", ""),
        "Networks": joined,
    }


def _unjoined() -> Json:
    empty = ("NetworkID", "EndpointID", "Gateway", "IPAddress", "MacAddress")
    return {"IPAMConfig": None, "Links": None, "Aliases": None} | dict.fromkeys(empty, "") | {"IPPrefixLen": 0}


def volume(found: Volume) -> Json:
    """A volume, as GET /volumes/{name}."""
    return {
        "CreatedAt": found.created,
        "Driver": found.driver,
        "Labels": dict(found.labels) or None,
        "Mountpoint": found.mountpoint,
        "Name": found.name,
        "Options": dict(found.options) or None,
        "Scope": "local",
    }


def network(engine: Engine, found: Network) -> Json:
    """A network, as GET /networks/{id}."""
    members = {
        endpoint.container: {
            "Name": endpoint.name,
            "EndpointID": endpoint.id,
            "MacAddress": endpoint.mac,
            "IPv4Address": f"{endpoint.ip}/{endpoint.prefix}",
            "IPv6Address": "",
        }
        for endpoint in engine.networks.endpoints(found.name)
    }
    pools = [{"Subnet": found.subnet, "Gateway": found.gateway}] if found.subnet else []
    return {
        "Name": found.name,
        "Id": found.id,
        "Created": found.created or _NEVER,
        "Scope": "local",
        "Driver": found.driver,
        "EnableIPv6": False,
        "IPAM": {"Driver": "default", "Options": None, "Config": pools},
        "Internal": found.internal,
        "Attachable": False,
        "Ingress": False,
        "Containers": members,
        "Options": dict(found.options),
        "Labels": dict(found.labels),
    }


def _nanoseconds(time: int) -> str:
    moment = datetime.fromtimestamp(time // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{moment}.{time % 1_000_000_000:09}".rstrip("0").rstrip(".") + "Z"
