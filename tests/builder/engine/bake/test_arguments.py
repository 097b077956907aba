"""Targets as command lines of `build`, and what must be allowed for them."""

from pathlib import Path

import pytest

from builder.engine.bake.arguments import cleaned, links, options
from builder.engine.bake.entitlements import missing
from builder.engine.bake.resolve import Wanted
from builder.engine.bake.target import Content, Target
from builder.errors import BakeError

HERE = Path("/here")


def target(**attributes: Content) -> Target:
    named = {name.replace("_", "-"): value for name, value in attributes.items()}
    return Target("t", {"context": ".", "dockerfile": "Dockerfile", **named})


def test_every_attribute_has_its_option() -> None:
    full = target(
        context="./src/",
        dockerfile="a.Dockerfile",
        args={"A": "x y"},
        labels={"l": "1"},
        tags=("one", "two"),
        contexts={"b": "../b", "i": "docker-image://x", "l": "target:other"},
        output=({"type": "local", "dest": "out"},),
        secret=({"id": "s", "src": "f"},),
        ssh=({"id": "default", "paths": ("a", "b")},),
        platforms=("linux/amd64", "linux/arm64"),
        pull=True,
        no_cache=False,
        network="none",
        ulimits=("nofile=1:2",),
        entitlements=("network.host",),
        extra_hosts={"h": "::1"},
        target="stage",
    )
    assert options(cleaned(full, remote=False), here=HERE) == (
        *("--file", "src/a.Dockerfile", "--build-arg", "A=x y", "--label", "l=1", "--add-host", "h=::1"),
        *("--build-context", "b=../b", "--build-context", "i=docker-image://x"),
        *("--allow", "network.host", "--platform", "linux/amd64", "--platform", "linux/arm64"),
        *("--tag", "one", "--tag", "two", "--ulimit", "nofile=1:2"),
        *("--output", "type=local,dest=out", "--secret", "id=s,src=f", "--ssh", "default=a,b"),
        *("--target", "stage", "--network", "none", "--pull", "--", "src"),
    )
    assert links(full) == {"l": "other"}


def test_of_attestations_the_last_of_a_type_counts() -> None:
    attest = ({"type": "sbom"}, {"type": "provenance", "mode": "min"}, {"disabled": "true", "type": "sbom"})
    given = options(target(attest=attest), here=HERE)
    assert given == ("--attest", "type=sbom,disabled=true", "--attest", "type=provenance,mode=min", "--", ".")


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, ("--", ".")),
        ({"dockerfile_inline": "FROM x"}, ("--file", "-", "--", ".")),
        ({"context": "https://x/y.git", "dockerfile": "d"}, ("--file", "d", "--", "https://x/y.git")),
        ({"context": "/abs/../dir"}, ("--", "/dir")),
        ({"context": "cwd://sub"}, ("--", "sub")),
    ],
)
def test_contexts_and_dockerfiles(attributes: dict[str, Content], expected: tuple[str, ...]) -> None:
    assert options(cleaned(target(**attributes), remote=False), here=HERE) == expected


def test_a_remote_definition_may_mean_the_user_s_directory() -> None:
    found = cleaned(target(context="cwd://sub", dockerfile="cwd://x/Dockerfile"), remote=True)
    assert options(found, here=HERE) == ("--file", "/here/x/Dockerfile", "--", "/here/sub")


def test_a_linked_target_gets_no_name() -> None:
    own = target(tags=("x",), output=({"type": "cacheonly"},))
    assert options(Target("t", own.attributes, linked=True), here=HERE) == ("--output", "type=cacheonly", "--", ".")


@pytest.mark.parametrize("attributes", [{"context": "-"}, {"dockerfile": "-"}])
def test_stdin_is_no_context(attributes: dict[str, Content]) -> None:
    with pytest.raises(BakeError, match="from stdin not allowed in bake"):
        cleaned(target(**attributes), remote=False)


@pytest.mark.parametrize(
    ("attributes", "allow", "expected"),
    [
        ({}, (), ()),
        ({"entitlements": ("network.host",)}, (), ("network.host",)),
        ({"entitlements": ("network.host",)}, ("network.host",), ()),
        ({"context": "../x"}, (), ("fs.read={up}/x",)),
        ({"context": "../x", "dockerfile_inline": "y"}, ("fs.read={up}",), ()),
        ({"context": "../x"}, ("fs=*",), ()),
        ({"contexts": {"a": "/etc", "b": "docker-image://x", "c": "target:d"}}, (), ("fs.read=/etc",)),
        ({"output": ({"type": "local", "dest": "../o"},)}, ("fs.read=*",), ("fs.write={up}/o",)),
        ({"output": ({"type": "tar", "dest": "-"},)}, (), ()),
        ({"secret": ({"id": "s", "src": "/etc/hostname"},)}, (), ("fs.read=/etc/hostname",)),
        ({"context": "link"}, (), ("fs.read=/usr",)),
        ({"ssh": ({"id": "default"},)}, (), ("ssh",)),
        ({"ssh": ({"id": "default"},)}, ("ssh",), ()),
        ({"ssh": ({"id": "k", "paths": ("/k",)},)}, (), ("fs.read=/k",)),
        ({"cache_to": ({"type": "local", "dest": "/c"},)}, (), ("fs.write=/c",)),
        ({"cache_from": ({"type": "s3", "src": "/c"},)}, (), ()),
    ],
)
def test_what_is_outside_must_be_allowed(
    attributes: dict[str, Content], allow: tuple[str, ...], expected: tuple[str, ...], tmp_path: Path
) -> None:
    home = tmp_path / "project"
    home.mkdir()
    (home / "link").symlink_to("/usr")
    granted = [one.replace("{up}", str(tmp_path)) for one in allow]
    found = missing(Wanted((), (target(**attributes),)), granted, home, home, files=True)
    wanted = tuple(one.replace("{up}", str(tmp_path)) for one in expected)
    assert tuple(one for one in found if not one.endswith("/Dockerfile")) == wanted
    unlooked = missing(Wanted((), (target(**attributes),)), granted, home, home, files=False)
    assert unlooked == tuple(one for one in wanted if "=" not in one and one != "ssh")


def test_an_unknown_privilege_is_refused() -> None:
    with pytest.raises(BakeError, match="unknown entitlement key nonsense"):
        missing(Wanted((), ()), ["nonsense"], HERE, HERE, files=True)


def test_who_says_it_allows_it(tmp_path: Path) -> None:
    own = target(
        output=({"type": "local", "dest": "/o"},), entitlements=("network.host",), secret=({"id": "s", "src": "/s"},)
    )
    given = frozenset({("t", "output"), ("t", "entitlements")})
    assert missing(Wanted((), (own,), given), (), tmp_path, tmp_path, files=True) == ("fs.read=/s",)
