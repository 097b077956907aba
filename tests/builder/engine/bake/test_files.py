"""Which file is what: by its name, or else by what it says."""

from datetime import UTC, datetime

import pytest

from builder.engine.bake.definition import Ambient, Config
from builder.engine.bake.files import BakeFile, config
from builder.errors import BakeError

HCL = 'target "h" {}'
JSON = '{"target": {"j": {}}}'
YAML = "services: {y: {build: .}}"


def read(*named: tuple[str, str]) -> Config:
    ambient = Ambient({}.get, {}, datetime(2026, 1, 1, tzinfo=UTC))
    return config([BakeFile(name, text) for name, text in named], ambient, {})


@pytest.mark.parametrize(
    ("name", "text", "target"),
    [
        ("x.hcl", HCL, "h"),
        ("x.JSON", JSON, "j"),
        ("x.yml", YAML, "y"),
        ("x.yaml", YAML, "y"),
        ("-", HCL, "h"),
        ("-", " \n" + JSON, "j"),
        ("-", YAML, "y"),
    ],
)
def test_a_file_is_known(name: str, text: str, target: str) -> None:
    assert [one.name for one in read((name, text)).targets] == [target]


def test_other_files_come_on_top_of_compose_files() -> None:
    found = read(
        ("x.hcl", 'target "y" { context = "hcl" }'), ("x.yml", "services: {y: {build: {context: c, target: t}}}")
    )
    (target,) = found.targets
    assert (target.text("context"), target.text("target")) == ("hcl", "t")
    assert [group.targets for group in found.groups] == [("y",)]


def test_what_is_nothing_is_refused_as_hcl() -> None:
    with pytest.raises(BakeError, match="-:1:8: unexpected"):
        read(("-", "target [\n"))
