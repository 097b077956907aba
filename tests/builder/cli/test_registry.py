"""Every command that is listed exists, knows what it takes, and has its page of help."""

import pytest

from builder.cli import app, mirror
from builder.cli.registry import COMMANDS, GROUPS, Entry

ALL = [((name,), entry) for name, entry in COMMANDS.items()]
ALL += [((name, word), entry) for name, group in GROUPS.items() for word, entry in group.entries.items()]
PROGRAM = mirror.Program(app.GLOBAL, app.load, lambda kinds, root: [kinds])


@pytest.mark.parametrize(("path", "entry"), ALL, ids=lambda each: " ".join(each) if isinstance(each, tuple) else "")
def test_every_entry_has_a_command_with_distinct_flags_and_a_page(path: tuple[str, ...], entry: Entry) -> None:
    command = app.load(entry)
    names = [flag.name for flag in command.flags]
    letters = [flag.short for flag in command.flags if flag.short]
    assert len(names) == len(set(names)) and len(letters) == len(set(letters))
    page = mirror.help_text(path, PROGRAM)
    words = f"Usage: lamina {' '.join(path)} {command.usage}".split()  # lines break where the terminal ends
    assert page.split()[: len(words)] == words
    for flag in command.flags:
        assert (f" --{flag.name}" in page) != flag.hidden or any(
            other.name != flag.name and other.name.startswith(flag.name) for other in command.flags
        )


@pytest.mark.parametrize("name", GROUPS)
def test_every_group_has_a_page_with_its_commands(name: str) -> None:
    page = mirror.help_text([name], PROGRAM)
    assert page.startswith(f"Usage:  lamina {name} COMMAND\n\n{GROUPS[name].short}\n")
    assert all(f"\n  {word} " in page for word in GROUPS[name].entries)
