""".dockerignore: reading and matching its patterns, as docker does (moby/patternmatcher).

The last pattern that matches a path, or a parent of it, decides. `*` and `?` stop at slashes, `**` does not, `[…]` is a
character class, `\\` takes the meaning from the next character, "!" in front takes paths back.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from parser.errors import DockerfileError

__all__ = ["Line", "Matcher", "State", "read", "read_lines"]

State = tuple[bool, ...]
"""What `Matcher.step` knows about a directory: which patterns match it or a parent of it."""

_SPACES = " \t\n\v\f\r\x85\xa0"
_SPECIAL = re.compile(r"[*?\[\]\\]")


class Line(NamedTuple):
    """A pattern of an ignore file, cleaned, with "!" first where it takes back, and the line that it stands on."""

    pattern: str
    number: int


def read(text: str | bytes) -> tuple[str, ...]:
    """The patterns of an ignore file in order, cleaned; with "!" first where one takes back."""
    return tuple(line.pattern for line in read_lines(text))


def read_lines(text: str | bytes) -> tuple[Line, ...]:
    """The patterns of an ignore file, as `read` gives them, with their lines."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    found = []
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        # Only the first column makes a comment: a name may begin with blanks and a number sign.
        if line.startswith("#"):
            continue
        pattern = line.removesuffix("\r").strip(_SPACES)
        back = pattern.startswith("!")
        if back:
            pattern = pattern[1:].strip(_SPACES)
        if pattern:
            pattern = _clean(pattern)
            if len(pattern) > 1 and pattern.startswith("/"):
                pattern = pattern[1:]
        if pattern or back:
            found.append(Line(f"!{pattern}" if back else pattern, number))
    return tuple(found)


class Matcher:
    """A list of patterns, ready to match slash-separated paths relative to the context's root.

    Like docker's, it reads a pattern fully only when it is asked about a path that no other pattern has decided: what
    raises DockerfileError may be the constructor or any of the methods.
    """

    __slots__ = ("_back", "_matches", "_prefixes", "name", "patterns", "places")

    def __init__(self, patterns: Iterable[str | Line], *, name: str = "") -> None:
        """*name* is the ignore file's, for messages. Raises DockerfileError for a pattern that cannot be read."""
        given, places, backs, matches, prefixes = [], [], [], [], []
        for one in patterns:
            pattern = one.pattern if isinstance(one, Line) else one
            place = f"{name}:{one.number}" if isinstance(one, Line) else ""
            text = pattern.strip(_SPACES)
            if not text:
                continue
            text = _clean(text)
            back = text.startswith("!")
            try:
                if back:
                    text = text[1:]
                    if not text:
                        raise DockerfileError('illegal exclusion pattern: "!"')
                    prefixes.append(_literal_prefix(text))
                _check(text)
            except DockerfileError as err:
                raise _at(err, place) from None
            given.append(pattern)
            places.append(place)
            backs.append(back)
            matches.append(_Pattern(text, place))
        self.name = name
        self.patterns = tuple(given)
        self.places = tuple(places)
        self._back = tuple(backs)
        self._matches = tuple(matches)
        self._prefixes = tuple(prefixes)

    def matches(self, path: str) -> bool:
        """Whether `path` or a parent of it is ignored, and no later pattern takes it back."""
        decided = self._deciding(path)
        return decided is not None and not self._back[decided]

    def why(self, path: str) -> str | None:
        """The pattern that decided about `path`; None when none matched."""
        decided = self._deciding(path)
        return None if decided is None else self.patterns[decided]

    def reason(self, path: str) -> tuple[str, str] | None:
        """(the pattern that decided about `path`, where it stands: "name:line"); None when none matched."""
        decided = self._deciding(path)
        return None if decided is None else (self.patterns[decided], self.places[decided])

    def step(self, path: str, parent: State | None) -> tuple[bool, State]:
        """`matches`, for a walk from the top: give what `step` returned for the path's directory (None at the root)."""
        state = []
        ignored = False
        for number, (match, back) in enumerate(zip(self._matches, self._back, strict=True)):
            try:
                matched = (parent is not None and parent[number]) or match(path)
            except DockerfileError:
                if back == ignored:
                    raise
                matched = False  # nobody would have asked
            state.append(matched)
            if matched:
                ignored = not back
        return ignored, tuple(state)

    def may_include_below(self, path: str) -> bool:
        """Whether an exception could take back something below the ignored directory `path`; if not, skip it."""
        parts = tuple(path.split("/"))
        return any(prefix[: len(parts)] == parts[: len(prefix)] for prefix in self._prefixes)

    def _deciding(self, path: str) -> int | None:
        """The number of the last pattern that changed the answer, or else of the last that matched."""
        path = posixpath.normpath(path) if path else path
        candidates = [path]
        parent = posixpath.dirname(path)
        while parent not in ("", "/", "."):
            candidates.append(parent)
            parent = posixpath.dirname(parent)
        decided = None
        ignored = False
        for number, (match, back) in enumerate(zip(self._matches, self._back, strict=True)):
            # A pattern that could not change the answer is not even read, as with docker.
            if back == ignored and any(map(match, candidates)):
                decided = number
                ignored = not back
        return decided


def _literal_prefix(pattern: str) -> tuple[str, ...]:
    """The components of a pattern up to the first with a special character."""
    literal = []
    for part in pattern.split("/"):
        if _SPECIAL.search(part):
            break
        literal.append(part)
    return tuple(literal)


def _clean(pattern: str) -> str:
    """Go's path.Clean: no empty parts, no "." and, where it can be, no ".."."""
    cleaned = posixpath.normpath(pattern)
    return cleaned[1:] if cleaned.startswith("//") else cleaned


