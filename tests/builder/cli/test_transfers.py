"""How pulls look: docker's lines on a pipe, bars on a terminal."""

import io

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
