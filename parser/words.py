"""Variable expansion, quoting and word splitting of Dockerfile words, as docker's shell lexer does them.

Understood are `$name`, `${name}`, `${name:-word}`, `:+`, `:?` and the same without the colon (which then asks only
whether the name is set), `${name#pattern}`, `##`, `%`, `%%`, `${name/pattern/text}` and `${name//pattern/text}`.
Single quotes keep everything, double quotes keep everything but `$`; the escape character protects any character
outside quotes, and `"`, `$` and itself inside double quotes.

This is not a shell: nothing is run, and a name that is not set is empty (and is reported, for the checks).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from parser.characters import SPACES
from parser.errors import DockerfileError

__all__ = ["Expansion", "expand", "expand_words", "process", "process_document", "split_raw"]

_SPECIAL_PARAMETERS = "@*#?-$!0"
_DEEPEST = 100
"""Levels of ${…${…}}: nobody writes ten, and each takes some of Python's stack."""


@dataclass(frozen=True, slots=True)
class Expansion:
    """`text` after expansion (quotes removed), `words` it splits into, and the names that were and were not set."""

    text: str
    words: tuple[str, ...]
    matched: frozenset[str]
    unmatched: frozenset[str]


def process(word: str, env: Mapping[str, str], *, escape: str = "\\") -> Expansion:
    """Expand, unquote and split `word`. Raises DockerfileError without a span."""
    lexer = _Lexer(word, env, escape)
    try:
        text = lexer.until(None, lexer.words, raw_escapes=False)
    except DockerfileError as err:
        raise DockerfileError(f'failed to process "{word}": {err.message}', hint=err.hint) from None
    return Expansion(text, tuple(lexer.words.finish()), frozenset(lexer.matched), frozenset(lexer.unmatched))


def expand(word: str, env: Mapping[str, str], *, escape: str = "\\") -> str:
    """`word` with variables replaced and quotes removed, as one text. Raises DockerfileError without a span."""
    if not any(character in word for character in ("$", "'", '"', escape)):
        return word
    return process(word, env, escape=escape).text


def expand_words(word: str, env: Mapping[str, str], *, escape: str = "\\") -> list[str]:
    """As `expand`, but unquoted white space splits words. Raises DockerfileError without a span."""
    return list(process(word, env, escape=escape).words)


def process_document(text: str, env: Mapping[str, str]) -> Expansion:
    """A here-document's text with variables replaced and quotes kept; the escape character is always a backslash.

    Raises DockerfileError without a span."""
    if "$" not in text and "\\" not in text:
        return Expansion(text, (), frozenset(), frozenset())
    # Quotes mean nothing in a document: they pass through the lexer as characters that no text has.
    hidden = text.replace("'", "\ue000").replace('"', "\ue001")
    found = process(hidden, env)
    shown = found.text.replace("\ue000", "'").replace("\ue001", '"')
    return Expansion(shown, (), found.matched, found.unmatched)


def split_raw(text: str, *, keep_quotes: bool, keep_escapes: bool = False) -> list[str]:
    """Split into words with variables left alone: how the names of here-documents are found.

    Raises DockerfileError without a span when a quote is open.
    """
    lexer = _Lexer(text, {}, "\\", keep_quotes=keep_quotes, keep_unset=True)
    lexer.until(None, lexer.words, raw_escapes=keep_escapes)
    return lexer.words.finish()


class _Words:
    """Collects words. White space ends one only where it was not quoted; empty words do not exist."""

    __slots__ = ("_current", "_words")

    def __init__(self) -> None:
        self._words: list[str] = []
        self._current: list[str] = []

    def add(self, text: str) -> None:
        for character in text:
            if character in SPACES:
                self._end()
            else:
                self._current.append(character)

    def add_quoted(self, text: str) -> None:
        self._current.append(text)

    def forget(self) -> None:
        self._current.clear()

    def _end(self) -> None:
        word = "".join(self._current)
        if word:
            self._words.append(word)
            self._current.clear()

    def finish(self) -> list[str]:
        self._end()
        return self._words


