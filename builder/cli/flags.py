"""Reads option strings the way docker's clients do (the rules of pflag), from tables of Flag values.

What it gives: `-it`, `-p80:80`, `-p=80:80`, `--flag v`, `--flag=v`, `--bool=false`, `--` ends the options, and
`stop_at_argument` for run, create and exec, where all that follows the image belongs to the container.
What it is not: it knows no command; a command is a `Command` value that says which flags it has.

It is not click: importing click takes as long as a third of a whole cached build, and its texts, exit codes and
optional values are not docker's.  Help and completion, where that costs nobody anything, are click's (`mirror`).
Errors are `UsageError`; the edge in `builder.cli.app` adds the usage line.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

BOOL, TEXT, INT, LIST, CSV, OPTIONAL = "bool", "text", "int", "list", "csv", "optional"

# How the value is called in --help, by kind; a flag may give its own word.
_WORDS = {TEXT: "string", INT: "int", LIST: "list", CSV: "strings", OPTIONAL: "string"}


class UsageError(Exception):
    """What was typed cannot be read: a flag that does not exist, lacks its value or has a wrong one."""


class Flag:
    """One option of a command: its long name, what it takes, and what --help says.

    `kind` is BOOL (no value), TEXT, INT, LIST (repeatable), CSV (repeatable and split at commas) or OPTIONAL (a value
    only by `--name=value`; `implied` is taken without one).  `complete` names what a shell should offer: "image",
    "container", "volume", "network", "file", or words separated by blanks.
    """

    __slots__ = ("complete", "default", "help", "hidden", "implied", "kind", "name", "short", "word")

    def __init__(
        self,
        name: str,
        help: str,
        *,
        short: str = "",
        kind: str = TEXT,
        default: str | int | bool | None = None,
        word: str = "",
        hidden: bool = False,
        implied: str = "",
        complete: str = "",
    ) -> None:
        self.name = name
        self.help = help
        self.short = short
        self.kind = kind
        self.default = default
        self.word = word or _WORDS.get(kind, "")
        self.hidden = hidden
        self.implied = implied
        self.complete = complete

    @property
    def spelled(self) -> str:
        """The flag as error texts name it: `-m, --memory` or `--cpus`."""
        return f"-{self.short}, --{self.name}" if self.short else f"--{self.name}"


def switch(name: str, help: str, *, short: str = "", default: bool = False, hidden: bool = False) -> Flag:
    """A flag without a value."""
    return Flag(name, help, short=short, kind=BOOL, default=default, hidden=hidden)


def many(name: str, help: str, *, short: str = "", word: str = "", hidden: bool = False, complete: str = "") -> Flag:
    """A flag that may be given several times."""
    return Flag(name, help, short=short, kind=LIST, word=word, hidden=hidden, complete=complete)


class Values:
    """What was given for a command's flags.  Each accessor is for flags of its kind; absent flags give the default."""

    __slots__ = ("_flags", "_given")

    def __init__(self, flags: Mapping[str, Flag]) -> None:
        self._flags = flags
        self._given: dict[str, str | int | bool | list[str]] = {}

    def names(self) -> frozenset[str]:
        """The names of all flags that the command has."""
        return frozenset(self._flags)

    def given(self, name: str) -> bool:
        """Whether the flag was on the command line at all."""
        return name in self._given

    def everything(self) -> Mapping[str, str | int | bool | list[str]]:
        """All that was given, by flag."""
        return self._given

    def on(self, name: str) -> bool:
        """The value of a BOOL flag."""
        value = self._given.get(name, self._flags[name].default)
        return bool(value)

    def text(self, name: str) -> str:
        """The value of a TEXT or OPTIONAL flag, "" when absent and without default."""
        value = self._given.get(name, self._flags[name].default)
        return "" if value is None else str(value)

    def number(self, name: str) -> int | None:
        """The value of an INT flag."""
        value = self._given.get(name, self._flags[name].default)
        return value if isinstance(value, int) else None

    def all(self, name: str) -> tuple[str, ...]:
        """Every value of a LIST or CSV flag, in the order given."""
        value = self._given.get(name)
        return tuple(value) if isinstance(value, list) else ()

    def put(self, flag: Flag, raw: str) -> None:
        """Record one occurrence; raises UsageError when `raw` is not of the flag's kind."""
        if flag.kind == BOOL:
            self._given[flag.name] = _boolean(flag, raw)
        elif flag.kind == INT:
            try:
                self._given[flag.name] = int(raw, 0)
            except ValueError:
                raise invalid(flag.spelled, raw, f'strconv.ParseInt: parsing "{raw}": invalid syntax') from None
        elif flag.kind in (LIST, CSV):
            values = self._given.setdefault(flag.name, [])
            assert isinstance(values, list)
            values.extend(raw.split(",") if flag.kind == CSV else (raw,))
        else:
            self._given[flag.name] = raw


