"""Settings and the history lines that BuildKit writes for them."""

import pytest

from builder.errors import InvalidInput
from builder.oci.configs import Healthcheck
from builder.pipeline.config_step import Settings, go_duration, go_quoted, is_signal, join_clean


def test_entrypoint_forgets_an_inherited_cmd_only() -> None:
    first = Settings()
    first.set_cmd(["a"])
    assert first.set_entrypoint(["e", 'q"']) == 'ENTRYPOINT ["e" "q\\""]'
    assert first.cmd == ("a",)
    second = first.copy()
    second.set_entrypoint(["f"])
    assert second.cmd == ()


def test_history_of_healthcheck() -> None:
    check = Healthcheck(("CMD", "/bin/check", "a b"), interval=1_500_000_000, start_interval=2_000_000_000)
    assert Settings().set_healthcheck(check) == (
        "HEALTHCHECK {Test:[CMD /bin/check a b] Interval:1.5s Timeout:0s StartPeriod:0s StartInterval:2s Retries:0}"
    )


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (300_000_000_000, "5m0s"),
        (90_000_000_000, "1m30s"),
        (20_000_000, "20ms"),
        (3_600_000_000_000, "1h0m0s"),
    ],
)
def test_durations_are_go_s(nanoseconds: int, text: str) -> None:
    assert go_duration(nanoseconds) == text


def test_quoting_is_go_s() -> None:
    assert go_quoted('a"\\\n\x1bé') == '"a\\"\\\\\\n\\x1bé"'


def test_workdir_is_relative_to_the_one_before() -> None:
    settings = Settings()
    assert settings.set_workdir("/a") == ("/a", "WORKDIR /a")
    assert settings.set_workdir("b/../c//") == ("/a/c", "WORKDIR /a/c")
    assert settings.set_workdir("/d/./e/") == ("/d/./e/", "WORKDIR /d/./e/")
    assert settings.set_workdir("f") == ("/d/e/f", "WORKDIR /d/e/f")
    assert join_clean("/", "//x") == "/x"


def test_signals_and_volumes_are_checked() -> None:
    assert all(map(is_signal, ("9", "SIGTERM", "term", "SIGRTMIN+3")))
    assert not any(map(is_signal, ("0", "65", "SIGFOO", "SIGRTMIN+99")))
    with pytest.raises(InvalidInput, match="empty string"):
        Settings().add_volumes(["/a", ""])
