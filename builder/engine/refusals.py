"""What docker refuses of a container although each of its options can be read: sizes out of range, and options that
contradict each other. In docker's words; every error is an InvalidInput.
"""

from __future__ import annotations

import os
import re

from builder.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from builder.engine.requests import ContainerRequest, HealthRequest, LimitRequest, NetworkRequest
    from runtime.spec import Resources

_LEAST_MEMORY = 6 << 20
_LEAST_CPUS = 10_000_000
_LEAST_INTERVAL = 1_000_000
_NOT_OURS = ("bridge", "host", "none")


def check(request: ContainerRequest) -> None:
    """Raises InvalidInput for what no container could be made of."""
    network = request.network
    first = network.attachments[0].network if network.attachments else "bridge"
    check_memory(request.limits.resources)
    _check_limits(request.limits)
    _check_sysctls(request.limits.sysctls, host_network=first == "host", host_ipc=request.security.ipc == "host")
    if request.health is not None:
        _check_health(request.health)
    _check_names(network)
    if first.startswith("container:"):
        _check_shared(request)


def check_memory(resources: Resources) -> None:
    """Raises InvalidInput for limits that no container could start with."""
    memory, swap = resources.memory or 0, resources.memory_swap or 0
    if 0 < memory < _LEAST_MEMORY:
        raise InvalidInput("Minimum memory limit allowed is 6MB")
    if swap and not memory:
        raise InvalidInput("You should always set the Memory limit when using Memoryswap limit, see usage")
    if 0 < swap < memory:
        raise InvalidInput("Minimum memoryswap limit should be larger than memory limit, see usage")
    if memory and (resources.memory_reservation or 0) > memory:
        raise InvalidInput("Minimum memory limit can not be less than memory reservation limit, see usage")


def _check_limits(limits: LimitRequest) -> None:
    here = os.cpu_count() or 1
    if limits.cpus and not _LEAST_CPUS <= limits.cpus <= here * 1_000_000_000:
        raise InvalidInput(f"Range of CPUs is from 0.01 to {here}.00, as there are only {here} CPUs available")
    adjustment = limits.oom_score_adj
    if adjustment is not None and not -1000 <= adjustment <= 1000:
        raise InvalidInput(f"Invalid value {adjustment}, range for oom score adj is [-1000, 1000]")
    for kind, text in (("cpus", limits.resources.cpuset_cpus), ("mems", limits.resources.cpuset_mems)):
        if text and not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", text):
            raise InvalidInput(f"Invalid value {text} for cpuset {kind}")


def _check_sysctls(sysctls: tuple[tuple[str, str], ...], *, host_network: bool, host_ipc: bool) -> None:
    """What belongs to a namespace is the container's only when that namespace is."""
    for name, _ in sysctls:
        network = name.startswith("net.")
        if host_network if network else host_ipc:
            kind = "network" if network else "IPC"
            raise InvalidInput(f'sysctl "{name}" not allowed in host {kind} namespace')


def _check_health(health: HealthRequest) -> None:
    for what, nanoseconds in (
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ):
        if 0 < nanoseconds < _LEAST_INTERVAL:
            raise InvalidInput(f"{what} in Healthcheck cannot be less than 1ms")


def _check_names(network: NetworkRequest) -> None:
    for attachment in network.attachments:
        named = attachment.network not in _NOT_OURS and not attachment.network.startswith("container:")
        if attachment.aliases and not named:
            raise InvalidInput("network-scoped aliases are only supported for user-defined networks")
        if attachment.mac and not re.fullmatch("[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}", attachment.mac):
            raise InvalidInput(f"{attachment.mac} is not a valid mac address", hint="write it like 02:42:ac:11:00:02")


def _check_shared(request: ContainerRequest) -> None:
    """What the owner of a shared network has decided already."""
    network = request.network
    for asked, what in (
        (request.hostname, "hostname and the network mode"),
        (network.links, "links and the network mode"),
        (network.dns, "dns and the network mode"),
        (network.extra_hosts, "custom host-to-IP mapping and the network mode"),
        (any(each.mac for each in network.attachments), "mac-address and the network mode"),
        (network.ports or network.publish_all, "port publishing and the container type network mode"),
        (network.expose, "port exposing and the container type network mode"),
    ):
        if asked:
            raise InvalidInput(f"conflicting options: {what}")
