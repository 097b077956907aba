"""Which flags each instruction takes, and reading them."""

from __future__ import annotations

from collections.abc import Mapping

from parser.errors import DockerfileError, did_you_mean
from parser.syntax import Flag

__all__ = ["FLAGS", "FlagValues", "read_flags"]

_TEXT, _TEXTS, _YES = "text", "texts", "yes or no"

FLAGS: Mapping[str, Mapping[str, str]] = {
    "from": {"platform": _TEXT},
    "run": {"mount": _TEXTS, "network": _TEXT, "security": _TEXT, "device": _TEXTS},
    "copy": {
        "chown": _TEXT,
        "from": _TEXT,
        "chmod": _TEXT,
        "link": _YES,
        "parents": _YES,
        "exclude": _TEXTS,
    },
    "add": {
        "chown": _TEXT,
        "chmod": _TEXT,
        "link": _YES,
        "keep-git-dir": _YES,
        "checksum": _TEXT,
        "unpack": _YES,
        "exclude": _TEXTS,
    },
    "healthcheck": {
        "interval": _TEXT,
        "timeout": _TEXT,
        "start-period": _TEXT,
        "start-interval": _TEXT,
        "retries": _TEXT,
    },
}
"""The flags by instruction, of frontend 1.26; an instruction that is not here takes none."""


class FlagValues:
    """The flags of one instruction by name."""

    def __init__(self, values: Mapping[str, list[str]]) -> None:
        self._values = values

    def text(self, name: str) -> str | None:
        """The value of a flag that is given once; None when it is not there."""
        found = self._values.get(name)
        return found[-1] if found else None

    def texts(self, name: str) -> tuple[str, ...]:
        """The values of a flag that may be given several times, in order."""
        return tuple(self._values.get(name, ()))

    def switch(self, name: str) -> bool | None:
        """A yes or no; None when it is not there."""
        found = self._values.get(name)
        return found[-1] == "true" if found else None


def read_flags(keyword: str, flags: tuple[Flag, ...]) -> FlagValues:
    """Check the flags of the instruction `keyword` (lower case). Raises DockerfileError without a span."""
    known = FLAGS.get(keyword, {})
    values: dict[str, list[str]] = {}
    for flag in flags:
        kind = known.get(flag.name)
        if kind is None:
            raise DockerfileError(
                f"unknown flag: --{flag.name}", hint=_hint(keyword, flag.name, known), word=f"--{flag.name}"
            )
        if flag.name in values and kind != _TEXTS:
            raise DockerfileError(f"duplicate flag specified: --{flag.name}", word=str(flag))
        if kind == _YES:
            value = (flag.value or "").lower() if flag.value is not None else "true"
            if flag.value == "":
                raise DockerfileError(f"missing a value on flag: --{flag.name}", word=str(flag))
            if value not in ("true", "false"):
                raise DockerfileError(
                    f"expecting boolean value for flag --{flag.name}, not: {flag.value}", word=str(flag)
                )
        elif flag.value is None:
            raise DockerfileError(
                f"missing a value on flag: --{flag.name}", hint=f"write --{flag.name}=VALUE", word=str(flag)
            )
        else:
            value = flag.value
        values.setdefault(flag.name, []).append(value)
    return FlagValues(values)


def _hint(keyword: str, name: str, known: Mapping[str, str]) -> str:
    if not known:
        return f"{keyword.upper()} takes no flags"
    near = did_you_mean(name, known)
    return near or f"{keyword.upper()} takes {', '.join(f'--{flag}' for flag in sorted(known))}"
