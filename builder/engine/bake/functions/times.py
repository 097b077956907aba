"""Timestamps in RFC 3339."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from builder.engine.bake.values import Unfit, Value, integer, text

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_TOKEN = re.compile(r"'(?:[^']|'')*'|'|([A-Za-z])\1*|[^A-Za-z']+")


def _parsed(value: Value) -> datetime:
    written = text(value)
    try:
        if _RFC3339.fullmatch(written) is None:
            raise ValueError
        return datetime.fromisoformat(written)
    except ValueError:
        raise Unfit(f'"{written}" is not a valid RFC3339 timestamp') from None


def shown(moment: datetime) -> str:
    """A moment in RFC 3339, whole seconds."""
    return moment.replace(microsecond=0).isoformat().replace("+00:00", "Z")


def _timeadd(moment: Value, duration: Value) -> Value:
    written = text(duration)
    body = written.lstrip("+-")
    parts = _DURATION.findall(body)
    if len(written) - len(body) > 1 or (body != "0" and "".join(map("".join, parts)) != body) or not body:
        raise Unfit(f'"{written}" is not a duration such as 1h30m')
    seconds = sum(float(amount) * _SECONDS[unit] for amount, unit in parts)
    try:
        return shown(_parsed(moment) + timedelta(seconds=-seconds if written.startswith("-") else seconds))
    except OverflowError:
        raise Unfit(f"{written} is too long") from None


def _zone(moment: datetime, *, colon: bool) -> str:
    made = moment.strftime("%z")
    return f"{made[:3]}:{made[3:]}" if colon else made


_VERBS: Mapping[str, Callable[[datetime], str]] = {
    "YYYY": lambda t: f"{t.year:04d}",
    "YY": lambda t: f"{t.year % 100:02d}",
    "MMMM": lambda t: _MONTHS[t.month - 1],
    "MMM": lambda t: _MONTHS[t.month - 1][:3],
    "MM": lambda t: f"{t.month:02d}",
    "M": lambda t: str(t.month),
    "DD": lambda t: f"{t.day:02d}",
    "D": lambda t: str(t.day),
    "EEEE": lambda t: _DAYS[t.weekday()],
    "EEE": lambda t: _DAYS[t.weekday()][:3],
    "HH": lambda t: f"{(t.hour + 11) % 12 + 1:02d}",
    "H": lambda t: str((t.hour + 11) % 12 + 1),
    "hh": lambda t: f"{t.hour:02d}",
    "h": lambda t: str(t.hour),
    "AA": lambda t: "AM" if t.hour < 12 else "PM",
    "aa": lambda t: "am" if t.hour < 12 else "pm",
    "mm": lambda t: f"{t.minute:02d}",
    "m": lambda t: str(t.minute),
    "ss": lambda t: f"{t.second:02d}",
    "s": lambda t: str(t.second),
    "ZZZZZ": lambda t: _zone(t, colon=True),
    "ZZZZ": lambda t: _zone(t, colon=False),
    "ZZZ": lambda t: _zone(t, colon=False) if t.utcoffset() else "UTC",
    "Z": lambda t: _zone(t, colon=True) if t.utcoffset() else "Z",
}


def _formatdate(pattern: Value, moment: Value) -> Value:
    when, made = _parsed(moment), []
    for match in _TOKEN.finditer(text(pattern)):
        token = match[0]
        if token.startswith("'"):
            if len(token) < 2:
                raise Unfit("unterminated literal '")
            made.append(token[1:-1].replace("''", "'"))
        elif match[1] is None:
            made.append(token)
        elif token in _VERBS:
            made.append(_VERBS[token](when))
        else:
            raise Unfit(f'invalid date format verb "{token}"')
    return "".join(made)


def _fields(when: datetime) -> Value:
    iso = when.isocalendar()
    return {
        "year": when.year,
        "year_day": when.timetuple().tm_yday,
        "day": when.day,
        "month": when.month,
        "month_name": _MONTHS[when.month - 1],
        "weekday": when.isoweekday() % 7,
        "weekday_name": _DAYS[when.weekday()],
        "hour": when.hour,
        "minute": when.minute,
        "second": when.second,
        "unix": int(when.timestamp()),
        "iso_year": iso.year,
        "iso_week": iso.week,
        "rfc3339": shown(when),
    }


def _unixtimestampparse(seconds: Value) -> Value:
    try:
        return _fields(datetime.fromtimestamp(integer(seconds), UTC))
    except (ValueError, OverflowError, OSError):
        raise Unfit(f"{text(seconds)} is not a time that can be written") from None


def _rfc3339parse(moment: Value) -> Value:
    return _fields(_parsed(moment))


FUNCTIONS: Mapping[str, Callable[..., Value]] = {
    "formatdate": _formatdate,
    "rfc3339parse": _rfc3339parse,
    "timeadd": _timeadd,
    "unixtimestampparse": _unixtimestampparse,
}
