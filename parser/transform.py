"""lark's tokens → arguments. No lark type goes further than this module and `grammar`."""

from __future__ import annotations

import re
from typing import Any

from lark import Token, Transformer

from parser.characters import BLANKS, SPACES
from parser.errors import DockerfileError
from parser.syntax import Flag, Parts, quote

__all__ = ["ToParts"]

_FLAG = re.compile(
    r"--((?:[^\t\n\v\f\r '\"\\]|\\(?:.|\Z)|'(?:[^'\\]|\\.)*(?:'|\\?\Z)|\"(?:[^\"\\]|\\.)*(?:\"|\\?\Z))+)", re.S
)
_ESCAPED_OR_QUOTE = re.compile(r"\\(.|\Z)|['\"]", re.S)
_BLANKS = re.compile(f"[{BLANKS}]+")
_LONE_SURROGATES = re.compile("[\ud800-\udfff]")


class ToParts(Transformer[Token, Parts]):
    """One method per shape of `dockerfile.lark`; each makes the keyword, flags and arguments of a statement."""

    def backslash(self, children: list[Any]) -> Parts:
        """The whole line, under either escape character."""
        parts: Parts = children[0]
        return parts

    backtick = backslash

    def command(self, children: list[Any]) -> Parts:
        """RUN, CMD, ENTRYPOINT, SHELL: a JSON array, or one text."""
        keyword, flags, rest = _split(children)
        return _maybe_json(keyword, flags, rest, lambda text: (text,))

    def items(self, children: list[Any]) -> Parts:
        """ADD, COPY, VOLUME: a JSON array, or words."""
        keyword, flags, rest = _split(children)
        return _maybe_json(keyword, flags, rest, lambda text: tuple(_BLANKS.split(text)))

    def words(self, children: list[Any]) -> Parts:
        """FROM, EXPOSE: words without quoting."""
        keyword, flags, rest = _split(children)
        return Parts(keyword, flags, tuple(_BLANKS.split(str(rest[0]))) if rest else ())

    def string(self, children: list[Any]) -> Parts:
        """USER, WORKDIR, STOPSIGNAL, MAINTAINER: the rest as it is."""
        keyword, flags, rest = _split(children)
        return Parts(keyword, flags, (str(rest[0]),) if rest else ())

    def names(self, children: list[Any]) -> Parts:
        """ARG: quoted words."""
        keyword, flags, rest = _split(children)
        return Parts(keyword, flags, tuple(rest))

    def pairs(self, children: list[Any]) -> Parts:
        """ENV, LABEL: name, value, "=" for each; or the old form, whose third is empty."""
        keyword, flags, rest = _split(children)
        args: list[str] = []
        for word in rest:
            if isinstance(word, _Legacy):
                pair = _BLANKS.split(word.text, maxsplit=1)
                if len(pair) < 2:
                    raise DockerfileError(f"{keyword.upper()} must have two arguments")
                args += (*pair, "")
                continue
            name, equals, value = word.partition("=")
            if not equals:
                raise DockerfileError(f"Syntax error - can't find = in {quote(word)}. Must be of the form: name=value")
            args += (name, value, "=")
        return Parts(keyword, flags, tuple(args))

    def healthcheck(self, children: list[Any]) -> Parts:
        """HEALTHCHECK: NONE or CMD, then as RUN."""
        keyword, flags, rest = _split(children)
        if not rest:
            return Parts(keyword, flags)
        kind = str(rest[0])
        parts = _maybe_json(keyword, flags, rest[1:], lambda text: (text,))
        return Parts(keyword, flags, (kind, *parts.args), json=parts.json)

    def trigger(self, children: list[Any]) -> Parts:
        """ONBUILD: another statement."""
        keyword, flags, rest = _split(children)
        return Parts(keyword, flags, inner=rest[0] if rest else None)

    def chained(self, children: list[Any]) -> Parts:
        """ONBUILD after ONBUILD, which is refused later: not taken apart, so that nothing nests without end."""
        keyword, *rest = _BLANKS.split(str(children[0]), maxsplit=1)
        return Parts(keyword, args=tuple(rest))

    def unknown(self, children: list[Any]) -> Parts:
        """Some other word, which is refused later, as docker does: errors of form come first."""
        keyword, flags, _ = _split(children)
        return Parts(keyword, flags, ("",))

    def word(self, children: list[Any]) -> str:
        """A word without the Unicode white space in front of it."""
        return str(children[0]).lstrip(SPACES)

    def legacy(self, children: list[Any]) -> _Legacy:
        """`key value`"""
        return _Legacy(str(children[0]).strip(SPACES))


class _Legacy:
    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


def _split(children: list[Any]) -> tuple[str, tuple[Flag, ...], list[Any]]:
    keyword = str(children[0])
    if len(children) > 1 and isinstance(children[1], Token) and children[1].type == "FLAGS":
        return keyword, _flags(children[1]), children[2:]
    return keyword, (), children[1:]


def _flags(text: str) -> tuple[Flag, ...]:
    flags = []
    for match in _FLAG.finditer(text):
        raw = match[1]
        if "\\" in raw or "'" in raw or '"' in raw:
            raw = _unquote(raw)
        name, equals, value = raw.partition("=")
        if raw:
            flags.append(Flag(name, value if equals else None))
    return tuple(flags)


def _unquote(raw: str) -> str:
    """Quotes away, escaped characters kept; inside one kind of quote the other is plain text."""
    out: list[str] = []
    quote = ""
    position = 0
    for match in _ESCAPED_OR_QUOTE.finditer(raw):
        out.append(raw[position : match.start()])
        position = match.end()
        mark = match[0]
        if mark[0] == "\\":
            out.append(match[1])
        elif not quote:
            quote = mark
        elif mark == quote:
            quote = ""
        else:
            out.append(mark)
    out.append(raw[position:])
    return "".join(out)


def _maybe_json(keyword: str, flags: tuple[Flag, ...], rest: list[Any], split: Any) -> Parts:
    if not rest:
        return Parts(keyword, flags)
    text = str(rest[0])
    if rest[0].type == "JSON":
        return Parts(keyword, flags, _strings(text), json=True)
    if text.lstrip(SPACES).startswith("["):
        _refuse_mixed(text)
    return Parts(keyword, flags, split(text))


def _strings(text: str) -> tuple[str, ...]:
    import json

    # Half a surrogate pair, or a byte that is no UTF-8, is U+FFFD in JSON as Go reads it.
    return tuple(_LONE_SURROGATES.sub("\ufffd", item) for item in json.loads(text))


def _refuse_mixed(text: str) -> None:
    """Raise when `text` is a JSON array after all, of other things than strings; anything else is shell text."""
    import json

    try:
        json.loads(text, parse_int=str, parse_float=str, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return
    raise DockerfileError("when using JSON array syntax, arrays must be comprised of strings only")


def _no_constant(name: str) -> None:
    raise ValueError(name)
