"""format and formatlist: verbs as in C's printf, with Go's %v, %#v, %q and %t."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping

from builder.engine.bake.values import Unfit, Value, boolean, integer, kind, number, plain, text

_VERB = re.compile(
    r"%(?P<flags>[-+ #0]*)(?P<width>[0-9]+)?(?:\.(?P<precision>[0-9]*))?(?:\[(?P<index>[0-9]+)\])?(?P<verb>.)",
    re.DOTALL,
)
_WIDEST = 4096


def _format(pattern: Value, *arguments: Value) -> Value:
    next_one = 0
    used: set[int] = set()

    def verb(match: re.Match[str]) -> str:
        nonlocal next_one
        if match["verb"] == "%":
            return "%"
        at = int(match["index"]) - 1 if match["index"] else next_one
        if not 0 <= at < len(arguments):
            raise Unfit(f"not enough arguments for {match[0]!r}: argument {at + 1} is not there")
        next_one = at + 1
        used.add(at)
        return _padded(match, arguments[at])

    made = _VERB.sub(verb, text(pattern))
    if arguments and len(used) < len(arguments) and max(used, default=-1) + 1 < len(arguments):
        raise Unfit(f"too many arguments; only {max(used, default=-1) + 1} used by the format string")
    return made


def _padded(match: re.Match[str], value: Value) -> str:
    flags, width = match["flags"], int(match["width"] or 0)
    if width > _WIDEST or int(match["precision"] or 0) > _WIDEST:
        raise Unfit(f"{match[0]!r} is too wide")
    shown = _shown(match["verb"], flags, match["precision"], value)
    if "-" in flags:
        return shown.ljust(width)
    if "0" in flags and match["verb"] in "dobxXeEfFgG":
        sign = shown[:1] if shown[:1] in "+- " else ""
        return sign + shown[len(sign) :].rjust(width - len(sign), "0")
    return shown.rjust(width)


def _shown(verb: str, flags: str, precision: str | None, value: Value) -> str:
    match verb:
        case "v" if "#" in flags:
            return json.dumps(plain(value), separators=(",", ":"), ensure_ascii=False)
        case "v":
            return _any(value)
        case "t":
            return text(boolean(value))
        case "d" | "b" | "o" | "x" | "X" if verb not in "xX" or kind(value) != "string":
            return _signed(f"{integer(value):{verb}}", flags)
        case "x" | "X":
            return f"{text(value).encode().hex()}" if verb == "x" else text(value).encode().hex().upper()
        case "e" | "E" | "f" | "F" | "g" | "G":
            digits = f".{precision or 0}" if precision is not None else ""
            if verb in "gG" and not digits:
                return _signed(text(number(value)), flags)
            return _signed(f"{number(value):{digits}{verb}}", flags)
        case "s" | "q":
            shown = _any(value) if verb == "s" else text(value)
            if precision is not None:
                shown = shown[: int(precision or 0)]
            return json.dumps(shown, ensure_ascii=False) if verb == "q" else shown
    raise Unfit(f"unsupported format verb %{verb}")


def _any(value: Value) -> str:
    if isinstance(value, tuple | Mapping) or value is None:
        return json.dumps(plain(value), separators=(",", ":"), ensure_ascii=False)
    return text(value)


def _signed(shown: str, flags: str) -> str:
    if not shown.startswith("-"):
        return ("+" if "+" in flags else " " if " " in flags else "") + shown
    return shown


def _formatlist(pattern: Value, *arguments: Value) -> Value:
    lengths = {len(one) for one in arguments if isinstance(one, tuple)}
    if len(lengths) > 1:
        raise Unfit("all lists must have the same length")
    count = lengths.pop() if lengths else 1
    return tuple(
        _format(pattern, *(one[at] if isinstance(one, tuple) else one for one in arguments)) for at in range(count)
    )


FUNCTIONS: Mapping[str, Callable[..., Value]] = {"format": _format, "formatlist": _formatlist}
