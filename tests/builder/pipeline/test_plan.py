"""From text to ordered steps, without a store: `make_plan` with images made up here."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import ImageNotFound
from builder.oci.configs import ContainerConfig, ImageConfig
from builder.oci.platforms import Platform
from builder.pipeline import cachekeys
from builder.pipeline.plan import Plan, make_plan
from builder.pipeline.progress import BuildWarning
from builder.pipeline.request import BuildRequest
from builder.pipeline.steps import Base, BaseStep, CopyStep, RunStep, WorkdirStep
from parser import parse
from parser.errors import DockerfileError

HOST = Platform("linux", "amd64")


def image(name: str, **settings: object) -> Base:
    config = ImageConfig(architecture="amd64", os="linux", config=ContainerConfig(**settings))  # type: ignore[arg-type]
    return Base(f"sha256:{name}", name, config, (f"layer-{name}",), (None,))


IMAGES = {
    "base": image("base", env=("PATH=/bin", "FROM_BASE=1"), user="app", cmd=("sh",)),
    "triggers": image("triggers", on_build=("RUN echo triggered", "ENV T=1")),
}


def planned(text: str, images: Mapping[str, Base] = IMAGES, **request: object) -> Plan:
    def bases(reference: str, platform: Platform | None) -> Base:
        if reference not in images:
            raise ImageNotFound(reference)
        return images[reference]

    return make_plan(parse(text), BuildRequest(text.encode(), **request), bases, host=HOST)  # type: ignore[arg-type]


def texts(plan: Plan) -> list[str]:
    return [step.text for step in plan.steps]


def test_only_what_the_target_needs_is_planned_dependencies_first() -> None:
    text = (
        "FROM base AS unused\nRUN false\nFROM base AS lib\nRUN make lib\n"
        "FROM base AS app\nCOPY --from=lib /lib /lib\nRUN make app\n"
    )
    plan = planned(text)
    assert texts(plan) == ["FROM base", "RUN make lib", "COPY --from=lib /lib /lib", "RUN make app"]
    copy = plan.steps[2]
    assert (copy.parent, copy.inputs) == (1, (2,))
    assert texts(planned(text, target="lib")) == ["FROM base", "RUN make lib"]
    with pytest.raises(DockerfileError, match='target stage "lab" could not be found') as caught:
        planned(text, target="lab")
    assert caught.value.hint == "did you mean lib?"


def test_equal_steps_of_two_stages_are_one() -> None:
    plan = planned("FROM base AS a\nRUN same\nFROM base AS b\nRUN same\nFROM a\nCOPY --from=b /x /\n")
    assert texts(plan) == ["FROM base", "RUN same", "COPY --from=b /x /"]
    assert plan.steps[2].parent == plan.steps[2].inputs[0] == 2


def test_words_see_the_values_from_before_their_instruction() -> None:
    plan = planned("FROM base\nENV A=1\nENV A=2 B=$A\nARG C=$B\nRUN x\nWORKDIR /$A\n", build_args={})
    run, workdir = plan.steps[1].work, plan.steps[2].work
    assert isinstance(run, RunStep)
    assert dict(run.env) == {"PATH": "/bin", "FROM_BASE": "1", "A": "2", "B": "1", "C": "1"}
    assert run.args == {"C"}
    assert run.user == "app"
    assert isinstance(workdir, WorkdirStep)
    assert workdir.path == "/2"


def test_a_stage_on_a_stage_goes_on_with_its_settings() -> None:
    plan = planned('FROM base AS a\nARG V=1\nENV E=$V\nSHELL ["/sh"]\nCMD a\nFROM a\nRUN echo $V\nENTRYPOINT ["e"]\n')
    run = plan.steps[1].work
    assert isinstance(run, RunStep)
    assert run.argv == ("/sh", "echo $V")
    assert dict(run.env)["V"] == "1"
    assert plan.images[0].template.config.cmd is None
    assert plan.images[0].template.config.entrypoint == ("e",)


def test_triggers_of_the_base_run_first_and_once() -> None:
    plan = planned("FROM triggers AS a\nRUN own\nFROM a\nRUN second\n")
    assert texts(plan) == ["FROM triggers", "ONBUILD RUN echo triggered", "RUN own", "RUN second"]
    assert plan.images[0].template.config.env[-1] == "T=1"
    assert not plan.images[0].template.config.on_build


def test_scratch_has_neither_base_nor_files() -> None:
    plan = planned("FROM scratch\nLABEL a=b\n")
    assert (plan.steps, plan.images[0].last, plan.images[0].base) == ((), None, None)
    plan = planned("FROM scratch AS empty\nFROM scratch\nCOPY --from=empty / /x\n")
    work = plan.steps[0].work
    assert isinstance(work, CopyStep)
    assert (work.source.step, work.source.context) == (None, None)


def test_history_tells_all_lines_and_which_of_them_made_layers() -> None:
    plan = planned("FROM base\nARG A=1\nRUN x\nCOPY a b /c/\nCMD y\n")
    assert [(line.created_by, line.step) for line in plan.images[0].history] == [
        ("ARG A=1", None),
        ("RUN |1 A=1 /bin/sh -c x # buildkit", 2),
        ("COPY a b /c/ # buildkit", 3),
        ('CMD ["/bin/sh" "-c" "y"]', None),
    ]


def test_copy_flags_as_docker_reads_them() -> None:
    plan = planned("FROM base\nARG M=755 X=a\nCOPY --link --chmod=$M a b\nCOPY --link --chmod=$Y --exclude=$X a b\n")
    first, second = (step.work for step in plan.steps[1:])
    assert isinstance(first, CopyStep) and isinstance(second, CopyStep)
    assert (first.spec.link, second.spec.link, second.spec.exclude) == (False, True, ("$X",))


def test_an_absolute_workdir_stays_as_written() -> None:
    plan = planned("FROM base\nWORKDIR /a/b/../\nWORKDIR c/\n")
    assert [step.work.path for step in plan.steps if isinstance(step.work, WorkdirStep)] == ["/a", "/a/c"]
    assert [line.created_by for line in plan.images[0].history] == ["WORKDIR /a/b/../", "WORKDIR /a/c"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM a AS b\nFROM b AS a\nCOPY --from=c / /\nFROM a AS c\n", "needs to be defined before"),
        ("FROM base\nCOPY --from=$X / /\n", "variable expansion is not supported for --from"),
        ("ARG X\nFROM $X\n", "should not be blank"),
        ("FROM base\nSTOPSIGNAL NO\n", "invalid signal: NO"),
        ("FROM base\nRUN --network=host true\n", "network.host is not allowed"),
        ("FROM base\nRUN --security=insecure true\n", "security.insecure is not allowed"),
    ],
)
def test_what_cannot_be_meant_is_said_with_its_place(text: str, message: str) -> None:
    with pytest.raises(DockerfileError, match=message) as caught:
        planned(text, target="a" if "AS c" in text else "")
    assert caught.value.span is not None


def test_no_cache_filter_forces_one_stage() -> None:
    text = "FROM base AS a\nRUN one\nFROM a AS b\nRUN two\n"
    forced = {step.text: step.forced for step in planned(text, no_cache_filter=("a",)).steps}
    assert forced == {"FROM base": False, "RUN one": True, "RUN two": False}
    assert all(step.forced for step in planned(text, no_cache=True).steps if not isinstance(step.work, BaseStep))


def test_unused_build_args_are_mentioned() -> None:
    plan = planned("FROM base\nARG USED\n", build_args={"USED": "1", "OTHER": "2", "HTTP_PROXY": "3"})
    assert plan.warnings == (BuildWarning("One or more build-args [OTHER] were not consumed"),)


def test_a_long_file_and_a_long_chain_need_no_depth() -> None:
    assert len(planned("FROM base\n" + "RUN x\n" * 20_000).steps) == 20_001
    stages = "".join(f"FROM s{n} AS s{n + 1}\nRUN {n}\n" for n in range(2_000))
    assert len(planned("FROM base AS s0\n" + stages).steps) == 2_001


def test_where_there_is_one_user_id_no_key_is_that_of_many() -> None:
    plan = planned("FROM base\nRUN a\nCOPY b /\nADD c /\nWORKDIR /d\n")
    many, one = BuildRequest(b""), BuildRequest(b"", single_id=True)
    keys = [
        [cachekeys.key(cachekeys.leaves(step, request), "below") for step in plan.steps[1:]] for request in (many, one)
    ]
    assert len({*keys[0], *keys[1]}) == 8
    assert cachekeys.leaves(plan.steps[0], one) == ()


ARM64 = Platform("linux", "arm64")
CROSS = """\
FROM --platform=$BUILDPLATFORM base AS tools
RUN prepare
FROM tools AS build
ARG TARGETARCH
RUN make $TARGETARCH
FROM base AS app
RUN setup
COPY --from=build /made /
"""


def planned_for(text: str, *platforms: Platform, **request: object) -> Plan:
    """A plan with an image called "base" for whatever platform is asked for."""

    def bases(reference: str, platform: Platform | None) -> Base:
        wanted = platform or HOST
        name = f"{reference}-{wanted.architecture}{wanted.variant}"
        config = ImageConfig(architecture=wanted.architecture, os=wanted.os, variant=wanted.variant)
        return Base(f"sha256:{name}", reference, config, (f"layer-{name}",), (None,), str(platform or ""))

    asked = BuildRequest(text.encode(), platforms=platforms, **request)  # type: ignore[arg-type]
    return make_plan(parse(text), asked, bases, host=HOST)


def test_what_does_not_depend_on_the_platform_is_one_step_of_all() -> None:
    plan = planned_for(CROSS, HOST, ARM64)
    assert [step.name for step in plan.steps] == [
        "[linux/amd64 tools 1/2] FROM base",
        "[linux/amd64 tools 2/2] RUN prepare",
        "[linux/amd64 build 1/1] RUN make $TARGETARCH",
        "[linux/amd64 app 2/3] RUN setup",
        "[linux/amd64 app 3/3] COPY --from=build /made /",
        "[linux/amd64->arm64 build 1/1] RUN make $TARGETARCH",
        "[linux/arm64 app 1/3] FROM base",
        "[linux/arm64 app 2/3] RUN setup",
        "[linux/arm64 app 3/3] COPY --from=build /made /",
    ]
    assert [(image.platform, image.last) for image in plan.images] == [(HOST, 5), (ARM64, 9)] and plan.ends == (5, 9)
    assert [(image.template.architecture, len(image.history)) for image in plan.images] == [("amd64", 2), ("arm64", 2)]
    ran = {step.text: step.work.platform for step in plan.steps if isinstance(step.work, RunStep)}
    assert ran == {"RUN prepare": HOST, "RUN make $TARGETARCH": HOST, "RUN setup": ARM64}
    assert [(base.reference, base.platform) for base in plan.bases] == [
        ("base", "linux/amd64"),
        ("base", "linux/arm64"),
    ]


@pytest.mark.parametrize("platform", [HOST, ARM64, Platform("linux", "arm", "v7")])
def test_each_image_is_what_a_build_for_its_platform_alone_makes(platform: Platform) -> None:
    request = BuildRequest(b"")
    several = planned_for(CROSS, ARM64, HOST, Platform("linux", "arm", "v7"))
    alone = planned_for(CROSS, platform)
    image = next(one for one in several.images if one.platform == platform)
    assert image.template == alone.images[0].template
    for plan, last in ((several, image.last), (alone, alone.images[0].last)):
        assert [step.text for step in plan.chain(last)] == ["FROM base", "RUN setup", "COPY --from=build /made /"]
    assert [line.created_by for line in image.history] == [line.created_by for line in alone.images[0].history]
    leaves = [
        [cachekeys.leaves(step, request) for step in plan.chain(last)]
        for plan, last in ((several, image.last), (alone, alone.images[0].last))
    ]
    assert leaves[0] == leaves[1]


def test_programs_differ_by_platform_where_copied_files_do_not() -> None:
    plan = planned_for("FROM scratch\nCOPY a /\nRUN /a\n", HOST, ARM64, Platform("linux", "arm", "v6"))
    assert [step.text for step in plan.steps] == ["COPY a /", "RUN /a", "RUN /a", "RUN /a"]
    keys = {cachekeys.leaves(step, BuildRequest(b"")) for step in plan.steps}
    assert len(keys) == 4 and {image.last for image in plan.images} == {2, 3, 4}
    # one platform keeps the names that it always had
    assert [step.name for step in planned_for("FROM base\nRUN a\n", ARM64).steps] == ["[1/2] FROM base", "[2/2] RUN a"]


def test_a_single_platform_may_be_asked_for_as_one_of_many() -> None:
    plan = planned_for("FROM base\nRUN a\n", ARM64, build_args={"BUILDKIT_MULTI_PLATFORM": "1"})
    assert [step.name for step in plan.steps] == ["[linux/arm64 1/2] FROM base", "[linux/arm64 2/2] RUN a"]


@st.composite
def dockerfiles(draw: st.DrawFn) -> str:
    """Stages on images, on each other and on nothing, that differ by platform or do not."""
    lines: list[str] = []
    count = draw(st.integers(1, 4))
    for number in range(count):
        base = draw(st.sampled_from(["base", "other", "scratch", *(f"s{before}" for before in range(number))]))
        native = draw(st.booleans()) and not base.startswith("s")
        lines.append(f"FROM {'--platform=$BUILDPLATFORM ' if native else ''}{base} AS s{number}")
        for _ in range(draw(st.integers(0, 3))):
            source = draw(st.integers(0, number - 1)) if number else None
            choices = [
                "RUN same",
                "COPY file /",
                "ARG TARGETARCH",
                "RUN make $TARGETARCH",
                "ENV A=$TARGETARCH",
                "WORKDIR /w",
            ]
            if source is not None:
                choices += [f"COPY --from=s{source} /x /", f"RUN --mount=from=s{source},target=/m use"]
            lines.append(draw(st.sampled_from(choices)))
    return "\n".join(lines) + "\n"


@given(dockerfiles(), st.permutations([HOST, ARM64, Platform("linux", "arm", "v6"), Platform("linux", "arm", "v7")]))
def test_no_platform_changes_what_another_gets(text: str, platforms: list[Platform]) -> None:
    """Of the steps that an image consists of, with all that they stand on and read from, nothing is another's."""

    def meaning(plan: Plan, number: int | None) -> tuple[object, ...]:
        if number is None:
            return ()
        step = plan.steps[number - 1]
        below = meaning(plan, step.parent), *(meaning(plan, one) for one in step.inputs)
        base = step.work.base.image_id if isinstance(step.work, BaseStep) else ""
        return step.text, base, cachekeys.leaves(step, BuildRequest(b"")), below

    wanted = platforms[:3]
    several = planned_for(text, *wanted)
    assert [step.number for step in several.steps] == list(range(1, len(several.steps) + 1))
    most = 0
    for platform, image in zip(wanted, several.images, strict=True):
        alone = planned_for(text, platform)
        (single,) = alone.images
        most += len(alone.steps)
        assert meaning(several, image.last) == meaning(alone, single.last)
        assert (image.template, image.base) == (single.template, single.base)
        assert [line.created_by for line in image.history] == [line.created_by for line in single.history]
        found, numbers = several.alone(image)
        assert meaning(found, found.images[0].last) == meaning(alone, single.last)
        assert len(found.steps) == len(numbers) == len(alone.steps)
    assert len(several.steps) <= most
