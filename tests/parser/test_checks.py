"""The checks: each rule on its own small file, the options, and docker's own answers for the reference data."""

import gzip
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import EngineError
from builder.oci import platforms
from builder.oci.references import Reference
from builder.pipeline.scope import platform_args
from parser import DockerfileError
from parser.checks import RULES, ImageFacts, Report, Surroundings, check_text
from parser.checks.repairs import repair
from parser.ignorefile import Matcher, read
from parser.source import Source

CORPUS = Path(__file__).parent.parent.parent.parent / "shared" / "corpus"
AMD64 = platforms.parse("linux/amd64")

corpus = pytest.mark.skipif(not CORPUS.is_dir(), reason="the reference data is not beside this checkout")


def platform(text: str) -> tuple[str, str] | None:
    try:
        found = platforms.parse(text, default=AMD64) if text else AMD64
    except EngineError:
        return None
    return found.os, found.architecture


def is_image_name(text: str) -> bool:
    try:
        Reference.parse(text)
    except EngineError:
        return False
    return True


def around(
    build_args: Mapping[str, str] = {},
    *,
    ignored: str = "",
    only_target: bool = False,
    target: str = "",
    images: Mapping[str, ImageFacts] = {},
) -> Surroundings:
    usual = ImageFacts(platform=("linux", "amd64"))
    return Surroundings(
        build_args=build_args,
        automatic=platform_args(AMD64, AMD64, target),
        target=target,
        only_target=only_target,
        image=lambda name, _: images.get(name, usual),
        is_image_name=is_image_name,
        platform=platform,
        ignored=Matcher(read(ignored)) if ignored else None,
    )


def report(text: str | bytes, surroundings: Surroundings | None = None) -> Report:
    return check_text(Source.of(text), surroundings or around())


def said(text: str, surroundings: Surroundings | None = None) -> list[tuple[str, int]]:
    return [(one.rule.name, one.line) for one in report(text, surroundings).findings]


def details(text: str, surroundings: Surroundings | None = None) -> list[str]:
    return [one.detail for one in report(text, surroundings).findings]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM a AS Base", [("StageNameCasing", 1)]),
        ("FROM a as b", [("FromAsCasing", 1)]),
        ("FROM a\nRUN b \\\n\n\n  c", [("NoEmptyContinuation", 5)]),
        ("FROM a\nCOPY <<A <<B \\\n\n /x\n1\nA\n2\n3\nB\nRUN b", [("NoEmptyContinuation", 4)]),
        ("FROM a\nrun b\nUSER c", [("ConsistentInstructionCasing", 2)]),
        ("from a\nrun b\nUSER c", [("ConsistentInstructionCasing", 3)]),
        ("FROM a as b\nfrom c\nrun d", [("FromAsCasing", 1), ("ConsistentInstructionCasing", 1)]),
        ("FROM a AS b\nFROM a AS b", [("DuplicateStageName", 2)]),
        ("FROM a AS context", [("ReservedStageName", 1)]),
        ("FROM a\nCMD b", [("JSONArgsRecommended", 2)]),
        ('FROM a\nSHELL ["b"]\nCMD b', []),
        ("FROM a\nMAINTAINER b", [("MaintainerDeprecated", 2)]),
        ("FROM a$B", [("UndefinedArgInFrom", 1)]),
        ("ARG B\nFROM a$B", []),
        ("FROM a\nWORKDIR b\nWORKDIR c", [("WorkdirRelativePath", 2)]),
        ("FROM a\nWORKDIR /b\nWORKDIR c", []),
        ("FROM a\nCOPY $b $b", [("UndefinedVar", 2), ("UndefinedVar", 2)]),
        ("FROM a\nCOPY <<E /x\n$b\nE", [("UndefinedVar", 2)]),
        ("FROM a\nCOPY <<'E' /x\n$b\nE", []),
        ("FROM a\nRUN --mount=target=/x,source=$b c", [("UndefinedVar", 2)]),
        ("FROM a\nONBUILD USER $b\nFROM a AS c\nONBUILD USER $b\nFROM c", [("UndefinedVar", 5)]),
        ("FROM a\nCMD []\nCMD []", [("MultipleInstructionsDisallowed", 2)]),
        ("FROM a\nENV b c\nLABEL d e", [("LegacyKeyValueFormat", 2), ("LegacyKeyValueFormat", 3)]),
        ("FROM --platform=$TARGETPLATFORM a", [("RedundantTargetPlatform", 1)]),
        ("FROM a\nARG MY_TOKEN\nENV PUBLIC_KEY=1 AUTH=2", [("SecretsUsedInArgOrEnv", 2), ("SecretsUsedInArgOrEnv", 3)]),
        ("ARG B\nFROM $B", [("InvalidDefaultArgInFrom", 2)]),
        ("FROM --platform=linux/amd64 a", [("FromPlatformFlagConstDisallowed", 1)]),
        ("FROM --platform=linux/amd64 a AS b-amd64", []),
        ("FROM --platform=linux/arm64 a AS b-arm64", [("InvalidBaseImagePlatform", 1)]),
        ("FROM a\nEXPOSE 80/TCP", [("ExposeProtoCasing", 2)]),
        ("FROM a\nEXPOSE 80:80", [("ExposeInvalidFormat", 2)]),
        ("# check=experimental=all\n# x\nARG b", [("InvalidDefinitionDescription", 3)]),
        ("# check=experimental=all\n# b is\nARG b\n# other\n#\nFROM c AS d", []),
        ("# other\nARG b", []),
    ],
)
def test_a_rule(text: str, expected: list[tuple[str, int]]) -> None:
    assert sorted(said(text)) == sorted(expected)


