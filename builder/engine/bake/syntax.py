"""What a bake file says, as values: expressions, attributes and blocks, each with its place in the text.

HCL and JSON files both become this. Nothing here knows how it was written or what it means.
"""

from __future__ import annotations

from collections.abc import Iterable

from builder.errors import BakeError
from parser.source import Position, Source, Span
from runtime.values import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """From the offset `start` to before `end` in a file's text."""

    source: Source
    start: int
    end: int

    def span(self) -> Span:
        """The same in lines and columns."""
        return Span(self._position(self.start), self._position(self.end))

    def _position(self, offset: int) -> Position:
        text = self.source.text
        offset = min(offset, len(text))
        return Position(text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset))

    def error(self, message: str, *, hint: str | None = None) -> BakeError:
        """An error that points here."""
        span = self.span()
        where = f"{self.source.name}:{span.start.line}:{span.start.column}"
        return BakeError(f"{where}: {message}", excerpt=self.source.citation(span), hint=hint)


@dataclass(frozen=True, slots=True)
class Literal:
    """A number, true, false, null, or text without any template in it."""

    value: bool | int | float | str | None
    place: Place


@dataclass(frozen=True, slots=True)
class If:
    """%{ if condition } … %{ else } … %{ endif }"""

    condition: Expression
    then: tuple[Part, ...]
    otherwise: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class For:
    """%{ for key, value in collection } … %{ endfor }"""

    key: str
    value: str
    collection: Expression
    body: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """Text with interpolations and directives; one that is a lone interpolation has the value of that."""

    parts: tuple[Part, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Name:
    """A variable."""

    name: str
    place: Place


@dataclass(frozen=True, slots=True)
class Get:
    """`of.name`, `of[key]`, `of.0`"""

    of: Expression
    key: Expression
    place: Place


@dataclass(frozen=True, slots=True)
class Splat:
    """`of.*.a` and `of[*].a[0]`: `each` is applied to every element, which it knows as the variable `SPLAT`."""

    of: Expression
    each: Expression
    place: Place


SPLAT = "*"


@dataclass(frozen=True, slots=True)
class Call:
    """`name(arguments)`; with `expand` the last argument is a list of arguments (`...`)."""

    name: str
    arguments: tuple[Expression, ...]
    expand: bool
    place: Place


@dataclass(frozen=True, slots=True)
class Unary:
    """`-of` or `!of`"""

    operator: str
    of: Expression
    place: Place


@dataclass(frozen=True, slots=True)
class Binary:
    """`left operator right`"""

    operator: str
    left: Expression
    right: Expression
    place: Place


@dataclass(frozen=True, slots=True)
class Conditional:
    """`condition ? then : otherwise`"""

    condition: Expression
    then: Expression
    otherwise: Expression
    place: Place


@dataclass(frozen=True, slots=True)
class ListOf:
    """`[a, b]`"""

    items: tuple[Expression, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class MapOf:
    """`{a = b}`; a key that is written as a bare word is a Literal."""

    items: tuple[tuple[Expression, Expression], ...]
    place: Place


@dataclass(frozen=True, slots=True)
class ForEach:
    """`[for k, v in of : value if condition]`, and with `result_key` `{for … : result_key => value...}`."""

    key: str
    value: str
    of: Expression
    result_key: Expression | None
    result: Expression
    grouped: bool
    condition: Expression | None
    place: Place


Expression = Literal | Template | Name | Get | Splat | Call | Unary | Binary | Conditional | ListOf | MapOf | ForEach
Part = str | If | For | Expression


@dataclass(frozen=True, slots=True)
class Attribute:
    """`name = value`"""

    name: str
    value: Expression
    place: Place


@dataclass(frozen=True, slots=True)
class Block:
    """`kind "label" { … }`"""

    kind: str
    labels: tuple[str, ...]
    body: Body
    place: Place


@dataclass(frozen=True, slots=True)
class Body:
    """Attributes and blocks in the order of the file."""

    attributes: tuple[Attribute, ...]
    blocks: tuple[Block, ...]

    def attribute(self, name: str) -> Attribute | None:
        """The attribute called *name*."""
        return next((one for one in self.attributes if one.name == name), None)


def unique(attributes: Iterable[Attribute]) -> tuple[Attribute, ...]:
    """*attributes*; BakeError where one is set twice in the same block."""
    found: dict[str, Attribute] = {}
    for one in attributes:
        if one.name in found:
            line = found[one.name].place.span().start.line
            raise one.place.error(f'attribute redefined; the argument "{one.name}" was already set at line {line}')
        found[one.name] = one
    return tuple(found.values())
