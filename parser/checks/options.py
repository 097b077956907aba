"""Which rules speak: the `# check=` directive, the build argument in its place, and comments above one instruction.

    # check=skip=RuleA,RuleB;experimental=RuleC;error=true

`skip=all` silences all rules but the experimental ones, `experimental=all` wakes those. Names of rules that do not
exist are let pass, as docker lets them: a file may name rules of a newer version.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from parser.checks.rules import Rule
from parser.errors import DockerfileError
from parser.source import Position, Source, Span
from parser.syntax import quote

__all__ = ["BUILD_ARG", "Options", "local", "read"]

BUILD_ARG = "BUILDKIT_DOCKERFILE_CHECK"
"""The build argument that stands for the directive, which then does not count."""

_DIRECTIVE = re.compile(r"#\s*check\s*=\s*(.+?)\s*", re.IGNORECASE)
_YES = ("1", "t", "T", "true", "TRUE", "True")
_NO = ("0", "f", "F", "false", "FALSE", "False")


@dataclass(frozen=True, slots=True)
class Options:
    """`fail`: findings fail the build."""

    skip: frozenset[str] = frozenset()
    skip_all: bool = False
    experimental: frozenset[str] = frozenset()
    experimental_all: bool = False
    fail: bool = False

    def speaks(self, rule: Rule) -> bool:
        """Whether findings of `rule` are wanted."""
        if rule.experimental:
            return self.experimental_all or rule.name in self.experimental
        return not (self.skip_all or rule.name in self.skip)

    def joined(self, other: Options) -> Options:
        """Both together, for one instruction: what either silences or wakes."""
        return Options(
            self.skip | other.skip,
            self.skip_all or other.skip_all,
            self.experimental | other.experimental,
            self.experimental_all or other.experimental_all,
            self.fail or other.fail,
        )


def read(directive: str | None, build_arg: str | None, source: Source) -> Options:
    """What holds for a whole file. Raises DockerfileError for a text that says nothing known."""
    if build_arg:
        try:
            return _parse(build_arg)
        except DockerfileError as err:
            raise DockerfileError(f"failed to parse build-arg:{BUILD_ARG}: {err.message}", hint=err.hint) from None
    try:
        return _parse(directive or "")
    except DockerfileError as err:
        message = f"failed to parse check options: {err.message}"
        raise DockerfileError(message, _place(source), hint=err.hint, source=source) from None


def local(comments: tuple[str, ...]) -> Options | None:
    """What a comment `# check=…` above an instruction says about this one; None without one, or when it says nothing.

    Text after a blank is the author's: `# check=skip=UndefinedVar // set by the base image`. What is about the whole
    file (stage names, the case of keywords, empty continuations, default base images) does not heed it, as with docker.
    """
    for comment in comments:
        found = _DIRECTIVE.fullmatch(f"#{comment}")
        if found is not None:
            try:
                return _parse(found[1].split(" ", 1)[0])
            except DockerfileError:
                return None
    return None


def _parse(text: str) -> Options:
    text = text.strip()
    if not text:
        return Options()
    names: dict[str, tuple[frozenset[str], bool]] = {}
    fail = False
    for part in text.split(";", 2):
        key, equals, value = part.partition("=")
        key, value = key.strip(), value.strip()
        if not equals or key not in ("skip", "experimental", "error"):
            raise DockerfileError(
                f"invalid check option {quote(key if equals else part)}",
                hint="write skip=RULE,RULE;experimental=RULE;error=true",
            )
        if key == "error":
            if value not in _YES + _NO:
                raise DockerfileError(
                    f"failed to parse check option {quote(part)}: strconv.ParseBool: parsing {quote(value)}: "
                    "invalid syntax",
                    hint="error is true or false",
                )
            fail = value in _YES
        else:
            rules = frozenset(name.strip() for name in value.split(","))
            names[key] = (frozenset(), True) if value == "all" else (rules, False)
    skip, skip_all = names.get("skip", (frozenset(), False))
    experimental, experimental_all = names.get("experimental", (frozenset(), False))
    return Options(skip, skip_all, experimental, experimental_all, fail)


def _place(source: Source) -> Span | None:
    """Where the directive stands: among the comments at the top."""
    for number, line in enumerate(source.text.splitlines()[:20], 1):
        if _DIRECTIVE.fullmatch(line.strip()):
            return Span(Position(number), Position(number, len(line) + 1))
    return None
