"""Named contexts of every kind, as FROM, in COPY --from and in mounts, and what `context ls` says of a context."""

import http.server
import json
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root

Lamina = Any  # the fixture's type lives in conftest, which tests do not import

USE = """\
FROM busybox AS mounted
RUN --mount=type=bind,from=extra,target=/m cat /m/name > /out
FROM extra AS based
FROM busybox
COPY --from=extra /name /copied
COPY --from=based /name /based
COPY --from=mounted /out /mounted
"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "www").mkdir()
    handler = partial(Quiet, directory=str(tmp_path / "www"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a context `ctx`, a directory `extra` and `extra.tar` of it."""
    (tmp_path / "ctx").mkdir()
    (tmp_path / "ctx/Dockerfile").write_text(USE)
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra/name").write_text("directory")
    return tmp_path


def built(lamina: Lamina, place: Path, *options: str | Path) -> str:
    """Build the context and say what the three ways to its files gave."""
    lamina("build", "-t", "app", *options, "ctx", cwd=place)
    lamina("fsck")
    return str(lamina.text("run", "--rm", "app", "cat", "/copied", "/based", "/mounted"))


def test_named_contexts_of_every_kind(busybox: Lamina, place: Path, served: str) -> None:
    assert built(busybox, place, "--build-context", "extra=extra") == "directory" * 3
    assert built(busybox, place, "--build-context", "docker.io/library/extra:latest=extra") == "directory" * 3
    with tarfile.open(place / "www/extra.tar.gz", "w:gz") as archive:
        (place / "extra/name").write_text("tar")
        archive.add(place / "extra/name", "name")
    assert built(busybox, place, "--build-context", f"extra={served}/extra.tar.gz") == "tar" * 3
    image = "FROM scratch\nCOPY name /\nENV FROM_IMAGE=1\n"
    for number in ("1", "2"):
        (place / "extra/name").write_text(f"image {number},")
        busybox("build", "-t", f"maker:{number}", "-f", "-", "extra", cwd=place, stdin=image.encode())
    assert built(busybox, place, "--build-context", "extra=docker-image://maker:1") == "image 1," * 3
    busybox("save", "-o", place / "maker.tar", "maker:1", "maker:2")
    made = set(busybox.text("images", "-q", "--no-trunc", "maker").split())
    busybox("rmi", "maker:1", "maker:2")
    (place / "layout").mkdir()
    subprocess.run(["tar", "-xf", place / "maker.tar", "-C", place / "layout"], check=True)
    assert built(busybox, place, "--build-context", "extra=oci-layout://layout:2") == "image 2," * 3
    digest = json.loads((place / "layout/index.json").read_text())["manifests"][0]["digest"]
    assert built(busybox, place, "--build-context", f"extra=oci-layout://{place}/layout@{digest}") == "image 1," * 3
    assert len(made) == 2 and not made & set(busybox.text("images", "-aq", "--no-trunc").split())


def test_a_named_context_replaces_a_stage_and_an_image(busybox: Lamina, place: Path) -> None:
    (place / "extra/.dockerignore").write_text("hidden\n")
    (place / "extra/hidden").write_text("")
    dockerfile = "FROM busybox AS tools\nRUN false\nFROM none:1\nCOPY --from=Tools / /t\nRUN test ! -e /t/hidden\n"
    (place / "ctx/Dockerfile").write_text(dockerfile)
    given = ("--build-context", "tools=extra", "--build-context", "none:1=docker-image://busybox")
    busybox("build", "-t", "app", *given, "ctx", cwd=place)
    assert busybox.text("run", "--rm", "app", "ls", "/t") == "name"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("Up=extra", "invalid context name Up"),
        ("extra", "expected key=value"),
        ("extra=none", "failed to get build context extra"),
        ("extra=target:other", "unsupported context source target for extra"),
        ("extra=oci-layout://extra", "not an OCI layout"),
        ("extra=docker-image://127.0.0.1:1/none:1", "127.0.0.1:1"),
        ("extra=docker-image://A B", "invalid reference"),
        ("extra=git://h/x#--upload-pack=touch:x", "looks like an option"),
    ],
)
def test_contexts_that_are_refused(busybox: Lamina, place: Path, value: str, message: str) -> None:
    done = busybox("build", "-t", "app", "--build-context", value, "ctx", cwd=place, code=None)
    assert done.returncode != 0
    assert message in done.stderr.decode()
    assert "app" not in busybox.text("images")
    busybox("fsck")


def test_context_ls(lamina: Lamina, place: Path) -> None:
    (place / "ctx/.dockerignore").write_text("*.log\nbig\n!big/keep\n")
    (place / "ctx/big").mkdir()
    (place / "ctx/big/keep").write_bytes(b"x" * 2000)
    (place / "ctx/big/rest").write_bytes(b"x" * 30_000)
    shown = lamina.text("context", "ls", "ctx", "--build-context", "more=extra", cwd=place).splitlines()
    assert shown[:3] == ["Context: ctx", "Dockerfile: Dockerfile", "Ignore file: .dockerignore"]
    assert shown[3].endswith("left out: 30kB in 1 file")
    assert shown[6].split() == ["2kB", "1", "30kB", "big"]
    assert "Context more: extra" in shown
    why = ("--why", "big/rest", "--why", "big/keep", "--why", place / "ctx/Dockerfile")
    assert lamina.text("context", "ls", "ctx", *why, cwd=place).splitlines() == [
        "big/rest: left out (by .dockerignore:2: big)",
        "big/keep: in the context (by .dockerignore:3: !big/keep)",
        "Dockerfile: in the context (no pattern matches)",
    ]
    (place / "ctx/Dockerfile").unlink()
    document = json.loads(lamina.text("context", "list", "--format", "json", cwd=place / "ctx"))
    assert (document["Dockerfile"], document["IgnoredSize"], document["IgnoredFiles"]) == ("", 30_000, 1)
    lamina("context", "ls", "-f", "none", "ctx", cwd=place, code=1)
