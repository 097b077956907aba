"""HCL text to `syntax`: the grammar is python-hcl2's, the tree that it gives ends here.

Only its parse tree is used: what the library makes of that has no places and no templates. Two things its grammar does
not know are done here: strip markers of interpolations (`${~ x ~}`) are blanked out before it reads the text and looked
up in the text afterwards, and heredocs, which it gives as one token, are read as templates of their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from builder.engine.bake import syntax as s
from builder.engine.bake import templates
from builder.engine.bake.templates import Mark
from builder.errors import BakeError
from parser.source import Source

if TYPE_CHECKING:
    from lark import Tree

_ESCAPE = re.compile(r"\\(n|r|t|\"|\\|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)", re.DOTALL)
_LETTERS = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}

Locate = Callable[[int, int], s.Place]
"""Offsets in the text that is parsed → the place in the user's file."""


def parse(text: str, *, name: str) -> s.Body:
    """The attributes and blocks of a file. Raises BakeError with the place of what cannot be read."""
    source = Source.of(text, name=name)
    reader = _Reader(source.text, lambda start, end: s.Place(source, start, end))
    with _too_deep(name):
        return reader.body(reader.tree(source.text).children[0])


def template(text: str, locate: Locate) -> s.Expression:
    """Text with interpolations, in which quotes and backslashes mean nothing: a heredoc, a string of a JSON file."""
    return _template(text, locate, flush=False)