def test_every_rule_has_its_case() -> None:
    parameters = next(mark for mark in test_a_rule.pytestmark if mark.name == "parametrize").args[1]
    shown = {name for _, expected in parameters for name, _ in expected}
    assert shown | {"CopyIgnoredFile"} == {rule.name for rule in RULES}
    assert [rule.name for rule in RULES if rule.experimental] == ["InvalidDefinitionDescription"]


@pytest.mark.parametrize(
    ("ignored", "line", "expected"),
    [
        ("b", "COPY ./b /", ['Attempting to Copy file "b" that is excluded by .dockerignore']),
        ("b", "ADD b/c https://x/b /", ['Attempting to Add file "b/c" that is excluded by .dockerignore']),
        ("b", "COPY --from=x b /", []),
        ("b\n!b/c", "COPY b /", []),
        ("*", "COPY . /", ['Attempting to Copy file "." that is excluded by .dockerignore']),
        (".*", "COPY . /", []),
        ("**/*.o", "COPY . /", []),
    ],
)
def test_what_the_ignore_file_hides(ignored: str, line: str, expected: list[str]) -> None:
    assert details(f"FROM a\n{line}", around(ignored=ignored)) == expected


def test_a_near_name_is_offered() -> None:
    assert details("FROM a\nENV PATH=$PAHT") == ["Usage of undefined variable '$PAHT' (did you mean $PATH?)"]
    assert details("ARG VERSION=1\nFROM a:b$VERSIONS") == [
        "FROM argument 'VERSIONS' is not declared (did you mean VERSION?)",
    ]


def test_what_the_base_image_has() -> None:
    images = {"a": ImageFacts(env={"B": "1"}, shell=("x",), on_build=("WORKDIR $C",))}
    assert said("FROM a\nUSER $B\nCMD x", around(images=images)) == [("WorkdirRelativePath", 1), ("UndefinedVar", 1)]


def test_stages_that_the_target_does_not_need() -> None:
    text = "FROM a AS b\nUSER $x\nFROM a AS c\nUSER $x\nFROM a AS d\nCOPY --from=b /x /"
    assert said(text) == [("UndefinedVar", 2), ("UndefinedVar", 4)]
    assert said(text, around(only_target=True)) == [("UndefinedVar", 2)]
    assert said(text, around(only_target=True, target="c")) == [("UndefinedVar", 4)]


