"""JSON bake files to `syntax`: objects become blocks where bake has blocks, strings become templates.

The standard library reads JSON without places, so the structure is walked here and only its pieces (strings, numbers)
are the library's.
"""

from __future__ import annotations

import json
import re

from builder.engine.bake import hcl
from builder.engine.bake import syntax as s
from builder.errors import BakeError
from parser.source import Source

BLOCKS = ("target", "group", "variable", "function")
_SPACE = re.compile(r"[ \t\r\n]*")
_SCALAR = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null")
_STRING = json.JSONDecoder()
_LIMIT = 100
"""Levels of nesting: more is no bake file."""


def parse(text: str, *, name: str) -> s.Body:
    """The attributes and blocks of a file. Raises BakeError with the place of what cannot be read."""
    reader = _Reader(Source.of(text, name=name))
    document = reader.document()
    if not isinstance(document, _Object):
        raise document.place.error("a bake file has an object at its top")
    return _body(document, top=True)


class _Object:
    """An object while it is not known whether it is a block or a value."""

    def __init__(self, items: tuple[tuple[str, s.Place, _Json], ...], place: s.Place) -> None:
        self.items = items
        self.place = place


class _Array:
    def __init__(self, items: tuple[_Json, ...], place: s.Place) -> None:
        self.items = items
        self.place = place


_Json = _Object | _Array | s.Literal


def _body(document: _Object, *, top: bool) -> s.Body:
    attributes, blocks = [], []
    for name, place, value in document.items:
        if top and name in BLOCKS:
            for holder in value.items if isinstance(value, _Array) else (value,):
                blocks += _blocks(name, holder)
        elif not top and name == "validation" and isinstance(value, _Object | _Array):
            for holder in value.items if isinstance(value, _Array) else (value,):
                blocks.append(s.Block(name, (), _body(_object(holder), top=False), place))
        else:
            attributes.append(s.Attribute(name, _expression(value), place))
    return s.Body(s.unique(attributes), tuple(blocks))


def _blocks(kind: str, holder: _Json) -> list[s.Block]:
    """{"target": {"app": {…}, "db": [{…}, {…}]}}"""
    made = []
    for label, place, value in _object(holder).items:
        for body in value.items if isinstance(value, _Array) else (value,):
            made.append(s.Block(kind, (label,), _body(_object(body), top=False), place))
    return made


def _object(value: _Json) -> _Object:
    if not isinstance(value, _Object):
        raise value.place.error("an object is required here")
    return value


def _expression(value: _Json) -> s.Expression:
    if isinstance(value, _Array):
        return s.ListOf(tuple(map(_expression, value.items)), value.place)
    if isinstance(value, _Object):
        items = tuple((_text(name, place), _expression(inner)) for name, place, inner in value.items)
        return s.MapOf(items, value.place)
    if isinstance(value.value, str):
        return _text(value.value, value.place)
    return value


def _text(text: str, place: s.Place) -> s.Expression:
    return hcl.template(text, lambda start, end: place)


class _Reader:
    def __init__(self, source: Source) -> None:
        self.source = source
        self.text = source.text
        self.at = 0

    def document(self) -> _Json:
        found = self.value(0)
        self.space()
        if self.at < len(self.text):
            raise self.here("nothing may follow the top object")
        return found

    def value(self, depth: int) -> _Json:
        self.space()
        letter = self.text[self.at : self.at + 1]
        if depth > _LIMIT:
            raise self.here("nested too deeply")
        if letter == "{":
            return self.object(depth)
        if letter == "[":
            return self.array(depth)
        start = self.at
        if letter == '"':
            return s.Literal(self.string(), s.Place(self.source, start, self.at))
        match = _SCALAR.match(self.text, self.at)
        if match is None:
            raise self.here("a JSON value is required here")
        self.at = match.end()
        return s.Literal(json.loads(match[0]), s.Place(self.source, start, self.at))

    def object(self, depth: int) -> _Object:
        start = self.at
        items: list[tuple[str, s.Place, _Json]] = []
        self.at += 1
        while not self.take("}"):
            if items and not self.take(","):
                raise self.here('"," or "}" is required here')
            self.space()
            begin = self.at
            name = self.string()
            place = s.Place(self.source, begin, self.at)
            if not self.take(":"):
                raise self.here('":" is required here')
            items.append((name, place, self.value(depth + 1)))
        return _Object(tuple(items), s.Place(self.source, start, self.at))

    def array(self, depth: int) -> _Array:
        start = self.at
        items: list[_Json] = []
        self.at += 1
        while not self.take("]"):
            if items and not self.take(","):
                raise self.here('"," or "]" is required here')
            items.append(self.value(depth + 1))
        return _Array(tuple(items), s.Place(self.source, start, self.at))

    def string(self) -> str:
        if self.text[self.at : self.at + 1] != '"':
            raise self.here("a string in double quotes is required here")
        try:
            found, self.at = _STRING.raw_decode(self.text, self.at)
        except json.JSONDecodeError as err:
            raise s.Place(self.source, err.pos, err.pos + 1).error(err.msg) from None
        return str(found)

    def take(self, letter: str) -> bool:
        self.space()
        if self.text.startswith(letter, self.at):
            self.at += 1
            return True
        return False

    def space(self) -> None:
        match = _SPACE.match(self.text, self.at)
        assert match is not None
        self.at = match.end()

    def here(self, what: str) -> BakeError:
        return s.Place(self.source, self.at, self.at + 1).error(what)
