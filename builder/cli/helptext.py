"""The texts of --help, in docker's layout."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence

from builder.cli.flags import BOOL, Command, Flag
from builder.cli.registry import COMMANDS, COMMON, GROUPS, Group


def program(flags: Iterable[Flag]) -> str:
    """`lamina --help`."""
    common = [(name, COMMANDS[name].short) for name in COMMON]
    groups = [(name, group.short) for name, group in GROUPS.items()]
    others = sorted((name, entry.short) for name, entry in COMMANDS.items() if name not in COMMON and not entry.hidden)
    return "\n\n".join(
        (
            "Usage:  lamina [OPTIONS] COMMAND",
            "Builds container images from Dockerfiles and runs them, without a daemon",
            "Common Commands:\n" + _two_columns(common),
            "Management Commands:\n" + _two_columns(groups),
            "Commands:\n" + _two_columns(others),
            "Global Options:\n" + _flags(flags),
            "Run 'lamina COMMAND --help' for more information on a command.",
        )
    )


def group(path: Sequence[str], group: Group) -> str:
    """`lamina image --help`."""
    called = " ".join(["lamina", *path])
    rows = sorted((name, entry.short) for name, entry in group.entries.items())
    return (
        f"Usage:  {called} COMMAND\n\n{group.short}\n\nCommands:\n{_two_columns(rows)}\n\n"
        f"Run '{called} COMMAND --help' for more information on a command."
    )


def command(path: Sequence[str], command: Command) -> str:
    """`lamina image ls --help`."""
    text = f"Usage:  lamina {' '.join(path)} {command.usage}".rstrip() + f"\n\n{command.short}"
    if command.aliases:
        text += f"\n\nAliases:\n  {command.aliases}"
    options = _flags(command.flags)
    return text + (f"\n\nOptions:\n{options}" if options else "")


def _two_columns(rows: Sequence[tuple[str, str]]) -> str:
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"  {name:<{width}}  {short}" for name, short in rows)


def _flags(flags: Iterable[Flag]) -> str:
    rows = []
    for flag in sorted(flags, key=lambda flag: flag.name):
        if flag.hidden:
            continue
        left = f"  -{flag.short}, --{flag.name}" if flag.short else f"      --{flag.name}"
        if flag.kind != BOOL:
            left += f" {flag.word}"
        default = "" if flag.default in (None, "", False) else f" (default {_quoted(flag.default)})"
        rows.append((left, flag.help + default))
    width = max((len(left) for left, _ in rows), default=0)
    room = max(shutil.get_terminal_size((120, 24)).columns - width - 3, 24)
    return "\n".join(f"{left:<{width}}   {_wrapped(text, room, width + 3)}" for left, text in rows)


def _quoted(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


def _wrapped(text: str, room: int, indent: int) -> str:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > room:
            lines.append(word)
        else:
            lines[-1] += f" {word}" if lines[-1] else word
    return ("\n" + " " * indent).join(lines)
