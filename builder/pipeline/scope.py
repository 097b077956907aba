"""Which variables a word of the Dockerfile sees, and what they are worth: the scopes of ARG and ENV.

Three scopes, after Docker's reference ("Understand how ARG and FROM interact", "Scope", "Using ARG variables"):

* global: the ARG lines before the first FROM and the platform arguments; seen by FROM lines, and by a stage only for
  names that it declares again;
* stage: the image's environment, then ENV and ARG in the order of the lines. The later line wins, whichever of the two
  it is, but each stage starts with its image's environment written over inherited arguments;
* RUN: what its stage has, and the predefined proxy arguments when the user gives them.

A word always sees the values from before its own instruction. Values given on the command line win over defaults.
Pure; the mutable StageScope lives only inside `plan`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builder.oci.platforms import Platform

PROXY_NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
"""Predefined in every stage, in upper and lower case; outside of history and cache keys unless declared."""

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""PATH of an image that has none."""

# Arguments that steer the builder; a stage that declares them gets no variable of that name.
_NOT_IN_ENV = frozenset({"BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"})

Expand = Callable[[str, Mapping[str, str]], str]
"""Word and variables → expanded word; raises DockerfileError."""


def is_proxy(name: str) -> bool:
    """Whether *name* is one of the predefined proxy arguments, in any mixture of cases as Docker compares them."""
    return name.upper() in PROXY_NAMES


def proxy_environment(build_args: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The proxy variables that RUN sees for the proxies among *build_args*: each in both cases, sorted by name.

    When both cases are given with different values the one that sorts last (lower case) wins; an empty one is none. In
    RUN they win over ENV."""
    chosen = {name.upper(): build_args[name] for name in sorted(build_args) if is_proxy(name)}
    return tuple(sorted((name, value) for upper, value in chosen.items() for name in (upper, upper.lower()) if value))


def platform_args(build: Platform, target: Platform, target_stage: str) -> dict[str, str]:
    """The automatic arguments of the global scope, in Docker's order. An empty *target_stage* is "default"."""
    values: dict[str, str] = {}
    for prefix, platform in (("BUILD", build), ("TARGET", target)):
        values[f"{prefix}PLATFORM"] = str(platform)
        values[f"{prefix}OS"] = platform.os
        values[f"{prefix}OSVERSION"] = ""
        values[f"{prefix}ARCH"] = platform.architecture
        values[f"{prefix}VARIANT"] = platform.variant or ""
    values["TARGETSTAGE"] = target_stage or "default"
    return values


def global_scope(
    declared: Iterable[tuple[str, str | None]],
    build_args: Mapping[str, str],
    automatic: Mapping[str, str],
    expand: Expand,
) -> dict[str, str]:
    """The global scope after all (name, default) pairs of the ARG lines before the first FROM.

    An automatic argument can be set on the command line; a default never beats a value given there.
    Raises DockerfileError."""
    scope = {name: build_args.get(name, value) for name, value in automatic.items()}
    for name, default in declared:
        if name in build_args:
            scope[name] = build_args[name]
        elif default is not None:
            scope[name] = expand(default, scope)
    return scope


class StageScope:
    """The variables of one stage while its instructions are walked in order.

    `env` is what words see and RUN gets; `declared` maps each declared argument to its value, None for one without."""

    __slots__ = ("declared", "env")

    def __init__(self, base: StageScope | None = None) -> None:
        """An empty scope, or one that starts with what *base* (the stage of the FROM line) had at its end."""
        self.env: dict[str, str] = dict(base.env) if base else {}
        self.declared: dict[str, str | None] = dict(base.declared) if base else {}

    def enter(self, environment: Mapping[str, str]) -> None:
        """Put the image's environment over what is there: the first thing that a stage does."""
        self.env.update(environment)

    def declare(
        self,
        name: str,
        default: str | None,
        build_args: Mapping[str, str],
        globals_: Mapping[str, str],
        expand: Expand,
    ) -> str | None:
        """ARG name[=default]: the value that holds from now on, None when there is none (an earlier one stays)."""
        value: str | None
        if name in build_args:
            value = build_args[name]
        elif default is not None:
            value = expand(default, self.env)
        else:
            value = globals_.get(name)
        if value is not None and name not in _NOT_IN_ENV:
            self.env[name] = value
        self.declared[name] = value
        return value

    def run_args(self) -> tuple[tuple[str, str], ...]:
        """What RUN's history entry lists: declared arguments in the order of their first declaration, with the value
        that the variable has now (an ENV of the same name may have changed it)."""
        return tuple((name, self.env.get(name, value or "")) for name, value in self.declared.items())