@pytest.mark.parametrize(
    ("directive", "expected"),
    [
        ("", ["ConsistentInstructionCasing", "FromAsCasing"]),
        ("skip=all", []),
        ("skip=FromAsCasing", ["ConsistentInstructionCasing"]),
        (" skip = FromAsCasing , ConsistentInstructionCasing ", []),
        ("skip=NoSuchRule", ["ConsistentInstructionCasing", "FromAsCasing"]),
    ],
)
def test_the_directive(directive: str, expected: list[str]) -> None:
    text = f"# check={directive}\nFROM a as b\nuser c\n" if directive else "FROM a as b\nuser c\n"
    assert sorted(name for name, _ in said(text)) == expected
    given = around({"BUILDKIT_DOCKERFILE_CHECK": directive or "error=false"})
    assert sorted(name for name, _ in said("# check=skip=all\nFROM a as b\nuser c\n", given)) == expected


def test_findings_can_be_errors() -> None:
    found = report("# check=error=true\nFROM a as b\nCMD c")
    assert found.fails and found.violation == "lint violation found for rules: FromAsCasing, JSONArgsRecommended"
    assert not report("# check=error=true;skip=FromAsCasing\nFROM a as b").fails
    assert not report("FROM a as b").fails


@pytest.mark.parametrize("option", ["x", "skip", "shout=yes", "error=maybe", "error=true;x=1"])
def test_options_that_mean_nothing(option: str) -> None:
    with pytest.raises(DockerfileError, match=r"^Dockerfile:2:1: failed to parse check options: ") as caught:
        report(f"# syntax=x\n# check={option}\nFROM a")
    assert caught.value.hint
    with pytest.raises(DockerfileError, match=r"^failed to parse build-arg:BUILDKIT_DOCKERFILE_CHECK: "):
        report("FROM a", around({"BUILDKIT_DOCKERFILE_CHECK": option}))


def test_a_comment_silences_the_instruction_below() -> None:
    text = "FROM a\n# check=skip=LegacyKeyValueFormat // known\nENV b c\nENV d e\n# check=skip=\n# more\nMAINTAINER x"
    assert said(text) == [("LegacyKeyValueFormat", 4), ("MaintainerDeprecated", 7)]
    skip = "# check=skip=all\n"
    assert said(f"\n{skip}FROM a$B as C") == []
    assert said(f"FROM a AS b\n{skip}user $x\n{skip}FROM a AS b") == [
        ("ConsistentInstructionCasing", 3),
        ("DuplicateStageName", 5),
    ]


def test_what_stands_before_an_error_is_found() -> None:
    found = report("FROM a AS B\nMAINTAINER c\nBAD\nMAINTAINER d")
    assert [(one.rule.name, one.line) for one in found.findings] == [
        ("StageNameCasing", 1),
        ("MaintainerDeprecated", 2),
    ]
    assert found.error is not None and str(found.error).startswith("Dockerfile:3:1: unknown instruction: BAD")


def test_what_stands_in_a_refused_mount_is_found() -> None:
    found = report("FROM a\nRUN --mount=type=cache,target=$a,uid=$b x")
    assert [one.word for one in found.findings] == ["a", "b"] and "uid" in str(found.error)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("USER a\nFROM b as c", "Dockerfile:1:1: no build stage in current context"),
        ("ARG a", "dockerfile contains no stages to build"),
        ("FROM $A", "Dockerfile:1:1: base name ($A) should not be blank"),
        ("FROM A:", 'Dockerfile:1:1: failed to parse stage name "A:": invalid reference format'),
        ("FROM a\nCOPY --from=1 b /\nFROM c", 'Dockerfile:2:1: cannot copy from stage "stage-1", it needs'),
        ("FROM a AS b\nCOPY --from=b c /", "Dockerfile:2:1: circular dependency detected on stage: b"),
        ("FROM a\nUSER ${b", "Dockerfile:2:1: failed to process"),
        (
            "FROM --platform=$TRAGETPLATFORM a",
            "Dockerfile:1:1: empty platform value from expression $TRAGETPLATFORM (did you mean TARGETPLATFORM?)",
        ),
        ("FROM a\nVOLUME $b", "Dockerfile:2:1: VOLUME specified can not be an empty string"),
        ("FROM a\nEXPOSE x", "Dockerfile:2:1: invalid containerPort: x"),
        ("FROM a\nRUN <<E", "Dockerfile:2:1: unterminated heredoc"),
    ],
)
def test_why_a_build_would_fail(text: str, message: str) -> None:
    assert str(report(text).error).startswith(message)


