"""`lamina check`: files, formats, exit codes, repairs in place."""

import io
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from builder.cli import app

TEXT = "FROM scratch AS Base\nENV a b\nUSER $other\n"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Dockerfile").write_text(TEXT)
    return tmp_path


class Ran:
    """What a command came to."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *words: str) -> None:
        self.code = app.run(["check", *words], {"LAMINA_ROOT": "/nonexistent", "X": "1"})
        self.out, self.err = capsys.readouterr()


def test_findings_with_their_places(capsys: pytest.CaptureFixture[str]) -> None:
    ran = Ran(capsys)
    assert ran.code == 1
    assert ran.out.splitlines() == [
        "Dockerfile:1:1: StageNameCasing: Stage name 'Base' should be lowercase",
        "   1 | >>> FROM scratch AS Base",
        'Dockerfile:2:1: LegacyKeyValueFormat: "ENV key=value" should be used instead of legacy "ENV key value" format',
        "   2 | >>> ENV a b",
        "Dockerfile:3:1: UndefinedVar: Usage of undefined variable '$other'",
        "   3 | >>> USER $other",
    ]
    assert ran.err == "Dockerfile: 3 findings, 2 of them can be fixed with --fix\n"


def test_several_files_and_the_worst_of_them(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "good").write_text("FROM scratch\n")
    (here / "bad").write_text("FROM scratch AS Base\nUSR x\n")
    assert Ran(capsys, "good").code == 0
    assert Ran(capsys, "good", "Dockerfile").code == 1
    ran = Ran(capsys, "good", "bad", ".", "none")
    assert ran.code == 2
    assert "bad:1:1: StageNameCasing" in ran.out and "Dockerfile:3:1: UndefinedVar" in ran.out
    assert "ERROR: bad:2:1: unknown instruction: USR (did you mean USER?)\n" in ran.err and ">>> USR x" in ran.err
    assert "ERROR: none: failed to read dockerfile: open none: no such file or directory\n" in ran.err
    assert Ran(capsys, "-f", "good", "-f", "bad", ".").code == 2
    assert Ran(capsys, "-f", "good", ".", "bad").code != 0


def test_the_context_s_ignore_file_counts(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "sub").mkdir()
    (here / "sub" / ".dockerignore").write_text("x\n")
    (here / "sub" / "Dockerfile").write_text("FROM scratch\nCOPY x /\n")
    for words in (["sub"], ["sub/Dockerfile"], ["-f", "sub/Dockerfile", "sub"]):
        ran = Ran(capsys, *words)
        assert ran.out.startswith("sub/Dockerfile:2:1: CopyIgnoredFile"), words
    assert Ran(capsys, "-f", "sub/Dockerfile", ".").code == 0


def test_options_of_the_checks(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert Ran(capsys, "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip=all").code == 0
    ran = Ran(capsys, "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=x")
    assert ran.code == 2 and "failed to parse build-arg:BUILDKIT_DOCKERFILE_CHECK: invalid check option" in ran.err
    (here / "Dockerfile").write_text("ARG X\nFROM ${X}\n")
    assert "base name (${X}) should not be blank" in Ran(capsys).err
    assert "InvalidDefaultArgInFrom" in Ran(capsys, "--build-arg", "X").out


def test_repair_in_place(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    real = here / "real"
    real.write_bytes(b"\xef\xbb\xbfFROM scratch AS Base\r\n# \xff\r\nENV a b\r\n")
    real.chmod(0o640)
    (here / "link").symlink_to(real)
    ran = Ran(capsys, "--fix", "link", "Dockerfile")
    assert ran.code == 1 and ran.err == "link: 0 findings, 2 fixed\nDockerfile: 1 finding, 2 fixed\n"
    assert real.read_bytes() == b"\xef\xbb\xbfFROM scratch AS base\r\n# \xff\r\nENV a=b\r\n"
    assert real.stat().st_mode & 0o777 == 0o640 and (here / "link").is_symlink()
    assert (here / "Dockerfile").read_text() == "FROM scratch AS base\nENV a=b\nUSER $other\n"
    assert sorted(os.listdir(here)) == ["Dockerfile", "link", "real"]
    before = real.stat()
    assert Ran(capsys, "--fix", "link").code == 0
    assert real.stat() == before


def test_the_repair_as_a_patch(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "Dockerfile").write_text(TEXT.rstrip("\n"))
    ran = Ran(capsys, "--diff")
    assert ran.code == 1 and (here / "Dockerfile").read_text() == TEXT.rstrip("\n")
    assert "\n-FROM scratch AS Base\n-ENV a b\n+FROM scratch AS base\n+ENV a=b\n" in ran.out
    assert ran.out.endswith(" USER $other\n\\ No newline at end of file\n")
    program = shutil.which("patch")
    if program is None:
        return  # nobody here to ask whether it is one
    done = subprocess.run([program, "-p1"], input=ran.out, text=True, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert (here / "Dockerfile").read_text() == "FROM scratch AS base\nENV a=b\nUSER $other"


def test_standard_input(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def given() -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"FROM scratch as b\n")))

    given()
    assert Ran(capsys, "-").out.startswith("Dockerfile:1:1: FromAsCasing")
    given()
    assert "+FROM scratch AS b\n" in Ran(capsys, "--diff", "-").out
    given()
    assert Ran(capsys, "--fix", "-").code != 0


def test_json(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "bad").write_text("USR x\n")
    ran = Ran(capsys, "--format", "json", "Dockerfile", "bad")
    first, second = json.loads(ran.out)["files"]
    assert ran.code == 2 and ran.err == ""
    assert [(one["rule"], one["line"], one["fixable"]) for one in first["findings"]] == [
        ("StageNameCasing", 1, True),
        ("LegacyKeyValueFormat", 2, True),
        ("UndefinedVar", 3, False),
    ]
    assert "error" not in first
    assert second["error"] == {"message": "unknown instruction: USR", "line": 1, "column": 1}


def test_sarif(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "a b").write_text("USR x\n")
    log = json.loads(Ran(capsys, "--format=sarif", "Dockerfile", "a b").out)
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
    first, _, last = run["results"]
    place = first["locations"][0]["physicalLocation"]
    assert place["artifactLocation"] == {"uri": "Dockerfile"}
    assert place["region"] == {"startLine": 1, "startColumn": 1, "endLine": 1, "endColumn": 21}
    (replacement,) = first["fixes"][0]["artifactChanges"][0]["replacements"]
    region = replacement["deletedRegion"]
    end = region["charOffset"] + region["charLength"]
    text = TEXT[: region["charOffset"]] + replacement["insertedContent"]["text"] + TEXT[end:]
    assert text.startswith("FROM scratch AS base\n") and "fixes" not in last
    (invocation,) = run["invocations"]
    assert not invocation["executionSuccessful"]
    (note,) = invocation["toolExecutionNotifications"]
    assert note["locations"][0]["physicalLocation"]["artifactLocation"] == {"uri": "a%20b"}


def test_a_format_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert "xml is none of text, json, sarif" in Ran(capsys, "--format=xml").err
