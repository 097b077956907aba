"""What a build is trusted with stays out of the image, its history, what it says, and every byte of the store."""

import base64
import http.server
import json
import os
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root

Lamina = Any  # the fixture's type lives in conftest, which tests do not import

WORDS = tuple(f"{name}-s3cr3t-9f8e7d" for name in ("file", "variable", "token", "password", "proxy", "git", "required"))
FILE, VARIABLE, TOKEN, PASSWORD, PROXY, GIT, REQUIRED = WORDS
PLAIN = f"Basic {base64.b64encode(f'user:{PASSWORD}'.encode()).decode()}"


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[str]:
    """host:port of a server that gives /file to the token and /context.tar to the password."""
    with tarfile.open(tmp_path / "context.tar", "w") as archive:
        (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
        archive.add(tmp_path / "Dockerfile", "Dockerfile")
    data = (tmp_path / "context.tar").read_bytes()
    wanted = {"/file": f"Bearer {TOKEN}", "/context.tar": PLAIN}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            good = self.headers.get("Authorization") == wanted.get(self.path)
            self.send_response(200 if good else 401)
            self.end_headers()
            self.wfile.write(data if good else b"")

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def leaks(root: Path, *texts: bytes) -> list[str]:
    """Where one of the words, or the password as a header has it, stands in the files below *root* and in *texts*."""
    needles = [word.encode() for word in (*WORDS, PLAIN.removeprefix("Basic "))]
    found = [f"{needle!r} in what was said" for text in texts for needle in needles if needle in text]
    for directory, _, names in os.walk(root):
        for name in names:
            path = Path(directory, name)
            if path.is_file() and not path.is_symlink():
                data = path.read_bytes()
                found += [f"{needle!r} in {path}" for needle in needles if needle in data]
    return found


def provenance(lamina: Lamina, name: str) -> list[bytes]:
    """What is attested of how an image was made, and the Dockerfile that is encoded in it."""
    text = lamina("provenance", name).stdout
    source = json.loads(text)["runDetails"]["metadata"]["buildkit_metadata"]["source"]
    return [text, base64.b64decode(source["infos"][0]["data"])]


def test_secrets_and_credentials_stay_out_of_everything(busybox: Lamina, tmp_path: Path, closed: str) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (tmp_path / "secret").write_text(FILE)
    (context / "Dockerfile").write_text(
        f"""FROM busybox
RUN --mount=type=secret,id=file grep -q file-s3cr3t /run/secrets/file && ! grep -q file-s3cr3t /proc/self/environ
RUN --mount=type=secret,id=variable,env=WORD test "${{#WORD}}" = {len(VARIABLE)}
RUN env | grep -q ^https_proxy=http
ADD http://{closed}/file /file
RUN --mount=type=secret,id=required,required,target=/in/a/directory,mode=0444 test -s /in/a/directory
RUN find / -xdev -name '*' -type f -size -1000 -exec grep -l s3cr3t {{}} + > /tmp/found || true; test ! -s /tmp/found
"""
    )
    given = (
        *("--secret", f"id=file,src={tmp_path / 'secret'}"),
        *("--secret", "id=variable,env=VARIABLE"),
        *("--secret", "id=HTTP_AUTH_TOKEN_127.0.0.1,env=TOKEN"),
        *("--secret", "id=GIT_AUTH_TOKEN,env=GIT"),
        *("--secret", "id=required,env=REQUIRED"),
        *("--build-arg", f"https_proxy=http://user:{PROXY}@127.0.0.1:1"),
    )
    (tmp_path / "attested").mkdir()
    (tmp_path / "attested/Dockerfile").write_bytes((context / "Dockerfile").read_bytes())
    environment = {"VARIABLE": VARIABLE, "TOKEN": TOKEN, "GIT": GIT, "REQUIRED": REQUIRED}
    said = []
    for attest in ((), ("--provenance", "--sbom")):  # made, and from the cache
        done = busybox("build", "-t", "app", "--progress=rawjson", *attest, *given, context, environment=environment)
        said += [done.stdout, done.stderr]
    said += provenance(busybox, "app")
    assert b"HTTP_AUTH_TOKEN" not in said[-2] and f"http://{closed}/file".encode() in said[-2]
    (context / "Dockerfile").write_text(
        f"FROM busybox\nRUN : http://user:{PASSWORD}@host/\nADD http://user:{PASSWORD}@{closed}/context.tar /x\n"
    )
    for _ in range(2):
        done = busybox("build", "-t", "used", "--provenance", context)
        said += [*provenance(busybox, "used"), done.stdout, done.stderr]
        said.append(busybox("history", "--no-trunc", "used").stdout)
    assert b"http://xxxxx:xxxxx@host/" in said[-1]
    (context / "Dockerfile").write_text(
        f"FROM busybox\nRUN : http://user:{PASSWORD}@host/ && false\nADD http://user:{PASSWORD}@127.0.0.1:1/x /x\n"
    )
    # In the Dockerfile itself, where it should not be: it is used, and neither shown nor kept.
    said.append(busybox("build", "-t", "no", *given, context, environment=environment, code=1).stderr)
    source = f"http://user:{PASSWORD}@{closed}/context.tar"
    done = busybox("build", "-t", "far", "--provenance", source)
    said += [*provenance(busybox, "far"), done.stdout, done.stderr]
    said.append(busybox("build", "-t", "no", source.replace("context.tar", "none.tar"), code=1).stderr)
    said.append(busybox("build", "-t", "no", f"http://user:{PASSWORD}@127.0.0.1:1/r.git", code=1).stderr)
    busybox("save", "-o", tmp_path / "saved.tar", "app", "far")
    said.append((tmp_path / "saved.tar").read_bytes())
    attested = ("--provenance", "-o", f"type=oci,dest={tmp_path / 'saved.tar'}")
    busybox("build", *attested, *given, context.parent / "attested", environment=environment)
    said.append((tmp_path / "saved.tar").read_bytes())
    (context / "Dockerfile").write_text("FROM busybox\nRUN --mount=type=secret,id=file true\n")
    for _ in range(3):  # the last one is answered without a plan
        done = busybox("build", "-t", "short", *given, context, environment=environment)
        said += [done.stdout, done.stderr]
    for name in ("app", "far"):
        said.append(busybox("history", "--no-trunc", name).stdout)
        said.append(busybox("inspect", name).stdout)
    assert "no" not in busybox.text("images", "--format", "{{.Repository}}").split()
    assert leaks(busybox.root, *said) == []
    busybox("fsck")


def test_a_secret_that_is_missing_fails_with_its_name_alone(busybox: Lamina, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        "FROM busybox\nRUN --mount=type=secret,id=nope,required cat /run/secrets/nope\n"
    )
    done = busybox(
        "build", "-t", "app", "--secret", "id=other,env=OTHER", tmp_path, environment={"OTHER": FILE}, code=1
    )
    text = done.stderr.decode()
    assert "secret nope: not found" in text and "Dockerfile:2:1" in text
    assert leaks(busybox.root, done.stderr) == []
    assert "app" not in busybox.text("images")
