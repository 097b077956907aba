"""How much the build cache may take, and who says so."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builder.engine.gclimits import Limit, Limits, limits
from builder.errors import InvalidDocument, InvalidInput

Load = Callable[..., Limits]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def made(gc: Any = None, given: str = "", own: Any = None, **environment: str) -> Limits:
        if gc is not None or own is not None:
            (tmp_path / "docker").mkdir()
            document = {"builder": {"gc": gc or {}}} | ({"gc": own} if own is not None else {})
            (tmp_path / "docker/daemon.json").write_text(json.dumps(document, indent=1))
        return limits(tmp_path, {"HOME": str(tmp_path / "home"), **environment}, given, etc=tmp_path)

    return made


def test_what_was_given_goes_first_then_the_variable_then_the_file_then_the_disk(load: Load, tmp_path: Path) -> None:
    disk = shutil.disk_usage(tmp_path).total
    assert load().rules == (Limit(disk // 10, "a tenth of the disk"),)
    file = str(tmp_path / "docker/daemon.json")
    told = f"builder.gc.defaultKeepStorage of {file}"
    assert load({"defaultKeepStorage": "20GB"}).rules == (Limit(20 << 30, told, reserved=20 << 30),)
    assert load(LAMINA_GC_MAX_USED="1g").rules == (Limit(1 << 30, "$LAMINA_GC_MAX_USED"),)
    assert load(given="5", LAMINA_GC_MAX_USED="1g").rules == (Limit(5, "--max-used"),)


@pytest.mark.parametrize(
    ("gc", "expected"),
    [
        ({"defaultReservedSpace": "2g"}, (2 << 30, 2 << 30, 0)),
        ({"defaultMaxUsedSpace": "3g", "defaultReservedSpace": "1g"}, (3 << 30, 1 << 30, 0)),
        ({"defaultMinFreeSpace": "4g", "defaultKeepStorage": "1g"}, (None, 1 << 30, 4 << 30)),
        ({"defaultMaxUsedSpace": "0"}, (0, 0, 0)),
    ],
)
def test_dockers_words_old_and_new(load: Load, gc: Any, expected: tuple[int | None, int, int]) -> None:
    (rule,) = load(gc).rules
    assert (rule.most, rule.reserved, rule.free) == expected


def test_a_percentage_is_of_the_disk(load: Load, tmp_path: Path) -> None:
    (rule,) = load({"defaultMaxUsedSpace": "50%"}).rules
    disk = shutil.disk_usage(tmp_path).total
    assert rule.most == disk * 50 // 100
    assert load(given="20%").rules == (Limit(disk * 20 // 100, "--max-used"),)


def test_one_number_in_the_file_goes_before_dockers_words(load: Load, tmp_path: Path) -> None:
    found = load({"defaultKeepStorage": "20GB"}, own={"max-used": "3g"})
    assert found.rules == (Limit(3 << 30, f"gc.max-used of {tmp_path}/docker/daemon.json"),)


def test_nothing_goes_by_itself_where_it_is_turned_off(load: Load) -> None:
    found = load({"enabled": False})
    assert not found.automatic and found.rules[0].source == "a tenth of the disk"


def test_policies_are_rules_of_their_own(load: Load) -> None:
    policy = [
        {"keepStorage": "1g", "filter": ["unused-for=48h", "type=source.local,type=exec.cachemount"]},
        {"maxUsedSpace": "2g", "keepDuration": "24h"},
        {"all": True},
    ]
    first, second, third = load({"defaultKeepStorage": "3g", "policy": policy}).rules
    assert (first.most, first.filters) == (1 << 30, ("unused-for=48h", "type=source.local,type=exec.cachemount"))
    assert (second.most, second.filters) == (2 << 30, ("unused-for=24h",))
    assert (third.most, third.filters) == (3 << 30, ())
    assert "builder.gc.policy[1] of " in second.source
    assert first.select(0) is not None and third.select(0) is None


@pytest.mark.parametrize(
    ("limit", "budget"),
    [
        (Limit(100, ""), 100),
        (Limit(None, "", free=50), 60),  # 80 used, 30 free: 20 must go
        (Limit(None, "", reserved=70, free=50), 70),
        (Limit(40, "", free=10), 40),
        (Limit(None, "", free=500), 0),
    ],
)
def test_free_space_bounds_what_may_stay_but_for_what_is_reserved(limit: Limit, budget: int) -> None:
    assert limit.budget(used=80, disk_free=30) == budget


@pytest.mark.parametrize(
    ("gc", "message"),
    [
        ({"defaultKeepStorage": "20XB"}, "4:26: builder.gc.defaultKeepStorage: invalid size: '20XB'"),
        ({"defaultKeepStorage": "-1"}, "4:26: builder.gc.defaultKeepStorage: invalid size: '-1'"),
        ({"defaultMinFreeSpace": "101%"}, "4:27: builder.gc.defaultMinFreeSpace: invalid size: '101%'"),
        ({"enabled": "yes"}, "4:15: builder.gc.enabled: must be true or false, not a string"),
        ({"policy": [{"filter": ["color=red"]}]}, "7:7: builder.gc.policy[0].filter[0]: invalid filter 'color'"),
        ({"policy": [{"keepDuration": "soon"}]}, "6:22: builder.gc.policy[0].keepDuration: "),
    ],
)
def test_what_is_wrong_in_the_file_has_a_place(load: Load, tmp_path: Path, gc: Any, message: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        load(gc)
    assert caught.value.message.startswith(f"{tmp_path}/docker/daemon.json:{message}")
    assert bool(caught.value.hint) == ("size" in message)


@pytest.mark.parametrize("text", ["much", "-5", "101%", "5%%"])
def test_what_is_wrong_elsewhere_says_where(load: Load, text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        load(LAMINA_GC_MAX_USED=text)
    assert caught.value.message == f"$LAMINA_GC_MAX_USED: invalid size: '{text}'"
    assert caught.value.hint