def _at(err: DockerfileError, place: str) -> DockerfileError:
    """The error with the place of its pattern, if that is known."""
    return DockerfileError(f"{place}: {err.message}", hint=err.hint) if place else err


class _Pattern:
    """One clean pattern, compiled when it is first asked."""

    __slots__ = ("_place", "_test", "_text")

    def __init__(self, text: str, place: str) -> None:
        self._text = text
        self._place = place
        self._test: Callable[[str], object] | None = None

    def __call__(self, path: str) -> bool:
        if self._test is None:
            try:
                self._test = _compile(self._text)
            except DockerfileError as err:
                raise _at(err, self._place) from None
        return bool(self._test(path))


def _compile(pattern: str) -> Callable[[str], object]:
    """The test for one clean pattern; plain texts, prefixes and suffixes need no regular expression.

    The regular expression is put together character by character without a look at character classes, and what then
    stands between brackets is the class: `[a/*]` is the letters of "a/[^/]*" - odd, but so it is with docker.
    """
    regex: list[str] = []
    kind = "exact"
    position = 0
    while position < len(pattern):
        first = position == 0
        character = pattern[position]
        position += 1
        if character == "*" and pattern.startswith("*", position):
            position += 1
            if pattern.startswith("/", position):
                position += 1
            if position == len(pattern):
                if kind == "exact":
                    kind = "prefix"
                else:
                    regex.append(".*")
                    kind = "regex"
            else:
                regex.append("(.*/)?")
                kind = "regex"
            if first:
                kind = "suffix"
            continue
        if character == "*":
            regex.append("[^/]*")
            kind = "regex"
        elif character == "?":
            regex.append("[^/]")
            kind = "regex"
        elif character in ".+()|{}$":
            regex.append("\\" + character)
        elif character == "\\":
            if position < len(pattern):
                regex.append("\\" + pattern[position])
                position += 1
                kind = "regex"
            else:
                regex.append("\\")
        else:
            regex.append(character)
            if character in "[]":
                kind = "regex"
    if kind == "exact":
        return pattern.__eq__
    if kind == "prefix":
        beginning = pattern.removesuffix("/").removesuffix("**")
        return lambda path: path.startswith(beginning)
    if kind == "suffix":
        ending = pattern[2:]
        whole = ending[1:] if ending.startswith("/") else None
        return lambda path: path.endswith(ending) or path == whole
    try:
        return re.compile(_python_regex("".join(regex)), re.DOTALL).fullmatch
    except re.error as err:
        raise DockerfileError(f"syntax error in pattern: {pattern}", hint=str(err)) from err


def _python_regex(regex: str) -> str:
    """Go's regular expression as Python's: what would be a set operation inside a class is plain text in Go."""
    out = []
    position = 0
    start = -1  # of the class that we are in
    while position < len(regex):
        character = regex[position]
        if character == "\\":
            out.append(regex[position : position + 2])
            position += 2
            continue
        if start < 0 and character == "[":
            start = position + regex.startswith("^", position + 1)
        elif start >= 0 and character == "]" and position > start + 1:
            start = -1
        elif start >= 0 and character in "[&~|":
            character = "\\" + character
        out.append(character)
        position += 1
    return "".join(out)


def _check(pattern: str) -> None:
    """Refuse what Go's filepath.Match, asked about ".", finds to be a bad pattern before it knows the answer."""
    position = 0
    name = "."
    while position < len(pattern):
        begin = position
        while pattern.startswith("*", position):
            position += 1
        star = position > begin
        end = position
        inside = False
        while end < len(pattern) and (inside or pattern[end] != "*"):
            if pattern[end] == "\\" and end + 1 < len(pattern):
                end += 1
            elif pattern[end] == "[":
                inside = True
            elif pattern[end] == "]":
                inside = False
            end += 1
        chunk = pattern[position:end]
        position = end
        rest = _match_chunk(chunk, name, pattern)
        if star and (rest is None or (rest and position == len(pattern))):
            rest = _match_chunk(chunk, name[1:], pattern)
        if rest is None:
            return
        name = rest


def _match_chunk(chunk: str, name: str, pattern: str) -> str | None:
    """What is left of `name` after `chunk`, None when it does not match. Raises DockerfileError for a bad class."""
    bad = DockerfileError(f"syntax error in pattern: {pattern}", hint="a character class or escape is not whole")
    failed = False
    position = 0
    while position < len(chunk):
        failed = failed or not name
        character = chunk[position]
        position += 1
        matched = True
        if character == "[":
            negated = chunk.startswith("^", position)
            position += negated
            matched = False
            ranges = 0
            while not (ranges and chunk.startswith("]", position)):
                low, position = _bound(chunk, position, bad)
                high = low
                if chunk.startswith("-", position):
                    high, position = _bound(chunk, position + 1, bad)
                matched = matched or low <= name[:1] <= high
                ranges += 1
            position += 1
            matched = matched != negated
        elif character == "?":
            matched = name[:1] != "/"
        else:
            if character == "\\":
                if position == len(chunk):
                    raise bad
                character = chunk[position]
                position += 1
            matched = name[:1] == character
        failed = failed or not matched
        name = name[1:]
    return None if failed else name


def _bound(chunk: str, position: int, bad: DockerfileError) -> tuple[str, int]:
    """One end of a range in a character class, and where the text goes on."""
    if position >= len(chunk) or chunk[position] in "-]":
        raise bad
    position += chunk[position] == "\\"
    if position + 1 >= len(chunk):
        raise bad
    return chunk[position], position + 1
