"""Go's text/template, as far as docker's --format options use it: a grammar for actions, an evaluator for JSON values.

`Template(text).render(data)` gives the text.  Data is what JSON knows (dict, list, str, numbers, bool, None); a dict's
value may also be a function, which then stands for a method (`.Label "name"`).  Not here: define, template, block,
and the functions html, js, urlquery, which no docker format uses.  Errors are `TemplateError`, in Go's words as far as
they help.

lark is imported by the first Template, not with this module: most commands format nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.cli.harmless import harmless

if TYPE_CHECKING:
    from lark import Lark, Token, Tree

_ACTION = re.compile(r'\{\{(?:- )?((?:"(?:\\.|[^"\\])*"|`[^`]*`|/\*.*?\*/|(?!\}\}).)*?)(?: -)?\}\}', re.DOTALL)


class TemplateError(Exception):
    """The template cannot be parsed, or asks for what the data does not have."""


class UnreadableTemplate(TemplateError):
    """`inspect` was given what is no template: of all commands it alone has a code for that."""


class Record(dict[str, object]):
    """A row of a list. Its methods are no data, and as JSON it is what Go makes of a map: sorted, safe within HTML."""


class _Node:
    """A piece of a parsed template: an action's tree with the pieces inside it."""

    __slots__ = ("body", "otherwise", "source", "text", "tree")

    def __init__(self, *, text: str = "", tree: Tree[Token] | None = None, source: str = "") -> None:
        self.text = text
        self.tree = tree
        self.source = source
        self.body: list[_Node] = []
        self.otherwise: list[_Node] = []


class _Leave(Exception):
    """{{break}}"""


class _Again(Exception):
    """{{continue}}"""


class Template:
    """A parsed template.  Raises TemplateError when the text is not one."""

    def __init__(self, text: str) -> None:
        self._nodes = _nest(list(_pieces(text)))

    def render(self, data: object, **functions: Callable[..., object]) -> str:
        """The text for `data`; `functions` stand for those of their names.  Raises TemplateError."""
        out: list[str] = []
        try:
            _Evaluation(data, out, {**FUNCTIONS, **functions}).walk(self._nodes, data)
        except (_Leave, _Again):
            raise TemplateError("{{break}} or {{continue}} outside {{range}}") from None
        return "".join(out)


def _pieces(text: str) -> Iterator[_Node]:
    """Text and actions in a flat row, white space trimmed where {{- or -}} say so."""
    position, trim = 0, False
    for match in _ACTION.finditer(text):
        before = text[position : match.start()]
        if trim:
            before = before.lstrip()
        if text.startswith("{{- ", match.start()):
            before = before.rstrip()
        if "{{" in before:
            raise TemplateError("unclosed action")
        if before:
            yield _Node(text=before)
        trim = text.endswith(" -}}", 0, match.end())
        position = match.end()
        inside = match[1].strip()
        if not (inside.startswith("/*") and inside.endswith("*/")):
            yield _Node(tree=_parse(inside), source=inside)
    tail = text[position:]
    if "{{" in tail:
        raise TemplateError("unclosed action")
    tail = tail.lstrip() if trim else tail
    if tail:
        yield _Node(text=tail)


@lru_cache(maxsize=1)
def _grammar() -> Lark:
    from lark import Lark

    grammar = Path(__file__).with_suffix(".lark").read_text(encoding="ascii")
    return Lark(grammar, parser="lalr", lexer="contextual", start="start")


def _parse(action: str) -> Tree[Token]:
    from lark.exceptions import UnexpectedInput

    if not action:
        raise TemplateError("missing value for command")
    try:
        return _grammar().parse(action)
    except UnexpectedInput as error:
        where = action[error.pos_in_stream or 0 :].strip() or "}}"
        raise TemplateError(f'unexpected "{where}" in "{{{{{action}}}}}"') from None


