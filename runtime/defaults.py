"""Docker's default hardening as data, value for value, and the functions that bend it as docker's options do.

Sources: moby daemon/pkg/oci/defaults.go, caps/defaults.go, oci_linux.go. Callers (engine, pipeline) start from
``container_spec`` or ``build_spec`` and replace what the user asked for. Init reads the tables for mounts and devices
from ``runtime.standard``, which has no imports.
"""

from __future__ import annotations

from collections.abc import Iterable

from runtime.capabilities import ALL, known
from runtime.errors import SpecInvalid
from runtime.spec import Namespaces, Process, Rlimit, Rootfs, Spec
from runtime.values import replace

CAPABILITIES = (
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
)

MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/devices/system/cpu/cpu*/thermal_throttle",
)

READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

# With a network namespace of our own every port is ours to give, and everybody in the container may ping.
NETWORK_SYSCTLS = (("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647"))

# Fixed rather than inherited: apt and rpm loop over every descriptor up to the limit.
RLIMITS = (Rlimit("nofile", 1024, 524288),)

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

BUILD_HOSTNAME = "buildsandbox"
BUILD_PIDS_LIMIT = 32768


def container_spec(id: str, rootfs: Rootfs, process: Process, *, namespaces: Namespaces | None = None) -> Spec:
    """A container as `docker run` makes it by default: fills in what *process* leaves empty, hostname = id[:12]."""
    namespaces = namespaces or Namespaces()
    private = namespaces.network in ("none", "private") and not namespaces.uid_maps
    return Spec(
        id=id,
        rootfs=rootfs,
        process=replace(
            process,
            capabilities=process.capabilities or CAPABILITIES,
            rlimits=merge_rlimits(process.rlimits),
            env=with_path(process.env),
        ),
        hostname=id[:12],
        namespaces=namespaces,
        masked_paths=MASKED_PATHS,
        readonly_paths=READONLY_PATHS,
        sysctls=NETWORK_SYSCTLS if private else (),
    )


def build_spec(id: str, rootfs: Rootfs, process: Process, *, namespaces: Namespaces | None = None) -> Spec:
    """A container for a RUN step: as ``container_spec``, with the builder's host name, a limit of processes and the
    layer kept clean of mount points."""
    spec = container_spec(id, replace(rootfs, keep_mount_points=False), process, namespaces=namespaces)
    return replace(spec, hostname=BUILD_HOSTNAME, resources=replace(spec.resources, pids_limit=BUILD_PIDS_LIMIT))


def privileged(spec: Spec) -> Spec:
    """*spec* with docker's --privileged: all capabilities and devices, no seccomp filter, nothing masked."""
    return replace(
        spec,
        process=replace(spec.process, capabilities=ALL),
        seccomp="unconfined",
        masked_paths=(),
        readonly_paths=(),
        privileged=True,
    )


def capabilities(add: Iterable[str] = (), drop: Iterable[str] = ()) -> tuple[str, ...]:
    """The default set with docker's --cap-add and --cap-drop: any case, CAP_ optional, ALL. Raises SpecInvalid."""
    adds = [_capability(name) for name in add]
    drops = [_capability(name) for name in drop]
    base: Iterable[str] = CAPABILITIES
    if "ALL" in adds:
        base = ALL
    elif "ALL" in drops:
        base = ()
    chosen = set(base) | {name for name in adds if name != "ALL"}
    # An explicitly added capability survives --cap-drop ALL; everything else that is named in drop goes.
    chosen -= {name for name in drops if name != "ALL"}
    return tuple(name for name in ALL if name in chosen)


def merge_rlimits(rlimits: Iterable[Rlimit]) -> tuple[Rlimit, ...]:
    """Our default limits, each replaced by the one of the same name in *rlimits*."""
    merged = {limit.name: limit for limit in (*RLIMITS, *rlimits)}
    return tuple(merged.values())


def with_path(env: tuple[str, ...]) -> tuple[str, ...]:
    """*env* with docker's default PATH in front when it has none."""
    return env if any(item.startswith("PATH=") for item in env) else (PATH, *env)


def _capability(name: str) -> str:
    upper = name.upper().removeprefix("CAP_")
    if upper != "ALL" and not known(upper):
        raise SpecInvalid(f'invalid capability: unknown capability "{name}"', hint="see capabilities(7) for the names")
    return upper
