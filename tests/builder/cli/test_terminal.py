"""Detach keys, and a real terminal that is put back."""

import os
import termios

import pytest

from builder.cli import terminal
from builder.errors import InvalidInput


def test_keys_are_held_back_until_it_is_clear_what_they_mean() -> None:
    keys = terminal.Keys(terminal.parse_keys("ctrl-p,ctrl-q"))
    assert keys.pass_on(b"a\x10") == b"a"
    assert keys.pass_on(b"b") == b"\x10b"
    keys.pass_on(b"\x10")
    with pytest.raises(terminal.Detached):
        keys.pass_on(b"\x11")


def test_keys_that_do_not_exist_are_refused() -> None:
    assert terminal.parse_keys("a,ctrl-@") == b"a\x00"
    with pytest.raises(InvalidInput):
        terminal.parse_keys("ctrl-ä")


def test_the_terminal_is_raw_inside_and_as_before_outside() -> None:
    ours, theirs = os.openpty()
    try:
        before = termios.tcgetattr(theirs)
        with pytest.raises(RuntimeError), terminal.raw(theirs):
            assert not termios.tcgetattr(theirs)[3] & termios.ECHO
            raise RuntimeError
        assert termios.tcgetattr(theirs) == before
    finally:
        os.close(ours)
        os.close(theirs)
