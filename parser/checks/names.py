"""Names of variables and ports: which look like secrets, which are near to others."""

from __future__ import annotations

import re
from collections.abc import Iterable

from parser.errors import distance

__all__ = ["is_secret", "split_port", "suggestion"]

_SECRET = re.compile(
    r"(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)", re.IGNORECASE
)
_HARMLESS = re.compile(r"(?:_|^)(?:public|file|version)(?:_|$)", re.IGNORECASE)
_FARTHEST = 2


def is_secret(name: str) -> bool:
    """Whether a variable of this name is likely to hold what nobody else should read."""
    return _SECRET.search(name) is not None and _HARMLESS.search(name) is None


def suggestion(name: str, known: Iterable[str]) -> str:
    """The known name that was probably meant: one or two letters away, case counts. "" when there is none."""
    best, nearest = "", _FARTHEST + 1
    for candidate in known:
        if candidate == name:
            return ""
        far = distance(name, candidate, _FARTHEST)
        if far < nearest:
            best, nearest = candidate, far
    return best


def split_port(spec: str) -> tuple[str, str, str]:
    """`[[address:]host:]container[/protocol]` as what stands before the container's port, that port, the protocol."""
    before, _, container = spec.rpartition(":")
    ports, _, protocol = container.partition("/")
    return before, ports, protocol
