"""What two images say of themselves, shown where it could be taken for something else."""

import json
from dataclasses import replace

import pytest

from builder.cli import comparison
from builder.insight.compare import Comparison, ConfigChange, FileChange, Kind, PackageChange, View
from builder.oci.configs import ImageConfig

VIEW = View("app:1", ImageConfig("amd64", "linux"), (), 0, {}, ())
EVIL = [
    "a\n| D | `/etc` |",
    "\x1b[2J",
    "`</code>@all",
    "\\|",
    "<img src=x>",
    "[a](b)",
    "a\r\n# b",
    "\u202etxt",
    "\udcff",
]


def compared(text: str) -> Comparison:
    file = FileChange(Kind.ADDED, f"/{text}", ("file", "mode 4755"), None, 1)
    return Comparison(
        VIEW,
        replace(VIEW, name="app:2"),
        (file,),
        (PackageChange("npm", text, "", text),),
        (ConfigChange(f"Label {text}", text, None),),
        (file,),
    )


@pytest.mark.parametrize("text", EVIL)
def test_a_text_of_an_image_stays_where_it_belongs(text: str) -> None:
    usual, found = compared("usual"), compared(text)
    for render in (comparison.text, comparison.markdown):
        shown = render(found)
        assert shown.count("\n") == render(usual).count("\n")
        assert all(letter.isprintable() for letter in shown if letter != "\n")
        shown.encode()
    for line in comparison.markdown(found).splitlines():
        if text[0] in line or "<code>" in line:
            inside = line.replace("<code>", "").replace("</code>", "")
            assert line.count("`") % 2 == 0 and not any(each in inside.split("`")[::2] for each in "<@[")
    assert json.loads(comparison.as_json(found))["packages"][0]["name"] == text


def test_a_long_value_is_cut_for_a_comment() -> None:
    assert max(map(len, comparison.markdown(compared("x" * 100_000)).splitlines())) < 2000
