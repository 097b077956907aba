"""Groups, inheritance, links, patterns and --set: which targets come out, and what they say."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from builder.engine.bake import files
from builder.engine.bake.definition import Ambient, Config
from builder.engine.bake.resolve import Wanted, resolve
from builder.engine.bake.target import document
from builder.errors import BakeError

FILE = """
group "default" { targets = ["app", "tools"] }
group "tools" { targets = ["lint", "app"] }
target "_base" {
  args = { A = "1", B = "1" }
  labels = { from = "base" }
  tags = ["base"]
  entitlements = ["security.insecure"]
}
target "app" {
  inherits = ["_base", "_more"]
  args = { C = "3" }
  contexts = { dep = "target:dep", src = "./src" }
  platforms = ["linux/amd64"]
}
target "_more" { args = { B = "2" } }
target "lint" { dockerfile = "lint.Dockerfile" }
target "dep" { tags = ["dep"] }
"""
"""Inheritance from two, a link, a group in a group."""


def config(text: str) -> Config:
    name = "f.json" if text.startswith("{") else "f.hcl"
    ambient = Ambient({}.get, {}, datetime(2026, 1, 1, tzinfo=UTC))
    return files.config([files.BakeFile(name, text)], ambient, {})


def wanted(*names: str, text: str = FILE, sets: Sequence[str] = ()) -> Wanted:
    return resolve(config(text), names, sets, {"FROM_ENV": "env"}.get)


def printed(found: Wanted) -> dict[str, dict[str, dict[str, object]]]:
    made: dict[str, dict[str, dict[str, object]]] = json.loads(document(found.groups, found.targets))
    return made


def test_the_default_group_is_what_nothing_means() -> None:
    made = printed(wanted())
    assert made["group"] == {"default": {"targets": ["app", "tools"]}, "tools": {"targets": ["lint", "app"]}}
    assert set(made["target"]) == {"app", "dep", "lint"}
    assert made["target"]["app"] == {
        "context": ".",
        "contexts": {"dep": "target:dep", "src": "./src"},
        "dockerfile": "Dockerfile",
        "args": {"A": "1", "B": "2", "C": "3"},
        "labels": {"from": "base"},
        "tags": ["base"],
        "platforms": ["linux/amd64"],
        "entitlements": ["security.insecure"],
    }


def test_a_link_is_built_for_its_user_only() -> None:
    made = printed(wanted("app"))
    assert made["target"]["dep"]["output"] == [{"type": "cacheonly"}]
    assert made["group"] == {"default": {"targets": ["app"]}}
    assert "output" not in printed(wanted("app", "dep"))["target"]["dep"]


@pytest.mark.parametrize(
    ("names", "found"), [(("l*",), {"lint"}), (("too?s",), {"app", "dep", "lint"}), (("li.nt",), None)]
)
def test_names_may_be_patterns(names: tuple[str, ...], found: set[str] | None) -> None:
    if found is None:
        with pytest.raises(BakeError, match="failed to find target li_nt"):
            wanted(*names)
    else:
        assert set(printed(wanted(*names))["target"]) == found


@pytest.mark.parametrize(
    ("sets", "name", "expected"),
    [
        (["app.args.A=9"], "args", {"A": "9", "B": "2", "C": "3"}),
        (["app.args.FROM_ENV"], "args", {"A": "1", "B": "2", "C": "3", "FROM_ENV": "env"}),
        (["app.args.UNKNOWN"], "args", {"A": "1", "B": "2", "C": "3"}),
        (["*.args.x.y=9=9"], "args", {"A": "1", "B": "2", "C": "3", "x.y": "9=9"}),
        (["app.tags=x", "app.tags=y"], "tags", ["x", "y"]),
        (["a*.tags+=x"], "tags", ["base", "x"]),
        (["app.platform=linux/arm64"], "platforms", ["linux/arm64"]),
        (["app.context=dir"], "context", "dir"),
        (["app.no-cache=true"], "no-cache", True),
        (["app.network=host"], "entitlements", ["security.insecure", "network.host"]),
        (["app.contexts.dep="], "contexts", {"src": "./src"}),
        (["app.secrets=id=s,src=f"], "secret", [{"id": "s", "src": "f"}]),
        (["app.ssh=default", "app.ssh=k=a,b"], "ssh", [{"id": "default"}, {"id": "k", "paths": ["a", "b"]}]),
        (["app.output=out"], "output", [{"dest": "out", "type": "local"}]),
        (["app.push=true"], "output", [{"push": "true", "type": "image"}]),
        (["app.output=type=local,dest=x", "app.push=true"], "output", [{"dest": "x", "type": "local"}]),
        (["app.load=true"], "output", [{"type": "docker"}]),
        (["app.cache-from=type=gha"], "cache-from", [{"type": "gha"}]),
        (["app.extra-hosts.h=1.2.3.4"], "extra-hosts", {"h": "1.2.3.4"}),
        (["app.attest=type=sbom"], "attest", [{"type": "sbom"}]),
    ],
)
def test_set_changes_a_target(sets: list[str], name: str, expected: object) -> None:
    assert printed(wanted("app", sets=sets))["target"]["app"].get(name) == expected


@pytest.mark.parametrize(
    ("sets", "what"),
    [
        ("app", "expected target.name"),
        ("app.tags", "expected target.name=value"),
        ("app.tag=x", "did you mean tags?"),
        ("app.inherits=x", "unknown key: inherits"),
        ("app.args=x", "args requires name"),
        ("app.tags.x=y", "unknown key: tags.x"),
        ("ap.tags=x", "did you mean app?"),
        ("app.pull=perhaps", "invalid value perhaps for boolean key pull"),
        ("app.output=dest=x", "type is required"),
    ],
)
def test_a_wrong_set_says_what_is_right(sets: str, what: str) -> None:
    with pytest.raises(BakeError) as caught:
        wanted("app", sets=[sets])
    assert what in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('target "app" {}', "failed to find target default"),
        ('group "default" { targets = ["ap"] }\ntarget "app" {}', "did you mean app?"),
        ('target "default" { inherits = ["x"] }', "failed to find target x, which default inherits from"),
        (
            'target "default" { inherits = ["b"] }\ntarget "b" { inherits = ["default"] }',
            "target default inherits from itself: default -> b -> default",
        ),
        (
            'group "default" { targets = ["g"] }\ngroup "g" { targets = ["default"] }',
            "group default contains itself: default -> g -> default",
        ),
        ('target "default" { contexts = { x = "target:default" } }', "target default cannot link to itself"),
        (
            'target "default" { contexts = { x = "target:b" } }\ntarget "b" { contexts = { y = "target:default" } }',
            "infinite loop from b to default",
        ),
    ],
)
def test_what_leads_nowhere_or_in_circles_is_refused(text: str, what: str) -> None:
    with pytest.raises(BakeError) as caught:
        wanted(text=text)
    assert what in f"{caught.value.message} {caught.value.hint}"


def test_a_group_may_have_a_target_s_name() -> None:
    made = printed(wanted("x", text='group "x" { targets = ["x", "y"] }\ntarget "x" {}\ntarget "y" {}'))
    assert set(made["target"]) == {"x", "y"}


def test_print_is_go_s_json_and_can_be_read_again() -> None:
    text = 'target "default" { args = { A = "<a&b> $${x} %%{y}" } }'
    shown = document((), wanted(text=text).targets)
    assert '"A": "\\u003ca\\u0026b\\u003e $${x} %%{y}"' in shown
    again = resolve(config(shown), ("default",), (), {}.get)
    assert document((), again.targets) == shown
