"""The parsed form as bytes, for a store to keep: loading it needs no lark."""

from __future__ import annotations

from parser.instructions import Dockerfile
from parser.source import Source

__all__ = ["dumps", "loads"]


def dumps(dockerfile: Dockerfile) -> bytes:
    """Everything of `dockerfile` except the text of its source, as bytes."""
    raise NotImplementedError


def loads(data: bytes, source: Source) -> Dockerfile:
    """What `dumps` was given. `source` is the text that it was parsed from. Raises ValueError for other bytes."""
    raise NotImplementedError
