"""Every command that is listed exists, and knows what it takes."""

import pytest

from builder.cli import app, helptext
from builder.cli.registry import COMMANDS, GROUPS, Entry

ALL = [((name,), entry) for name, entry in COMMANDS.items()]
ALL += [((name, word), entry) for name, group in GROUPS.items() for word, entry in group.entries.items()]


@pytest.mark.parametrize(("path", "entry"), ALL, ids=lambda each: " ".join(each) if isinstance(each, tuple) else "")
def test_every_entry_has_a_command_with_distinct_flags(path: tuple[str, ...], entry: Entry) -> None:
    command = app.load(entry)
    names = [flag.name for flag in command.flags]
    letters = [flag.short for flag in command.flags if flag.short]
    assert len(names) == len(set(names)) and len(letters) == len(set(letters))
    assert command.usage.split(" ")[0] in helptext.command(path, command)
