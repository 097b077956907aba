"""The defaults of `RUN --mount`, and what is refused."""

import pytest

from builder.pipeline.mounts import resolve_mounts
from parser.errors import DockerfileError
from parser.mounts import RunMount


def resolved(*texts: str, workdir: str = "/work") -> tuple[RunMount, ...]:
    return resolve_mounts(texts, lambda word: word.replace("$X", "x"), workdir=workdir)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("target=/a/../b/", "/b"),
        ("target=$X/y", "/work/x/y"),
        ("type=bind", "/work"),
        ("type=secret,id=a/b", "/run/secrets/b"),
        ("type=secret,id=a,env=A", ""),
        ("type=secret,id=a,env=A,target=/t", "/t"),
        ("type=cache,dst=c", "/work/c"),
    ],
)
def test_targets(text: str, target: str) -> None:
    assert resolved(text)[0].target == target


def test_agents_are_counted_by_themselves() -> None:
    mounts = resolved("target=/a", "type=ssh", "type=cache,target=/c", "type=ssh,id=two")
    assert [mount.target for mount in mounts if mount.type == "ssh"] == [
        "/run/buildkit/ssh_agent.0.sock",
        "/run/buildkit/ssh_agent.1.sock",
    ]
    assert [mount.id for mount in mounts] == ["", "default", "/c", "two"]


@pytest.mark.parametrize("text", ["target=/", "target=/a/..", "type=tmpfs", "type=cache,target=."])
def test_nothing_lies_on_the_root(text: str) -> None:
    with pytest.raises(DockerfileError, match='invalid mount target "/"'):
        resolved(text, workdir="/")
