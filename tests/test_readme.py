"""What the README shows can be typed: its commands and flags exist, its Dockerfiles parse."""

import re
import shlex
from pathlib import Path

import pytest

import parser
from builder.cli import app, flags
from builder.cli.registry import Group
from parser import graph

README = (Path(__file__).parent.parent / "README.md").read_text()
SHELL = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL)).replace("`", "\n")
INLINE = re.findall(r"`(lamina [^`]*)`", re.sub(r"```.*?```", "", README, flags=re.DOTALL))
COMMANDS = [
    command[command.index("lamina ") :]
    for line in (*SHELL.splitlines(), *INLINE)
    for command in line.replace("\n", " ").split("&&")
    if re.match(r"\s*(\.venv/bin/)?lamina ", command)
]


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 15


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_has_these_flags(command: str) -> None:
    words = shlex.split(command, comments=True)[1:]
    if words[0].startswith("-"):
        flags.parse(app.GLOBAL, words, stop_at_argument=True)
        return
    _, found, rest = app.find(words)
    assert not isinstance(found, Group) or not rest
    if not isinstance(found, Group) and words[0] != "COMMAND":
        known = app.load(found)
        flags.parse(known.flags, rest, stop_at_argument=known.stop_at_argument)


def test_its_dockerfiles_parse() -> None:
    found = re.findall(r"```dockerfile\n(.*?)```", README, re.DOTALL)
    assert found
    for text in found:
        graph.stages(parser.parse(text))
