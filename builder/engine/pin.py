"""Pins the images that a Dockerfile names to digests: `busybox:1` becomes `busybox:1@sha256:…`, nothing else changes.

dockerfile-parse finds the lines and puts them back. It misreads heredocs, so our own parser says which lines really
name images, and reads the result again: had anything but those names changed, the file would not be written.

Pinned are FROM and COPY --from, and the default of an ARG when FROM is that ARG alone. A name with a variable in the
middle (`busybox:${V}`) is left: a digest behind it would stay what it is when V changes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import parser
from builder.errors import InvalidReference
from builder.oci.references import Reference
from parser import graph, words
from parser import instructions as ast
from parser.errors import DockerfileError
from runtime.values import dataclass, replace

if TYPE_CHECKING:
    from builder.engine.session import Engine
    from parser.source import Span

Resolve = Callable[[Reference], str | None]
"""name:tag → the digest of its manifest or index, None when nobody knows it. May raise EngineErrors."""

_GAP = r"(?:[ \t]|[\\`]\r?\n(?:[ \t]*(?:#[^\n]*)?\r?\n)*)"
"""White space inside an instruction: also continued lines with comments between them."""
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")


@dataclass(frozen=True, slots=True)
class Pin:
    """One place that names an image.

    image     its name without a digest
    written   what stands there now, and `pinned` what shall; the same when nothing is to be done
    why       why it has no digest ("" when it has one, or gets one)
    argument  of which ARG it is the default; "" in FROM and COPY
    """

    instruction: ast.Instruction
    image: str
    written: str
    pinned: str
    why: str = ""
    argument: str = ""

    @property
    def span(self) -> Span:
        """The place."""
        return self.instruction.span

    @property
    def changed(self) -> bool:
        """Whether there is something to write."""
        return self.pinned != self.written


def from_store(engine: Engine) -> Resolve:
    """Digests that images of the store came with: made here, an image has none that others could find."""

    def resolve(reference: Reference) -> str | None:
        image = engine.store.images.lookup(reference)
        if image is None:
            return None
        known = [one.digest for one in engine.store.images.references(image) if one.name == reference.name]
        found = [digest for digest in known if digest is not None]
        # an index fits every platform
        return next((one for one in found if engine.store.indexes.find(one)), next(iter(found), None))

    return resolve


def from_registry(environment: Mapping[str, str]) -> Resolve:
    """Digests that the registries give now."""
    from builder.engine import registries

    return lambda reference: registries.resolve(environment, str(reference)).digest


def pins(dockerfile: ast.Dockerfile, resolve: Resolve | None, *, update: bool = False) -> tuple[Pin, ...]:
    """Every image that *dockerfile* names; *resolve* None only looks. *update* looks up what has a digest too.

    Raises DockerfileError and what *resolve* raises."""
    return tuple(_Finder(dockerfile, resolve, update=update).pins())


class _Finder:
    def __init__(self, dockerfile: ast.Dockerfile, resolve: Resolve | None, *, update: bool) -> None:
        self.dockerfile = dockerfile
        self.graph = graph.stages(dockerfile)
        self.resolve = resolve
        self.update = update
        self.known: dict[str, str | None] = {}
        self.defaults: dict[str, str] = {}
        for line in self.graph.global_args:
            for argument in line.args:
                if argument.default is not None:
                    self.defaults[argument.name] = self.expand(argument.default)

    def expand(self, word: str) -> str:
        return words.expand(word, self.defaults, escape=self.dockerfile.directives.escape)

    def pins(self) -> Iterator[Pin]:
        through: dict[str, Pin] = {}
        for stage in self.graph.stages:
            image = self.expand(stage.from_.image)
            if image != "scratch" and self.graph.base_stage(stage, image) is None:
                pin = self.base(stage.from_, image)
                if not pin.argument:
                    yield pin
                elif pin.argument not in through:
                    through[pin.argument] = pin
                    yield pin
            for instruction in stage.instructions:
                if isinstance(instruction, ast.Copy) and instruction.from_ and "$" not in instruction.from_:
                    name = instruction.from_
                    if name != "scratch" and self.graph.source_stage(stage, name) is None:
                        yield self.pin(instruction, name, name)

    def base(self, line: ast.From, image: str) -> Pin:
        """FROM: its own word, or the default of the ARG that it is."""
        variables = [one or other for one, other in _VARIABLE.findall(line.image)]
        if not variables:
            return self.pin(line, image, line.image)
        names = " and ".join(dict.fromkeys(variables))
        if not image:
            return Pin(line, image, line.image, line.image, f"ARG {names} has no default")
        whole = _VARIABLE.fullmatch(line.image)
        argument = self.argument(variables[0]) if whole else None
        if argument is None:
            why = f"it depends on ARG {names}, whose value may change"
            return Pin(line, image, line.image, line.image, "" if _digest(image) else why)
        line_of, name = argument
        return self.pin(line_of, image, self.default(line_of, name), argument=name)

    def argument(self, name: str) -> tuple[ast.Instruction, str] | None:
        """The ARG line of *name* and the name, when only FROM lines use it and only as a whole."""
        lines = [line for line in self.graph.global_args if any(one.name == name for one in line.args)]
        used_elsewhere = any(
            name in (one or other for one, other in _VARIABLE.findall(argument.default or ""))
            for line in self.graph.global_args
            for argument in line.args
        ) or any(
            isinstance(instruction, ast.Arg) and any(one.name == name for one in instruction.args)
            for stage in self.graph.stages
            for instruction in stage.instructions
        )
        partly = any(
            name in (one or other for one, other in _VARIABLE.findall(stage.from_.image))
            and not _VARIABLE.fullmatch(stage.from_.image)
            for stage in self.graph.stages
        )
        if len(lines) != 1 or used_elsewhere or partly:
            return None
        return None if "$" in self.default(lines[0], name) else (lines[0], name)

    def default(self, line: ast.Instruction, name: str) -> str:
        assert isinstance(line, ast.Arg)
        return next(one.default or "" for one in line.args if one.name == name)

    def pin(self, line: ast.Instruction, image: str, written: str, *, argument: str = "") -> Pin:
        same = Pin(line, image, written, written, argument=argument)
        try:
            reference = Reference.parse(image)
        except InvalidReference as err:
            raise DockerfileError(
                f'failed to parse stage name "{image}": {err.message}', line.span, source=self.dockerfile.source
            ) from err
        same = replace(same, image=image.partition("@")[0])
        if reference.digest is not None and not (self.update and reference.tag):
            return same
        if self.resolve is None:
            return same if reference.digest is not None else replace(same, why="it is not pinned")
        bare = replace(reference, digest=None).tagged()
        digest = self.digest(bare)
        if digest is None:
            if reference.digest is not None:
                return same
            return replace(same, why=f"nobody here knows a digest of {bare.familiar()}")
        name = image.partition("@")[0] + ("" if reference.tag else ":latest")
        return replace(same, pinned=f"{name}@{digest}")

    def digest(self, reference: Reference) -> str | None:
        assert self.resolve is not None
        key = str(reference)
        if key not in self.known:
            self.known[key] = self.resolve(reference)
        return self.known[key]


def _digest(image: str) -> bool:
    return "@sha256:" in image


# writing


def rewritten(dockerfile: ast.Dockerfile, data: bytes, changes: Sequence[Pin]) -> bytes:
    """*data*, the text of *dockerfile*, with the new names. Raises DockerfileError where that cannot be done safely."""
    from io import BytesIO

    from dockerfile_parse import DockerfileParser

    wanted = [pin for pin in changes if pin.changed]
    if not wanted:
        return data
    try:
        data.decode()
    except UnicodeDecodeError:
        raise DockerfileError(
            "the file is not UTF-8, so its lines cannot be edited", wanted[0].span, source=dockerfile.source
        ) from None
    file = BytesIO(data)
    editor = DockerfileParser(fileobj=file, env_replace=False)
    ends = {one["startline"]: (one["instruction"], one["endline"]) for one in editor.structure}
    lines = editor.lines
    for pin in wanted:
        start = pin.span.start.line - 1
        keyword, end = ends.get(start, ("", start))
        if keyword != pin.instruction.keyword.upper():
            raise _unsafe(dockerfile, pin, "two readers of the file disagree where this instruction is")
        before = "".join(lines[start : end + 1])
        after, count = _pattern(pin).subn(lambda found, pin=pin: found[1] + pin.pinned, before, count=1)  # type: ignore[misc]
        if not count:
            raise _unsafe(dockerfile, pin, f"{pin.written} cannot be found in its line")
        lines[start : end + 1] = [after, *[""] * (end - start)]
    editor.lines = lines
    result = file.getvalue()
    _verify(dockerfile, result, wanted)
    return result


def _pattern(pin: Pin) -> re.Pattern[str]:
    """Finds what stands before the name in group 1, and the name."""
    word = re.escape(pin.written)
    match pin.instruction:
        case ast.From():
            return re.compile(rf"(\A\s*(?i:FROM)(?:{_GAP}+--\S+)*{_GAP}+){word}(?=\s|\Z)")
        case ast.Copy():
            return re.compile(rf"(\A\s*(?i:COPY)(?:{_GAP}+--\S+)*?{_GAP}+--from=){word}(?=\s)")
    name = re.escape(pin.argument)
    return re.compile(rf"(\A\s*(?i:ARG)(?:{_GAP}+\S+)*?{_GAP}+{name}=){word}(?=\s|\Z)")


def _unsafe(dockerfile: ast.Dockerfile, pin: Pin, why: str) -> DockerfileError:
    hint = f"write {pin.pinned} yourself"
    return DockerfileError(f"not pinned: {why}", pin.span, source=dockerfile.source, hint=hint)


def _verify(dockerfile: ast.Dockerfile, result: bytes, changes: Sequence[Pin]) -> None:
    """Read *result*, and compare it instruction by instruction with what it shall be."""
    again = parser.parse(result, name=dockerfile.source.name)
    place = {id(pin.instruction): pin for pin in changes}
    for at, old in enumerate(dockerfile.instructions):
        pin = place.get(id(old))
        new = again.instructions[at] if at < len(again.instructions) else None
        expected = old if pin is None else _changed(old, [one for one in changes if one.instruction is old])
        if new != expected:
            first = pin or changes[0]
            raise _unsafe(dockerfile, first, f"{old.keyword} on line {old.span.start.line} would change as well")
    if len(again.instructions) != len(dockerfile.instructions) or again.directives != dockerfile.directives:
        raise _unsafe(dockerfile, changes[0], "other instructions would change as well")


def _changed(old: ast.Instruction, changes: Sequence[Pin]) -> ast.Instruction:
    new = {pin.argument: pin.pinned for pin in changes}
    match old:
        case ast.From():
            return replace(old, image=new[""])
        case ast.Copy():
            return replace(old, from_=new[""])
        case ast.Arg():
            return replace(old, args=tuple(replace(one, default=new.get(one.name, one.default)) for one in old.args))
    raise AssertionError("only these name images")
