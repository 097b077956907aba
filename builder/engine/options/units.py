"""Sizes, durations, cpus, times, yes and no: the words of docker's flags."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from builder.errors import InvalidInput

BOOLEANS = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}
"""What Go's strconv.ParseBool takes."""

_SIZE = re.compile(r"\s*(-?\d+(?:\.\d+)?) ?([kmgtpKMGTP])?(?:[iI]?[bB])?\s*", re.ASCII)
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
SIZES = "write it as bytes, or with a unit: 500m, 20GB"
_DURATIONS = "write it as 90s, 1h30m or 24h"
_DURATION_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)(?:T(\d\d(?::\d\d(?::\d\d)?)?)(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)?")


def parse_bytes(text: str) -> int:
    """A size with a binary unit (`512m`, `1.5GiB`, `2g`, plain bytes) in bytes. Raises InvalidInput."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise InvalidInput(f"invalid size: '{text}'", hint=SIZES)
    from decimal import Decimal

    # Decimal: 0.1g must not depend on binary fractions, and a thousand digits must not become inf
    amount = Decimal(match[1]) * 1024 ** _POWER[(match[2] or "").lower()]
    if not -(2**63) <= amount < 2**63:
        raise InvalidInput(f"invalid size: '{text}'", hint="it does not fit into 64 bits")
    return int(amount)


def parse_memory_swap(text: str) -> int:
    """Like `parse_bytes`, and -1 for unlimited."""
    return -1 if text == "-1" else parse_bytes(text)


def parse_duration(text: str) -> int:
    """A Go duration (`1m30s`, `1.5h`, `-2s`, `0`) in nanoseconds. Raises InvalidInput."""
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if rest == "0":
        return 0
    from decimal import Decimal

    total, position = Decimal(0), 0
    while position < len(rest):
        match = _DURATION_PART.match(rest, position)
        if match is None:
            unit_missing = re.fullmatch(r"[\d.]+", rest[position:]) is not None
            raise InvalidInput(
                f'time: {"missing unit in" if unit_missing else "invalid"} duration "{text}"', hint=_DURATIONS
            )
        total += Decimal(match[1]) * _NANOSECONDS[match[2]]
        position = match.end()
    if not rest or total >= 2**63:
        raise InvalidInput(f'time: invalid duration "{text}"', hint=_DURATIONS)
    return sign * int(total)


def parse_cpus(text: str) -> int:
    """`--cpus 1.5` in billionths of a cpu. Raises InvalidInput."""
    from decimal import Decimal, InvalidOperation

    try:
        cpus = Decimal(text)
    except InvalidOperation:
        raise InvalidInput(f"failed to parse {text} as a rational number") from None
    if not cpus.is_finite() or cpus < 0 or cpus >= 2**33:
        raise InvalidInput(f"failed to parse {text} as a rational number")
    nano = cpus * 1_000_000_000
    if nano != int(nano):
        raise InvalidInput("value is too precise", hint="at most nine digits after the point")
    return int(nano)


def parse_moment(text: str, now: datetime) -> int:
    """`--since`, `--until`: RFC 3339, a unix time, or a duration back from `now`; in nanoseconds since the epoch."""
    from decimal import Decimal

    if re.fullmatch(r"-?\d+(\.\d{1,9})?", text):
        return int(Decimal(text) * 1_000_000_000)
    match = _RFC3339.fullmatch(text)
    if match is None:
        try:
            return int(now.timestamp() * 1_000_000_000) - parse_duration(text)
        except InvalidInput as err:
            err.hint = "write a duration (24h), seconds since 1970, or a time: 2026-11-24T10:00:00Z"
            raise
    day, clock, fraction, zone = match.groups()
    full = (clock or "00") + ":00" * (2 - (clock or "00").count(":"))
    try:
        moment = datetime.fromisoformat(f"{day}T{full}" + ("" if zone is None else zone.replace("Z", "+00:00")))
    except ValueError:
        raise InvalidInput(f'parsing time "{text}": out of range') from None
    if zone is None:
        moment = moment.astimezone()
    since_epoch = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    seconds = since_epoch.days * 86400 + since_epoch.seconds
    return seconds * 1_000_000_000 + int(Decimal(fraction or 0) * 1_000_000_000)
