"""What is in a context and what is left out, counted; and which line of the ignore file decided."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.errors import EngineError
from builder.pipeline.context import open_named
from builder.pipeline.survey import LARGEST, Amount, Verdict, survey, verdict
from builder.pipeline.trees import Tree
from parser.errors import DockerfileError

IGNORE = "# what is made\n\nmade\n!made/keep\n*.log\n"


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    files = {"a": 10, "made/x": 100, "made/keep": 7, "src/deep/b": 20, "src/c.log": 3, "d.log": 5, "empty": 0}
    for name, size in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / ".dockerignore").write_text(IGNORE)
    opened = open_named("n", ".", scratch=lambda: tmp_path, cwd=tmp_path)
    assert isinstance(opened, Tree)
    with opened:
        yield opened


def test_amounts(tree: Tree) -> None:
    found = survey(tree)
    rules = len(IGNORE)
    assert (found.inside, found.ignored) == (Amount(7, 10 + 7 + 20 + 3 + rules), Amount(2, 105))
    assert found.entries == (
        (".dockerignore", Amount(1, rules), Amount()),
        ("src", Amount(2, 23), Amount()),
        ("a", Amount(1, 10), Amount()),
        ("made", Amount(1, 7), Amount(1, 100)),
        ("d.log", Amount(), Amount(1, 5)),
        ("empty", Amount(1, 0), Amount()),
        ("link", Amount(1, 0), Amount()),
    )
    assert found.largest[:3] == ((".dockerignore", rules), ("src/deep/b", 20), ("a", 10))


def test_only_the_largest_are_named(tree: Tree, tmp_path: Path) -> None:
    for number in range(100, 150):
        (tmp_path / f"n{number}").write_bytes(b"x" * number)
    assert [size for _, size in survey(tree).largest] == list(range(149, 149 - LARGEST, -1))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a", Verdict("a", exists=True, ignored=False)),
        (".", Verdict(".", exists=True, ignored=False)),
        ("./src/../a/", Verdict("a", exists=True, ignored=False)),
        ("made/x", Verdict("made/x", True, True, "made", ".dockerignore:3")),
        ("made", Verdict("made", True, True, "made", ".dockerignore:3", partly=True)),
        ("made/keep", Verdict("made/keep", True, False, "!made/keep", ".dockerignore:4")),
        ("new.log", Verdict("new.log", False, True, "*.log", ".dockerignore:5")),
        ("link/x", Verdict("link/x", exists=False, ignored=False)),
    ],
)
def test_verdicts(tree: Tree, path: str, expected: Verdict) -> None:
    assert verdict(tree, path) == expected


def test_a_pattern_that_cannot_be_read_is_placed(tmp_path: Path) -> None:
    (tmp_path / ".dockerignore").write_text("a\n\n[b\n")
    with pytest.raises(EngineError, match=r"error reading \.dockerignore:3: syntax error in pattern: \[b"):
        open_named("n", ".", scratch=lambda: tmp_path, cwd=tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / ".dockerignore").write_text("a\nx[z-a]\n")  # docker, too, finds it out only when it is asked
    opened = open_named("n", ".", scratch=lambda: tmp_path, cwd=tmp_path)
    assert isinstance(opened, Tree)
    with opened, pytest.raises(DockerfileError, match=r"\.dockerignore:2: syntax error in pattern"):
        survey(opened)


def test_no_descriptor_stays_open(tree: Tree) -> None:
    before = len(os.listdir("/proc/self/fd"))
    survey(tree)
    assert len(os.listdir("/proc/self/fd")) == before
