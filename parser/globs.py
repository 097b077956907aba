"""The patterns of `${name#pattern}`, `${name%pattern}` and `${name/pattern/text}`.

`*` is any text within a line, `?` one character, `\\` takes the meaning from `*`, `?` and itself. There are no
brackets. A pattern runs as a set of positions held in the bits of an integer, so that time is linear in the value,
however many stars there are.
"""

from __future__ import annotations

from parser.errors import DockerfileError

__all__ = ["Glob"]

_Token = tuple[str, str]


class Glob:
    """A compiled pattern. Raises DockerfileError for a `\\` before anything else than `*`, `?`, `\\`, `}` and `/`."""

    def __init__(self, pattern: str) -> None:
        self._tokens = _read(pattern)
        self._forward = _Machine(self._tokens)

    def trim_prefix(self, value: str, *, longest: bool) -> str:
        """`value` without the shortest or longest beginning that matches; unchanged when none does."""
        end = self._forward.end(value, 0, longest=longest)
        return value if end is None else value[end:]

    def trim_suffix(self, value: str, *, longest: bool) -> str:
        """`value` without the shortest or longest ending that matches; unchanged when none does."""
        end = _Machine(self._tokens[::-1]).end(value[::-1], 0, longest=longest)
        return value if end is None else value[: len(value) - end]

    def replace(self, value: str, replacement: str, *, every: bool) -> str:
        """`value` with the first match, or every match, replaced: leftmost, then longest."""
        starts = _Machine(self._tokens[::-1]).accepting(value[::-1])
        out: list[str] = []
        done = 0  # everything before is in `out`
        position = 0
        last_end = -1
        while position <= len(value):
            # starts counts from the end, as it comes from the reversed text
            if starts[len(value) - position]:
                end = self._forward.end(value, position, longest=True)
                # An empty match right behind the match before it is none.
                if end is not None and not (end == position == last_end):
                    text = _fill(replacement, value[position:end]) if every else replacement
                    out += (value[done:position], text)
                    done = last_end = end
                    if not every:
                        break
                    if end > position:
                        position = end
                        continue
            position += 1
        out.append(value[done:])
        return "".join(out)


class _Machine:
    """Bit i of a state: the first i tokens have matched."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._stars = sum(1 << i for i, (kind, _) in enumerate(tokens) if kind == "star")
        self._any = sum(1 << i for i, (kind, _) in enumerate(tokens) if kind == "any")
        self._literal: dict[str, int] = {}
        for i, (kind, character) in enumerate(tokens):
            if kind == "literal":
                self._literal[character] = self._literal.get(character, 0) | 1 << i
        self._final = 1 << len(tokens)

    def _skip_star(self, state: int) -> int:
        # Neighbouring stars are one token, so a single step is enough.
        return state | (state & self._stars) << 1

    def _step(self, state: int, character: str) -> int:
        moved = (state & self._literal.get(character, 0)) << 1
        if character != "\n":
            moved |= (state & self._any) << 1 | state & self._stars
        return self._skip_star(moved)

    def end(self, text: str, start: int, *, longest: bool) -> int | None:
        """Where the shortest or longest match from `start` on ends."""
        state = self._skip_star(1)
        found = None
        position = start
        while True:
            if state & self._final:
                found = position
                if not longest:
                    return found
            if position == len(text) or not state:
                return found
            state = self._step(state, text[position])
            position += 1

    def accepting(self, text: str) -> list[bool]:
        """For each position 0…len(text): does a match that began anywhere before end there?"""
        begin = self._skip_star(1)
        state = begin
        found = [bool(state & self._final)]
        for character in text:
            state = self._step(state, character) | begin
            found.append(bool(state & self._final))
        return found


def _read(pattern: str) -> list[_Token]:
    tokens: list[_Token] = []
    characters = iter(range(len(pattern)))
    for i in characters:
        character = pattern[i]
        if character == "*":
            if not tokens or tokens[-1][0] != "star":
                tokens.append(("star", ""))
        elif character == "?":
            tokens.append(("any", ""))
        elif character == "\\":
            following = pattern[i + 1 : i + 2]
            if following in ("}", "/") and following:
                continue  # escaped for the sake of ${}, not for the pattern
            if following not in ("*", "?", "\\") or not following:
                raise DockerfileError(f"invalid pattern ({pattern}) in substitution: invalid escape '\\{following}'")
            tokens.append(("literal", following))
            next(characters)
        else:
            tokens.append(("literal", character))
    return tokens


def _fill(replacement: str, match: str) -> str:
    """Docker takes the replacement of `//` for a template of Go's regexp: `$0` is the match, other `$name` nothing."""
    if "$" not in replacement:
        return replacement
    import re

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name is None:
            return "$" if found[0] == "$$" else found[0]
        return match if name.isdecimal() and int(name) == 0 else ""

    return re.sub(r"\$(?:(\w+)|\{(\w+)\}|\$?)", value, replacement)
