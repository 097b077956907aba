"""The checks of one stage: its instructions in order, with the variables that their words see."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from parser import instructions as ast
from parser import words
from parser.checks import rules
from parser.checks.names import is_secret, split_port, suggestion
from parser.checks.rules import Finding
from parser.checks.surroundings import ImageFacts, Surroundings
from parser.errors import DockerfileError
from parser.mounts import RunMount, parse_mount
from parser.ports import parse_port
from parser.source import Span
from parser.syntax import quote

__all__ = ["StageState", "StageWalk"]

_NOT_IN_ENV = frozenset({"BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"})
_REMOTE = ("http://", "https://", "git://", "git@", "ssh://")
_ANY_NAMES = ("\ue000", ".\ue000")
"""Names that no pattern means: only one that matches everything matches both."""


@dataclass(slots=True)
class StageState:
    """What a stage has at one point: variables, declared arguments, whether SHELL was used, the directory.

    `workdir` is None where nobody knows what the base image says.
    """

    env: dict[str, str] = field(default_factory=dict)
    declared: set[str] = field(default_factory=set)
    shell: bool = False
    workdir: str | None = None
    workdir_set: bool = False
    on_build: list[str] = field(default_factory=list)

    @classmethod
    def on_image(cls, facts: ImageFacts) -> StageState:
        """What a stage FROM an image starts with."""
        return cls(dict(facts.env), shell=bool(facts.shell), workdir=facts.workdir, on_build=list(facts.on_build))

    def child(self) -> StageState:
        """What a stage FROM this one starts with; the triggers were run by then."""
        return StageState(dict(self.env), set(self.declared), self.shell, self.workdir, self.workdir_set)


class StageWalk:
    """Walks one stage; `one` gives the findings of each instruction and changes the state."""

    def __init__(self, state: StageState, around: Surroundings, globals_: Mapping[str, str], escape: str) -> None:
        self.state = state
        self._around = around
        self._globals = globals_
        self._escape = escape
        self._earlier: dict[type, Span] = {}
        self.args: list[tuple[ast.Argument, str | None, Span]] = []
        """The declared arguments in order; the value is None where it is the global scope's, or nobody's."""
        self.mounts: list[tuple[RunMount, Span]] = []

    def one(self, instruction: ast.Instruction, span: Span) -> Iterator[Finding]:
        """The findings of one instruction, which stands at `span`. Raises DockerfileError where a build would."""
        match instruction:
            case ast.Env() | ast.Label():
                yield from self._pairs(instruction, span)
            case ast.Arg():
                yield from self._arg(instruction, span)
            case ast.Copy() | ast.Add():
                yield from self._copy(instruction, span)
            case ast.Run():
                for raw in instruction.mounts:
                    yield from self._mount(raw, span)
            case ast.Workdir():
                yield from self._workdir(instruction, span)
            case ast.User(user=word) | ast.Stopsignal(signal=word):
                yield from self._undefined(word, span)
            case ast.Volume():
                for path in instruction.paths:
                    yield from self._undefined(path, span)
                    if not self._expand(path):
                        raise DockerfileError("VOLUME specified can not be an empty string")
            case ast.Expose():
                yield from self._expose(instruction, span)
            case ast.Cmd() | ast.Entrypoint():
                yield from self._once(instruction, span)
                if isinstance(instruction.command, ast.ShellForm) and not self.state.shell:
                    detail = (
                        f"JSON arguments recommended for {instruction.keyword} to prevent unintended behavior related "
                        "to OS signals"
                    )
                    yield Finding(rules.JSON_ARGS_RECOMMENDED, detail, span)
            case ast.Healthcheck():
                yield from self._once(instruction, span)
            case ast.Shell():
                self.state.shell = True
            case ast.Onbuild():
                self.state.on_build.append(instruction.expression)
            case ast.From() | ast.Maintainer():
                pass

    def _pairs(self, line: ast.Env | ast.Label, span: Span) -> Iterator[Finding]:
        changed: list[tuple[str, str]] = []
        for pair in line.pairs:
            yield from self._undefined(pair.key, span)
            yield from self._undefined(pair.value, span)
            changed.append((self._expand(pair.key), self._expand(pair.value)))
        for pair in line.pairs:
            if pair.legacy:
                name = line.keyword
                detail = f'"{name} key=value" should be used instead of legacy "{name} key value" format'
                yield Finding(rules.LEGACY_KEY_VALUE_FORMAT, detail, span, pair.key)
        if isinstance(line, ast.Env):
            for key, _ in changed:
                yield from _secret("ENV", key, span)
            self.state.env.update(changed)

    def _arg(self, line: ast.Arg, span: Span) -> Iterator[Finding]:
        given, env = self._around.build_args, self.state.env
        for arg in line.args:
            yield from _secret("ARG", arg.name, span)
            own: str | None = None
            if arg.name in given:
                own = given[arg.name]
            elif arg.default is not None:
                yield from self._undefined(arg.default, span)
                own = self._expand(arg.default)
            self.args.append((arg, own, span))
            value = self._globals.get(arg.name) if own is None else own
            if value is not None and arg.name not in _NOT_IN_ENV:
                env[arg.name] = value
            self.state.declared.add(arg.name)

    def _copy(self, line: ast.Copy | ast.Add, span: Span) -> Iterator[Finding]:
        checksum = line.checksum if isinstance(line, ast.Add) else None
        for word in (line.chown, line.chmod, checksum, *line.exclude, *line.sources, line.dest):
            if word:
                yield from self._undefined(word, span)
        for document in line.heredocs:
            if document.expand and "$" in document.content:
                found = words.process_document(document.text, self.state.env)
                yield from self._unmatched(found.unmatched, span)
        if isinstance(line, ast.Copy) and line.from_ is not None:
            return
        for source in map(self._expand, line.sources):
            if not source.startswith(_REMOTE) and self._is_ignored(source):
                verb = "Copy" if isinstance(line, ast.Copy) else "Add"
                path = posixpath.normpath(source)
                detail = f"Attempting to {verb} file {quote(path)} that is excluded by .dockerignore"
                yield Finding(rules.COPY_IGNORED_FILE, detail, span, path)

    def _is_ignored(self, source: str) -> bool:
        matcher = self._around.ignored
        # With an exception, something below an ignored directory may be there after all.
        if matcher is None or any(pattern.strip().startswith("!") for pattern in matcher.patterns):
            return False
        path = posixpath.normpath(source)
        # The whole context is there as long as anything could be in it.
        return all(map(matcher.matches, _ANY_NAMES)) if path == "." else matcher.matches(path)

    def _mount(self, raw: str, span: Span) -> Iterator[Finding]:
        found: list[Finding] = []

        def expand(value: str) -> str:
            found.extend(self._undefined(value, span))
            return self._expand(value)

        try:
            self.mounts.append((parse_mount(raw, expand), span))
        finally:
            yield from found  # also those of a mount that is then refused

    def _workdir(self, line: ast.Workdir, span: Span) -> Iterator[Finding]:
        yield from self._undefined(line.path, span)
        path, state = self._expand(line.path), self.state
        if not state.workdir_set and not path.startswith("/"):
            detail = f"Relative workdir {quote(path)} can have unexpected results if the base image changes"
            yield Finding(rules.WORKDIR_RELATIVE_PATH, detail, span, state.workdir or "")
        state.workdir_set = True
        if state.workdir is not None or path.startswith("/"):
            state.workdir = posixpath.normpath(posixpath.join(state.workdir or "/", path))

    def _expose(self, line: ast.Expose, span: Span) -> Iterator[Finding]:
        for word in line.ports:
            for port in words.expand_words(word, self.state.env, escape=self._escape):
                before, _, protocol = split_port(port)
                if protocol != protocol.lower():
                    detail = f"Defined protocol '{port}' in EXPOSE instruction should be lowercase"
                    yield Finding(rules.EXPOSE_PROTO_CASING, detail, span, port)
                if before:
                    detail = f"EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
                    yield Finding(rules.EXPOSE_INVALID_FORMAT, detail, span, port)
                parse_port(port)

    def _once(self, line: ast.Cmd | ast.Entrypoint | ast.Healthcheck, span: Span) -> Iterator[Finding]:
        earlier = self._earlier.get(type(line))
        if earlier is not None:
            detail = (
                f"Multiple {line.keyword} instructions should not be used in the same stage because only the last one "
                "will be used"
            )
            # The one that does not count is the one above.
            yield Finding(rules.MULTIPLE_INSTRUCTIONS_DISALLOWED, detail, earlier)
        self._earlier[type(line)] = span

    def _undefined(self, word: str, span: Span) -> Iterator[Finding]:
        if "$" in word:
            found = words.process(word, self.state.env, escape=self._escape)
            yield from self._unmatched(found.unmatched, span)

    def _unmatched(self, names: frozenset[str], span: Span) -> Iterator[Finding]:
        for name in sorted(names - self.state.declared - _NOT_IN_ENV):
            near = suggestion(name, self.state.env)
            detail = f"Usage of undefined variable '${name}'" + (f" (did you mean ${near}?)" if near else "")
            yield Finding(rules.UNDEFINED_VAR, detail, span, name)

    def _expand(self, word: str) -> str:
        return words.expand(word, self.state.env, escape=self._escape)


def _secret(keyword: str, name: str, span: Span) -> Iterator[Finding]:
    if is_secret(name):
        detail = f"Do not use ARG or ENV instructions for sensitive data ({keyword} {quote(name)})"
        yield Finding(rules.SECRETS_USED_IN_ARG_OR_ENV, detail, span, name)