def _nest(pieces: Sequence[_Node]) -> list[_Node]:
    """Put what stands between {{if}} and {{end}} inside the {{if}}."""
    root: list[_Node] = []
    # Each open block: the list being filled, and how many {{else if}} were opened inside it (one {{end}} closes all).
    filling = [root]
    open_blocks: list[tuple[_Node, int]] = []
    for piece in pieces:
        kind = piece.tree.data if piece.tree is not None else "text"
        if kind == "end":
            if not open_blocks:
                raise TemplateError("unexpected {{end}}")
            _, depth = open_blocks.pop()
            del filling[len(filling) - depth :]
        elif kind in ("otherwise", "else_if", "else_with"):
            if not open_blocks:
                raise TemplateError("unexpected {{else}}")
            block, depth = open_blocks.pop()
            if kind == "otherwise":
                filling[-1] = block.otherwise
                open_blocks.append((block, depth))
            else:
                block.otherwise.append(piece)
                filling.append(piece.body)
                open_blocks.append((piece, depth + 1))
        else:
            filling[-1].append(piece)
            if kind in ("open_if", "open_range", "open_with"):
                filling.append(piece.body)
                open_blocks.append((piece, 1))
    if open_blocks:
        raise TemplateError("unexpected EOF")
    return root


class _Evaluation:
    """One rendering: the variables in scope and the output so far."""

    def __init__(self, data: object, out: list[str], functions: Mapping[str, Callable[..., object]]) -> None:
        self._variables: list[tuple[str, object]] = [("$", data)]
        self._out = out
        self._functions = functions

    def walk(self, nodes: Sequence[_Node], dot: object) -> None:
        """Render `nodes` with `dot` as the dot; what they declare ends with them."""
        depth = len(self._variables)
        for node in nodes:
            if node.tree is None:
                self._out.append(node.text)
            else:
                self._act(node, node.tree, dot)
        del self._variables[depth:]

    def _act(self, node: _Node, tree: Tree[Token], dot: object) -> None:
        kind = tree.data
        if kind == "leave":
            raise _Leave
        if kind == "again":
            raise _Again
        *names, pipeline = tree.children
        value = self._pipeline(pipeline, dot)
        if kind == "show":
            self._out.append(text_of(value))
        elif kind == "declare":
            self._variables.append((str(names[0]), value))
        elif kind == "assign":
            self._assign(str(names[0]), value)
        elif kind in ("open_if", "else_if"):
            self.walk(node.body if _true(value) else node.otherwise, dot)
        elif kind in ("open_with", "else_with"):
            depth = len(self._variables)
            if _true(value):
                self._variables.extend((str(name), value) for name in names)
                self.walk(node.body, value)
            else:
                self.walk(node.otherwise, dot)
            del self._variables[depth:]
        else:
            self._range(node, [str(name) for name in names], value, dot)

    def _assign(self, name: str, value: object) -> None:
        for at in range(len(self._variables) - 1, -1, -1):
            if self._variables[at][0] == name:
                self._variables[at] = (name, value)
                return
        raise TemplateError(f'undefined variable "{name}"')

    def _range(self, node: _Node, names: list[str], value: object, dot: object) -> None:
        rows: list[tuple[object, object]]
        if isinstance(value, Mapping):
            rows = [(key, value[key]) for key in sorted(value)]
        elif isinstance(value, list | tuple):
            rows = list(enumerate(value))
        elif isinstance(value, int) and not isinstance(value, bool):
            rows = [(number, number) for number in range(value)]
        elif value is None:
            rows = []
        else:
            raise TemplateError(f"range can't iterate over {text_of(value)}")
        if not rows:
            self.walk(node.otherwise, dot)
        depth = len(self._variables)
        for key, item in rows:
            pair = (item,) if len(names) == 1 else (key, item)
            self._variables.extend(zip(names, pair, strict=False))
            try:
                self.walk(node.body, item)
            except _Leave:
                break
            except _Again:
                pass
            finally:
                del self._variables[depth:]

    def _pipeline(self, tree: Any, dot: object) -> object:
        value: tuple[object, ...] = ()
        for command in tree.children:
            value = (self._command(command, dot, value),)
        return value[0]

    def _command(self, tree: Any, dot: object, last: tuple[object, ...]) -> object:
        first, *rest = tree.children
        if first.data == "function":
            name = str(first.children[0])
            if name in ("and", "or") and not last:
                return self._short_circuit(name, rest, dot)
            function = self._functions.get(name)
            if function is None:
                raise TemplateError(f'function "{name}" not defined')
            return _call(name, function, [*(self._operand(each, dot) for each in rest), *last])
        arguments = [*(self._operand(each, dot) for each in rest), *last]
        if first.data in ("fields", "variable"):
            return self._operand(first, dot, arguments)
        if arguments:
            raise TemplateError("can't give argument to non-function")
        return self._operand(first, dot)

    def _short_circuit(self, name: str, operands: Sequence[Any], dot: object) -> object:
        if not operands:
            raise TemplateError(f"wrong number of args for {name}: want at least 1 got 0")
        value: object = None
        for operand in operands:
            value = self._operand(operand, dot)
            if _true(value) == (name == "or"):
                return value
        return value

    def _operand(self, tree: Any, dot: object, arguments: Sequence[object] = ()) -> object:
        kind = tree.data
        token = str(tree.children[0]) if tree.children and kind != "grouped" else ""
        if kind == "dot":
            return dot
        if kind == "fields":
            return _follow(dot, token, arguments)
        if kind == "variable":
            name, dotted, fields = token.partition(".")
            for known, value in reversed(self._variables):
                if known == name:
                    return _follow(value, dotted + fields, arguments)
            raise TemplateError(f'undefined variable "{name}"')
        if kind == "grouped":
            return _follow(self._pipeline(tree.children[0], dot), str(tree.children[1])[1:], arguments)
        if kind == "string":
            return unquote(token)
        if kind == "raw_string":
            return token[1:-1]
        if kind == "number":
            return float(token) if "." in token else int(token, 0)
        if kind == "function":
            return self._command(type(tree)("command", [tree]), dot, ())
        return {"true": True, "false": False, "nil": None}[kind]


