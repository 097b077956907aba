"""What a target takes, and which targets there are."""

import pytest

from parser import DockerfileError, parse
from parser.checks import Surroundings
from parser.checks.outline import outline, targets

TEXT = """\
ARG inherited=box
ARG unused=abc${inherited}
# sfx is a suffix
ARG sfx=usy

FROM b${sfx}${inherited} AS first
# this is not assigned to anything
ARG FOO=123
# BAR is a number
ARG BAR=456
RUN --mount=type=secret,id=mine,required=true --mount=type=ssh true

FROM alpine${unused} AS second
ARG BAZ
RUN --mount=type=secret,target=/x/other true

FROM scratch AS third
ARG ABC=a

# target defines build target
FROM third AS target
COPY --from=first /etc/passwd /

FROM second
"""


def around(target: str = "", **build_args: str) -> Surroundings:
    return Surroundings(build_args=build_args, target=target, only_target=True)


def test_what_a_target_takes_with_all_that_it_stands_on() -> None:
    found = outline(parse(TEXT), around("target", FOO="7"))
    assert (found.name, found.description) == ("target", "defines build target")
    assert [(one.name, one.value, one.description, one.span.start.line) for one in found.args] == [
        ("inherited", "box", "", 1),
        ("sfx", "usy", "is a suffix", 4),
        ("FOO", "7", "", 8),
        ("BAR", "456", "is a number", 10),
        ("ABC", "a", "", 18),
    ]
    assert [(one.name, one.required, one.span.start.line) for one in found.secrets] == [("mine", True, 11)]
    assert [(one.name, one.required) for one in found.ssh] == [("default", False)]


def test_the_last_stage_is_meant_without_a_target() -> None:
    found = outline(parse(TEXT), around())
    assert found.name == "" and [one.name for one in found.args] == ["inherited", "unused", "BAZ"]
    assert [one.name for one in found.secrets] == ["other"]


def test_a_default_that_is_put_together() -> None:
    text = (
        "ARG FOO=123\nARG ABC=abc\nARG DEF=def\nARG FOO=${FOO}${ABC}\nARG BAR=${FOO}456\nARG FOO=${FOO}456${BAR}\n"
        "FROM scratch\nARG FOO\nARG INFOO=123\nARG INBAR=${INFOO}456\nARG INFOO=${INFOO}456${INBAR}\n"
    )
    assert [(one.name, one.value, one.span.start.line) for one in outline(parse(text), around()).args] == [
        ("ABC", "abc", 2),
        ("BAR", "123abc456", 5),
        ("FOO", "123abc456123abc456", 6),
        ("INBAR", "123456", 10),
        ("INFOO", "123456123456", 11),
    ]


def test_what_a_build_refuses_is_refused() -> None:
    with pytest.raises(DockerfileError, match='target stage "x" could not be found'):
        outline(parse(TEXT), around("x"))


def test_targets() -> None:
    found = targets(parse(TEXT.replace("FROM second", "FROM --platform=$BUILDPLATFORM second")))
    assert [(one.name, one.base, one.platform, one.default) for one in found] == [
        ("first", "b${sfx}${inherited}", "", False),
        ("second", "alpine${unused}", "", False),
        ("third", "scratch", "", False),
        ("target", "third", "", False),
        ("", "second", "$BUILDPLATFORM", True),
    ]
    assert [one.description for one in found] == ["", "", "", "defines build target", ""]
