"""How docker writes sizes, ages and durations for people.  Pure; the clock is an argument."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")


def size(count: float, *, digits: int = 3) -> str:
    """Bytes in powers of 1000 with `digits` significant digits: 1.09MB, 0B, 12.3kB."""
    return _scaled(count, 1000.0, _DECIMAL, digits)


def binary_size(count: float) -> str:
    """Bytes in powers of 1024, four significant digits: 1.5GiB, 12.54MiB."""
    return _scaled(count, 1024.0, _BINARY, 4)


def _scaled(count: float, base: float, units: tuple[str, ...], digits: int) -> str:
    value, step = float(count), 0
    while value >= base and step < len(units) - 1:
        value, step = value / base, step + 1
    text = f"{value:.{digits}g}"
    # %g turns 1000 at three digits into 1e+03; docker's %.*g does so too, but only above its unit, never here
    return (f"{value:.0f}" if "e" in text else text) + units[step]


def duration(span: timedelta) -> str:
    """A length of time as docker says it: "Less than a second", "About a minute", "3 hours", "2 weeks"."""
    seconds = int(span.total_seconds())
    if seconds < 1:
        return "Less than a second"
    if seconds == 1:
        return "1 second"
    if seconds < 60:
        return f"{seconds} seconds"
    minutes = seconds // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{int(seconds / 3600) // 24 // 365} years"


def moment(nanoseconds: int) -> datetime:
    """Nanoseconds since the epoch as a time."""
    return datetime.fromtimestamp(nanoseconds / 1_000_000_000, UTC)


def age(then: datetime, now: datetime) -> str:
    """`then` as seen from `now`: "3 minutes ago"."""
    return duration(now - then) + " ago"


def timestamp(moment: datetime) -> str:
    """A moment as tables show it in CreatedAt columns: `2024-05-01 10:00:00 +0000 UTC`."""
    zone = moment.strftime("%Z") or "UTC"
    return moment.strftime("%Y-%m-%d %H:%M:%S %z ") + zone


def elapsed(seconds: float) -> str:
    """The running time of a step in build progress: `0.1s`, `12.3s`, `2m03s`."""
    return f"{seconds:.1f}s"


def ellipsis(text: str, width: int) -> str:
    """`text` cut to `width` characters, the last being `…` when something was cut."""
    if len(text) <= width:
        return text
    return text[: max(width - 1, 0)] + "…" if width > 1 else text[:width]
