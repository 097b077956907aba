"""The notations for limits and life: `--ulimit`, `--device`, `--restart`, signals, log options, hosts."""

from __future__ import annotations

import signal

from builder.errors import InvalidInput
from runtime.values import dataclass

_ULIMITS = frozenset(
    {"core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio"}
    | {"rttime", "sigpending", "stack"}
)


@dataclass(frozen=True, slots=True)
class Ulimit:
    """A resource limit by its name in lower case without RLIMIT_; -1 is unlimited."""

    name: str
    soft: int
    hard: int


def parse_ulimit(text: str) -> Ulimit:
    """`name=soft[:hard]`. Raises InvalidInput."""
    name, equals, numbers = text.partition("=")
    if not equals:
        raise InvalidInput(f"invalid ulimit argument: {text}")
    if name not in _ULIMITS:
        raise InvalidInput(f"invalid ulimit type: {name}", hint="known: " + ", ".join(sorted(_ULIMITS)))
    first, colon, second = numbers.partition(":")
    try:
        soft = int(first)
        hard = int(second) if colon else soft
    except ValueError:
        raise InvalidInput(f"invalid ulimit argument: {text}: {numbers!r} is no number") from None
    if hard != -1 and (soft == -1 or soft > hard):
        raise InvalidInput(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")
    return Ulimit(name, soft, hard)


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """A device of the host: its path here and there, and what may be done with it (a subset of "rwm")."""

    host: str
    container: str
    permissions: str


def parse_device(text: str) -> DeviceRequest:
    """`/dev/host[:/dev/container][:rwm]`. Raises InvalidInput."""
    parts = text.split(":")
    if not 1 <= len(parts) <= 3 or not parts[0]:
        raise InvalidInput(f"invalid device specification: {text}")
    host, container, permissions = parts[0], parts[0], "rwm"
    if len(parts) == 3:
        container, permissions = parts[1] or host, parts[2]
    elif len(parts) == 2:
        if _permissions(parts[1]):
            permissions = parts[1]
        else:
            container = parts[1]
    if not _permissions(permissions):
        raise InvalidInput(f"invalid device mode: {permissions}")
    for path in (host, container):
        if not path.startswith("/"):
            raise InvalidInput(f"{path} is not an absolute path")
    return DeviceRequest(host, container, permissions)


def _permissions(text: str) -> bool:
    return 0 < len(text) == len(set(text)) and set(text) <= set("rwm")


def parse_restart(text: str) -> tuple[str, int]:
    """`no`, `always`, `unless-stopped`, `on-failure[:retries]` as (name, retries or 0). Raises InvalidInput."""
    name, colon, count = text.partition(":")
    if not text:
        return "no", 0
    if name not in ("no", "always", "unless-stopped", "on-failure"):
        raise InvalidInput(
            f"invalid restart policy: unknown policy '{name}'; "
            "use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        )
    if not colon:
        return name, 0
    if not count.isascii() or not count.isdigit():
        raise InvalidInput("invalid restart policy format: maximum retry count must be an integer")
    if name != "on-failure":
        raise InvalidInput(f"maximum retry count cannot be used with restart policy '{name}'")
    return name, int(count)


def parse_signal(text: str) -> int:
    """A signal by number or name, with or without SIG, in any case (`9`, `KILL`, `sigusr1`, `RTMIN+3`)."""
    if text.isascii() and text.isdigit():
        number = int(text)
        if 1 <= number <= 64:
            return number
        raise InvalidInput(f"invalid signal: {text}")
    name, plus, more = text.upper().removeprefix("SIG").partition("+")
    if not plus:
        name, plus, more = name.partition("-")
        offset = -int(more) if more.isdigit() else 0
    else:
        offset = int(more) if more.isdigit() else 0
    found = signal.Signals.__members__.get("SIG" + name)
    if found is None or (plus and (not offset or name not in ("RTMIN", "RTMAX"))):
        raise InvalidInput(f"invalid signal: {text}")
    number = found.value + offset
    if not 1 <= number <= 64:
        raise InvalidInput(f"invalid signal: {text}")
    return number


def parse_add_host(text: str) -> tuple[str, str]:
    """`name:ip`, `name=ip` (also [v6] and host-gateway) as (name, ip). Raises InvalidInput."""
    equals, colon = text.find("="), text.find(":")
    at = equals if equals > 0 else colon
    if at <= 0 or at == len(text) - 1:
        raise InvalidInput(f'bad format for add-host: "{text}"', hint="write it as name:address")
    name, address = text[:at], text[at + 1 :]
    if address == "host-gateway":
        return name, address
    import ipaddress

    try:
        return name, str(ipaddress.ip_address(address.removeprefix("[").removesuffix("]")))
    except ValueError:
        raise InvalidInput(f'invalid IP address in add-host: "{address}"') from None


_SYSCTLS = frozenset(
    {f"kernel.{name}" for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni")}
    | {"kernel.shm_rmid_forced"}
)


def parse_sysctl(text: str) -> tuple[str, str]:
    """`name=value` of a setting that belongs to a namespace; another would be the host's. Raises InvalidInput."""
    name, equals, value = text.partition("=")
    if not equals or not (name in _SYSCTLS or name.startswith(("net.", "fs.mqueue."))) or "/" in name:
        raise InvalidInput(f"sysctl '{text}' is not allowed")
    return name, value


def parse_ip(text: str) -> str:
    """An IP address in its normal spelling. Raises InvalidInput."""
    import ipaddress

    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError:
        raise InvalidInput(f"{text} is not an ip address") from None


def pair(text: str, *, what: str) -> tuple[str, str]:
    """`key=value` where the value is required. Raises InvalidInput naming `what`."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InvalidInput(f"invalid {what}: {text}", hint="write it as key=value")
    return key, value
