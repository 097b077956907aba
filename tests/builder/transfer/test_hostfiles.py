"""Files of settings: which counts, and where in it a fault is."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import InvalidDocument, InvalidInput
from builder.transfer import hostfiles

KEYS = st.text('abcXYZ-"\\é ', min_size=1, max_size=4)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | KEYS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=10,
)


def paths(value: Any, above: str = "") -> list[tuple[str, Any]]:
    found = [(above, value)]
    for key, inner in value.items() if isinstance(value, dict) else ():
        found += paths(inner, f"{above}.{key}" if above else key)
    for number, inner in enumerate(value) if isinstance(value, list) else ():
        found += paths(inner, f"{above}[{number}]")
    return found


@given(st.dictionaries(KEYS, VALUES, max_size=3), st.sampled_from((None, 1, "\t")))
def test_every_value_is_found_where_it_is(document: dict[str, Any], indent: Any) -> None:
    text = json.dumps(document, indent=indent)
    for where, value in paths(document):
        offset = hostfiles._offset(text, where)
        assert offset is not None
        assert json.JSONDecoder().raw_decode(text, offset)[0] == value


@given(st.text('{}[]",:a ', max_size=20), st.text("a.[]0", max_size=6))
def test_what_is_no_json_has_no_places(text: str, where: str) -> None:
    offset = hostfiles._offset(text, where)
    assert offset is None or 0 <= offset <= len(text)


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[str], str]:
    def message(text: str) -> str:
        path = tmp_path / "daemon.json"
        path.write_text(text)
        with pytest.raises(InvalidDocument) as caught, hostfiles.document(path) as found:
            found.strings("registry-mirrors")
        assert str(path) in caught.value.excerpt
        return caught.value.message.removeprefix(f"{path}:")

    return message


def test_a_fault_has_line_and_column(opened: Callable[[str], str]) -> None:
    assert opened('{"a": 1,\n  oops}') == "2:3: not JSON: Expecting property name enclosed in double quotes"
    assert opened('{"a": 1,\n "registry-mirrors": ["b",\n 7]}') == (
        "3:2: registry-mirrors[1]: must be a string, not a number"
    )


def test_the_users_file_goes_before_the_systems(tmp_path: Path) -> None:
    environment, etc = {"HOME": str(tmp_path)}, tmp_path / "etc"
    assert hostfiles.daemon_json(environment, etc) is None
    for directory in ("etc/docker", "etc/lamina", ".config/docker", ".config/lamina"):
        (tmp_path / directory).mkdir(parents=True)
        (tmp_path / directory / "daemon.json").write_text("{}")
        assert hostfiles.daemon_json(environment, etc) == tmp_path / directory / "daemon.json"


def test_what_is_not_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot read"):
        hostfiles.read(tmp_path / "none")
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", (1 << 20) + 1)
    with pytest.raises(InvalidInput, match="larger than"):
        hostfiles.read(tmp_path / "large")
