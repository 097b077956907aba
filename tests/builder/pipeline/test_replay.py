"""A build that is remembered whole stands only as long as everything that it came from."""

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root

Lamina = Any  # the fixture's type lives in conftest, which tests do not import


@pytest.fixture
def context(tmp_path: Path) -> Path:
    directory = tmp_path / "context"
    directory.mkdir()
    (directory / "f").write_text("one")
    (directory / "Dockerfile").write_text("FROM busybox\nCOPY f <<INLINE /d/\ntext\nINLINE\nRUN cat /d/f > /out\n")
    return directory


def told(lamina: Lamina, context: Path, *options: str) -> str:
    return lamina("build", "--progress=plain", "-t", "built", *options, context).stderr.decode()  # type: ignore[no-any-return]


def image(lamina: Lamina) -> str:
    return json.loads(lamina.text("inspect", "built"))[0]["Id"]  # type: ignore[no-any-return]


def test_it_tells_and_records_what_the_ordinary_way_does(busybox: Lamina, context: Path) -> None:
    told(busybox, context)
    first, again = image(busybox), told(busybox, context)
    assert again.count("CACHED") == 2
    assert "[2/3] COPY f <<INLINE /d/" in again
    assert image(busybox) == first


def test_a_changed_file_another_argument_and_no_cache_are_noticed(busybox: Lamina, context: Path) -> None:
    told(busybox, context)
    first = image(busybox)
    (context / "f").write_text("two")
    assert "f content changed" in told(busybox, context)
    assert image(busybox) != first
    (context / "f").write_text("one")
    assert "CACHED" in told(busybox, context)
    assert image(busybox) == first
    assert "CACHED" not in told(busybox, context, "--no-cache")
    told(busybox, context, "--label", "a=b")
    assert json.loads(busybox.text("inspect", "built"))[0]["Config"]["Labels"] == {"a": "b"}


def test_another_image_of_the_base_s_name_is_noticed(busybox: Lamina, context: Path, tmp_path: Path) -> None:
    told(busybox, context)
    other = tmp_path / "other"
    other.mkdir()
    (other / "Dockerfile").write_text("FROM busybox\nENV OTHER=1\n")
    busybox("build", "-t", "busybox", other)
    told(busybox, context)
    assert "OTHER=1" in json.loads(busybox.text("inspect", "built"))[0]["Config"]["Env"]


def test_each_name_of_one_image_is_noticed(busybox: Lamina, context: Path, tmp_path: Path) -> None:
    busybox("tag", "busybox", "twin")
    (context / "Dockerfile").write_text("FROM busybox AS a\nFROM twin\nCOPY --from=a /bin/busybox /copy\n")
    told(busybox, context)
    assert "CACHED" in told(busybox, context)
    other = tmp_path / "other"
    other.mkdir()
    (other / "Dockerfile").write_text("FROM busybox\nENV OTHER=1\n")
    busybox("build", "-t", "twin", other)
    told(busybox, context)
    assert "OTHER=1" in json.loads(busybox.text("inspect", "built"))[0]["Config"]["Env"]


def test_an_image_that_was_removed_is_made_again(busybox: Lamina, context: Path) -> None:
    told(busybox, context)
    first = image(busybox)
    busybox("rmi", "-f", "built")
    told(busybox, context)
    assert image(busybox) == first