WORDS = st.sampled_from(
    [
        *(
            "FROM",
            "RUN",
            "Copy",
            "ADD",
            "ENV",
            "ARG",
            "LABEL",
            "ONBUILD",
            "CMD",
            "EXPOSE",
            "VOLUME",
            "SHELL",
            "WORKDIR",
        ),
        *("a", "A=b", "$x", "${x", "AS", "as", '"', "'", "\\", "\\\n\n", "\n", "#", "# check=skip=all\n", "<<E", "E"),
        *("--from=a", "--platform=$x", "--mount=type=cache,target=$y", "1:2/TCP", "[]", "\t", "\r\n", "é", "\x00"),
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=100), st.lists(WORDS, max_size=40).map(lambda words: "FROM a\n" + " ".join(words))))
def test_any_text_can_be_checked_and_repaired(text: str) -> None:
    try:
        found = report(text, around(ignored="a\n*.b\n"))
    except DockerfileError as err:
        assert "check options" in err.message
        return
    assert all(1 <= one.line <= text.count("\n") + 1 for one in found.findings)
    again = repair(Source.of(text), around(ignored="a\n*.b\n"))
    assert again.report.parsed == found.parsed and again.fixed >= 0


def linter_cases() -> Iterator[tuple[dict[str, Any], Surroundings, list[tuple[str, int, str]]]]:
    for case in json.loads((CORPUS / "buildkit-linter" / "cases.json").read_text()):
        given = {name.removeprefix("build-arg:"): value for name, value in (case.get("frontend_attrs") or {}).items()}
        for key, only in (("warnings", True), ("all_targets_warnings", False)):
            if key in case:
                expected = [(one["rule"], one["line"], one["detail"]) for one in case[key]]
                yield case, around(given, ignored=case.get("dockerignore") or "", only_target=only), expected
    for rule in json.loads((CORPUS / "buildkit-linter" / "rules.json").read_text()):
        for example in rule.get("examples", ()):
            expected = [(name, line, detail) for name, line, detail in example["buildkit_warnings"]]
            yield example, around(ignored=rule.get("dockerignore") or ""), expected


def facts(found: Report) -> Counter[tuple[str, int, str]]:
    return Counter((one.rule.name, one.line, one.detail) for one in found.findings)


@corpus
def test_dockers_own_cases() -> None:
    count = 0
    for case, surroundings, expected in linter_cases():
        found = facts(report(case["dockerfile"], surroundings))
        if case.get("id") == "lint-071" and expected:
            # The lines noted there are blank ones: they are not of this file.
            found = Counter({(name, line - 2, detail): n for (name, line, detail), n in found.items()})
        assert found == Counter(expected), case
        count += 1
    assert count > 100


@corpus
def test_the_rules_are_dockers() -> None:
    theirs = json.loads((CORPUS / "buildkit-linter" / "rules.json").read_text())
    assert [(rule.name, rule.description, rule.url, rule.experimental) for rule in RULES] == [
        (rule["name"], rule["description"], rule["url"] or "", rule["experimental"]) for rule in theirs
    ]


def linted_files() -> Iterator[tuple[dict[str, Any], bytes | str]]:
    with gzip.open(CORPUS / "realworld" / "expected_buildkit.jsonl.gz", "rt") as file:
        for row in map(json.loads, file):
            yield row, (CORPUS / "realworld" / "files" / row["id"]).read_bytes()
    with gzip.open(CORPUS / "generated" / "dev_dockerfile_mutants.jsonl.gz", "rt") as file:
        yield from ((row, row["dockerfile"]) for row in map(json.loads, file) if "lint" in row)


@corpus
def test_findings_in_real_files_and_in_broken_ones() -> None:
    count = errors = 0
    for row, text in linted_files():
        error = row.get("lint_build_error") or row.get("convert_error") or row.get("instructions_error") or ""
        if "checksum" in error:
            continue  # what ADD says about a wrong digest ends their walk: no matter of the checks
        found = report(text)
        expected = [(one["rule"], one["line"], one["detail"]) if isinstance(one, dict) else one for one in row["lint"]]
        assert facts(found) == Counter(map(tuple, expected)), row["id"]
        assert found.error is None or error, (row["id"], found.error)
        count += 1
        errors += found.error is not None
    assert count > 690 and errors > 10