def _follow(value: object, fields: str, arguments: Sequence[object] = ()) -> object:
    """`value.A.B`: each name a key (Go spells `ID` where JSON says `Id`), the last perhaps a method with arguments."""
    names = fields.split(".")[1:]
    for at, name in enumerate(names):
        if value is None:
            raise TemplateError(f"nil pointer evaluating <{fields}>.{name}")
        if not isinstance(value, Mapping):
            raise TemplateError(f"at <{fields}>: can't evaluate field {name} in {text_of(value)}")
        if name not in value:
            folded = {str(key).lower(): key for key in value}
            if name.lower() not in folded:
                raise TemplateError(f'at <{fields}>: map has no entry for key "{name}"')
            name = folded[name.lower()]
        value = value[name]
        if callable(value):
            value = _call(name, value, list(arguments) if at == len(names) - 1 else [])
            arguments = ()
    if arguments:
        raise TemplateError(f"at <{fields}>: has arguments but cannot be invoked as function")
    return value


def _call(name: str, function: Callable[..., object], arguments: Sequence[object]) -> object:
    try:
        return function(*arguments)
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        raise TemplateError(f"error calling {name}: {error}") from error


def unquote(token: str) -> str:
    """A Go string literal's value (JSON's escapes and Go's `\\a \\v \\x41`)."""
    plain = re.sub(r"\\x([0-9a-fA-F]{2})", lambda match: f"\\u00{match[1]}", token)
    plain = plain.replace("\\a", "\\u0007").replace("\\v", "\\u000b").replace("\t", "\\t")
    try:
        value = json.loads(plain)
    except ValueError as error:
        raise TemplateError(f"bad string {token}") from error
    return str(value)


