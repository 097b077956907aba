"""Files of real projects and of other parsers' tests, with the answers of docker's own code."""

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from parser import DockerfileError, graph, ignorefile, parse, words
from parser.grammar import statements
from parser.printer import print_dockerfile
from parser.serialize import dumps, loads
from parser.source import Source
from parser.syntax import dump

CORPUS = Path(__file__).parent.parent.parent.parent / "shared" / "corpus"

pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason="the reference data is not beside this checkout")


def tree(text: str | bytes) -> str:
    return "\n".join(f"({dump(statement)})" for statement in statements(Source.of(text)))


def rows(name: str) -> Iterator[dict[str, Any]]:
    with gzip.open(CORPUS / name, "rt") as file:
        yield from map(json.loads, file)


def names(folder: str) -> list[str]:
    return sorted(path.name for path in (CORPUS / folder).iterdir()) if CORPUS.is_dir() else []


def accept(text: str | bytes) -> None:
    """It parses, prints to an equal file and can be kept."""
    dockerfile = parse(text)
    assert parse(print_dockerfile(dockerfile)) == dockerfile
    assert loads(dumps(dockerfile), dockerfile.source) == dockerfile


def refuse(text: str | bytes) -> DockerfileError:
    with pytest.raises(DockerfileError) as caught:
        graph.stages(parse(text))
    return caught.value


@pytest.mark.parametrize("name", names("buildkit-parser/testfiles"))
def test_parse_tree_to_the_byte(name: str) -> None:
    folder = CORPUS / "buildkit-parser" / "testfiles" / name
    assert tree((folder / "Dockerfile").read_bytes()) + "\n" == (folder / "result").read_text()


@pytest.mark.parametrize("name", names("buildkit-parser/testfiles-negative"))
def test_refused(name: str) -> None:
    refuse((CORPUS / "buildkit-parser" / "testfiles-negative" / name / "Dockerfile").read_bytes())


def expected_of_files() -> Iterator[tuple[dict[str, Any], str | bytes]]:
    for row in rows("realworld/expected_buildkit.jsonl.gz"):
        yield row, (CORPUS / "realworld" / "files" / row["id"]).read_bytes()
    for row in rows("charliecloud/expected_buildkit.jsonl.gz"):
        yield row, (CORPUS / "charliecloud" / "dockerfiles" / row["id"]).read_bytes()
    for row in rows("generated/dev_dockerfile_mutants.jsonl.gz"):
        yield row, row["dockerfile"]


def test_files_parse_as_with_docker_or_are_refused_with_a_place() -> None:
    accepted = refused = 0
    for row, text in expected_of_files():
        if row.get("parse_error") or row.get("instructions_error"):
            error = refuse(text)
            assert error.span is not None and error.span.start.line >= 1, row["id"]
            refused += 1
        else:
            assert tree(text).rstrip("\n") == row["dump"].rstrip("\n"), row["id"]
            accept(text)
            accepted += 1
    assert accepted > 800 and refused > 20


def test_stages_and_commands_of_real_files() -> None:
    for row in rows("realworld/expected_buildkit.jsonl.gz"):
        if row.get("instructions_error"):
            continue
        found = graph.stages(parse((CORPUS / "realworld" / "files" / row["id"]).read_bytes()))
        assert len(found.stages) == len(row["stages"] or ()), row["id"]
        for stage, expected in zip(found.stages, row["stages"], strict=True):
            assert stage.name == expected["name"].lower() and stage.from_.image == expected["base"], row["id"]
            kinds = [instruction.keyword.lower() for instruction in stage.instructions]
            assert kinds == [command["name"].lower() for command in expected["commands"] or ()], row["id"]


def test_other_builders_files_parse() -> None:
    tested = 0
    for path in (CORPUS / "imagebuilder" / "testdata").rglob("Dockerfile*"):
        if path.is_file() and not path.name.endswith(".dockerignore"):
            try:
                accept(path.read_bytes())
            except DockerfileError as err:
                # A context is also there for what must be refused.
                assert err.span is not None, path
            tested += 1
    assert tested > 20


