"""Several builds in one view."""

from builder.cli.progress.many import Many
from builder.pipeline import progress as p


def test_steps_are_numbered_through_and_named_after_their_target() -> None:
    seen: list[p.Event] = []
    many = Many(seen.append, targets=2)
    many("a", p.BuildStarted("one", 0, "", ((1, "[1/2] FROM x"), (2, "[s 2/2] RUN y"))))
    many("b", p.BuildStarted("two", 1, "", ((1, "[1/1] FROM x"),)))
    many("b", p.StepStarted(1, "[1/1] FROM x", 1))
    many("a", p.StepOutput(2, 1, b"out", 2))
    many("a", p.BuildWarning("careful", 3))
    many("b", p.BuildDone(3, "sha256:b", ("b:1",)))
    many("a", p.BuildDone(4, "sha256:a", ()))
    assert [one.steps for one in seen if isinstance(one, p.BuildStarted)] == [
        ((1, "[a 1/2] FROM x"), (2, "[a s 2/2] RUN y")),
        ((1, "[a 1/2] FROM x"), (2, "[a s 2/2] RUN y"), (3, "[b 1/1] FROM x")),
    ]
    assert {one.build_id for one in seen if isinstance(one, p.BuildStarted)} == {"one"}
    assert [(one.number, one.name) for one in seen if isinstance(one, p.StepStarted)] == [
        (3, "[b 1/1] FROM x"),
        (4, "[b] exporting to image"),
    ]
    assert [(one.number, one.data) for one in seen if isinstance(one, p.StepOutput)] == [
        (2, b"out"),
        (4, b"writing image sha256:b\nnaming to b:1\n"),
    ]
    assert [one.message for one in seen if isinstance(one, p.BuildWarning)] == ["a: careful"]
    assert [one.image_id for one in seen if isinstance(one, p.BuildDone)] == ["sha256:a"]


def test_a_single_target_looks_like_a_build() -> None:
    seen: list[p.Event] = []
    many = Many(seen.append, targets=1)
    events = [p.BuildStarted("one", 0, "", ((1, "[1/1] FROM x"),)), p.BuildDone(3, "sha256:b", ())]
    for event in events:
        many("a", event)
    assert seen == events