class _Lexer:
    def __init__(
        self, text: str, env: Mapping[str, str], escape: str, *, keep_quotes: bool = False, keep_unset: bool = False
    ) -> None:
        self._text = text
        self._position = 0
        self._env = env
        self._escape = escape
        self._keep_quotes = keep_quotes
        self._keep_unset = keep_unset
        self._raw_escapes = False
        self._depth = 0
        self.words = _Words()
        self.matched: set[str] = set()
        self.unmatched: set[str] = set()

    def _peek(self) -> str:
        """The next character, "" at the end."""
        return self._text[self._position : self._position + 1]

    def _next(self) -> str:
        character = self._text[self._position : self._position + 1]
        self._position += 1
        return character

    def until(self, stop: str | None, words: _Words | None, *, raw_escapes: bool) -> str:
        """Read up to and over `stop` (None: the end). With `raw_escapes` the escape character stays in the text."""
        outer, self._raw_escapes = self._raw_escapes, raw_escapes
        self._depth += 1
        if self._depth > _DEEPEST:
            raise DockerfileError(f"variables are nested deeper than {_DEEPEST} levels")
        # Docker collects words in one buffer and starts it anew for the word inside ${name:-word}: what stood
        # right before is missing from the words (not from the text). Words are asked for by EXPOSE alone.
        self.words.forget()
        out: list[str] = []
        while (character := self._peek()) and character != stop:
            if character == "$":
                text = self._dollar()
                if words is not None:
                    words.add(text)
            elif character == "'":
                text = self._single_quotes()
                if words is not None:
                    words.add_quoted(text)
            elif character == '"':
                text = self._double_quotes()
                if words is not None:
                    words.add_quoted(text)
            elif character == "<":
                text = self._heredoc_start()
                if words is not None:
                    words.add_quoted(text)
            elif character == self._escape:
                self._position += 1
                following = self._next()
                text = character + following if raw_escapes else following
                if words is not None:
                    words.add_quoted(text)
            else:
                self._position += 1
                text = character
                if words is not None:
                    words.add(text)
            out.append(text)
        if stop is not None and self._next() != stop:
            raise DockerfileError(f"unexpected end of statement while looking for matching {stop}")
        self._raw_escapes = outer
        self._depth -= 1
        return "".join(out)

    def _heredoc_start(self) -> str:
        # `<< EOF` is one word for docker, so that the name is found behind the blanks.
        start = self._position
        self._position += 1
        if self._peek() == "<":
            self._position += 1
            end = self._position + (self._peek() == "-")
            while self._text[end : end + 1] in (" ", "\t", "\r"):
                end += 1
                self._position = end
        return self._text[start : self._position]

    def _single_quotes(self) -> str:
        end = self._text.find("'", self._position + 1)
        if end < 0:
            raise DockerfileError("unexpected end of statement while looking for matching single-quote")
        start, self._position = self._position, end + 1
        return self._text[start : end + 1] if self._keep_quotes else self._text[start + 1 : end]

    def _double_quotes(self) -> str:
        self._position += 1
        out = ['"'] if self._keep_quotes else []
        while True:
            character = self._peek()
            if not character:
                raise DockerfileError("unexpected end of statement while looking for matching double-quote")
            if character == "$":
                out.append(self._dollar())
                continue
            self._position += 1
            if character == '"':
                if self._keep_quotes:
                    out.append(character)
                return "".join(out)
            if character == self._escape:
                if self._raw_escapes:
                    out.append(character)
                following = self._peek()
                if not following:
                    continue  # the missing quote is reported above
                if following in ('"', "$", self._escape):
                    character = self._next()
            out.append(character)

    def _value(self, name: str) -> str | None:
        value = self._env.get(name)
        (self.unmatched if value is None else self.matched).add(name)
        return value

    def _dollar(self) -> str:
        self._position += 1
        if self._peek() != "{":
            name = self._name()
            if not name:
                return "$"
            value = self._value(name)
            if value is None:
                return f"${name}" if self._keep_unset else ""
            return value

        self._position += 1
        following = self._peek()
        if not following:
            raise DockerfileError("syntax error: missing '}'")
        if following in "{}:":
            raise DockerfileError("syntax error: bad substitution")
        name = self._name()
        operator = self._next()
        if operator == "}":
            value = self._value(name)
            if value is None:
                return f"${{{name}}}" if self._keep_unset else ""
            return value
        if operator == "/":
            return self._replace(name)
        colon = operator == ":"
        if colon:
            operator = self._next()
        modifier = ":" + operator if colon else operator
        if not operator:
            raise DockerfileError("syntax error: missing '}'")
        if operator not in ("+-?" if colon else "+-?#%"):
            raise DockerfileError(f"unsupported modifier ({modifier}) in substitution")
        word = self._braced(operator in "#%")
        return self._modify(name, modifier, word)

    def _braced(self, raw_escapes: bool) -> str:  # noqa: FBT001  (passed on by two callers, one line each)
        try:
            return self.until("}", None, raw_escapes=raw_escapes)
        except DockerfileError:
            if not self._peek():
                raise DockerfileError("syntax error: missing '}'") from None
            raise

    def _modify(self, name: str, modifier: str, word: str) -> str:
        value = self._value(name)
        if value is None and self._keep_unset:
            return f"${{{name}{modifier}{word}}}"
        # With a colon, empty counts as unset.
        missing = value is None or (modifier[0] == ":" and value == "")
        value = value or ""
        match modifier[-1]:
            case "-":
                return word if missing else value
            case "+":
                return "" if missing else word
            case "?":
                if missing:
                    unset = "unset" if name in self.unmatched else "empty"
                    raise DockerfileError(f"{name}: {word or f'is not allowed to be {unset}'}")
                return value
            case "#" | "%" as side:
                from parser.globs import Glob

                longest = word.startswith(side)
                glob = Glob(word.removeprefix(side))
                if side == "#":
                    return glob.trim_prefix(value, longest=longest)
                return glob.trim_suffix(value, longest=longest)
        raise DockerfileError(f"unsupported modifier ({modifier}) in substitution")

    def _replace(self, name: str) -> str:
        every = self._peek() == "/"
        if every:
            self._position += 1
        try:
            pattern = self.until("/", None, raw_escapes=True)
        except DockerfileError:
            if not self._peek():
                raise DockerfileError("syntax error: missing '/' in ${}") from None
            raise
        replacement = self._braced(True)  # noqa: FBT003
        value = self._value(name)
        if value is None and self._keep_unset:
            return f"${{{name}/{pattern}/{replacement}}}"
        from parser.globs import Glob

        return Glob(pattern).replace(value or "", replacement, every=every)

    def _name(self) -> str:
        """Letters, digits and "_"; or digits only; or one special parameter."""
        start = self._position
        first = self._peek()
        if first.isdecimal():
            while self._peek().isdecimal():
                self._position += 1
        elif first and first in _SPECIAL_PARAMETERS:
            self._position += 1
        else:
            while (character := self._peek()) and (character.isalpha() or character.isdecimal() or character == "_"):
                self._position += 1
        return self._text[start : self._position]
