"""Writing a repaired file: all at once, and never over somebody else's change."""

import os
from pathlib import Path

import pytest

from builder.engine import checks
from builder.errors import Conflict


def checked(path: Path) -> checks.Checked:
    with open(os.devnull, "rb") as nothing:
        return checks.check_file(
            str(path), checks.CheckWish(), dockerfile=None, store=None, stdin=nothing, cwd=path.parent
        )


def test_a_file_that_was_changed_in_between_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text("FROM a as b\n")
    found = checked(path)
    path.write_text("FROM c\n")
    with pytest.raises(Conflict, match="was changed while it was checked"):
        checks.rewrite(found, "FROM a AS b\n")
    assert path.read_text() == "FROM c\n" and os.listdir(tmp_path) == ["Dockerfile"]


def test_the_target_and_the_platform_count(tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text("FROM a AS b\nUSER $x\nFROM --platform=$TARGETPLATFORM a AS c\n")
    with open(os.devnull, "rb") as nothing:
        found = checks.check_file(
            str(tmp_path),
            checks.CheckWish(target="c", platform="linux/arm64"),
            dockerfile=None,
            store=None,
            stdin=nothing,
            cwd=tmp_path,
        )
    assert [one.rule.name for one in found.report.findings] == ["RedundantTargetPlatform"]
    assert found.around.automatic["TARGETPLATFORM"] == "linux/arm64" and found.path == path
