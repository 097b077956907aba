"""Go's durations, as HEALTHCHECK takes them: "1m30s", "1.5h", "100ms"."""

from __future__ import annotations

import re
from decimal import Decimal

from parser.errors import DockerfileError

__all__ = ["parse_duration"]

_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_PART = re.compile(r"([0-9]{0,30}(?:\.[0-9]{0,30})?)(ns|us|µs|μs|ms|s|m|h)")
_LONGEST = 2**63 - 1


def parse_duration(text: str) -> int:
    """Nanoseconds. Raises DockerfileError without a span."""
    rest = text
    sign = 1
    if rest[:1] in ("-", "+"):
        sign = -1 if rest[0] == "-" else 1
        rest = rest[1:]
    if rest == "0":
        return 0
    total = 0
    position = 0
    while position < len(rest):
        match = _PART.match(rest, position)
        if match is None or match[1] in ("", "."):
            break
        total += int(Decimal(match[1]) * _UNITS[match[2]])
        position = match.end()
    if not rest or position < len(rest):
        missing = rest.replace(".", "", 1).isdecimal()
        problem = "missing unit in duration" if missing else "invalid duration"
        raise DockerfileError(f'time: {problem} "{text}"', hint="write it like 30s or 1m30s", word=text)
    if total > _LONGEST:
        raise DockerfileError(f'time: invalid duration "{text}"', hint="it is too long", word=text)
    return sign * total
