"""Port specifications of EXPOSE (and of `--publish`): `[[ip:]host:]container[-end][/protocol]`."""

from __future__ import annotations

__all__ = ["parse_port"]


def parse_port(spec: str) -> tuple[str, ...]:
    """The container ports of one specification, each as "80/tcp", in order. Raises DockerfileError."""
    raise NotImplementedError
