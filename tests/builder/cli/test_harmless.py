"""Control characters of others' texts, written out."""

import json

from hypothesis import given
from hypothesis import strategies as st

from builder.cli.app import message
from builder.cli.harmless import harmless, in_line
from builder.errors import InvalidInput


@given(st.text())
def test_json_means_the_same_and_has_no_control_characters(text: str) -> None:
    shown = harmless(json.dumps({"a": text}, ensure_ascii=False, indent=1))
    assert json.loads(shown) == {"a": text}
    assert not any(letter < " " or "\x7f" <= letter < "\xa0" for letter in shown if letter != "\n")


def test_an_error_is_harmless_with_its_hint() -> None:
    assert message(InvalidInput("no \x1b[31m", hint="a\x07\tb")) == "Error: no \\u001b[31m\nhint: a\\u0007\tb"


def test_a_part_of_a_line_stays_in_it() -> None:
    assert in_line("a\n\tb\u202ec\u2028é\udcff") == "a\\n\\tb\\u202ec\\u2028é\\xff"
