"""The options of `run` and `create`, and how they become a ContainerRequest.

Every option of docker is here. Those that only make sense for another platform or a daemon's plugins are named in
`_REFUSED` or `_WITHOUT_EFFECT`, with what the user is told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from builder.cli.flags import BOOL, INT, Flag, UsageError, Values, invalid, many, switch

if TYPE_CHECKING:
    from builder.cli.context import Cli
    from builder.engine.options.mounts import MountRequest
    from builder.engine.requests import (
        Attachment,
        ContainerRequest,
        HealthRequest,
        LimitRequest,
        NetworkRequest,
        SecurityRequest,
    )

FLAGS = (
    many("add-host", "Add a custom host-to-IP mapping (host:ip)"),
    many("annotation", "Add an annotation to the container", word="map"),
    many("attach", "Attach to STDIN, STDOUT or STDERR", short="a"),
    Flag("blkio-weight", "Block IO (relative weight), between 10 and 1000, or 0 to disable", kind=INT, word="uint16"),
    many("blkio-weight-device", "Block IO weight (relative device weight)"),
    many("cap-add", "Add Linux capabilities"),
    many("cap-drop", "Drop Linux capabilities"),
    Flag("cgroup-parent", "Optional parent cgroup for the container"),
    Flag("cgroupns", "Cgroup namespace to use (host|private)", complete="host private"),
    Flag("cidfile", "Write the container ID to the file", complete="file"),
    Flag("cpu-period", "Limit CPU CFS (Completely Fair Scheduler) period", kind=INT),
    Flag("cpu-quota", "Limit CPU CFS (Completely Fair Scheduler) quota", kind=INT),
    Flag("cpu-rt-period", "Limit CPU real-time period in microseconds", kind=INT),
    Flag("cpu-rt-runtime", "Limit CPU real-time runtime in microseconds", kind=INT),
    Flag("cpu-shares", "CPU shares (relative weight)", short="c", kind=INT),
    Flag("cpus", "Number of CPUs", word="decimal"),
    Flag("cpuset-cpus", "CPUs in which to allow execution (0-3, 0,1)"),
    Flag("cpuset-mems", "MEMs in which to allow execution (0-3, 0,1)"),
    many("device", "Add a host device to the container", complete="file"),
    many("device-cgroup-rule", "Add a rule to the cgroup allowed devices list"),
    many("device-read-bps", "Limit read rate (bytes per second) from a device"),
    many("device-read-iops", "Limit read rate (IO per second) from a device"),
    many("device-write-bps", "Limit write rate (bytes per second) to a device"),
    many("device-write-iops", "Limit write rate (IO per second) to a device"),
    many("dns", "Set custom DNS servers"),
    many("dns-opt", "Set DNS options", hidden=True),
    many("dns-option", "Set DNS options"),
    many("dns-search", "Set custom DNS search domains"),
    Flag("domainname", "Container NIS domain name"),
    Flag("entrypoint", "Overwrite the default ENTRYPOINT of the image"),
    many("env", "Set environment variables", short="e"),
    many("env-file", "Read in a file of environment variables", complete="file"),
    many("expose", "Expose a port or a range of ports"),
    Flag("gpus", "GPU devices to add to the container ('all' to pass all GPUs)"),
    many("group-add", "Add additional groups to join"),
    Flag("health-cmd", "Command to run to check health"),
    Flag("health-interval", "Time between running the check (ms|s|m|h) (default 0s)", word="duration"),
    Flag("health-retries", "Consecutive failures needed to report unhealthy", kind=INT),
    Flag("health-start-interval", "Time between checks during the start period (ms|s|m|h)", word="duration"),
    Flag("health-start-period", "Start period before retries count (ms|s|m|h) (default 0s)", word="duration"),
    Flag("health-timeout", "Maximum time to allow one check to run (ms|s|m|h) (default 0s)", word="duration"),
    switch("help", "Print usage"),
    Flag("hostname", "Container host name", short="h"),
    switch("init", "Run an init inside the container that forwards signals and reaps processes"),
    switch("interactive", "Keep STDIN open even if not attached", short="i"),
    Flag("ip", "IPv4 address (e.g., 172.30.100.104)"),
    Flag("ip6", "IPv6 address (e.g., 2001:db8::33)"),
    Flag("ipc", "IPC mode to use"),
    Flag("isolation", "Container isolation technology"),
    Flag("kernel-memory", "Kernel memory limit", word="bytes", hidden=True),
    many("label", "Set meta data on a container", short="l"),
    many("label-file", "Read in a line delimited file of labels", complete="file"),
    many("link", "Add link to another container", complete="container"),
    many("link-local-ip", "Container IPv4/IPv6 link-local addresses"),
    Flag("log-driver", "Logging driver for the container", complete="json-file local none"),
    many("log-opt", "Log driver options"),
    Flag("mac-address", "Container MAC address (e.g., 92:d0:c6:0a:29:33)"),
    Flag("memory", "Memory limit", short="m", word="bytes"),
    Flag("memory-reservation", "Memory soft limit", word="bytes"),
    Flag("memory-swap", "Swap limit equal to memory plus swap: '-1' to enable unlimited swap", word="bytes"),
    Flag("memory-swappiness", "Tune container memory swappiness (0 to 100)", kind=INT, default=-1),
    many("mount", "Attach a filesystem mount to the container", word="mount"),
    Flag("name", "Assign a name to the container"),
    many("net", "Connect a container to a network", hidden=True, complete="network"),
    many("net-alias", "Add network-scoped alias for the container", hidden=True),
    many("network", "Connect a container to a network", word="network", complete="network"),
    many("network-alias", "Add network-scoped alias for the container"),
    switch("no-healthcheck", "Disable any container-specified HEALTHCHECK"),
    switch("oom-kill-disable", "Disable OOM Killer"),
    Flag("oom-score-adj", "Tune host's OOM preferences (-1000 to 1000)", kind=INT),
    Flag("pid", "PID namespace to use"),
    Flag("pids-limit", "Tune container pids limit (set -1 for unlimited)", kind=INT),
    Flag("platform", "Set platform if the image is for several"),
    switch("privileged", "Give extended privileges to this container"),
    many("publish", "Publish a container's port(s) to the host", short="p"),
    switch("publish-all", "Publish all exposed ports to random ports", short="P"),
    Flag("pull", 'Pull image before running ("always", "missing", "never")', default="missing"),
    switch("quiet", "Suppress the pull output", short="q"),
    switch("read-only", "Mount the container's root filesystem as read only"),
    Flag("restart", "Restart policy to apply when a container exits", default="no"),
    switch("rm", "Automatically remove the container and its associated anonymous volumes when it exits"),
    Flag("runtime", "Runtime to use for this container"),
    many("security-opt", "Security Options"),
    Flag("shm-size", "Size of /dev/shm", word="bytes"),
    Flag("stop-signal", "Signal to stop the container"),
    Flag("stop-timeout", "Timeout (in seconds) to stop a container", kind=INT),
    many("storage-opt", "Storage driver options for the container"),
    many("sysctl", "Sysctl options", word="map"),
    many("tmpfs", "Mount a tmpfs directory"),
    switch("tty", "Allocate a pseudo-TTY", short="t"),
    many("ulimit", "Ulimit options", word="ulimit"),
    switch("use-api-socket", "Bind mount the API socket and required auth"),
    Flag("user", "Username or UID (format: <name|uid>[:<group|gid>])", short="u"),
    Flag("userns", "User namespace to use", complete="host"),
    Flag("uts", "UTS namespace to use", complete="host"),
    many("volume", "Bind mount a volume", short="v", complete="volume"),
    Flag("volume-driver", "Optional volume driver for the container"),
    many("volumes-from", "Mount volumes from the specified container(s)", complete="container"),
    Flag("workdir", "Working directory inside the container", short="w"),
)

_BY_NAME = {flag.name: flag for flag in FLAGS}
_REFUSED = {
    "gpus": "GPUs are not supported; pass their device files with --device",
    "isolation": "isolation technologies are for Windows; leave it out",
    "runtime": "only the built-in runtime is supported; leave it out",
    "use-api-socket": "lamina has no API socket that a container could use",
    "storage-opt": "the overlay store has no options for one container; leave it out",
    "volume-driver": "only the driver local is supported; leave it out",
    "oom-kill-disable": "the kernel offers it with cgroup v1 only, and it hangs containers; leave it out",
    "cpu-rt-period": "real-time scheduling groups are not supported; leave it out",
    "cpu-rt-runtime": "real-time scheduling groups are not supported; leave it out",
    "blkio-weight-device": "limits for one device are not supported; use --blkio-weight",
    "device-read-bps": "limits for one device are not supported",
    "device-read-iops": "limits for one device are not supported",
    "device-write-bps": "limits for one device are not supported",
    "device-write-iops": "limits for one device are not supported",
    "device-cgroup-rule": "rules for devices are not supported; name the device with --device",
    "link-local-ip": "link-local addresses are not supported; leave it out",
    "ip6": "IPv6 addresses on bridge networks are not supported",
}
_WITHOUT_EFFECT = {
    "kernel-memory": "the kernel has no such limit any more; it is ignored",
    "memory-swappiness": "it has no effect with cgroup v2 and is ignored",
}


def request(cli: Cli, values: Values, arguments: list[str]) -> ContainerRequest:
    """The request that options and arguments (IMAGE [COMMAND…]) make.  Raises UsageError, InvalidInput, OSError."""
    from builder.engine.options.limits import pair, parse_restart, parse_signal
    from builder.engine.requests import ContainerRequest
    from builder.errors import InvalidInput

    for name, why in _REFUSED.items():
        if values.given(name) and (_BY_NAME[name].kind != BOOL or values.on(name)):
            raise UsageError(f"--{name}: {why}")
    for name, why in _WITHOUT_EFFECT.items():
        if values.given(name):
            cli.say(f"WARNING: --{name}: {why}")
    image, *command = arguments
    attach = tuple(word.lower() for word in values.all("attach"))
    for word in attach:
        if word not in ("stdin", "stdout", "stderr"):
            raise invalid("-a, --attach", word, "valid streams are STDIN, STDOUT and STDERR")
    if values.on("rm") and parse_restart(values.text("restart"))[0] != "no":
        raise InvalidInput("conflicting options: cannot specify both --restart and --rm")
    if values.text("stop-signal"):
        parse_signal(values.text("stop-signal"))
    interactive = values.on("interactive") or "stdin" in attach
    return ContainerRequest(
        image=image,
        command=tuple(command) or None,
        entrypoint=_entrypoint(values),
        name=values.text("name"),
        env=_environment(cli, values),
        labels=_labels(values),
        annotations=tuple(pair(text, what="annotation") for text in values.all("annotation")),
        user=values.text("user"),
        workdir=_workdir(values),
        hostname=values.text("hostname"),
        domainname=values.text("domainname"),
        tty=values.on("tty"),
        open_stdin=interactive,
        init=values.on("init"),
        auto_remove=values.on("rm"),
        attach=attach,
        stop_signal=values.text("stop-signal"),
        stop_timeout=values.number("stop-timeout"),
        restart=checked(values, "restart", parse_restart) or ("no", 0),
        health=_health(values),
        mounts=_mounts(cli, values),
        volumes_from=values.all("volumes-from"),
        network=_network(values),
        security=_security(values),
        limits=_limits(values),
        log_driver=_log_driver(values),
        log_options=tuple(pair(text, what="log option") for text in values.all("log-opt")),
        platform=values.text("platform") or cli.env.get("DOCKER_DEFAULT_PLATFORM", ""),
    )


T = TypeVar("T")


def checked(values: Values, name: str, parse: Callable[[str], T]) -> T | None:
    """The flag's value through `parse`, None when it was not given.  Raises UsageError in pflag's words."""
    return _read(_BY_NAME[name], values.text(name), parse) if values.given(name) else None


def checked_all(values: Values, name: str, parse: Callable[[str], T]) -> tuple[T, ...]:
    """Every value of a repeatable flag through `parse`."""
    return tuple(_read(_BY_NAME[name], text, parse) for text in values.all(name))


def reading(flags: tuple[Flag, ...], values: Values, name: str, parse: Callable[[str], T]) -> T | None:
    """As `checked`, for the flags of another command."""
    flag = next(each for each in flags if each.name == name)
    return _read(flag, values.text(name), parse) if values.given(name) else None


def reading_all(flags: tuple[Flag, ...], values: Values, name: str, parse: Callable[[str], T]) -> tuple[T, ...]:
    """As `checked_all`, for the flags of another command."""
    flag = next(each for each in flags if each.name == name)
    return tuple(_read(flag, text, parse) for text in values.all(name))


def _read(flag: Flag, text: str, parse: Callable[[str], T]) -> T:
    from builder.errors import InvalidInput
    from runtime.errors import ContainerError

    try:
        return parse(text)
    except (InvalidInput, ContainerError) as err:
        raise invalid(flag.spelled, text, err.message) from err


def _entrypoint(values: Values) -> tuple[str, ...] | None:
    if not values.given("entrypoint"):
        return None
    return (values.text("entrypoint"),) if values.text("entrypoint") else ()


def _workdir(values: Values) -> str:
    workdir = values.text("workdir")
    if workdir and not workdir.startswith("/"):
        raise UsageError(f"the working directory '{workdir}' is invalid, it needs to be an absolute path")
    return workdir


def _environment(cli: Cli, values: Values) -> tuple[str, ...]:
    from builder.cli.clientconfig import proxies
    from builder.engine.options.environment import parse_env, parse_env_file

    # first, so that what is said later holds
    found = [f"{name}={value}" for name, value in proxies(cli.env).items()]
    for path in values.all("env-file"):
        found += parse_env_file(_file(path), path, cli.env.get)
    found += checked_all(values, "env", lambda text: parse_env(text, cli.env.get))
    return tuple(found)


def _labels(values: Values) -> tuple[tuple[str, str], ...]:
    from builder.engine.options.environment import parse_label, parse_label_file

    found: list[tuple[str, str]] = []
    for path in values.all("label-file"):
        found += parse_label_file(_file(path), path)
    return (*found, *checked_all(values, "label", parse_label))


def _file(path: str) -> bytes:
    with open(path, "rb") as stream:
        return stream.read()


def _health(values: Values) -> HealthRequest | None:
    from builder.engine.options.units import parse_duration
    from builder.engine.requests import HealthRequest

    names = ("cmd", "interval", "timeout", "retries", "start-period", "start-interval")
    given = [name for name in names if values.given(f"health-{name}")]
    if values.on("no-healthcheck"):
        if given:
            raise UsageError("--no-healthcheck conflicts with --health-* options")
        return HealthRequest(test=("NONE",))
    if not given:
        return None
    times = {name: checked(values, f"health-{name}", parse_duration) or 0 for name in names if "-" in name}
    times |= {name: checked(values, f"health-{name}", parse_duration) or 0 for name in ("interval", "timeout")}
    for name, time in times.items():
        if time < 0:
            raise UsageError(f"--health-{name} cannot be negative")
    if (values.number("health-retries") or 0) < 0:
        raise UsageError("--health-retries cannot be negative")
    return HealthRequest(
        test=("CMD-SHELL", values.text("health-cmd")) if values.text("health-cmd") else (),
        interval=times["interval"],
        timeout=times["timeout"],
        start_period=times["start-period"],
        start_interval=times["start-interval"],
        retries=values.number("health-retries") or 0,
    )


def _mounts(cli: Cli, values: Values) -> tuple[MountRequest, ...]:
    from builder.engine.options.mounts import parse_mount, parse_tmpfs, parse_volume

    cwd = str(cli.cwd)
    return (
        *checked_all(values, "volume", lambda text: parse_volume(_home(cli, text), cwd=cwd)),
        *checked_all(values, "mount", lambda text: parse_mount(text, cwd=cwd)),
        *checked_all(values, "tmpfs", parse_tmpfs),
    )


def _home(cli: Cli, text: str) -> str:
    return cli.env.get("HOME", "") + text[1:] if text.startswith("~/") else text


def _network(values: Values) -> NetworkRequest:
    from builder.engine.options.limits import parse_add_host, parse_ip
    from builder.engine.requests import NetworkRequest
    from runtime.ports import parse as parse_port

    ports = checked_all(values, "publish", parse_port)
    return NetworkRequest(
        attachments=_attachments(values),
        ports=tuple(port for group in ports for port in group),
        publish_all=values.on("publish-all"),
        expose=tuple(port for group in checked_all(values, "expose", _exposed) for port in group),
        dns=checked_all(values, "dns", parse_ip),
        dns_search=values.all("dns-search"),
        dns_options=(*values.all("dns-option"), *values.all("dns-opt")),
        extra_hosts=checked_all(values, "add-host", parse_add_host),
        links=checked_all(values, "link", _link),
    )


def _exposed(text: str) -> tuple[str, ...]:
    from builder.errors import InvalidInput

    numbers, _, protocol = text.partition("/")
    first, _, last = numbers.partition("-")
    if protocol not in ("", "tcp", "udp", "sctp") or not first.isdigit() or not (last or first).isdigit():
        raise InvalidInput(f"invalid range format for --expose: {text}")
    low, high = int(first), int(last or first)
    if not 1 <= low <= high <= 65535:
        raise InvalidInput(f"invalid range format for --expose: {text}")
    return tuple(f"{port}/{protocol or 'tcp'}" for port in range(low, high + 1))


def _link(text: str) -> tuple[str, str]:
    name, _, alias = text.partition(":")
    return name, alias or name


def _attachments(values: Values) -> tuple[Attachment, ...]:
    from builder.engine.requests import Attachment
    from runtime.values import replace

    wanted = (*values.all("network"), *values.all("net"))
    found = [_attachment(text) for text in wanted]
    names = [each.network for each in found]
    if len(found) > 1 and any(name in ("host", "none") or name.startswith("container:") for name in names):
        raise UsageError("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
    if len(set(names)) != len(names):
        raise UsageError(
            f'network "{next(name for name in names if names.count(name) > 1)}" is specified multiple times'
        )
    extra = Attachment(
        "bridge",
        aliases=(*values.all("network-alias"), *values.all("net-alias")),
        ip=values.text("ip"),
        mac=values.text("mac-address"),
    )
    if extra != Attachment("bridge"):
        first = found[0] if found else Attachment("bridge")
        found[:1] = [
            replace(first, aliases=first.aliases + extra.aliases, ip=first.ip or extra.ip, mac=first.mac or extra.mac)
        ]
    return tuple(found)


def _attachment(text: str) -> Attachment:
    """`NAME`, or the long form `name=N,alias=A,ip=I,mac-address=M`."""
    from builder.engine.requests import Attachment

    if "=" not in text:
        return Attachment("bridge" if text == "default" else text)
    name, aliases, ip, mac = "", [], "", ""
    for field in text.split(","):
        key, _, value = field.partition("=")
        if key == "name":
            name = value
        elif key == "alias":
            aliases.append(value)
        elif key == "ip":
            ip = value
        elif key == "mac-address":
            mac = value
        elif key not in ("driver-opt", "gw-priority"):
            raise invalid("--network", text, f"invalid field {field}")
    if not name:
        raise invalid("--network", text, "network name/id is not specified")
    return Attachment(name, tuple(aliases), ip, mac=mac)


_SECURITY_KEYS = ("seccomp", "apparmor", "label", "no-new-privileges", "systempaths", "writable-cgroups")


def _security(values: Values) -> SecurityRequest:
    from builder.engine.requests import SecurityRequest

    options = []
    for text in values.all("security-opt"):
        key, separator, value = text.replace(":", "=", 1).partition("=") if "=" not in text else text.partition("=")
        if key == "seccomp" and value not in ("unconfined", "builtin", "default"):
            text = "seccomp=" + _file(value).decode("utf-8", "replace")
        elif key not in _SECURITY_KEYS or (key != "no-new-privileges" and not separator):
            raise UsageError(f"invalid --security-opt: {text!r}")
        options.append(text)
    return SecurityRequest(
        privileged=values.on("privileged"),
        readonly_root=values.on("read-only"),
        cap_add=values.all("cap-add"),
        cap_drop=values.all("cap-drop"),
        group_add=values.all("group-add"),
        options=tuple(options),
        pid=_namespace(values, "pid", ("host",)),
        ipc=_namespace(values, "ipc", ("host", "private", "shareable", "none")),
        uts=_namespace(values, "uts", ("host",)),
        cgroup=_namespace(values, "cgroupns", ("host", "private")),
        user=_namespace(values, "userns", ("host",)),
    )


def _namespace(values: Values, name: str, modes: tuple[str, ...]) -> str:
    mode = values.text(name)
    shared = name in ("pid", "ipc") and mode.startswith("container:") and len(mode) > len("container:")
    if mode and mode not in modes and not shared:
        raise UsageError(f"--{name}: invalid {name.upper()} mode")
    return mode


def _limits(values: Values) -> LimitRequest:
    from builder.engine.options.limits import parse_device, parse_sysctl, parse_ulimit
    from builder.engine.options.units import parse_bytes, parse_cpus, parse_memory_swap
    from builder.engine.requests import LimitRequest
    from runtime.spec import Resources

    swappiness = values.number("memory-swappiness")
    if swappiness is not None and not -1 <= swappiness <= 100:
        raise UsageError(f"invalid value: {swappiness}. Valid memory swappiness range is 0-100")
    pids = values.number("pids-limit")
    resources = Resources(
        memory=checked(values, "memory", parse_bytes) or None,
        memory_swap=checked(values, "memory-swap", parse_memory_swap) or None,
        memory_reservation=checked(values, "memory-reservation", parse_bytes) or None,
        cpu_shares=values.number("cpu-shares") or None,
        cpu_period=values.number("cpu-period") or None,
        cpu_quota=values.number("cpu-quota") or None,
        cpuset_cpus=values.text("cpuset-cpus") or None,
        cpuset_mems=values.text("cpuset-mems") or None,
        pids_limit=pids if pids and pids > 0 else None,
        blkio_weight=values.number("blkio-weight") or None,
    )
    return LimitRequest(
        resources=resources,
        cpus=checked(values, "cpus", parse_cpus) or 0,
        ulimits=checked_all(values, "ulimit", parse_ulimit),
        devices=checked_all(values, "device", parse_device),
        sysctls=checked_all(values, "sysctl", parse_sysctl),
        shm_size=checked(values, "shm-size", parse_bytes) or 0,
        oom_score_adj=values.number("oom-score-adj"),
        cgroup_parent=values.text("cgroup-parent"),
    )


def _log_driver(values: Values) -> str:
    driver = values.text("log-driver") or "json-file"
    if driver not in ("json-file", "local", "none"):
        raise UsageError(f"--log-driver: {driver} is not supported; use json-file, local or none")
    return driver