class _too_deep:
    """Turns the interpreter's limit into an error: nothing sane nests that far."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, RecursionError):
            raise BakeError(f"{self._name}: an expression is nested too deeply") from None


def _template(text: str, locate: Locate, *, flush: bool) -> s.Expression:
    if not any(opening in text for opening in templates.OPENS):
        return s.Literal(templates.unindented(text) if flush else text, locate(0, len(text)))
    head = 'x="'
    reader = _Reader(text, locate, shift=len(head), raw=True, flush=flush)
    tree = reader.tree(f'{head}{templates.masked(text)}"')
    return reader.expression(next(_trees(tree.children[0].children[0], "expr_term")))


class _Reader:
    """One text. `shift` is the difference between offsets in what is parsed and in *text*; `raw`: no escapes."""

    def __init__(self, text: str, locate: Locate, *, shift: int = 0, raw: bool = False, flush: bool = False) -> None:
        self.text = text
        self._locate = locate
        self.shift = shift
        self.raw = raw
        self.flush = flush

    def tree(self, text: str) -> Tree[Any]:
        """The grammar's tree of *text*."""
        import hcl2
        from lark.exceptions import UnexpectedInput

        # For the grammar an escaped opening needs a closing brace, and a marker is no token: it gets other characters,
        # of the same length as the text that is read by its offsets.
        plain = text.replace("$${", "\0\0\0").replace("%%{", "\0\0\0")
        try:
            return hcl2.parses_to_tree(plain.replace("${~", "${ ").replace("%{~", "%{ ").replace("~}", " }"))
        except UnexpectedInput as err:
            raise self._unexpected(err, text) from None

    def _unexpected(self, err: Any, text: str) -> BakeError:
        at = err.pos_in_stream
        token = getattr(err, "token", None)
        if at is None or at < 0 or at >= len(text) or getattr(token, "type", "") == "$END":
            at = max(len(text) - 1, 0)
            return self.locate(at, at).error("unexpected end of the file; a bracket or quote is not closed")
        if token is not None and token.type == "STRING_CHARS":
            # Outside of strings the lexer calls everything that it does not know the inside of a string.
            lead = len(str(token)) - len(str(token).lstrip())
            at += lead
        word = re.match(r"\w+|.|\n", text[at:])
        shown = "the end of the line" if not word or word[0] == "\n" else f'"{word[0]}"'
        return self.locate(at, at + 1).error(f"unexpected {shown}; an argument or block definition is required here")

    def locate(self, start: int, end: int) -> s.Place:
        """The place of offsets of the parsed text."""
        return self._locate(max(start - self.shift, 0), max(end - self.shift, 0))

    def place(self, node: Any) -> s.Place:
        """The place of a tree or token."""
        meta = node.meta if hasattr(node, "meta") else node
        start = getattr(meta, "start_pos", None) or 0
        end = getattr(meta, "end_pos", None) or start
        # the grammar takes line ends after an operand with it
        shown = self.text[max(start - self.shift, 0) : end - self.shift].rstrip()
        return self.locate(start, start + len(shown))

    # structure

    def body(self, node: Any) -> s.Body:
        """The attributes and blocks of a body."""
        attributes, blocks = [], []
        before: s.Place | None = None
        for child in _trees(node):
            place = self.place(child)
            if before is not None and "\n" not in self.text[before.end : place.start]:
                raise place.error("an argument or block definition must end with a newline before the next one")
            before = place
            if child.data == "attribute":
                name, _, value = _solid(child)
                attributes.append(s.Attribute(_word(name), self.expression(value), self.place(name)))
            elif child.data == "block":
                blocks.append(self.block(child))
        return s.Body(s.unique(attributes), tuple(blocks))

    def block(self, node: Any) -> s.Block:
        """One block."""
        kind, *labels = [child for child in _trees(node) if child.data not in ("body", "new_line_or_comment")]
        texts = []
        for label in labels:
            if label.data == "string":
                value = self.string(label)
                if not isinstance(value, s.Literal):
                    raise self.place(label).error("a block's label cannot have a template in it")
                texts.append(str(value.value))
            else:
                texts.append(_word(label))
        place = self.place(labels[-1] if labels else kind)
        return s.Block(_word(kind), tuple(texts), self.body(next(_trees(node, "body"))), place)

    # expressions

    def expression(self, node: Any) -> s.Expression:
        """An expression of any kind."""
        read: Callable[[Any], s.Expression] | None = getattr(self, f"read_{node.data}", None)
        assert read is not None, f"the grammar has no {node.data}"
        return read(node)

    def read_expr_term(self, node: Any) -> s.Expression:
        inner = [child for child in _solid(node) if hasattr(child, "data")]
        return self.expression(inner[0])

    def read_identifier(self, node: Any) -> s.Expression:
        return s.Name(_word(node), self.place(node))

    def read_literal_value(self, node: Any) -> s.Expression:
        return s.Literal({"true": True, "false": False, "null": None}[_word(node)], self.place(node))

    def read_int_lit(self, node: Any) -> s.Expression:
        return s.Literal(int(_word(node)), self.place(node))

    def read_float_lit(self, node: Any) -> s.Expression:
        return s.Literal(float(_word(node)), self.place(node))

    def read_string(self, node: Any) -> s.Expression:
        return self.string(node)

    def read_template_string(self, node: Any) -> s.Expression:
        return s.Literal(self.unescaped(_word(node)[2:-2], self.place(node)), self.place(node))

    def read_heredoc_template(self, node: Any) -> s.Expression:
        return self.heredoc(node, flush=False)

    def read_heredoc_template_trim(self, node: Any) -> s.Expression:
        return self.heredoc(node, flush=True)

    def read_unary_op(self, node: Any) -> s.Expression:
        operator, of = _solid(node)
        return s.Unary(str(operator), self.expression(of), self.place(node))

    def read_binary_op(self, node: Any) -> s.Expression:
        # A long sum leans to the left: it is walked down without recursion.
        terms = []
        while node.data == "binary_op":
            left, term = _solid(node)
            terms.append((node, term))
            node = left
        made = self.expression(node)
        for whole, term in reversed(terms):
            operator, right = _solid(term)
            value = self.expression(right)
            made = s.Binary(_word(operator).strip().split()[-1], made, value, self.place(whole))
        return made

    def read_conditional(self, node: Any) -> s.Expression:
        condition, then, otherwise = map(self.expression, _trees(node))
        return s.Conditional(condition, then, otherwise, self.place(node))

    def read_tuple(self, node: Any) -> s.Expression:
        return s.ListOf(tuple(map(self.expression, _trees(node))), self.place(node))

    def read_object(self, node: Any) -> s.Expression:
        items = []
        for element in _trees(node, "object_elem"):
            key, value = _trees(element)
            items.append((self.key(key), self.expression(value)))
        return s.MapOf(tuple(items), self.place(node))

    def key(self, node: Any) -> s.Expression:
        (inner,) = _trees(node)
        if inner.data == "keyword":
            return s.Literal(_word(inner), self.place(inner))
        bare = _solid(inner)
        if len(bare) == 1 and getattr(bare[0], "data", "") in ("identifier", "literal_value"):
            return s.Literal(_word(bare[0]), self.place(inner))
        return self.expression(inner)

    def read_function_call(self, node: Any) -> s.Expression:
        name = "::".join(_word(child) for child in _trees(node, "identifier"))
        arguments, expand = [], False
        for holder in _trees(node, "arguments"):
            arguments = [self.expression(child) for child in _trees(holder)]
            expand = any(getattr(child, "type", "") == "ELLIPSIS" for child in holder.children)
        return s.Call(name, tuple(arguments), expand, self.place(node))

    def read_index_expr_term(self, node: Any) -> s.Expression:
        of, step = _trees(node)
        return self.step(self.expression(of), step, self.place(node))

    read_get_attr_expr_term = read_index_expr_term

    def read_attr_splat_expr_term(self, node: Any) -> s.Expression:
        of, splat = _trees(node)
        each: s.Expression = s.Name(s.SPLAT, self.place(splat))
        for step in _trees(splat):
            each = self.step(each, step, self.place(step))
        return s.Splat(self.expression(of), each, self.place(node))

    read_full_splat_expr_term = read_attr_splat_expr_term

    def step(self, of: s.Expression, node: Any, place: s.Place) -> s.Expression:
        if node.data == "braces_index":
            (key,) = map(self.expression, _trees(node))
        elif node.data == "short_index":
            key = s.Literal(int(str(node.children[-1])), self.place(node))
        else:
            (name,) = _trees(node)
            key = s.Literal(_word(name), self.place(name))
        return s.Get(of, key, place)

    def read_for_tuple_expr(self, node: Any) -> s.Expression:
        intro, *results = _trees(node)
        names, of = self.intro(intro)
        conditions = [self.expression(one.children[-1]) for one in results if one.data == "for_cond"]
        made = [self.expression(one) for one in results if one.data != "for_cond"]
        grouped = any(getattr(child, "type", "") == "ELLIPSIS" for child in node.children)
        key = made[0] if len(made) == 2 else None
        return s.ForEach(*names, of, key, made[-1], grouped, conditions[0] if conditions else None, self.place(node))

    read_for_object_expr = read_for_tuple_expr

    def intro(self, node: Any) -> tuple[tuple[str, str], s.Expression]:
        *names, of = _trees(node)
        words = [_word(name) for name in names]
        return (words[0] if len(words) == 2 else "", words[-1]), self.expression(of)

    # text

    def heredoc(self, node: Any, *, flush: bool) -> s.Expression:
        token = node.children[0]
        start = token.start_pos - self.shift
        whole = self.text[start : token.end_pos - self.shift]
        first = whole.index("\n") + 1
        last = whole.rstrip().rfind("\n") + 1
        content = whole[first:last].replace("\r\n", "\n")
        return _template(content, lambda a, b: self._locate(start + first + a, start + first + b), flush=flush)

    def string(self, node: Any) -> s.Expression:
        """A quoted string."""
        marks = list(self.marks(node))
        if self.raw and self.flush:
            marks = templates.flushed(marks)
        parts, rest = self.parts(templates.stripped(marks), 0, ())
        assert rest == len(marks)
        place = self.place(node)
        texts = [part for part in parts if isinstance(part, str)]
        if len(texts) == len(parts):
            return s.Literal("".join(texts), place)
        return s.Template(parts, place)

    def marks(self, node: Any) -> Iterator[Mark]:
        """The parts of a string in their order, neighbouring texts as one."""
        start = end = None
        for part in _trees(node, "string_part"):
            inner = part.children[0]
            if not hasattr(inner, "data"):
                start, end = inner.start_pos if start is None else start, inner.end_pos
                continue
            if start is not None:
                yield self.text_mark(start, end)
                start = None
            place, (a, b) = self.place(inner), (inner.meta.start_pos - self.shift, inner.meta.end_pos - self.shift)
            strip = self.text[a + 2 : a + 3] == "~", self.text[b - 2 : b - 1] == "~"
            kind = "value" if inner.data == "interpolation" else inner.data
            yield Mark(kind, place, "", inner, strip)
        if start is not None:
            yield self.text_mark(start, end)

    def text_mark(self, start: int, end: int | None) -> Mark:
        assert end is not None
        place, text = self.locate(start, end), self.text[start - self.shift : end - self.shift]
        if not self.raw:
            text = self.unescaped(text, place)
        return Mark("text", place, text.replace("$${", "${").replace("%%{", "%{"))

    def unescaped(self, text: str, place: s.Place) -> str:
        """A quoted string's text without its backslashes."""

        def letter(match: re.Match[str]) -> str:
            code = match[1]
            if code in _LETTERS:
                return _LETTERS[code]
            if code[0] in "uU" and len(code) > 1:
                number = int(code[1:], 16)
                if number <= 0x10FFFF and not 0xD800 <= number <= 0xDFFF:
                    return chr(number)
            raise place.error(
                f'the symbol "\\{code}" is not a valid escape sequence', hint="write \\\\ for a backslash"
            )

        return _ESCAPE.sub(letter, text)

    def parts(self, marks: list[Mark], at: int, until: tuple[str, ...]) -> tuple[tuple[s.Part, ...], int]:
        """The parts from *at* up to a directive in *until* (or the end), and where that is."""
        made: list[s.Part] = []
        while at < len(marks) and marks[at].kind not in until:
            mark = marks[at]
            at += 1
            if mark.kind == "text":
                made.append(mark.text)
            elif mark.kind == "value":
                (value,) = _trees(mark.tree)
                made.append(self.expression(value))
            elif mark.kind == "template_if_start":
                (condition,) = _trees(mark.tree)
                then, at = self.parts(marks, at, ("template_else", "template_endif"))
                otherwise: tuple[s.Part, ...] = ()
                if at < len(marks) and marks[at].kind == "template_else":
                    otherwise, at = self.parts(marks, at + 1, ("template_endif",))
                made.append(s.If(self.expression(condition), then, otherwise))
                at = self.closed(marks, at, mark, "endif")
            elif mark.kind == "template_for_start":
                *names, of = _trees(mark.tree)
                words = [_word(name) for name in names]
                inside, at = self.parts(marks, at, ("template_endfor",))
                key = words[0] if len(words) == 2 else ""
                made.append(s.For(key, words[-1], self.expression(of), inside))
                at = self.closed(marks, at, mark, "endfor")
            else:
                raise mark.place.error(f"%{{ {mark.kind.removeprefix('template_')} }} without its beginning")
        return tuple(made), at

    def closed(self, marks: list[Mark], at: int, opening: Mark, word: str) -> int:
        if at >= len(marks):
            raise opening.place.error(f"this directive is not closed by %{{ {word} }}")
        return at + 1


def _trees(node: Any, kind: str = "") -> Iterator[Any]:
    for child in node.children:
        data = getattr(child, "data", None)
        if data is not None and data != "new_line_or_comment" and kind in ("", data):
            yield child


def _solid(node: Any) -> list[Any]:
    return [child for child in node.children if getattr(child, "data", "") != "new_line_or_comment"]


def _word(node: Any) -> str:
    """The text of a tree with one token."""
    return str(node.children[0])
