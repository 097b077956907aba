"""Builds as they look on a pipe, for tools and on a terminal."""

import io
import json

from builder.cli.progress import open_view
from builder.cli.progress.output import without_controls
from builder.pipeline import progress as p

EVENTS = (
    p.BuildStarted("b1", 10.0, "", ((1, "[1/2] FROM busybox"), (2, "[2/2] RUN echo hi"))),
    p.StepCached(1, "[1/2] FROM busybox", 10.1),
    p.StepStarted(2, "[2/2] RUN echo hi", 10.2, why="text changed"),
    p.StepOutput(2, 1, b"hi\nhal", 10.3),
    p.StepOutput(2, 1, b"f\n", 10.4),
    p.StepDone(2, "[2/2] RUN echo hi", 11.4),
    p.BuildDone(11.5, "sha256:abc", ("docker.io/library/x:latest",)),
)


def played(mode: str) -> str:
    stream = io.StringIO()
    view = open_view(mode, stream, terminal=False, color=False)
    for event in EVENTS:
        view(event)
    view.close()
    assert mode == "none" or view.tail(2) == ["0.100 hi", "0.200 half"]
    return stream.getvalue()


def test_plain_lines_carry_their_steps_number() -> None:
    assert played("plain") == (
        "#1 [1/2] FROM busybox\n#1 CACHED\n\n"
        "#2 [2/2] RUN echo hi\n#2 cache miss: text changed\n#2 0.100 hi\n#2 0.200 half\n#2 DONE 1.2s\n\n"
        "#3 exporting to image\n#3 writing image sha256:abc done\n#3 naming to docker.io/library/x:latest done\n"
        "#3 DONE 0.0s\n\n"
    )


def test_raw_json_is_one_status_a_line() -> None:
    lines = [json.loads(line) for line in played("rawjson").splitlines()]
    assert {key for line in lines for key in line} == {"vertexes", "statuses", "logs"}
    cached = lines[1]["vertexes"][0]
    assert cached["cached"] and cached["digest"] == lines[0]["vertexes"][0]["digest"]


def test_quiet_says_nothing() -> None:
    assert played("quiet") == played("none") == ""


def test_the_live_view_ends_with_every_step() -> None:
    final = played("tty").rpartition("[+] Building")[2]
    assert "=> CACHED [1/2] FROM busybox" in final and "=> [2/2] RUN echo hi" in final and "FINISHED" in final


def test_control_sequences_of_a_step_never_reach_the_live_view() -> None:
    assert without_controls("a\x1b[31mb\x1b[0m\x07c\td\x1b]") == "abc d"
