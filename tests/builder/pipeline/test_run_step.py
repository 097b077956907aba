"""RUN on busybox: its mounts show what they should, and none of them leads out of what it is about.

The tests named after an advisory are rows of SECURITY: 8, 14, 15, 16, 17.
"""

import socket
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root

Lamina = Any  # the fixture's type lives in conftest, which tests do not import


class Project:
    """A context directory."""

    def __init__(self, lamina: Lamina, directory: Path) -> None:
        self.lamina = lamina
        self.directory = directory
        directory.mkdir()

    def build(self, dockerfile: str, *options: str | Path, code: int = 0) -> str:
        """Build and give the progress."""
        (self.directory / "Dockerfile").write_text(dockerfile)
        done = self.lamina("build", "--progress=plain", "-t", "built", *options, self.directory, code=code)
        return done.stderr.decode()  # type: ignore[no-any-return]


@pytest.fixture
def project(busybox: Lamina, tmp_path: Path) -> Project:
    return Project(busybox, tmp_path / "context")


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A directory of the host that no step may see or change."""
    directory = tmp_path / "canary"
    directory.mkdir()
    (directory / "secret").write_text("of the host\n")
    return directory


def test_secrets_are_files_in_memory_and_reach_no_layer(project: Project, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("hush-hush-4711")
    told = project.build(
        "FROM busybox\n"
        "RUN --mount=type=secret,id=t cat /run/secrets/t; stat -c %a-%u /run/secrets/t\n"
        "RUN --mount=type=secret,id=t,env=T,target=/x,mode=0444,uid=5 echo $T; stat -c %a-%u /x\n"
        "RUN test ! -e /run/secrets -a ! -e /x\n",
        "--secret",
        f"id=t,src={secret}",
    )
    assert "hush" in told
    assert "400-0" in told
    assert "444-5" in told
    for path in project.lamina.root.rglob("*"):
        if path.is_file() and not path.is_symlink() and "logs" not in path.parts:
            assert b"hush-hush-4711" not in path.read_bytes(), path
    assert "secret n: not found" in project.build(
        "FROM busybox\nRUN --mount=type=secret,id=n,required=true true\n", code=1
    )


def test_an_agent_has_the_owner_and_mode_that_the_step_asks_for(project: Project, tmp_path: Path) -> None:
    place = tmp_path / "agent"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        before = place.stat()
        told = project.build(
            "FROM busybox\nUSER 7\n"
            "RUN --mount=type=ssh,uid=7,mode=0620 test -S $SSH_AUTH_SOCK && stat -c %a-%u $SSH_AUTH_SOCK\n",
            "--ssh",
            f"default={place}",
        )
    assert "620-7" in told
    assert (place.stat().st_mode, place.stat().st_uid) == (before.st_mode, before.st_uid)


def test_caches_are_kept_shared_and_started_from_a_stage(project: Project) -> None:
    project.build(
        "FROM busybox AS seed\nRUN mkdir -p /s/sub && echo seed > /s/sub/f\n"
        "FROM busybox\n"
        "RUN --mount=type=cache,from=seed,source=/s/sub,target=/c cat /c/f && echo more >> /c/f\n"
        "RUN --mount=type=cache,from=seed,source=/s/sub,target=/c test $(wc -l < /c/f) = 2\n"
        "RUN --mount=type=cache,target=/k,mode=0750,uid=3 test $(stat -c %a-%u /k) = 750-3 && touch /k/here\n"
        "RUN --mount=type=cache,target=/k,uid=3,mode=750 test -e /k/here\n"
        "RUN --mount=type=cache,target=/k test $(stat -c %a-%u /k) = 755-0 -a ! -e /k/here\n"
        "RUN test ! -e /c -a ! -e /k\n"
    )


def test_a_cache_from_a_stage_begins_again_when_the_stage_has_other_files(project: Project) -> None:
    def counted(seed: str) -> str:
        return project.build(
            f"FROM busybox AS seed\nRUN mkdir -p /s && echo {seed} > /s/f\n"
            "FROM busybox\n"
            "RUN --mount=type=cache,from=seed,source=/s,target=/c echo more >> /c/f && echo $(cat /c/f)\n",
            "--no-cache",
        )

    assert "one more" in counted("one")
    assert "two more" in counted("two")
    assert "one more more" in counted("one")  # what it was, however often the stage is made


def test_private_caches_are_apart_while_both_are_in_use(project: Project) -> None:
    step = (
        "RUN --mount=type=cache,id=p,target=/p,sharing=private --mount=type=cache,id=m,target=/m "
        "touch /p/{0} /m/{0}; until [ -e /m/{1} ]; do sleep 0.05; done; test ! -e /p/{1}; echo {0} > /{0}\n"
    )
    project.build(
        "FROM busybox AS a\n" + step.format("a", "b") + "FROM busybox AS b\n" + step.format("b", "a")
        + "FROM busybox\nCOPY --from=a /a /\nCOPY --from=b /b /\n"
    )  # fmt: skip


def test_a_context_is_shown_without_what_is_ignored(project: Project) -> None:
    (project.directory / "shown").write_text("1")
    (project.directory / "hidden").write_text("1")
    (project.directory / ".dockerignore").write_text("hidden\n")
    project.build(
        "FROM busybox\nRUN --mount=target=/src test -e /src/shown -a ! -e /src/hidden; ! touch /src/new\n"
        "RUN --mount=source=shown,target=/one test -f /one\n"
        "RUN --mount=target=/src,rw touch /src/new\n"
    )
    assert not (project.directory / "new").exists()


def test_cve_2024_23651_a_swapped_subpath_of_a_cache_stays_inside(project: Project, canary: Path) -> None:
    swap = "i=0; while [ $i -lt 300 ]; do rm -rf /c/sub; ln -s / /c/sub; rm /c/sub; mkdir /c/sub; i=$((i+1)); done"
    look = "\n".join(
        f"RUN --mount=type=cache,id=x,target=/v,source=sub : {n}; test ! -e /v{canary}; test ! -e /v/etc/hostname"
        for n in range(6)
    )
    project.build(
        "FROM busybox AS seed\nRUN --mount=type=cache,id=x,target=/c mkdir -p /c/sub\n"
        f"FROM seed AS swap\nRUN --mount=type=cache,id=x,target=/c {swap}; touch /a\n"
        f"FROM seed AS look\n{look}\nRUN touch /b\n"
        "FROM busybox\nCOPY --from=swap /a /\nCOPY --from=look /b /\n",
        code=None,  # type: ignore[arg-type]  a mount may find nothing at that instant: then the step fails
    )
    assert [path.name for path in canary.iterdir()] == ["secret"]
    # And at rest: the link leads to the top of the cache.
    project.build(
        "FROM busybox\nRUN --mount=type=cache,id=y,target=/c ln -s / /c/sub && touch /c/top\n"
        "RUN --mount=type=cache,id=y,target=/v,source=sub test -e /v/top\n"
    )


def test_cve_2024_1753_a_link_to_the_root_leads_to_the_root_of_the_stage(project: Project) -> None:
    project.build(
        "FROM busybox AS stage\nRUN ln -s / /r && touch /stage\n"
        "FROM busybox\nRUN --mount=type=bind,from=stage,source=/r,target=/m,rw test -e /m/stage && touch /m/BREAKOUT\n"
        "RUN --mount=type=bind,from=stage,target=/m test ! -e /m/BREAKOUT\n"
    )
    assert not Path("/BREAKOUT").exists()


@pytest.mark.parametrize("value", ["shared", "rshared", "nonsense"])
def test_cve_2024_9407_propagation_is_no_option(project: Project, value: str) -> None:
    told = project.build(f"FROM busybox\nRUN --mount=type=bind,target=/m,bind-propagation={value} true\n", code=1)
    assert "bind-propagation" in told


def test_no_mount_of_a_step_is_shared_with_the_host(project: Project) -> None:
    project.build(
        "FROM busybox\nRUN --mount=target=/m --mount=type=cache,target=/c "
        "! grep -E ' (shared|master|propagate_from):' /proc/self/mountinfo\n"
    )


def test_cve_2024_9675_names_of_caches_lead_nowhere(project: Project, canary: Path) -> None:
    up = "../" * 12
    project.build(
        f"FROM busybox\nRUN --mount=type=cache,id={up}{canary},target=/c touch /c/one\n"
        f"RUN --mount=type=cache,id=z,source={up}{canary},target=/c touch /c/two\n",
        code=None,  # type: ignore[arg-type]  the second finds nothing at its source
    )
    assert [path.name for path in canary.iterdir()] == ["secret"]
    caches = project.lamina.root / "caches"
    assert all(path.parent == caches and len(path.name) == 32 for path in caches.iterdir())


def test_cve_2024_11218_a_swapped_source_of_a_bind_stays_inside(project: Project, canary: Path) -> None:
    """A stage is finished before others read it, so that only what it left can lead astray."""
    project.build(
        f"FROM busybox AS stage\nRUN ln -s {canary} /src && mkdir /d && ln -s ../../../../.. /d/up\n"
        f"FROM busybox\nRUN --mount=type=bind,from=stage,source=/d/up,target=/m,rw "
        f"test -e /m/d && ! test -e /m{canary}\n"
    )
    told = project.build(
        f"FROM busybox AS stage\nRUN ln -s {canary} /src\n"
        "FROM busybox\nRUN --mount=type=bind,from=stage,source=/src,target=/m,rw touch /m/BREAKOUT\n",
        code=1,
    )
    assert "not found" in told
    assert [path.name for path in canary.iterdir()] == ["secret"]


def test_a_missing_program_and_a_missing_user(project: Project) -> None:
    assert "exit code: 127" in project.build('FROM busybox\nRUN ["nosuch"]\n', code=1)
    assert "exit code: 126" in project.build('FROM busybox\nRUN ["/etc/passwd"]\n', code=1)
    told = project.build("FROM busybox\nUSER nobody-here\nRUN true\n", code=1)
    assert "unable to find user nobody-here: no matching entries in passwd file" in told
    assert "Dockerfile:3" in told and "   3 | >>> RUN true" in told
