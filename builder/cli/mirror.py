"""The command tables as click objects, made when a page of help or a completion is wanted and at no other time.

Parsing stays with `flags`: it is on the way of every command, and click takes longer to import than a cached build may
take.  What click does here: lay out `--help` on every level, find out what a half-typed command line waits for, and
print the scripts that hook this into bash, zsh and fish.  Nothing here runs a command.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from gettext import gettext
from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from builder.cli import flags as f
from builder.cli.registry import COMMANDS, COMMON, GROUPS, Entry
from builder.cli.registry import Group as Table

Words = Callable[[str, str], list[str]]
"""(the `complete` text of a flag or a command, --root as typed) → names of containers, images, or plain words."""

COMPLETE_VARIABLE = "_LAMINA_COMPLETE"
_WIDTH = 120  # of help that goes to no terminal
_COLUMN = 48  # options up to here have their text on the same line


def help_text(path: Sequence[str], program: click.Group) -> str:
    """The page of the program (no path), of a group or of a command.  The path must exist."""
    width = shutil.get_terminal_size((_WIDTH, 24)).columns
    command: click.Command = program
    context = click.Context(command, info_name="lamina", terminal_width=width, resilient_parsing=True)
    for word in path:
        assert isinstance(command, click.Group)
        found = command.get_command(context, word)
        assert found is not None
        command, context = found, click.Context(found, context, word, terminal_width=width, resilient_parsing=True)
    return command.get_help(context)


def script(shell: str, program: click.Group) -> str:
    """What a shell sources to complete `lamina`.  Raises UsageError for a shell that is not known."""
    kind = get_completion_class(shell) if shell in ("bash", "zsh", "fish") else None
    if kind is None:
        raise f.UsageError(f"unknown shell {shell}: use bash, zsh or fish")
    return kind(program, {}, "lamina", COMPLETE_VARIABLE).source()


def completions(instruction: str, program: click.Group) -> str:
    """The answer to a script of `script`: its variable has `bash_complete`, the words come in COMP_WORDS."""
    shell, _, verb = instruction.partition("_")
    kind = get_completion_class(shell)
    return "" if kind is None or verb != "complete" else kind(program, {}, "lamina", COMPLETE_VARIABLE).complete()


class Program(click.Group):
    """`lamina` itself."""

    def __init__(self, options: Iterable[f.Flag], load: Callable[[Entry], f.Command], words: Words) -> None:
        super().__init__(
            "lamina",
            params=[_option(flag, words) for flag in options],
            help="Builds container images from Dockerfiles and runs them, without a daemon",
            options_metavar="[OPTIONS]",
            subcommand_metavar="COMMAND",
            add_help_option=False,
        )
        self._load, self._words = load, words

    def list_commands(self, context: click.Context) -> list[str]:
        """Every word that may come next."""
        return [*GROUPS, *(name for name, entry in COMMANDS.items() if not entry.hidden)]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """The group or command of a word; imports the command's module."""
        if name in GROUPS:
            return Group(name, GROUPS[name], self._load, self._words)
        return Leaf(name, self._load(COMMANDS[name]), self._words) if name in COMMANDS else None

    def shell_complete(self, context: click.Context, incomplete: str) -> list[CompletionItem[Any]]:
        """Options, groups and commands, without loading the commands."""
        shown = [(name, group.short) for name, group in GROUPS.items()]
        shown += [(name, entry.short) for name, entry in COMMANDS.items() if not entry.hidden]
        return _offer(context, self, incomplete, shown)

    def format_help(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Docker's page."""
        others = sorted(name for name, entry in COMMANDS.items() if name not in COMMON and not entry.hidden)
        _usage(formatter, "lamina [OPTIONS] COMMAND", self.help)
        _section(formatter, "Common Commands", [(name, COMMANDS[name].short) for name in COMMON])
        _section(formatter, "Management Commands", [(name, group.short) for name, group in GROUPS.items()])
        _section(formatter, "Commands", [(name, COMMANDS[name].short) for name in others])
        _section(formatter, "Global Options", _records(self, context))
        _paragraph(formatter, "Run 'lamina COMMAND --help' for more information on a command.")


class Group(click.Group):
    """A word that has commands below it: `image`, `container`."""

    def __init__(self, name: str, table: Table, load: Callable[[Entry], f.Command], words: Words) -> None:
        super().__init__(name, help=table.short, subcommand_metavar="COMMAND", add_help_option=False)
        self._table, self._load, self._words = table, load, words

    def list_commands(self, context: click.Context) -> list[str]:
        """The names, without aliases."""
        return sorted((*self._table.entries, *self._table.below))

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """By name or alias; imports the command's module."""
        if name in self._table.below:
            return Group(name, GROUPS[name], self._load, self._words)
        entry = self._table.entries.get(self._table.aliases.get(name, name))
        return Leaf(name, self._load(entry), self._words) if entry is not None else None

    def shell_complete(self, context: click.Context, incomplete: str) -> list[CompletionItem[Any]]:
        """The commands, without loading them."""
        return _offer(context, self, incomplete, self._shown(context))

    def format_help(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Docker's page of a management command."""
        _usage(formatter, f"{context.command_path} COMMAND", self.help)
        _section(formatter, "Commands", self._shown(context))
        _paragraph(formatter, f"Run '{context.command_path} COMMAND --help' for more information on a command.")

    def _shown(self, context: click.Context) -> list[tuple[str, str]]:
        table = self._table
        names = self.list_commands(context)
        return [(name, (GROUPS[name] if name in table.below else table.entries[name]).short) for name in names]


class Leaf(click.Command):
    """One command."""

    def __init__(self, name: str, table: f.Command, words: Words) -> None:
        arguments: list[click.Parameter] = []
        if table.arguments[1] != 0:
            offer = partial(_items, words, table.complete)
            arguments.append(click.Argument(["argument"], nargs=-1, required=False, shell_complete=offer))
        super().__init__(
            name,
            context_settings={
                "allow_interspersed_args": not table.stop_at_argument,
                "ignore_unknown_options": True,
            },
            params=[*(_option(flag, words) for flag in table.flags), *arguments],
            help=table.short,
            add_help_option=False,
        )
        self._table = table

    def format_help(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Docker's page of a command."""
        _usage(formatter, f"{context.command_path} {self._table.usage}".rstrip(), self.help)
        if self._table.aliases:
            _section(formatter, "Aliases", [(self._table.aliases, "")])
        _section(formatter, "Options", _records(self, context))


class Option(click.Option):
    """A flag of the tables."""

    def get_help_record(self, context: click.Context) -> tuple[str, str] | None:
        """The two columns; an option without a letter is indented as far as those that have one."""
        if self.hidden:
            return None
        left = ", ".join(sorted(self.opts, key=len))
        left = left if len(self.opts) > 1 else f"    {left}"
        return (left if self.is_flag else f"{left} {self.metavar}"), self.help or ""


def _option(flag: f.Flag, words: Words) -> Option:
    names = [f"--{flag.name}", *([f"-{flag.short}"] if flag.short else [])]
    shown = "" if flag.default in (None, "", False) else f" (default {_quoted(flag.default)})"
    variable = flag.name.replace("-", "_") + "_option"
    if flag.kind == f.BOOL:
        return Option([*names, variable], is_flag=True, help=flag.help + shown, hidden=flag.hidden)
    return Option(
        [*names, variable],
        metavar=flag.word,
        multiple=flag.kind in (f.LIST, f.CSV),
        help=flag.help + shown,
        hidden=flag.hidden,
        shell_complete=partial(_items, words, flag.complete),
    )


def _quoted(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


def _items(
    words: Words, kinds: str, context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem[Any]]:
    if not kinds or "file" in kinds.split():
        return [CompletionItem(incomplete, type="file")]
    found = words(kinds, context.find_root().params.get("root_option") or "")
    return [CompletionItem(word) for word in sorted(set(found)) if word.startswith(incomplete)]


def _offer(
    context: click.Context, group: click.Group, incomplete: str, shown: Sequence[tuple[str, str]]
) -> list[CompletionItem[Any]]:
    items = [CompletionItem(name, help=short) for name, short in shown if name.startswith(incomplete)]
    return [*items, *click.Command.shell_complete(group, context, incomplete)]


def _usage(formatter: click.HelpFormatter, usage: str, text: str | None) -> None:
    program, _, rest = usage.partition(" ")
    formatter.write_usage(program, rest, prefix=gettext("Usage:  "))
    _paragraph(formatter, text or "")


def _paragraph(formatter: click.HelpFormatter, text: str) -> None:
    formatter.write_paragraph()
    formatter.write_text(text)


def _section(formatter: click.HelpFormatter, title: str, rows: Sequence[tuple[str, str]]) -> None:
    if rows:
        with formatter.section(title):
            formatter.write_dl(rows, col_max=_COLUMN, col_spacing=3)


def _records(command: click.Command, context: click.Context) -> list[tuple[str, str]]:
    options = [each for each in command.params if isinstance(each, Option)]
    options.sort(key=lambda each: max(each.opts, key=len))
    return [record for each in options if (record := each.get_help_record(context)) is not None]
