"""RFC 3339 times as image documents have them: nanoseconds since the epoch, and back.

datetime keeps microseconds only, and Go writes nanoseconds; so the numbers here are whole nanoseconds.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_RFC3339 = r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,18}))?([Zz]|[+-]\d\d:\d\d)"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse(text: str) -> int | None:
    """Nanoseconds since the epoch, or None when `text` is no RFC 3339 time. A leap second counts as the one before."""
    match = re.fullmatch(_RFC3339, text, re.ASCII)
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    try:
        moment = datetime(max(year, 1), month, day, hour, minute, min(second, 59), tzinfo=UTC)
    except ValueError:
        return None
    if second > 60:
        return None
    zone = match[8]
    offset = timedelta()
    if zone not in "Zz":
        hours, minutes = int(zone[1:3]), int(zone[4:6])
        if hours > 23 or minutes > 59:
            return None
        offset = timedelta(hours=hours, minutes=minutes) * (-1 if zone[0] == "-" else 1)
    since = moment - _EPOCH - offset
    fraction = int((match[7] or "0").ljust(9, "0")[:9])
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + fraction


def text(nanoseconds: int) -> str:
    """`nanoseconds` since the epoch as Go's RFC3339Nano in UTC: no trailing zeros, no dot when whole."""
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    base = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
    return base + (f".{fraction:09d}".rstrip("0") if fraction else "") + "Z"
