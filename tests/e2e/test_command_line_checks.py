"""Checks as a user meets them: at the end of a build, instead of one, and on files alone."""

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root

Lamina = Any  # the fixture's type lives in conftest, which tests do not import

TEXT = "FROM busybox as b\nENV A b\nCOPY f* /\n"
WARNINGS = """\

 2 warnings found (use lamina --debug to expand):
 - FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 1)
 - LegacyKeyValueFormat: "ENV key=value" should be used instead of legacy "ENV key value" format (line 2)
"""


@pytest.fixture
def context(tmp_path: Path) -> Path:
    directory = tmp_path / "context"
    directory.mkdir()
    (directory / "Dockerfile").write_text(TEXT)
    (directory / "f").write_text("f")
    return directory


def told(lamina: Lamina, *arguments: str | Path, code: int = 0) -> str:
    text: str = lamina("build", *arguments, code=code).stderr.decode()
    return text


def test_a_build_ends_with_its_warnings_cached_or_not(busybox_store: Lamina, context: Path) -> None:
    assert told(busybox_store, context).endswith(WARNINGS)
    assert told(busybox_store, context).endswith(WARNINGS)  # from what is remembered of the whole build
    assert told(busybox_store, "--no-cache", context).endswith(WARNINGS)  # of the checks
    (context / ".dockerignore").write_text("g\n")
    assert told(busybox_store, context).endswith(WARNINGS)
    (context / ".dockerignore").write_text("f\n")
    hidden = "COPY f* /\n"
    (context / "Dockerfile").write_text(f"FROM busybox\n{hidden}")
    (context / "f1").write_text("1")
    assert "warning" not in told(busybox_store, context)
    (context / ".dockerignore").write_text("f*\n!f1\n")
    assert "warning" not in told(busybox_store, context)
    assert told(busybox_store, "-q", "--no-cache", context) == ""


def test_debug_tells_everything(busybox_store: Lamina, context: Path) -> None:
    text = busybox_store("-D", "build", context).stderr.decode()
    assert "\n 2 warnings found:\n" in text
    assert "More info: https://docs.docker.com/go/dockerfile/rule/legacy-key-value-format/\n" in text
    assert "Dockerfile:2\n--------------------\n   1 |     FROM busybox as b\n   2 | >>> ENV A b\n" in text


def test_findings_can_fail_a_build(busybox_store: Lamina, context: Path) -> None:
    (context / "Dockerfile").write_text(f"# check=error=true\n{TEXT}")
    for _ in range(2):
        text = told(busybox_store, "-t", "fails", context, code=1)
        assert " 2 warnings found " in text and "FROM busybox" not in text.partition("warnings")[0]
        assert "lint violation found for rules: FromAsCasing, LegacyKeyValueFormat\n" in text
    assert busybox_store.text("images", "-q", "fails") == ""
    argument = "BUILDKIT_DOCKERFILE_CHECK=skip=all"
    assert "warning" not in told(busybox_store, "--build-arg", argument, context)
    (context / "Dockerfile").write_text("# check=errors=true\nFROM busybox\n")
    text = told(busybox_store, context, code=1)
    assert 'failed to parse check options: invalid check option "errors"' in text and ">>> # check=errors=true" in text


def test_check_instead_of_a_build(busybox_store: Lamina, context: Path) -> None:
    done = busybox_store("build", "--check", context, code=1)
    assert done.stdout.startswith(b"Check complete, 2 warnings have been found!\n") and done.stderr == b""
    done = busybox_store("build", "--call=check,format=json,ignorestatus=true", context)
    assert [one["ruleName"] for one in json.loads(done.stdout)["warnings"]] == ["FromAsCasing", "LegacyKeyValueFormat"]
    (context / "Dockerfile").write_text("FROM busybox AS base\nFROM base\nUSER $X")
    assert b"no warnings found" in busybox_store("build", "--check", "--target", "base", context).stdout
    (context / "Dockerfile").write_text("FROM busybox AS B\nUSR x\n")
    done = busybox_store("build", "--check", context, code=1)
    assert b"StageNameCasing" in done.stdout
    message = b"dockerfile parse error on line 2: unknown instruction: USR (did you mean USER?)\n"
    assert done.stderr.endswith(b"ERROR: failed to build: " + message)


def test_what_the_base_image_has_counts(busybox_store: Lamina, context: Path) -> None:
    (context / "Dockerfile").write_text('FROM busybox\nENV HERE=/x\nSHELL ["/bin/sh", "-c"]\nONBUILD WORKDIR $THERE\n')
    busybox_store("build", "-t", "checked-base", context)
    (context / "Dockerfile").write_text("FROM checked-base\nWORKDIR $HERE\nCMD x\n")
    done = busybox_store("build", "--check", context, code=1)
    assert b"WARNING: UndefinedVar" in done.stdout and b"$THERE" in done.stdout and b"JSONArgs" not in done.stdout
    assert "UndefinedVar" in told(busybox_store, context)
    (context / "Dockerfile").write_text("FROM busybox\nENV HERE=/x THERE=/y\nONBUILD WORKDIR $THERE\n")
    busybox_store("build", "-t", "checked-base", context)
    (context / "Dockerfile").write_text("FROM checked-base\nWORKDIR $HERE\nCMD x\n")
    text = told(busybox_store, context)  # the base has changed, and with it what was remembered
    assert "UndefinedVar" not in text and "JSONArgsRecommended" in text


def test_outline_and_targets(busybox_store: Lamina, context: Path) -> None:
    (context / "Dockerfile").write_text("# A is one\nARG A=1\n# base is all\nFROM busybox:$A AS base\nFROM base\n")
    assert busybox_store.text("build", "--call=targets", context) == (
        "TARGET    DESCRIPTION\nbase      is all\n(default)"
    )
    done = busybox_store("build", "--call=outline,format=json", "--target=base", "--build-arg=A=2", context)
    assert json.loads(done.stdout)["args"][0]["value"] == "2"
    assert b"could not be found" in busybox_store("build", "--call=outline", "--target=x", context, code=1).stderr


def test_named_contexts_count(busybox_store: Lamina, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM busybox\nENV THERE=1\n")
    busybox_store("build", "-t", "checked-context", context)
    (context / "Dockerfile").write_text("FROM other:latest\nUSER $THERE\nFROM other AS replaced\nUSER $X\n")
    assert b"2 warnings" in busybox_store("build", "--check", context, code=1).stdout
    given = ("--build-context=other=docker-image://checked-context", f"--build-context=replaced={context}")
    assert b"no warnings" in busybox_store("build", "--check", *given, context).stdout
