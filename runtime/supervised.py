"""What a supervisor is told about its container: the value behind ``config.json``.

Written by whoever creates the container, read by `runtime.supervisor`. It knows no image: everything is decided.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runtime.networks import EndpointRequest


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
    ``at_exit`` is an argv run once in the container directory after the container has exited for good (``--rm``).
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
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """A form that JSON takes."""
        raise NotImplementedError

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Config:
        """The reverse of `to_dict`; raises ContainerError for what it does not know."""
        raise NotImplementedError
