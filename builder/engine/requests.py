"""What a new container is asked to be: frozen values that the command line and the API fill in.

Grouped as docker's options are: the container itself, what it runs, security, limits, networks.  Empty strings, empty
tuples and None mean "not asked for": the image's value or docker's default holds.
"""

from __future__ import annotations

from builder.engine.options.limits import DeviceRequest, Ulimit
from builder.engine.options.mounts import MountRequest
from runtime.ports import PortMapping
from runtime.spec import Resources
from runtime.values import dataclass

_UNLIMITED = Resources()


@dataclass(frozen=True, slots=True)
class HealthRequest:
    """`--health-*`. `test` is () to keep the image's command, ("NONE",) for no check, ("CMD-SHELL", text) or
    ("CMD", argument…); times in nanoseconds, 0 for the image's or docker's default."""

    test: tuple[str, ...] = ()
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class Attachment:
    """One network to join: `bridge`, the name of a user's network, `host`, `none`, or `container:NAME`."""

    network: str
    aliases: tuple[str, ...] = ()
    ip: str = ""
    ip6: str = ""
    mac: str = ""


@dataclass(frozen=True, slots=True)
class NetworkRequest:
    """Networks, names and published ports. No attachment means the default bridge."""

    attachments: tuple[Attachment, ...] = ()
    ports: tuple[PortMapping, ...] = ()
    publish_all: bool = False
    expose: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    extra_hosts: tuple[tuple[str, str], ...] = ()
    links: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class SecurityRequest:
    """Capabilities, namespaces and confinement. A namespace is "", "private", "host" or "container:NAME"."""

    privileged: bool = False
    readonly_root: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    group_add: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    """`--security-opt` as written; `seccomp=` holds the profile's JSON text, not its path."""
    pid: str = ""
    ipc: str = ""
    uts: str = ""
    cgroup: str = ""
    user: str = ""


@dataclass(frozen=True, slots=True)
class LimitRequest:
    """Resources; sizes in bytes. `cpus` in billionths of a cpu."""

    resources: Resources = _UNLIMITED
    cpus: int = 0
    ulimits: tuple[Ulimit, ...] = ()
    devices: tuple[DeviceRequest, ...] = ()
    sysctls: tuple[tuple[str, str], ...] = ()
    shm_size: int = 0
    oom_score_adj: int | None = None
    cgroup_parent: str = ""


@dataclass(frozen=True, slots=True)
class ContainerRequest:
    """A whole `create` request. `command` and `entrypoint` None mean the image's; an empty entrypoint takes it away."""

    image: str
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    name: str = ""
    env: tuple[str, ...] = ()
    """"K=V" sets, "K" takes the image's K away."""
    labels: tuple[tuple[str, str], ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    user: str = ""
    workdir: str = ""
    hostname: str = ""
    domainname: str = ""
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    attach: tuple[str, ...] = ()
    """Of stdin, stdout, stderr: which streams the first client takes (for inspect)."""
    init: bool = False
    auto_remove: bool = False
    stop_signal: str = ""
    stop_timeout: int | None = None
    restart: tuple[str, int] = ("no", 0)
    health: HealthRequest | None = None
    mounts: tuple[MountRequest, ...] = ()
    volumes_from: tuple[str, ...] = ()
    network: NetworkRequest = NetworkRequest()
    security: SecurityRequest = SecurityRequest()
    limits: LimitRequest = LimitRequest()
    log_driver: str = "json-file"
    log_options: tuple[tuple[str, str], ...] = ()
    platform: str = ""
