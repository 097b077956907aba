"""Repairs: each on its own, what is left alone, and that nothing else ever changes."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parser import instructions as ast
from parser import parse, words
from parser.checks import ImageFacts, Surroundings
from parser.checks.commands import argv_of
from parser.checks.repairs import Repaired, certain, repair
from parser.errors import DockerfileError
from parser.source import Source

CORPUS = Path(__file__).parent.parent.parent.parent / "shared" / "corpus"
AROUND = Surroundings(automatic={"TARGETPLATFORM": "linux/amd64"})


def repaired(text: str | bytes, around: Surroundings = AROUND) -> Repaired:
    return repair(Source.of(text), around)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("FROM a AS Base\nCOPY --from=Base x /", "FROM a AS base\nCOPY --from=Base x /"),
        ("FROM a as b", "FROM a AS b"),
        ("from a  AS  b", "from a  as  b"),
        ("From a as b\nRUN c\nrun d\nUSER e", "FROM a AS b\nRUN c\nRUN d\nUSER e"),
        ("FROM a\nRUN b \\\n\n  # c\n \t\n  d\n\nRUN e", "FROM a\nRUN b \\\n  # c\n  d\n\nRUN e"),
        ("FROM a\r\nRUN b \\\r\n\r\n  c\r\n", "FROM a\r\nRUN b \\\r\n  c\r\n"),
        ("FROM a\nRUN b \\\n\n", "FROM a\nRUN b \\\n"),
        ("FROM a\nENV b  c", "FROM a\nENV b=c"),
        ("FROM a\nENV b c d ", 'FROM a\nENV b="c d" '),
        ("FROM a\nARG c d\nLABEL b $c ${d:-e f}", 'FROM a\nARG c d\nLABEL b="$c ${d:-e f}"'),
        ("FROM a\nENV b 'c d' \"e\"", "FROM a\nENV b='c d'\\ \"e\""),
        ("# escape=`\nFROM a\nENV b c:\\d 'e'", "# escape=`\nFROM a\nENV b=c:\\d` 'e'"),
        ("FROM a\nENV b \\\n  c \\\n # d\n  e", 'FROM a\nENV b="\\\nc \\\n # d\n  e"'),
        ("FROM a\nMAINTAINER b <c>", 'FROM a\nLABEL org.opencontainers.image.authors="b <c>"'),
        (
            'from a\nmaintainer "b" $c \\\\ d',
            'from a\nlabel org.opencontainers.image.authors="\\"b\\" \\$c \\\\\\\\ d"',
        ),
        ("FROM a\nCMD b  'c d' \"e\"", 'FROM a\nCMD ["b", "c d", "e"]'),
        ("FROM a\nENTRYPOINT b --c=d", 'FROM a\nENTRYPOINT ["b", "--c=d"]'),
        ("FROM scratch\nWORKDIR a\nWORKDIR b", "FROM scratch\nWORKDIR /a\nWORKDIR b"),
        ("FROM --platform=$TARGETPLATFORM  a", "FROM a"),
        ("FROM a\nARG b=3\nEXPOSE 1/TCP 2/tcp $b/TCP", "FROM a\nARG b=3\nEXPOSE 1/tcp 2/tcp $b/tcp"),
        ("FROM a\nEXPOSE 1.2.3.4:5:6/UDP [::1]:7:8 9", "FROM a\nEXPOSE 6/udp 8 9"),
        (
            "# check=experimental=all\n#  BASE is\nFROM a AS base",
            "# check=experimental=all\n#  base is\nFROM a AS base",
        ),
    ],
)
def test_a_repair(before: str, after: str) -> None:
    found = repaired(before)
    assert found.source.text == after
    assert found.fixed and not found.report.findings
    assert repaired(after).source.text == after


@pytest.mark.parametrize(
    "text",
    [
        "# check=skip=all\nFROM a as B\nENV c d",
        "FROM a AS b\nFROM a AS b",
        "FROM a\nWORKDIR b",
        "FROM a\nUSER $b",
        'FROM a\nENV "b" c',
        "FROM a\nENV b c'd",
        "FROM a\nONBUILD ENV b c\nFROM a AS d\nONBUILD ENV b c\nFROM d",
        "FROM a\nMAINTAINER b\nLABEL org.opencontainers.image.authors=c",
        "FROM a\nCMD b $c",
        "FROM a\nCMD b c; d",
        "FROM a\nCMD exec b",
        "FROM a\nCMD b \\\n  c",
        'FROM a\nENTRYPOINT ["b"]\nCMD c',
        "FROM a\nENTRYPOINT b\nCMD []",
        "FROM a\nCMD []\nCMD []",
        "FROM --platform=linux/amd64 a",
        "ARG P=TCP\nFROM a\nARG P\nEXPOSE 1/$P 1:$P",
        "# check=experimental=all\n# other\nFROM a AS base",
        "FROM a\nENV b c\nRUNN d",
        "RUN <<E",
        "",
    ],
)
def test_what_needs_a_decision_is_left_alone(text: str) -> None:
    found = repaired(text)
    assert found.source.text == text and not found.fixed
    assert not certain(found.source, found.report)


def test_a_relative_directory_below_what_the_base_image_has() -> None:
    images = {"a": ImageFacts(workdir="/x"), "b": ImageFacts(workdir="/x y")}
    around = Surroundings(image=lambda name, _: images[name])
    assert repaired("FROM a\nWORKDIR b/$c", around).source.text == "FROM a\nWORKDIR /x/b/$c"
    assert repaired("FROM a\nWORKDIR 'b c'", around).source.text == "FROM a\nWORKDIR /x/'b c'"
    assert not repaired("FROM b\nWORKDIR b", around).fixed


@pytest.mark.parametrize(
    ("script", "argv"),
    [
        ("a b", ("a", "b")),
        (" a\t'b  c'd\"e\" ", ("a", "b  cde")),
        ("a ''", ("a", "")),
        ("a=b c", None),
        ("a b=c", ("a", "b=c")),
        *((f"a {word}", None) for word in ("$b", "b*", "~b", "#b", "b;c", "b>c", "'b", '"`b`"', "\\b", "{b,c}", "b!")),
        *((f"{word} a", None) for word in ("cd", "exec", "if", ".", "[")),
        ("", None),
    ],
)
def test_commands_that_need_no_shell(script: str, argv: tuple[str, ...] | None) -> None:
    assert argv_of(script) == argv


VALUES = st.lists(
    st.sampled_from(["a", "b=c", " ", "  ", "\t", '"', "'", "\\", "$x", "${y:-z w}", "#", "<", "é"]), max_size=9
)
LINES = st.one_of(
    st.builds(
        "{}{} {}".format, st.sampled_from(["ENV k ", "LABEL k ", "env a=b k2 "]), st.just(""), VALUES.map("".join)
    ),
    st.builds(
        "{} {}".format, st.sampled_from(["MAINTAINER", "CMD", "entrypoint", "Workdir", "RUN"]), VALUES.map("".join)
    ),
    st.builds("EXPOSE {}".format, st.sampled_from(["80/TCP", "1:2/udp 3/Udp", "$x/TCP", "9 \\\n 10/TCP"])),
    st.sampled_from(
        [
            "from x as Y",
            "FROM --platform=${TARGETPLATFORM} x AS z",
            "run a \\\n\n # c\n  b",
            "Copy <<E /x\nenv a b\nE",
            "# check=skip=LegacyKeyValueFormat",
            "# a comment",
            "",
            "ENV k \\\n v \\\n  w",
            "ONBUILD env a b",
        ]
    ),
)


def value(word: str) -> str:
    try:
        return words.expand(word, {"x": "1 2", "y": ""})
    except DockerfileError:
        return word


def meaning(one: ast.Instruction) -> object:
    """What an instruction says, however it is written: the same before and after every repair."""
    match one:
        case ast.Env() | ast.Label():
            return [(pair.key, value(pair.value)) for pair in one.pairs]
        case ast.Maintainer():
            return [("org.opencontainers.image.authors", one.name)]
        case ast.Cmd(command=ast.ShellForm(script)) | ast.Entrypoint(command=ast.ShellForm(script)):
            return ast.ExecForm(argv) if (argv := argv_of(script)) else script
        case ast.Cmd() | ast.Entrypoint():
            return one.command
        case ast.From():
            return one.image, one.alias
        case ast.Expose():
            return sorted(port.rpartition(":")[2].lower() for port in one.ports)
    return one


@settings(max_examples=300, deadline=None)
@given(st.lists(LINES, max_size=8), st.sampled_from(["\n", "\r\n"]), st.sampled_from(["# escape=`\n", ""]))
def test_nothing_else_ever_changes(lines: list[str], end: str, directive: str) -> None:
    text = (directive + "\n".join(["FROM base", *lines])).replace("\n", end)
    try:
        before = parse(text)
        found = repaired(text)
    except DockerfileError:
        return
    after = parse(found.source.text)
    if not directive:
        assert [meaning(one) for one in after.instructions] == [meaning(one) for one in before.instructions]
    for one, other in zip(before.instructions, after.instructions, strict=True):
        if isinstance(one, ast.Run | ast.Copy | ast.Workdir | ast.Onbuild):
            assert one == other and one.statement.comments == other.statement.comments
    comments = [line for line in text.splitlines() if line.lstrip().startswith("#")]
    assert [line for line in found.source.text.splitlines() if line.lstrip().startswith("#")] == comments
    assert found.source.text.count("\r") == found.source.text.count("\n") * (end == "\r\n")
    assert repair(found.source, AROUND).source == found.source
    assert not certain(found.source, found.report)


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the reference data is not beside this checkout")
def test_real_files() -> None:
    fixed = 0
    with gzip.open(CORPUS / "realworld" / "expected_buildkit.jsonl.gz", "rt") as file:
        for row in map(json.loads, file):
            text = (CORPUS / "realworld" / "files" / row["id"]).read_bytes()
            found = repaired(text)
            fixed += found.fixed
            if found.report.parsed:
                before, after = parse(text).instructions, parse(found.source.text).instructions
                assert [meaning(one) for one in before] == [meaning(one) for one in after], row["id"]
            assert not certain(found.source, found.report), row["id"]
    assert fixed > 500
