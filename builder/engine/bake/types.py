"""Type constraints of variables and of `convert`: string, number, bool, any, list(), set(), map(), tuple(), object().

They are written as expressions (`list(string)`), read here without being evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping

from builder.engine.bake import syntax as s
from builder.engine.bake import values as v
from runtime.values import dataclass

PRIMITIVES = ("string", "number", "bool", "any")
_COLLECTIONS = ("list", "set", "map")


@dataclass(frozen=True, slots=True)
class Type:
    """`name`, and for a collection what its elements are; a tuple and an object have one type for each."""

    name: str
    element: Type | None = None
    elements: tuple[Type, ...] = ()
    attributes: tuple[tuple[str, Type, bool], ...] = ()
    """(name, type, optional) of an object's attributes."""

    def __str__(self) -> str:
        if self.element is not None:
            return f"{self.name}({self.element})"
        if self.name == "tuple":
            return f"tuple([{', '.join(map(str, self.elements))}])"
        if self.name == "object":
            inside = (f"{name}={f'optional({kind})' if free else kind}" for name, kind, free in self.attributes)
            return f"object({{{', '.join(inside)}}})"
        return self.name

    @property
    def primitive(self) -> bool:
        """Whether it is a string, number or bool."""
        return self.name in PRIMITIVES and self.name != "any"


def read(written: s.Expression) -> Type:
    """The type that an expression spells. Raises BakeError."""
    match written:
        case s.Name(name) if name in PRIMITIVES:
            return Type(name)
        case s.Name(name) if name in _COLLECTIONS:
            return Type(name, Type("any"))
        case s.Literal(value=str() as name) if name in PRIMITIVES:
            return Type(name)  # in JSON files types are texts
        case s.Call(name=name, arguments=(inner,)) if name in _COLLECTIONS:
            return Type(name, read(inner))
        case s.Call(name="tuple", arguments=(s.ListOf(items=items),)):
            return Type("tuple", elements=tuple(map(read, items)))
        case s.Call(name="object", arguments=(s.MapOf(items=pairs),)):
            return Type("object", attributes=tuple(_attribute(key, kind) for key, kind in pairs))
    known = ", ".join((*PRIMITIVES, *(f"{name}(…)" for name in (*_COLLECTIONS, "tuple", "object"))))
    raise written.place.error("this is not a type", hint=f"types are {known}")


def _attribute(key: s.Expression, kind: s.Expression) -> tuple[str, Type, bool]:
    if not isinstance(key, s.Literal) or not isinstance(key.value, str):
        raise key.place.error("an attribute of an object type is a name")
    if isinstance(kind, s.Call) and kind.name == "optional" and kind.arguments:
        return key.value, read(kind.arguments[0]), True
    return key.value, read(kind), False


def convert(value: v.Value, wanted: Type) -> v.Value:
    """*value* as *wanted*. Raises Unfit."""
    if value is None:
        return None
    match wanted.name:
        case "any":
            return value
        case "string":
            return v.text(value)
        case "number":
            return v.number(value)
        case "bool":
            return v.boolean(value)
        case "list" | "set":
            assert wanted.element is not None
            made = tuple(convert(one, wanted.element) for one in v.sequence(value))
            return v.as_set(made) if wanted.name == "set" else made
        case "map":
            assert wanted.element is not None
            return {key: convert(one, wanted.element) for key, one in v.mapping(value).items()}
        case "tuple":
            items = v.sequence(value)
            if len(items) != len(wanted.elements):
                raise v.Unfit(f"a list of {len(wanted.elements)} elements is required, not of {len(items)}")
            return tuple(convert(one, kind) for one, kind in zip(items, wanted.elements, strict=True))
    return _object(v.mapping(value), wanted)


def _object(value: Mapping[str, v.Value], wanted: Type) -> v.Value:
    made: dict[str, v.Value] = {}
    for name, kind, optional in wanted.attributes:
        if name not in value and not optional:
            raise v.Unfit(f'attribute "{name}" is required')
        made[name] = convert(value.get(name), kind)
    return made
