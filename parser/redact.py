"""Credentials in URLs, taken out of what is told and kept: "https://user:password@host" and its like.

A Dockerfile that has such a URL is used as it is written; what is recorded, shown or remembered of it has none.
"""

from __future__ import annotations

import re

__all__ = ["has_credentials", "hidden", "hidden_in"]

_CREDENTIALS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^\s/@:\"']*:[^\s/@\"']+@")
_HIDDEN = r"\1xxxxx:xxxxx@"


def hidden(text: str) -> str:
    """*text* with the user's name and password in each URL replaced, as docker's own messages do."""
    return _CREDENTIALS.sub(_HIDDEN, text) if "://" in text else text


def hidden_in(data: bytes) -> bytes:
    """As `hidden`, for the bytes of a file."""
    return hidden(data.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def has_credentials(data: bytes) -> bool:
    """Whether `hidden_in` would change *data*."""
    return b"://" in data and hidden_in(data) != data
