"""How pulls look: docker's lines on a pipe, bars on a terminal."""

import io
import json

from builder.cli.progress.rawjson import RawJsonTransfers
from builder.cli.progress.transfers import TransferView, bar
from builder.transfer.registry.progress import Message

MESSAGES = (
    Message("Pulling from app", "1"),
    Message("Pulling fs layer", "aaa"),
    Message("Pulling fs layer", "bbb"),
    Message("Downloading", "aaa", 500, 1000),
    Message("Pull complete", "aaa"),
    Message("Digest: sha256:1"),
)


def shown(columns: int) -> str:
    out = io.StringIO()
    view = TransferView(out, columns=columns)
    for each in MESSAGES:
        view(each)
    return out.getvalue()


def test_a_pipe_gets_lines_and_no_bars() -> None:
    assert shown(0) == (
        "1: Pulling from app\naaa: Pulling fs layer\nbbb: Pulling fs layer\naaa: Pull complete\nDigest: sha256:1\n"
    )


def test_tools_get_a_vertex_for_an_image_and_its_layers_as_statuses() -> None:
    out = io.StringIO()
    times = iter(range(10))
    view = RawJsonTransfers(out, lambda: next(times))
    for each in MESSAGES:
        view(each)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    (image,) = lines[0]["vertexes"]
    assert image["name"] == "1: Pulling from app" and image["completed"] == image["started"]
    layers = [status for line in lines[1:5] for status in line["statuses"]]
    assert {status["vertex"] for status in layers} == {image["digest"]}
    assert (layers[2]["current"], layers[2]["total"]) == (500, 1000)
    assert layers[3]["started"] == layers[0]["timestamp"] and layers[3]["completed"] == layers[3]["timestamp"]
    assert lines[5]["vertexes"][0]["name"] == "Digest: sha256:1"


def test_a_terminal_gets_each_layer_redrawn_in_its_row() -> None:
    text = shown(80)
    assert "\x1b[2A\r\x1b[2Kaaa: Downloading     500B/1kB\r\x1b[2B" in text
    assert text.endswith("\x1b[2A\r\x1b[2Kaaa: Pull complete\r\x1b[2BDigest: sha256:1\n")


def test_a_bar_fills_up() -> None:
    assert bar(Message("x", "a", 0, 10), 120) == f"[>{49 * ' '}]       0B/10B"
    assert bar(Message("x", "a", 10, 10), 120) == f"[{50 * '='}]      10B/10B"
    assert bar(Message("x", "a"), 120) == ""


def test_what_a_registry_said_says_nothing_to_the_terminal() -> None:
    out = io.StringIO()
    TransferView(out)(Message("it said: \x1b[2J"))
    assert out.getvalue() == "it said: \\u001b[2J\n"
