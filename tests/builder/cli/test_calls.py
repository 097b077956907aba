"""`--call`: its value, and results as text and as buildx's documents."""

import json
from base64 import b64decode

import pytest

from builder.cli import calls
from builder.cli.flags import UsageError
from parser.checks import Surroundings, check_text
from parser.checks.outline import outline, targets
from parser.grammar import parse
from parser.source import Source

SOURCE = Source.of("# base is all\nFROM scratch AS base\n# A one\nARG A=1\nCMD x\nFROM base as last\n", name="D")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("check", calls.Call("check")),
        ("lint", calls.Call("check")),
        ("", calls.Call("build")),
        ("format=json", calls.Call("build", json=True)),
        ("targets,format=json", calls.Call("targets", json=True)),
        ("check,ignorestatus=true,format=text", calls.Call("check", ignore_status=True)),
    ],
)
def test_the_value(text: str, expected: calls.Call) -> None:
    assert calls.parse(text) == expected


@pytest.mark.parametrize("text", ["chekc", "check,outline", "check,x=y", "check,ignorestatus=maybe"])
def test_a_value_that_means_nothing(text: str) -> None:
    with pytest.raises(UsageError):
        calls.parse(text)


def test_findings_as_text_and_as_a_document() -> None:
    report = check_text(SOURCE, Surroundings())
    lines = list(calls.check_text(report, SOURCE))
    assert lines[1:3] == [
        "WARNING: JSONArgsRecommended - https://docs.docker.com/go/dockerfile/rule/json-args-recommended/",
        "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
    ]
    assert lines[3].startswith("D:5\n----") and "\n   5 | >>> CMD x\n" in lines[3]
    document = json.loads(json.dumps(calls.check_document(report, SOURCE)))
    first, second = document["warnings"]
    assert first["ruleName"] == "JSONArgsRecommended" and second["ruleName"] == "FromAsCasing"
    assert first["location"] == {"ranges": [{"start": {"line": 5}, "end": {"line": 5}}]}
    (source,) = document["sources"]
    assert source["filename"] == "D" and b64decode(source["data"]).decode() == SOURCE.text
    assert "buildError" not in document


def test_why_a_build_would_fail_is_part_of_the_document() -> None:
    source = Source.of("FROM a AS B\nRUNN\n")
    document = calls.check_document(check_text(source, Surroundings()), source)
    assert document["buildError"] == {
        "message": "dockerfile parse error on line 2: unknown instruction: RUNN (did you mean RUN?)",
        "location": {"ranges": [{"start": {"line": 2}, "end": {"line": 2}}]},
    }


def test_an_outline() -> None:
    found = outline(parse(SOURCE), Surroundings(target="base", only_target=True))
    assert list(calls.outline_text(found)) == [
        "TARGET:      base",
        "DESCRIPTION: is all",
        "",
        "BUILD ARG   VALUE   DESCRIPTION",
        "A           1       one",
        "",
    ]
    document = calls.outline_document(found, SOURCE)
    assert document["name"] == "base" and "secrets" not in document
    assert document["args"] == [
        {
            "name": "A",
            "description": "one",
            "value": "1",
            "location": {"ranges": [{"start": {"line": 4}, "end": {"line": 4}}]},
        }
    ]


def test_targets() -> None:
    found = targets(parse(SOURCE))
    assert [line.rstrip() for line in calls.targets_text(found)] == [
        "TARGET         DESCRIPTION",
        "base           is all",
        "last (default)",
    ]
    document = calls.targets_document(found, SOURCE)
    assert isinstance(document["targets"], list)
    assert [(one["name"], one["base"], one.get("default")) for one in document["targets"]] == [
        ("base", "scratch", None),
        ("last", "base", True),
    ]
