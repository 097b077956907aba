"""The options of `RUN --mount`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["RunMount", "parse_mount"]


@dataclass(frozen=True, slots=True)
class RunMount:
    """One mount of a RUN. `type` is bind, cache, tmpfs, secret or ssh; "" and None mean not given.

    `size` in bytes (tmpfs), 0 for no limit; `mode`, `uid`, `gid` only for cache, secret and ssh; `sharing` is
    "", shared, private or locked; `env` is the variable that a secret goes into.
    """

    type: str = "bind"
    target: str = ""
    source: str = ""
    from_: str = ""
    id: str = ""
    readonly: bool = True
    sharing: str = ""
    required: bool = False
    size: int = 0
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    env: str | None = None


def parse_mount(raw: str, expand: Callable[[str], str]) -> RunMount:
    """Read one `--mount` value; `expand` is applied to each option's value. Raises DockerfileError."""
    raise NotImplementedError
