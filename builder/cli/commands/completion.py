"""completion: scripts for bash, zsh and fish, and the hidden command that they ask for words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.cli.flags import BOOL, Command, Flag, UsageError, Values

if TYPE_CHECKING:
    from builder.cli.context import Cli

_BASH = """# bash completion for lamina; source it, or put it into /etc/bash_completion.d
_lamina() {
    local IFS=$'\\n' reply
    reply=$(lamina __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    COMPREPLY=($(compgen -W "$reply" -- "${COMP_WORDS[COMP_CWORD]}"))
    [ ${#COMPREPLY[@]} -eq 0 ] && compopt -o default
}
complete -F _lamina lamina
"""
_ZSH = """#compdef lamina
_lamina() {
    local -a reply
    reply=("${(@f)$(lamina __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n "${reply[1]}" ]]; then compadd -a reply; else _files; fi
}
compdef _lamina lamina
"""
_FISH = """# fish completion for lamina
function __lamina_complete
    set -l words (commandline -opc) (commandline -ct)
    lamina __complete $words[2..-1] 2>/dev/null
end
complete -c lamina -a '(__lamina_complete)'
"""
SHELLS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def completion(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Print the script for a shell."""
    script = SHELLS.get(arguments[0])
    if script is None:
        raise UsageError(f"unknown shell {arguments[0]}: use bash, zsh or fish")
    cli.out(script.rstrip("\n"))
    return 0


def complete(cli: Cli, values: Values, arguments: list[str]) -> int:
    """One possible word a line for the last of `arguments`, which may be empty."""
    for word in candidates(cli, arguments):
        cli.out(word)
    return 0


def candidates(cli: Cli, words: list[str]) -> list[str]:
    """What could stand for the last word."""
    from builder.cli import app
    from builder.cli.registry import COMMANDS as ALL
    from builder.cli.registry import GROUPS, Group

    *before, current = words or [""]
    # options of lamina itself come before the command; they are passed over
    while before and before[0].startswith("-"):
        before = before[2:] if before[0] == "--root" else before[1:]
    if not before:
        names = [*GROUPS, *(name for name, entry in ALL.items() if not entry.hidden)]
        return _starting(names, current)
    try:
        _, found, rest = app.find(before)
    except UsageError:
        return []
    if isinstance(found, Group):
        return _starting(list(found.entries), current)
    command = app.load(found)
    by_spelling = {f"--{flag.name}": flag for flag in command.flags}
    by_spelling |= {f"-{flag.short}": flag for flag in command.flags if flag.short}
    previous = by_spelling.get(rest[-1]) if rest else None
    if previous is not None and previous.kind != BOOL:
        return _starting(_values(cli, previous), current)
    if current.startswith("-"):
        return _starting([f"--{flag.name}" for flag in command.flags if not flag.hidden], current)
    return _starting(_words(cli, command.complete), current)


def _values(cli: Cli, flag: Flag) -> list[str]:
    return _words(cli, flag.complete)


def _words(cli: Cli, kinds: str) -> list[str]:
    found: list[str] = []
    for kind in kinds.split():
        if kind == "container":
            found += [each.name for each in cli.engine.store.containers.list()]
        elif kind == "image":
            found += [name.familiar() for each in cli.engine.store.images.list() for name in each.references]
        elif kind == "volume":
            found += [each.name for each in cli.engine.volumes.list()]
        elif kind == "network":
            found += [each.name for each in cli.engine.networks.list()] + ["host", "none"]
        elif kind != "file":
            found.append(kind)
    return found


def _starting(words: list[str], start: str) -> list[str]:
    return sorted({word for word in words if word.startswith(start)})


COMMANDS = {
    "completion": Command(
        "bash|zsh|fish",
        "Generate the autocompletion script for the specified shell",
        completion,
        arguments=(1, 1),
        complete="bash zsh fish",
    ),
    "__complete": Command("[WORD...]", "", complete, stop_at_argument=True),
}
