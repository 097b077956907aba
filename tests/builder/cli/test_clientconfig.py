"""Proxies of docker's client configuration."""

import json
from pathlib import Path

import pytest

from builder.cli.clientconfig import proxies


def test_proxies_are_named_in_both_cases(tmp_path: Path) -> None:
    table = {"httpProxy": "http://p", "noProxy": "x"}
    (tmp_path / "config.json").write_text(json.dumps({"proxies": {"default": table, "tcp://other": {}}}))
    found = proxies({"DOCKER_CONFIG": str(tmp_path)})
    assert found == {"HTTP_PROXY": "http://p", "http_proxy": "http://p", "NO_PROXY": "x", "no_proxy": "x"}


@pytest.mark.parametrize("text", [None, "", "{", "[]", "{}", '{"proxies": []}', '{"proxies": {"default": 1}}'])
def test_without_a_usable_file_there_are_none(tmp_path: Path, text: str | None) -> None:
    (tmp_path / ".docker").mkdir()
    if text is not None:
        (tmp_path / ".docker/config.json").write_text(text)
    assert proxies({"HOME": str(tmp_path)}) == {}
