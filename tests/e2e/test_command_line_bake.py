"""`bake` as a user types it: what is built, what is shared, what a failure leaves, and what is printed."""

import io
import json
import signal
import subprocess
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from registryserver import RegistryServer

pytestmark = pytest.mark.root

Lamina = Any  # the fixture's type lives in conftest, which tests do not import

DOCKERFILE = """
FROM busybox AS base
RUN cat /proc/sys/kernel/random/uuid > /id
FROM base AS app
ARG NAME
RUN echo app $NAME > /app
FROM base AS db
COPY data /data
RUN echo db > /db
"""
DEFINITION = """
variable "TAG" { default = "1" }
group "default" { targets = ["app", "db", "tool"] }
target "app" {
  target = "app"
  args = { NAME = "${upper("x")}-${TAG}" }
  tags = ["bake-app:${TAG}"]
}
target "db" {
  target = "db"
  tags = ["bake-db"]
  labels = { made = "by bake" }
}
target "basis" {
  dockerfile-inline = <<EOT
FROM busybox
ENV FROM_BASIS=yes
RUN echo basis > /basis
EOT
  tags = ["never-tagged"]
}
target "tool" {
  contexts = { basis = "target:basis" }
  dockerfile-inline = "FROM basis\\nCOPY --from=basis /basis /copy\\nCOPY data /d\\n"
  tags = ["bake-tool"]
}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    directory = tmp_path / "project"
    directory.mkdir()
    (directory / "Dockerfile").write_text(DOCKERFILE)
    (directory / "docker-bake.hcl").write_text(DEFINITION)
    (directory / "data").write_text("data\n")
    return directory


def run(lamina: Lamina, image: str, *command: str) -> str:
    text: str = lamina.text("run", "--rm", "--network", "none", image, *command)
    return text


def test_targets_are_built_as_one_graph(busybox: Lamina, project: Path) -> None:
    done = busybox("bake", "--progress", "plain", "--metadata-file", "meta.json", cwd=project)
    assert run(busybox, "bake-app:1", "cat", "/app") == "app X-1"
    assert run(busybox, "bake-db", "cat", "/data", "/db") == "data\ndb"
    assert run(busybox, "bake-tool", "sh", "-c", "cat /basis /copy /d; echo $FROM_BASIS") == "basis\nbasis\ndata\nyes"
    # the stage that two targets share ran once, so both have its one result
    assert run(busybox, "bake-app:1", "cat", "/id") == run(busybox, "bake-db", "cat", "/id")
    assert done.stderr.count(b"base 2/2] RUN cat /proc/sys/kernel/random/uuid > /id\n") >= 2
    meta = json.loads((project / "meta.json").read_text())
    for name in ("app", "db", "tool"):
        image = busybox.text("images", "-q", "--no-trunc", meta[name]["image.name"])
        assert meta[name]["containerimage.config.digest"] == image
    # what only others stand on is nobody's image
    assert "never-tagged" not in busybox.text("images") and "<none>" not in busybox.text("images", "-a")
    again = busybox("buildx", "bake", "--progress", "plain", cwd=project)
    assert b"DONE" in again.stderr and b"cache miss" not in again.stderr
    # without the cache, too
    busybox("bake", "--no-cache", "app", "db", cwd=project)
    assert run(busybox, "bake-app:1", "cat", "/id") == run(busybox, "bake-db", "cat", "/id")
    assert busybox.text("images", "-q", "--no-trunc", "bake-db") != meta["db"]["containerimage.config.digest"]
    busybox("fsck", "--full")


def test_a_failure_stops_the_others_and_tags_nothing_of_them(busybox: Lamina, project: Path) -> None:
    (project / "docker-bake.hcl").write_text(
        """
        group "default" { targets = ["bad", "slow"] }
        target "bad" {
          dockerfile-inline = <<EOT
FROM busybox
RUN --mount=type=cache,target=/c while ! test -e /c/up; do usleep 10000; done; exit 3
EOT
          tags = ["bake-bad"]
        }
        target "slow" {
          dockerfile-inline = "FROM busybox\\nRUN --mount=type=cache,target=/c touch /c/up; sleep 300\\n"
          tags = ["bake-slow"]
        }
        """
    )
    done = busybox("bake", "--progress", "plain", cwd=project, code=1)
    text = done.stderr.decode()
    assert "ERROR: target bad: failed to solve: process" in text and "exit code: 3" in text
    assert "CANCELED" in text
    assert "bake-" not in busybox.text("images")
    busybox("fsck", "--full")


def test_print_shows_what_would_be_built(busybox_store: Lamina, project: Path) -> None:
    shown = json.loads(
        busybox_store.text(
            *("buildx", "bake", "--print", "app", "--set", "app.args.MORE=1", "--set", "*.tags+=x", "--no-cache"),
            cwd=project,
            environment={"TAG": "7"},
        )
    )
    assert shown == {
        "group": {"default": {"targets": ["app"]}},
        "target": {
            "app": {
                "context": ".",
                "dockerfile": "Dockerfile",
                "args": {"MORE": "1", "NAME": "X-7"},
                "tags": ["bake-app:7", "x"],
                "target": "app",
                "no-cache": True,
            }
        },
    }


def test_definitions_come_from_where_the_user_says(busybox_store: Lamina, project: Path) -> None:
    stdin = b'target "default" { tags = [A] }\nvariable "A" {}'
    shown = busybox_store.text("bake", "-f", "-", "--print", "--var", "A=v", cwd=project, stdin=stdin)
    assert json.loads(shown)["target"]["default"]["tags"] == ["v"]
    (project / "compose.yaml").write_text("services: {web: {build: {target: $STAGE}, image: web}}\n")
    (project / ".env").write_text("STAGE=app\n")
    (project / "docker-bake.override.json").write_text('{"target": {"app": {"tags": ["over"]}}}')
    made = json.loads(busybox_store.text("bake", "--print", "web", "app", cwd=project))["target"]
    assert (made["web"]["target"], made["web"]["tags"], made["app"]["tags"]) == ("app", ["web"], ["over"])
    listed = busybox_store.text("bake", "--list=type=targets,format=json", cwd=project)
    assert {"name": "default", "group": True, "description": ""}.keys() >= json.loads(listed)[2].keys()
    assert busybox_store.text("bake", "--list=variables", cwd=project).split() == [
        *("VARIABLE", "TYPE", "VALUE", "DESCRIPTION", "TAG", "1")
    ]


def test_targets_are_pushed(busybox_store: Lamina, project: Path) -> None:
    with RegistryServer() as registry:
        sets = (f"--set=app.tags={registry.host}/app:1", f"--set=db.tags={registry.host}/db:2")
        busybox_store("bake", "app", "db", "--push", *sets, cwd=project)
        assert {("app", "1"), ("db", "2")} <= registry.manifests.keys()


def test_outputs_go_where_the_definition_says(busybox_store: Lamina, project: Path) -> None:
    before = busybox_store.text("images", "-aq")
    done = busybox_store(
        "bake", "db", "tool", "--set", "db.output=out", "--set", "tool.output=type=tar,dest=-", cwd=project
    )
    assert (project / "out/db").read_text() == "db\n"
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        assert {"basis", "copy", "d"} <= set(archive.getnames())
    assert busybox_store.text("images", "-aq") == before


def test_dockerfiles_are_checked_instead_of_built(busybox_store: Lamina, project: Path) -> None:
    (project / "docker-bake.hcl").write_text(
        """
        group "default" { targets = ["bad", "good"] }
        target "bad" {
          description = "not good"
          dockerfile-inline = "FROM busybox as x\\n"
        }
        target "good" { dockerfile-inline = "FROM busybox\\n" }
        """
    )
    done = busybox_store("bake", "--check", cwd=project, code=1)
    text = done.stdout.decode()
    assert text.startswith("bad\nnot good\n\nCheck complete, 1 warning has been found!\n\nWARNING: FromAsCasing")
    assert text.endswith("\n\ngood\n\nCheck complete, no warnings found.\n")
    (project / "docker-bake.override.hcl").write_text('target "bad" { call = "check" }')
    mixed = busybox_store("bake", "--set", "good.tags=bake-mixed", cwd=project, code=1)
    assert mixed.stdout.decode().startswith("bad\n") and "\ngood\n" not in mixed.stdout.decode()
    assert "bake-mixed" in busybox_store.text("images")
    listed = busybox_store("bake", "good", "--call=targets,format=json", cwd=project)
    document = json.loads(listed.stdout)
    assert document["group"] == {"default": {"targets": ["good"]}}
    assert document["target"]["good"]["build"]["dockerfile-inline"] == "FROM busybox\n"
    assert document["target"]["good"]["targets"]["targets"]


def test_ctrl_c_stops_all_and_tags_nothing(busybox_store: Lamina, project: Path) -> None:
    (project / "docker-bake.hcl").write_text(
        """
        group "default" { targets = ["one", "two"] }
        target "one" {
          dockerfile-inline = "FROM busybox\\nRUN echo begun; sleep 300\\n"
          tags = ["bake-stopped"]
        }
        target "two" {
          dockerfile-inline = "FROM busybox\\nRUN echo also begun; sleep 300\\n"
          tags = ["bake-stopped:2"]
        }
        """
    )
    process = busybox_store.start("bake", "--progress", "plain", cwd=project, stderr=subprocess.PIPE)
    begun: set[bytes] = set()
    while len(begun) < 2:
        line = process.stderr.readline()
        assert line
        if line.rstrip().endswith(b"begun") and b"RUN" not in line:
            begun.add(line.split(b" ", 2)[2])
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert said.count(b"CANCELED") == 2 and b"ERROR: failed to solve: Canceled: context canceled" in said
    assert "bake-stopped" not in busybox_store.text("images")
    busybox_store("fsck")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("ap",), "failed to find target ap\nhint: did you mean app?"),
        (("--set", "app.nope=1"), "unknown key: nope"),
        (("-f", "none.hcl"), "open none.hcl: no such file or directory"),
        (("--set", "app.context=/etc", "app"), "pass --allow fs.read=/etc"),
        (("--set", "app.network=host", "app"), "pass --allow network.host"),
        (("--list", "nonsense"), 'invalid list type "nonsense"'),
        (("--progress", "sideways"), "invalid progress mode sideways"),
    ],
)
def test_a_mistake_is_told_and_builds_nothing(
    busybox_store: Lamina, project: Path, arguments: tuple[str, ...], text: str
) -> None:
    before = busybox_store.text("images", "-a", "-q")
    done = busybox_store("bake", *arguments, cwd=project, code=None)
    assert done.returncode != 0
    assert text in done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert busybox_store.text("images", "-a", "-q") == before


def test_a_wrong_file_is_shown(busybox_store: Lamina, project: Path) -> None:
    (project / "docker-bake.hcl").write_text('target "default" {\n  tags = [TAGG]\n}\nvariable "TAG" {}\n')
    done = busybox_store("bake", cwd=project, code=1)
    assert done.stderr.decode() == (
        "docker-bake.hcl:2\n"
        "--------------------\n"
        '   1 |     target "default" {\n'
        "   2 | >>>   tags = [TAGG]\n"
        "   3 |     }\n"
        '   4 |     variable "TAG" {}\n'
        "--------------------\n"
        'ERROR: docker-bake.hcl:2:11: unknown variable; there is no variable named "TAGG"\n'
        "hint: did you mean TAG?\n"
    )
    (project / "docker-bake.hcl").unlink()
    assert b"couldn't find a bake definition" in busybox_store("bake", cwd=project, code=1).stderr


def test_a_definition_may_be_elsewhere(busybox: Lamina, project: Path, tmp_path: Path) -> None:
    served = tmp_path / "served"
    served.mkdir()
    with tarfile.open(served / "project.tar", "w") as archive:
        archive.add(project, arcname=".")
    here = tmp_path / "here"
    here.mkdir()
    (here / "mine").write_text("mine\n")
    (here / "more.hcl").write_text(
        """
        target "mine" {
          context = BAKE_CMD_CONTEXT
          contexts = { theirs = "." }
          dockerfile-inline = "FROM busybox\\nCOPY mine /\\nCOPY --from=theirs data /\\n"
          tags = ["bake-mine"]
        }
        """
    )
    handler = partial(SimpleHTTPRequestHandler, directory=str(served))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/project.tar"
            busybox("bake", url, "-f", "docker-bake.hcl", "-f", "cwd://more.hcl", "db", "mine", cwd=here)
        finally:
            server.shutdown()
            thread.join()
    assert run(busybox, "bake-db", "cat", "/data") == "data"
    assert run(busybox, "bake-mine", "cat", "/mine", "/data") == "mine\ndata"
    busybox("fsck", "--full")