def text_of(value: object) -> str:
    """A value as Go's %v prints it."""
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{key}:{text_of(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list | tuple):
        return "[" + " ".join(text_of(each) for each in value) + "]"
    return str(value)


def to_json(value: object) -> str:
    """JSON as docker's json function writes it: compact, keys in their order; only a Record is escaped for HTML."""
    if isinstance(value, Record):
        text = to_json({key: value[key] for key in sorted(value) if not callable(value[key])})
        return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    return harmless(json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=lambda _: None))


def _true(value: object) -> bool:
    return bool(value)


def _index(value: Any, *keys: Any) -> object:
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key, "")
        elif isinstance(value, list | tuple | str):
            if isinstance(key, bool) or not isinstance(key, int):
                raise TemplateError(f"cannot index slice/array with {text_of(key)}")
            if not 0 <= key < len(value):
                raise TemplateError(f"error calling index: reflect: slice index out of range: {key}")
            value = value[key]
        elif value is None:
            raise TemplateError("error calling index: index of untyped nil")
        else:
            raise TemplateError(f"error calling index: can't index item of {text_of(value)}")
    return value


def _slice(value: Any, *bounds: int) -> object:
    return value[slice(*bounds)] if bounds else value


def _printf(form: str, *arguments: object) -> str:
    rest = list(arguments)

    def one(match: re.Match[str]) -> str:
        flags, verb = match[1], match[2]
        if verb == "%":
            return "%"
        if not rest:
            return f"%!{verb}(MISSING)"
        value = rest.pop(0)
        if verb in "sv":
            return f"%{flags}s" % text_of(value)
        if verb == "q":
            return f"%{flags}s" % json.dumps(text_of(value), ensure_ascii=False)
        if verb == "t":
            return text_of(value)
        if verb == "T":
            return type(value).__name__
        if verb == "d" and not isinstance(value, int):
            return f"%!d({type(value).__name__}={text_of(value)})"
        try:
            return f"%{flags}{verb}" % value
        except TypeError:
            return f"%!{verb}({type(value).__name__}={text_of(value)})"

    text = re.sub(r"%([-+# 0]*\d*(?:\.\d+)?)([a-zA-Z%])", one, form)
    return text + "".join(f"%!(EXTRA {type(each).__name__}={text_of(each)})" for each in rest)


def _compare(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda left, right: test(left, right)


def _print(*values: object) -> str:
    # Go puts a blank between operands when neither is a string
    out = ""
    for at, value in enumerate(values):
        if at and not isinstance(value, str) and not isinstance(values[at - 1], str):
            out += " "
        out += text_of(value)
    return out


def _pad(text: str, before: int, after: int) -> str:
    return " " * before + text + " " * after if text else text


FUNCTIONS: Mapping[str, Callable[..., object]] = {
    "json": to_json,
    "split": lambda text, by: text.split(by) if by else list(text),
    "join": lambda parts, by: by.join(text_of(each) for each in parts or ()),
    "title": lambda text: re.sub(r"(?:^|(?<=\s))\w", lambda match: match[0].upper(), text),
    "lower": lambda text: text.lower(),
    "upper": lambda text: text.upper(),
    "pad": _pad,
    "truncate": lambda text, width: text[:width],
    "print": _print,
    "println": lambda *values: " ".join(text_of(each) for each in values) + "\n",
    "printf": _printf,
    "index": _index,
    "slice": _slice,
    "len": lambda value: len(value),
    "not": lambda value: not _true(value),
    "and": lambda *values: next((each for each in values if not _true(each)), values[-1]),
    "or": lambda *values: next((each for each in values if _true(each)), values[-1]),
    "eq": lambda first, *others: any(first == each for each in others),
    "ne": _compare(lambda left, right: left != right),
    "lt": _compare(lambda left, right: left < right),
    "le": _compare(lambda left, right: left <= right),
    "gt": _compare(lambda left, right: left > right),
    "ge": _compare(lambda left, right: left >= right),
}
