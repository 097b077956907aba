"""Shell commands that mean the same without a shell: a program and words, nothing that a shell would act on."""

from __future__ import annotations

import re

__all__ = ["argv_of"]

_WORD = re.compile(r"(?:[A-Za-z0-9_@%+:,./=-]|'[^']*'|\"[^\"$`\\!]*\")+")
_PART = re.compile(r"'([^']*)'|\"([^\"]*)\"")

# What a shell does itself, in any POSIX shell or in bash, and what begins more than a simple command.
_OF_THE_SHELL = re.compile(
    r"[.:]|\[\[?|alias|bg|break|builtin|caller|case|cd|command|compgen|complete|continue|coproc|declare|dirs|disown|do|done"
    r"|echo|elif|else|enable|esac|eval|exec|exit|export|false|fc|fg|fi|for|function|getopts|hash|help|history|if|in|jobs"
    r"|kill|let|local|logout|mapfile|popd|printf|pushd|pwd|read|readarray|readonly|return|select|set|shift|shopt|source"
    r"|suspend|test|then|time|times|trap|true|type|typeset|ulimit|umask|unalias|unset|until|wait|while"
)


def argv_of(script: str) -> tuple[str, ...] | None:
    """The words of a command that needs no shell; None for one that may need it."""
    words: list[str] = []
    position = 0
    while position < len(script):
        if script[position] in " \t":
            position += 1
            continue
        found = _WORD.match(script, position)
        if found is None or script[found.end() : found.end() + 1] not in ("", " ", "\t"):
            return None
        words.append(_PART.sub(lambda part: part[1] if part[1] is not None else part[2], found[0]))
        position = found.end()
    if not words or _OF_THE_SHELL.fullmatch(words[0]) or "=" in words[0]:
        return None
    return tuple(words)
