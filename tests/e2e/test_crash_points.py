"""A build that is killed at a crash point of the store: the next one works, the old name is kept, nothing is left."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root

Lamina = Any  # the fixture's type lives in conftest, which tests do not import

POINTS = (
    "active-row",
    "active-directory",
    "layer-renamed",
    "layer-row",
    "digests-row",
    "layers-synced",
    "image-row",
    "reference-row",
)
DOCKERFILE = "FROM scratch\nCOPY a /a\nWORKDIR /w\nCOPY b /b\n"


@pytest.mark.parametrize("point", POINTS)
def test_a_build_killed_at(lamina: Lamina, tmp_path: Path, point: str) -> None:
    context = tmp_path / "context"
    context.mkdir()
    for name, content in (("Dockerfile", DOCKERFILE), ("a", "old"), ("b", "b")):
        context.joinpath(name).write_text(content)
    old = lamina.text("build", "-q", "-t", "app", context)
    context.joinpath("a").write_text("new")
    lamina("build", "-q", "-t", "app", context, environment={"LAMINA_CRASHPOINT": point}, code=137)
    named = lamina.text("images", "-q", "--no-trunc", "app")
    assert (named == old) == (point != "reference-row"), "the name means the old image or the new one"
    new = lamina.text("build", "-q", "-t", "app", context)
    assert new != old
    lamina("fsck", "--full")
    for area in ("active", "tmp", "leases", "locks", "failed"):
        assert os.listdir(lamina.root / area) == []


def test_an_unknown_crash_point_does_not_go_unnoticed(lamina: Lamina) -> None:
    done = lamina("images", environment={"LAMINA_CRASHPOINT": "nowhere"}, code=None)
    assert done.returncode != 0
    assert b"unknown crash point nowhere" in done.stderr