def lexer_cases() -> Iterator[dict[str, Any]]:
    for name in ("cases_lex_tables", "cases_datafiles"):
        table = json.loads((CORPUS / "buildkit-shell" / f"{name}.json").read_text())
        yield from table.get("word_cases", ())
        yield from table.get("words_cases", ())
    yield from rows("generated/dev_shell.jsonl.gz")


def test_words_expand_and_split_as_with_docker() -> None:
    count = 0
    for case in lexer_cases():
        given = case["env"]
        env = dict(entry.split("=", 1) for entry in given) if isinstance(given, list) else given
        escape = case.get("escape") or "\\"
        count += 1
        if case.get("error"):
            with pytest.raises(DockerfileError):
                words.process(case["word"], env, escape=escape)
            continue
        found = words.process(case["word"], env, escape=escape)
        if "expect" in case:
            assert found.text == case["expect"], case
        if "expect_words" in case:
            assert list(found.words) == case["expect_words"], case
        if "unmatched" in case:
            assert sorted(found.unmatched) == sorted(case["unmatched"] or ()), case
        if "matched" in case:
            assert sorted(found.matched) == sorted(case["matched"] or ()), case
    assert count > 1400


def test_ignore_patterns_match_as_with_docker() -> None:
    table = json.loads((CORPUS / "patternmatcher" / "cases.json").read_text())
    cases = [*table["match_cases"], *rows("generated/dev_ignore.jsonl.gz")]
    for case in cases:
        try:
            found: bool | str = ignorefile.Matcher(case["patterns"]).matches(case["path"])
        except DockerfileError:
            found = "error"
        assert found == ("error" if case.get("error") else case["match"]), case
    assert len(cases) > 1600
    for case in table["ignorefile_read_cases"]:
        assert list(ignorefile.read(case["content"])) == case["lines"]


def test_a_walk_decides_as_a_single_question_does() -> None:
    for case in rows("generated/dev_ignore.jsonl.gz"):
        if case.get("error") or case["path"].startswith("/"):
            continue
        matcher = ignorefile.Matcher(case["patterns"])
        parts = case["path"].split("/")
        state = None
        ignored = False
        for index in range(len(parts)):
            above = "/".join(parts[:index])
            if ignored and above and not matcher.may_include_below(above):
                assert case["match"], case
                break
            try:
                ignored, state = matcher.step("/".join(parts[: index + 1]), state)
            except DockerfileError:
                break  # asked about this directory alone, docker cannot read the pattern either
        else:
            assert ignored == case["match"], case


def test_a_second_parser_agrees_on_plain_files() -> None:
    from dockerfile_parse import DockerfileParser

    compared = 0
    for row in rows("realworld/expected_buildkit.jsonl.gz"):
        text = (CORPUS / "realworld" / "files" / row["id"]).read_bytes()
        if row.get("instructions_error") or b"<<" in text or row["escape"] != "\\" or not text.isascii():
            continue
        dockerfile = parse(text)
        if any(one.statement.gap or one.statement.inner for one in dockerfile.instructions):
            continue
        other = DockerfileParser(fileobj=io.BytesIO(text))
        theirs = [entry["instruction"] for entry in other.structure if entry["instruction"] != "COMMENT"]
        assert [one.keyword.upper() for one in dockerfile.instructions] == theirs, row["id"]
        compared += 1
    assert compared > 300


def table_of_facts() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((CORPUS / "buildkit-parser" / "tables.json").read_text())
    return found


def test_facts_about_arguments() -> None:
    facts = table_of_facts()["instructions"]
    for case in facts["error_cases"]:
        assert case["error_contains"] in refuse("FROM x\n" + case["dockerfile"]).message, case
    for keyword in (*facts["exactly_one_argument"], *facts["at_least_one_argument"]):
        assert keyword in refuse(f"FROM x\n{keyword}").message


def test_comments_above_an_instruction() -> None:
    compared = 0
    for row in rows("realworld/expected_buildkit.jsonl.gz"):
        found = statements(Source.of((CORPUS / "realworld" / "files" / row["id"]).read_bytes()))
        for statement, expected in zip(found, row.get("ast") or (), strict=False):
            assert list(statement.comments) == (expected.get("prev_comment") or []), (row["id"], statement.span)
            compared += 1
    assert compared > 5000
