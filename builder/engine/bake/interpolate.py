"""Compose's variables in texts (`$X`, `${X:-default}`, `${X:?message}`, `${X:+other}`) and `.env` files. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from builder.errors import BakeError

_START = re.compile(r"\$(?:(?P<escaped>\$)|(?P<bare>[_A-Za-z][_A-Za-z0-9]*)|(?P<brace>\{)|)")
_INSIDE = re.compile(r"(?P<name>[_A-Za-z][_A-Za-z0-9]*)(?P<operator>:-|-|:\?|\?|:\+|\+)?")
_LINE = re.compile(r"\s*(?:export\s+)?(?P<name>[_A-Za-z][-_A-Za-z0-9.]*)\s*(?:[=:](?P<value>.*))?$", re.DOTALL)


def interpolate(text: str, env: Mapping[str, str], *, where: str) -> str:
    """*text* with its variables replaced; a variable that is not set is empty. *where* is for errors."""
    made: list[str] = []
    at = 0
    while True:
        match = _START.search(text, at)
        if match is None:
            return "".join((*made, text[at:]))
        made.append(text[at : match.start()])
        at = match.end()
        if match["escaped"]:
            made.append("$")
        elif match["bare"]:
            made.append(env.get(match["bare"], ""))
        elif match["brace"]:
            value, at = _braced(text, at, env, where)
            made.append(value)
        else:
            raise _invalid(text, where)


def _invalid(text: str, where: str) -> BakeError:
    return BakeError(f'{where}: invalid interpolation format: "{text}"', hint="use $$ for a dollar sign")


def _braced(text: str, at: int, env: Mapping[str, str], where: str) -> tuple[str, int]:
    """The value of `${…` from after its brace, and where it ends. Defaults may have variables themselves."""
    match = _INSIDE.match(text, at)
    end = _closing(text, at)
    if match is None or end < 0 or (match["operator"] is None and match.end() != end):
        raise _invalid(text, where)
    name, operator = match["name"], match["operator"] or ""
    rest = text[match.end() : end]
    value = env.get(name)
    missing = value is None or (operator.startswith(":") and not value)
    if operator.endswith("-"):
        found = interpolate(rest, env, where=where) if missing else value
    elif operator.endswith("?") and missing:
        reason = interpolate(rest, env, where=where)
        raise BakeError(f"{where}: required variable {name} is missing a value: {reason}".removesuffix(": "))
    elif operator.endswith("+"):
        found = "" if missing else interpolate(rest, env, where=where)
    else:
        found = value
    return found or "", end + 1


def _closing(text: str, at: int) -> int:
    depth = 0
    while at < len(text):
        if text.startswith("${", at):
            depth += 1
        elif text[at] == "}":
            if depth == 0:
                return at
            depth -= 1
        at += 1
    return -1


def dotenv(text: str, env: Mapping[str, str], *, name: str) -> dict[str, str]:
    """The variables of an `.env` file; values may use *env* and those before them. Raises BakeError."""
    found: dict[str, str] = {}
    lines = iter(enumerate(text.removeprefix("\ufeff").splitlines(), 1))
    for number, line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.match(line)
        if match is None:
            raise BakeError(f'{name}:{number}: unexpected text "{line.strip()}"', hint="a line is NAME=value")
        value = match["value"]
        if value is None:
            if match["name"] in env:
                found[match["name"]] = env[match["name"]]
            continue
        value = value.strip()
        quote = value[:1] if value[:1] in ("'", '"') else ""
        while quote and not _ends(value, quote):
            more = next(lines, None)
            if more is None:
                raise BakeError(f"{name}:{number}: a quote is not closed")
            value += "\n" + more[1]
        found[match["name"]] = _unquoted(value, quote, {**found, **env}, f"{name}:{number}")
    return found


def _ends(value: str, quote: str) -> bool:
    return _end(value, quote) > 0


def _end(value: str, quote: str) -> int:
    at = 1
    while at < len(value):
        if value[at] == "\\" and quote == '"':
            at += 1
        elif value[at] == quote:
            return at
        at += 1
    return -1


def _unquoted(value: str, quote: str, env: Mapping[str, str], where: str) -> str:
    if quote == "'":
        return value[1 : _end(value, quote)]
    if quote:
        inside = value[1 : _end(value, quote)]
        inside = re.sub(r"\\([nrt\"\\])", lambda one: {"n": "\n", "r": "\r", "t": "\t"}.get(one[1], one[1]), inside)
        return interpolate(inside, env, where=where)
    plain = re.split(r"\s#", value, maxsplit=1)[0].rstrip()
    return interpolate(plain, env, where=where)
