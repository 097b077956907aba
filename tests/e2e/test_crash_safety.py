"""Builds that are killed, and builds side by side: nothing is lost, nothing stays behind, the result is the same."""

import json
import os
import random
import signal
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]

Leftovers = Callable[[Path], list[str]]
Lamina = Any  # the fixture's type lives in conftest, which tests do not import


def diff_ids(lamina: Lamina, image: str) -> list[str]:
    return json.loads(lamina.text("inspect", image))[0]["RootFS"]["Layers"]  # type: ignore[no-any-return]


def twenty_steps(directory: Path) -> Path:
    """A context whose files carry a fixed time, so that equal steps give equal diff_ids wherever they run."""
    directory.mkdir()
    lines = ["FROM busybox", "COPY input /"]
    for n in range(18):
        # Times are part of a layer: each file gets a fixed one, and only the top, which has none in it, is written to.
        lines.append(f"RUN echo {n} > /{n} && touch -d '2020-01-01 00:00:00' /{n}")
    (directory / "Dockerfile").write_text("\n".join(lines) + "\n")
    (directory / "input").write_text("input\n")
    for path in (directory / "Dockerfile", directory / "input", directory):
        os.utime(path, (1_577_836_800, 1_577_836_800))
    return directory


ROUNDS = 100


@pytest.mark.slow
def test_a_hundred_kills_lose_nothing(busybox: Lamina, tmp_path: Path, leftovers: Leftovers) -> None:
    context = twenty_steps(tmp_path / "context")
    busybox("build", "-t", "expected", context)
    expected = diff_ids(busybox, "expected")
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    killed = 0
    for n in range(ROUNDS):
        build = busybox.start(
            "build", "--no-cache", "-t", "victim", context, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            build.wait(timeout=chance.uniform(0.02, 1.0))
        except subprocess.TimeoutExpired:
            os.killpg(build.pid, signal.SIGKILL)
            build.wait()
            killed += 1
        if n % 10 == 9:
            busybox("fsck", "--repair")  # what the killed one left is garbage, which may be swept but not more
            busybox("fsck")
    assert killed >= ROUNDS // 4, f"seed {seed}: only {killed} builds were still under way when they were killed"
    busybox("build", "-t", "after", context)
    assert diff_ids(busybox, "after") == expected, f"seed {seed}"
    busybox("build", "--no-cache", "-t", "again", context)
    assert diff_ids(busybox, "again") == expected, f"seed {seed}"
    busybox("fsck")
    assert leftovers(busybox.root) == []


def test_three_equal_and_ten_different_builds_at_once(busybox: Lamina, tmp_path: Path, leftovers: Leftovers) -> None:
    same = twenty_steps(tmp_path / "same")
    contexts = [same] * 3
    for n in range(10):
        other = twenty_steps(tmp_path / f"other{n}")
        (other / "Dockerfile").write_text((other / "Dockerfile").read_text() + f"RUN echo other {n} > /other\n")
        contexts.append(other)
    with ThreadPoolExecutor(len(contexts)) as pool:
        list(pool.map(lambda item: busybox("build", "-t", f"at-once:{item[0]}", item[1]), enumerate(contexts)))
    results = [diff_ids(busybox, f"at-once:{n}") for n in range(len(contexts))]
    assert results[0] == results[1] == results[2]
    assert len({tuple(each) for each in results}) == 11
    assert len({each[0] for each in results}) == 1
    for n in (0, 9):
        assert busybox.text("run", "--rm", f"at-once:{3 + n}", "cat", "/other") == f"other {n}"
    busybox("fsck")
    assert leftovers(busybox.root) == []


def test_a_failed_build_keeps_the_old_tag(busybox: Lamina, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN echo good > /file\n")
    busybox("build", "-t", "app", tmp_path)
    before = busybox.text("images", "-q", "--no-trunc", "app")
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN echo bad > /file\nRUN echo said; exit 7\n")
    failed = busybox("build", "-t", "app", tmp_path, code=1)
    text = failed.stderr.decode()
    assert "exit code: 7" in text and "Dockerfile:3" in text and "said" in text and ">>>" in text
    assert busybox.text("images", "-q", "--no-trunc", "app") == before
    assert busybox.text("run", "--rm", "app", "cat", "/file") == "good"
