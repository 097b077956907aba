"""What a supervisor is told about its container: the value behind ``config.json``.

Written by whoever creates the container, read by `runtime.supervisor`. It knows no image: everything is decided.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runtime.endpoints import EndpointRequest
from runtime.errors import ContainerError
from runtime.ports import PortMapping
from runtime.values import asdict, dataclass, field


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """``name``: no, on-failure, always, unless-stopped; ``maximum``: retries of on-failure, 0 = without end."""

    name: str = "no"
    maximum: int = 0


@dataclass(frozen=True, slots=True)
class LogConfig:
    """``driver``: json-file, local, none; options ``max-size`` (``10m``), ``max-file`` (``3``)."""

    driver: str = "json-file"
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Health:
    """A health check: ``argv`` runs in the container with its user, environment and directory. Times in seconds."""

    argv: tuple[str, ...]
    interval: float = 30.0
    timeout: float = 30.0
    start_period: float = 0.0
    start_interval: float = 5.0
    retries: int = 3


@dataclass(frozen=True, slots=True)
class Config:
    """All of ``config.json``.

    ``spec`` is `runtime.spec.Spec.to_dict()`; a spec whose network is ``"none"`` and that has ``endpoints`` gets wired.
    ``hosts`` are extra ``(name, ip or "host-gateway")`` lines; empty ``dns`` means the host's resolvers.
    ``joined`` are the namespaces of the spec that are another container's, with that one's directory: at each start
    they are those that it has by then. ``at_exit`` is an argv run once, with / as its directory, after the container
    has exited for good (``--rm``).
    """

    spec: Mapping[str, Any]
    name: str = ""
    restart: RestartPolicy = RestartPolicy()
    log: LogConfig = LogConfig()
    health: Health | None = None
    networks_directory: str = ""
    endpoints: tuple[EndpointRequest, ...] = ()
    hosts: tuple[tuple[str, str], ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    stop_signal: str = "SIGTERM"
    stop_timeout: int = 10
    stdin_open: bool = False
    stdin_once: bool = False
    at_exit: tuple[str, ...] = ()
    joined: tuple[tuple[str, str], ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """A form that JSON takes."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Config:
        """The reverse of `to_dict`; raises ContainerError for what it does not know."""
        try:
            given = dict(data)
            for name in ("dns", "dns_search", "dns_options", "at_exit"):
                given[name] = tuple(given.get(name, ()))
            for name in ("hosts", "joined"):
                given[name] = tuple((one, other) for one, other in given.get(name, ()))
            given["endpoints"] = tuple(_endpoint(item) for item in given.get("endpoints", ()))
            given["restart"] = RestartPolicy(**given.get("restart", {}))
            log = given.get("log", {})
            options = tuple((name, value) for name, value in log.get("options", ()))
            given["log"] = LogConfig(**{**log, "options": options})
            if given.get("health") is not None:
                given["health"] = Health(**{**given["health"], "argv": tuple(given["health"]["argv"])})
            return cls(**given)
        except (TypeError, ValueError, KeyError) as error:
            raise ContainerError(f"config.json is damaged: {error}", hint="remove the container") from error


def _endpoint(item: Mapping[str, Any]) -> EndpointRequest:
    ports = tuple(PortMapping(**port) for port in item.get("ports", ()))
    return EndpointRequest(**{**item, "aliases": tuple(item.get("aliases", ())), "ports": ports})
