"""Signals by the names that users write."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C part of signal, without its enums; typeshed has none

from runtime.errors import ContainerError


def number(text: str) -> int:
    """``SIGTERM``, ``term``, ``15``, ``SIGRTMIN+3`` → 15. Raises ContainerError."""
    name = text.upper().removeprefix("SIG")
    if name.isascii() and name.isdigit() and 0 < int(name) <= _signal.SIGRTMAX:
        return int(name)
    base, sign, offset = name.replace("-", "+-").partition("+")
    found = getattr(_signal, f"SIG{base}", None) if base.isalnum() else None
    if isinstance(found, int):
        if not sign:
            return found
        if base in ("RTMIN", "RTMAX") and offset.removeprefix("-").isdigit():
            found += int(offset)
            if _signal.SIGRTMIN <= found <= _signal.SIGRTMAX:
                return found
    raise ContainerError(f"invalid signal: {text}", hint="a name like SIGTERM, or a number")
