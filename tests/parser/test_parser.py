"""What no corpus says: errors with places and hints, every text parses or raises, limits, growth."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parser import DockerfileError, graph, parse
from parser import instructions as ast
from parser.errors import nearest
from parser.ports import parse_port
from parser.printer import print_dockerfile
from parser.serialize import dumps, loads


def error(text: str) -> DockerfileError:
    with pytest.raises(DockerfileError) as caught:
        graph.stages(parse(text))
    return caught.value


def test_an_unknown_instruction_is_shown_with_its_place_and_what_was_meant() -> None:
    found = error("FROM busybox\n\n  RUNN true\nCMD sh\n")
    assert str(found) == "Dockerfile:3:3: unknown instruction: RUNN (did you mean RUN?)"
    assert found.excerpt().splitlines() == [
        "Dockerfile:3:3",
        "--------------------",
        "   1 |     FROM busybox",
        "   2 |",
        "   3 | >>>   RUNN true",
        "   4 |     CMD sh",
        "--------------------",
    ]


@pytest.mark.parametrize(
    ("text", "message", "place"),
    [
        ("FROM a\nCOPY --form=x a b", "unknown flag: --form (did you mean from?)", (2, 6)),
        ("FROM a\nRUN <<EOF\nx", "unterminated heredoc", (2, 1)),
        ("FROM a AS 1x", "invalid name for build stage", (1, 11)),
        ("RUN x", "no build stage in current context", (1, 1)),
        ("# escape=x\nFROM a", "invalid escape token", (1, 1)),
        ("", "file with no instructions", (1, 1)),
        ("FROM a\nONBUILD FROM b", "FROM isn't allowed as an ONBUILD trigger", (2, 1)),
        ("FROM a\nHEALTHCHECK --retries=x CMD y", "invalid syntax", (2, 1)),
        ("FROM a\nEXPOSE", "EXPOSE requires at least one argument", (2, 1)),
        ('FROM a\nSHELL ["a"', "SHELL requires the arguments to be in JSON form", (2, 1)),
    ],
)
def test_errors_say_what_and_where(text: str, message: str, place: tuple[int, int]) -> None:
    found = error(text)
    assert message.removesuffix(")").partition(" (")[0] in found.message
    assert found.span is not None and found.span.start.line == place[0]
    if "did you mean" in message:
        assert "did you mean" in str(found) and found.span.start.column == place[1]


def test_a_comment_behind_from_is_told_where_it_belongs() -> None:
    assert error("FROM a AS b # why").hint == "give the comment its own line"


def test_directives_hold_only_at_the_top_and_once() -> None:
    assert parse("# Escape = `\nFROM a\nRUN x `\n y").instructions[1].original == "RUN x  y"
    assert parse("# plain comment\n# escape=`\nFROM a").directives.escape == "\\"
    assert "only one" in error("#escape=`\n#escape=`\nFROM a").message
    found = parse("#!/usr/bin/env x\n# syntax=docker/dockerfile:1\n# check=skip=all\nFROM a").directives
    assert (found.syntax, found.check) == (None, None) or found.syntax == "docker/dockerfile:1"


def test_heredocs_of_every_kind() -> None:
    run, copy = parse(
        "FROM a\nRUN <<-'ONE' cat && <<TWO sh\n\tone $x\n\tONE\necho two\nTWO\n"
        "COPY <<a.txt <<b.txt /d/\nA\na.txt\nb.txt\n"
    ).instructions[1:]
    assert isinstance(run, ast.Run) and isinstance(run.command, ast.ShellForm)
    first, second = run.command.heredocs
    assert (first.name, first.text, first.expand, first.chomp) == ("ONE", "one $x\n", False, True)
    assert (second.name, second.text, second.expand) == ("TWO", "echo two\n", True)
    assert isinstance(copy, ast.Copy)
    assert [(one.name, one.content) for one in copy.heredocs] == [("a.txt", "A\n"), ("b.txt", "")]
    assert copy.dest == "/d/" and copy.sources == ()


def test_stages_are_found_by_name_and_index() -> None:
    found = graph.stages(parse("ARG V=1\nFROM a AS One\nFROM ONE as two\nFROM two\nCOPY --from=one x y\n"))
    one, two, last = found.stages
    assert [arg.args[0].name for arg in found.global_args] == ["V"]
    assert found.find("ONE") is one and found.find("2") is last and found.find("none") is None
    assert found.base_stage(two, "one") is one and found.base_stage(one, "two") is None
    assert found.source_stage(last, "0") is one and found.source_stage(one, "two") is two
    with pytest.raises(DockerfileError, match="invalid stage index 7"):
        found.source_stage(last, "7")


def test_of_two_stages_with_one_name_the_nearest_above_counts() -> None:
    found = graph.stages(parse("FROM a AS x\nFROM b AS x\nFROM c\n"))
    assert found.source_stage(found.stages[2], "x") is found.stages[1]
    assert found.source_stage(found.stages[1], "x") is found.stages[0]


@pytest.mark.parametrize(
    ("spec", "ports"),
    [
        ("80", ["80/tcp"]),
        ("53/UDP", ["53/udp"]),
        ("8000-8002", ["8000/tcp", "8001/tcp", "8002/tcp"]),
        ("127.0.0.1:8080:80/sctp", ["80/sctp"]),
    ],
)
def test_ports(spec: str, ports: list[str]) -> None:
    assert list(parse_port(spec)) == ports


@pytest.mark.parametrize("spec", ["", "x", "80/xyz", "70000", "9-8", "80:"])
def test_ports_that_are_none(spec: str) -> None:
    with pytest.raises(DockerfileError):
        parse_port(spec)


def test_near_words() -> None:
    assert nearest("ENTRYPONT", ["ENV", "ENTRYPOINT"]) == "ENTRYPOINT"
    assert nearest("xyz", ["ENV", "RUN"]) is None


WORDS = st.sampled_from(
    [
        *("FROM", "RUN", "COPY", "ADD", "ENV", "ARG", "LABEL", "ONBUILD", "CMD", "HEALTHCHECK", "EXPOSE", "VOLUME"),
        *("USER", "WORKDIR", "SHELL", "STOPSIGNAL", "ENTRYPOINT", "MAINTAINER", "busybox", "a=b", "$x", "AS", "x"),
        *('"q', 'q"', "'", '"', "\\", "\\\n", "\n", "#", "<<EOF", "<<-E", "EOF", "E", "--from=a", "--link", "é"),
        *("--mount=type=bind", "[", "]", '["a","b"]', "# escape=`\n", "`", "\t", "\r\n", "\x00"),
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.text(max_size=200), st.lists(WORDS, max_size=40).map(" ".join), st.binary(max_size=100)))
def test_any_text_parses_or_is_refused(text: str | bytes) -> None:
    try:
        dockerfile = parse(text)
    except DockerfileError as err:
        str(err)
        err.excerpt()
        return
    assert parse(print_dockerfile(dockerfile)) == dockerfile
    assert loads(dumps(dockerfile), dockerfile.source) == dockerfile


@settings(max_examples=200, deadline=None)
@given(st.lists(WORDS, max_size=40).map(lambda words: "FROM a\nRUN " + " ".join(words)))
def test_what_follows_a_good_start_parses_or_is_refused(text: str) -> None:
    try:
        dockerfile = parse(text)
    except DockerfileError:
        return
    assert parse(print_dockerfile(dockerfile)) == dockerfile


def test_bytes_of_another_version_are_not_read() -> None:
    dockerfile = parse("FROM a")
    with pytest.raises(ValueError, match="another version"):
        loads(b"2.7\n" + dumps(dockerfile), dockerfile.source)
    with pytest.raises(ValueError, match="no parsed Dockerfile"):
        loads(dumps(dockerfile)[:10], dockerfile.source)


def test_a_hundred_thousand_lines_and_long_lines() -> None:
    many = parse("FROM a\n" + "RUN x\n" * 99_999)
    assert len(many.instructions) == 100_000
    assert "max allowed size" in error("FROM a\nRUN " + "x" * 70_000).message
    joined = parse("FROM a\nRUN " + "\\\n".join(["x" * 60_000] * 3))
    assert parse(print_dockerfile(joined)) == joined
    assert "more than" in error("FROM a\n" + "RUN x\n" * 250_001).message