class Command:
    """A command as data: how it is called, what it takes, and the function that does it.

    `arguments` is (least, most); most None means any number.  `complete` is what a shell offers for the arguments.
    """

    __slots__ = ("aliases", "arguments", "complete", "flags", "run", "short", "stop_at_argument", "usage")

    def __init__(
        self,
        usage: str,
        short: str,
        run: Callable[..., int],
        *,
        flags: Sequence[Flag] = (),
        arguments: tuple[int, int | None] = (0, None),
        stop_at_argument: bool = False,
        complete: str = "",
        aliases: str = "",
    ) -> None:
        self.usage = usage
        self.short = short
        self.run = run
        self.flags = tuple(flags)
        self.arguments = arguments
        self.stop_at_argument = stop_at_argument
        self.complete = complete
        self.aliases = aliases


def invalid(spelled: str, raw: str, why: str) -> UsageError:
    """The error for a value that a flag cannot take, in pflag's words."""
    return UsageError(f'invalid argument "{raw}" for "{spelled}" flag: {why}')


def parse(flags: Iterable[Flag], words: Sequence[str], *, stop_at_argument: bool) -> tuple[Values, list[str]]:
    """Split `words` into flag values and arguments.  Raises UsageError."""
    by_name = {flag.name: flag for flag in flags}
    by_letter = {flag.short: flag for flag in by_name.values() if flag.short}
    values = Values(by_name)
    arguments: list[str] = []
    rest = list(reversed(words))
    while rest:
        word = rest.pop()
        if word == "--":
            arguments.extend(reversed(rest))
            break
        if word.startswith("--"):
            _long(word, by_name, values, rest)
        elif word.startswith("-") and word != "-":
            _letters(word, by_letter, values, rest)
        else:
            arguments.append(word)
            if stop_at_argument:
                arguments.extend(reversed(rest))
                break
    return values, arguments


def _long(word: str, by_name: Mapping[str, Flag], values: Values, rest: list[str]) -> None:
    name, equals, raw = word[2:].partition("=")
    if not name or name.startswith("-"):
        raise UsageError(f"bad flag syntax: {word}")
    flag = by_name.get(name)
    if flag is None:
        near = closest(name, [other.name for other in by_name.values() if not other.hidden])
        raise UsageError(f"unknown flag: --{name}" + (f" (did you mean --{near}?)" if near else ""))
    if equals:
        values.put(flag, raw)
    elif flag.kind == BOOL:
        values.put(flag, "true")
    elif flag.kind == OPTIONAL:
        values.put(flag, flag.implied)
    elif rest:
        values.put(flag, rest.pop())
    else:
        raise UsageError(f"flag needs an argument: --{name}")


def _letters(word: str, by_letter: Mapping[str, Flag], values: Values, rest: list[str]) -> None:
    letters = word[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        flag = by_letter.get(letter)
        if flag is None:
            raise UsageError(f"unknown shorthand flag: '{letter}' in {word}")
        if letters.startswith("="):
            values.put(flag, letters[1:])
            return
        if flag.kind == BOOL:
            values.put(flag, "true")
        elif flag.kind == OPTIONAL:
            values.put(flag, flag.implied)
        elif letters:
            values.put(flag, letters)
            return
        elif rest:
            values.put(flag, rest.pop())
        else:
            raise UsageError(f"flag needs an argument: '{letter}' in {word}")


def _boolean(flag: Flag, raw: str) -> bool:
    if raw in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if raw in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise invalid(flag.spelled, raw, f'strconv.ParseBool: parsing "{raw}": invalid syntax')


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant, or None: at most two letters away, and nearer than half the word."""
    best, limit = None, min(3, max(2, len(word) // 2 + 1))
    for candidate in known:
        distance = _distance(word, candidate)
        if distance < limit:
            best, limit = candidate, distance
    return best


def _distance(left: str, right: str) -> int:
    """Edits (insert, delete, replace, swap of neighbours) that turn one word into the other."""
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        older, before, row = before, row, [i] + [0] * len(right)
        for j, b in enumerate(right, 1):
            row[j] = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if older and j > 1 and i > 1 and a == right[j - 2] and left[i - 2] == b:
                row[j] = min(row[j], older[j - 2] + 1)
    return row[-1]
