"""Pinning: what gets a digest, what keeps its form, and what is refused because it would change something else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import parser
from builder.engine import pin as pinning
from builder.oci.references import Reference
from parser import instructions as ast
from parser.errors import DockerfileError

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
KNOWN = {"busybox:latest": A, "busybox:1": A, "debian:12": B, "reg.example:5000/x/y:v1": B}


def resolve(reference: Reference) -> str | None:
    return KNOWN.get(reference.familiar())


def run(text: str, *, update: bool = False) -> tuple[str, list[str]]:
    """The file after pinning, and why things are not pinned."""
    dockerfile = parser.parse(text)
    found = pinning.pins(dockerfile, resolve, update=update)
    made = pinning.rewritten(dockerfile, text.encode(), found).decode()
    return made, [one.why for one in found if one.why]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM busybox\n", f"FROM busybox:latest@{A}\n"),
        ("from busybox:1 as Base\n", f"from busybox:1@{A} as Base\n"),
        ("FROM  --platform=linux/amd64   busybox:1   AS x\n", f"FROM  --platform=linux/amd64   busybox:1@{A}   AS x\n"),
        ("FROM reg.example:5000/x/y:v1", f"FROM reg.example:5000/x/y:v1@{B}"),
        ("# c\n\n  FROM busybox\r\nRUN x\r\n", f"# c\n\n  FROM busybox:latest@{A}\r\nRUN x\r\n"),
        ("FROM \\\n  # why\n  busybox:1 \\\n  AS x\n", f"FROM \\\n  # why\n  busybox:1@{A} \\\n  AS x\n"),
        ("# escape=`\nFROM `\n  busybox:1\n", f"# escape=`\nFROM `\n  busybox:1@{A}\n"),
        (
            "FROM scratch\nFROM busybox AS b\nFROM b\nFROM B\n",
            f"FROM scratch\nFROM busybox:latest@{A} AS b\nFROM b\nFROM B\n",
        ),
        (f"FROM busybox:1@{B}\n", f"FROM busybox:1@{B}\n"),
        (
            "FROM scratch AS s\nCOPY --link --from=busybox:1 /a /b\nCOPY --from=s a b\nCOPY --from=0 a b\n",
            f"FROM scratch AS s\nCOPY --link --from=busybox:1@{A} /a /b\nCOPY --from=s a b\nCOPY --from=0 a b\n",
        ),
        (
            "ARG V=1\nARG IMAGE=busybox:1 X=y\nFROM $IMAGE\nFROM ${IMAGE} AS two\n",
            f"ARG V=1\nARG IMAGE=busybox:1@{A} X=y\nFROM $IMAGE\nFROM ${{IMAGE}} AS two\n",
        ),
        ('ARG IMAGE="busybox:1"\nFROM $IMAGE\n', f"ARG IMAGE=busybox:1@{A}\nFROM $IMAGE\n"),
        (
            "FROM busybox:1\nRUN <<E\nFROM busybox\nE\nCOPY <<F /x\nFROM debian:12\nF\nFROM debian:12\n",
            f"FROM busybox:1@{A}\nRUN <<E\nFROM busybox\nE\nCOPY <<F /x\nFROM debian:12\nF\nFROM debian:12@{B}\n",
        ),
        (
            "FROM busybox:1\nRUN echo busybox:1 # FROM busybox\n",
            f"FROM busybox:1@{A}\nRUN echo busybox:1 # FROM busybox\n",
        ),
    ],
)
def test_only_the_name_changes(text: str, expected: str) -> None:
    assert run(text) == (expected, [])
    assert run(expected) == (expected, [])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("FROM nobody/knows:1\n", "nobody here knows a digest of nobody/knows:1"),
        ("ARG V=1\nFROM busybox:${V}\n", "it depends on ARG V, whose value may change"),
        ("ARG IMAGE\nFROM ${IMAGE}\n", "ARG IMAGE has no default"),
        ("ARG IMAGE=busybox:1\nFROM $IMAGE\nARG IMAGE\nRUN echo $IMAGE\n", "it depends on ARG IMAGE"),
        ("ARG V=1\nARG IMAGE=busybox:$V\nFROM $IMAGE\n", "it depends on ARG IMAGE"),
        ("ARG IMAGE=busybox:1\nFROM $IMAGE\nFROM $IMAGE-x\n", "it depends on ARG IMAGE"),
    ],
)
def test_what_is_not_safe_is_left_and_told(text: str, why: str) -> None:
    made, told = run(text)
    assert made == text
    assert told and all(one.startswith(why) for one in told)


def test_update_looks_again() -> None:
    assert run(f"FROM busybox:1@{B}\n", update=True) == (f"FROM busybox:1@{A}\n", [])
    # without a tag there is nothing to look up, and what nobody knows any more stays
    for kept in (f"FROM busybox@{B}\n", f"FROM gone:1@{B}\n"):
        assert run(kept, update=True) == (kept, [])


def test_looking_needs_nobody() -> None:
    dockerfile = parser.parse(f"FROM busybox\nFROM debian:12@{B}\nCOPY --from=debian:12 a b\n")
    assert [(one.image, one.why) for one in pinning.pins(dockerfile, None)] == [
        ("busybox", "it is not pinned"),
        ("debian:12", ""),
        ("debian:12", "it is not pinned"),
    ]


def test_each_name_is_looked_up_once() -> None:
    asked = []

    def count(reference: Reference) -> str:
        asked.append(reference.familiar())
        return A

    pinning.pins(parser.parse("FROM busybox\nFROM busybox:latest\nFROM debian\n"), count)
    assert asked == ["busybox:latest", "debian:latest"]


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        # a FROM below a heredoc that dockerfile-parse takes for a continued line
        ("FROM busybox\nRUN <<EOF\necho \\\nEOF\nFROM debian:12\n", "", ""),
        ("FROM 'busybox'\n", "", ""),
        ("FROM Busy/box\n", "1:1", "failed to parse stage name"),
    ],
)
def test_the_editor_is_watched(text: str, place: str, what: str) -> None:
    """Either the file is right, or it is refused with the place; it is never quietly wrong."""
    try:
        made, _ = run(text)
    except DockerfileError as err:
        assert what in err.message
        assert f"Dockerfile:{place}" in str(err)
    else:
        check(text, made)


def check(before: str, after: str) -> None:
    """Nothing but names of images differs."""
    old, new = parser.parse(before), parser.parse(after)
    assert len(old.instructions) == len(new.instructions)
    for one, other in zip(old.instructions, new.instructions, strict=True):
        if isinstance(one, ast.From) and isinstance(other, ast.From):
            assert (one.alias, one.platform) == (other.alias, other.platform)
        elif not isinstance(one, ast.Copy | ast.Arg):
            assert one == other


pieces = st.sampled_from(
    [
        *(
            "FROM busybox\n",
            "FROM debian:12 AS b\n",
            "FROM \\\n busybox:1\n",
            "RUN echo \\\n  FROM busybox\n",
            "# FROM busybox\n",
        ),
        *(
            "COPY --from=busybox a b\n",
            "RUN <<E\nFROM busybox\nE\n",
            "COPY <<E /x\nFROM busybox \\\nE\n",
            "\n",
            "ENV A=b\\\n\n",
        ),
        *(
            "RUN <<-E cat\n\tFROM debian:12\n\tE\n",
            'LABEL a="\n',
            "ARG X=busybox\n",
            "RUN a \\\n\\\n# c\nFROM busybox\n",
            "FROM $X\n",
        ),
    ]
)


@given(st.lists(pieces, max_size=8).map("".join))
def test_any_file_is_pinned_right_or_refused(text: str) -> None:
    try:
        before = parser.parse(text)
        found = pinning.pins(before, resolve)
    except DockerfileError:
        return
    try:
        made = pinning.rewritten(before, text.encode(), found).decode()
    except DockerfileError as err:
        assert err.span is not None
        return
    check(text, made)
    assert made.count("\n") == text.count("\n")


def test_a_file_in_another_encoding_is_refused() -> None:
    data = b"FROM busybox\n# \xff\n"
    dockerfile = parser.parse(data)
    with pytest.raises(DockerfileError, match="not UTF-8"):
        pinning.rewritten(dockerfile, data, pinning.pins(dockerfile, resolve))
