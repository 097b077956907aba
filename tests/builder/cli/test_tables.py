"""Lists in docker's layouts."""

import json

import pytest

from builder.cli.tables import Row, Table

TABLE = Table(("ID", "Names"), {"ID": "CONTAINER ID", "Names": "NAMES", "Labels": "LABELS"})
ROWS: list[Row] = [
    {"ID": "a1", "Names": "x", "Labels": "", "Label": lambda key: key + "!"},
    {"ID": "b2", "Names": "longer", "Labels": "k=<v>", "Label": lambda key: ""},
]


def shown(format: str) -> list[str]:
    lines: list[str] = []
    TABLE.show(ROWS, lines.append, format=format)
    return lines


@pytest.mark.parametrize(
    ("format", "lines"),
    [
        ("", ["CONTAINER ID   NAMES", "a1             x", "b2             longer"]),
        ("table {{.Names}}\\t{{.ID}}", ["NAMES     CONTAINER ID", "x         a1", "longer    b2"]),
        ("{{.ID}}/{{.Names}}", ["a1/x", "b2/longer"]),
        ('{{.Label "k"}}', ["k!", ""]),
        ("json", ['{"ID":"a1","Labels":"","Names":"x"}', '{"ID":"b2","Labels":"k=\\u003cv\\u003e","Names":"longer"}']),
        (
            "{{json .}}",
            ['{"ID":"a1","Labels":"","Names":"x"}', '{"ID":"b2","Labels":"k=\\u003cv\\u003e","Names":"longer"}'],
        ),
        ("{{json .Labels}}", ['""', '"k=<v>"']),
    ],
)
def test_formats(format: str, lines: list[str]) -> None:
    assert shown(format) == lines


def test_what_others_wrote_says_nothing_to_the_terminal() -> None:
    lines: list[str] = []
    row: Row = {"ID": "a\x1b[2J", "Names": "\x9b31m\x7fé", "Labels": ""}
    TABLE.show([row], lines.append)
    assert lines[1:] == ["a\\u001b[2J     \\u009b31m\\u007fé"]
    TABLE.show([row], lines.append, format="json")
    assert json.loads(lines[-1]) == row and lines[-1].replace("é", "").isascii() and lines[-1].isprintable()
