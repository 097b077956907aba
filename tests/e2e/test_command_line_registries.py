"""pull, push, login, logout and search as they are typed, against a registry on loopback."""

import json
import os
import pty
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from registryserver import INDEX, RegistryServer, Request

Lamina = Any  # the fixture's type lives in conftest, which tests do not import

pytestmark = pytest.mark.root


@pytest.fixture
def mine(lamina: Lamina, tmp_path: Path) -> Lamina:
    """The command of a user with a home of his own."""
    own = {"HOME": str(tmp_path), "DOCKER_CONFIG": str(tmp_path / ".docker")}
    return replace(lamina, environment={**lamina.environment, **own})


def layer(**files: bytes) -> bytes:
    import io
    import tarfile

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def test_names_come_and_go_with_their_digests(lamina: Lamina, registry: RegistryServer) -> None:
    registry.put_image("app", "latest", [layer(a=b"a")])
    name = f"{registry.host}/app"
    told = lamina.text("pull", name).splitlines()
    digest = told[-3].split()[1]
    assert told[:2] == ["Using default tag: latest", "latest: Pulling from app"]
    assert told[-1] == f"{name}:latest"
    assert lamina.text("pull", "-q", name) == f"{name}:latest"
    assert f"Status: Image is up to date for {name}:latest" in lamina.text("image", "pull", name)
    format = "{{.Repository}} {{.Tag}} {{.Digest}}"
    assert lamina.text("images", "--format", format) == f"{name} latest {digest}"
    assert [line.split()[:2] for line in lamina.text("images").splitlines()[1:]] == [[name, "latest"]]
    lamina("tag", f"{name}@{digest}", "other:1")
    assert lamina.text("rmi", name).splitlines() == [f"Untagged: {name}:latest", f"Untagged: {name}@{digest}"]
    assert lamina.text("pull", f"{name}@{digest}").splitlines()[-1] == f"{name}@{digest}"
    rows = [line.split()[:2] for line in lamina.text("images").splitlines()[1:]]
    assert sorted(rows) == sorted([["other", "1"], [name, "<none>"]])
    lamina("rmi", "other:1", f"{name}@{digest}")
    assert lamina.text("images", "-q") == ""


def test_login_is_tried_kept_used_and_forgotten(mine: Lamina, registry: RegistryServer, tmp_path: Path) -> None:
    registry.user = ("me", "pa55word")
    registry.put_image("app", "1", [layer(a=b"a")])
    denied = mine("pull", f"{registry.host}/app:1", code=1).stderr.decode()
    assert "denied" in denied and f"hint: check the name, or log in: lamina login {registry.host}" in denied
    wrong = mine("login", "-u", "me", "-p", "wrong", registry.host, code=1).stderr.decode()
    assert "Using --password via the CLI is insecure" in wrong
    assert f"login attempt to http://{registry.host}/v2/ failed" in wrong
    mine("login", "--password-stdin", registry.host, code=125)
    assert b"non TTY device" in mine("login", registry.host, code=1).stderr
    done = mine("login", "-u", "me", "--password-stdin", f"http://{registry.host}/v2/", stdin=b"pa55word\n")
    assert done.stdout == b"Login Succeeded\n"
    again = mine.text("login", registry.host)
    assert again == "Authenticating with existing credentials...\nLogin Succeeded"
    assert mine.text("pull", "-q", f"{registry.host}/app:1")
    assert mine.text("logout", registry.host) == f"Removing login credentials for {registry.host}"
    assert mine.text("logout", registry.host) == f"Not logged in to {registry.host}"
    mine("--config", tmp_path / "elsewhere", "login", "-u", "me", "-p", "pa55word", registry.host)
    assert (tmp_path / "elsewhere/config.json").exists()


def test_a_password_is_nowhere_in_the_store(mine: Lamina, registry: RegistryServer, tmp_path: Path) -> None:
    """CVE-2023-26054 and its like."""
    registry.user = ("me", "pa55word")
    registry.put_image("app", "1", [layer(a=b"a")])
    mine("login", "-u", "me", "-p", "pa55word", registry.host)
    (tmp_path / "context").mkdir()
    (tmp_path / "context/Dockerfile").write_text(f"FROM {registry.host}/app:1\nLABEL a=1\n")
    mine("build", "--push", "-t", f"{registry.host}/made:1", tmp_path / "context")
    secrets = (b"pa55word", b"bWU6cGE1NXdvcmQ")  # as it is, and in base64
    for path in mine.root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            assert not any(secret in data for secret in secrets), path


def test_search_shows_what_a_registry_finds(mine: Lamina, registry: RegistryServer) -> None:
    hits = [
        {"name": "one", "description": "d" * 60, "star_count": 3, "is_official": True},
        {"name": "two", "description": "", "star_count": 9, "is_official": False},
    ]

    def answer(request: Request) -> bool:
        if request.path.startswith("/v1/search?q=thing&n=25"):
            request.reply(200, json.dumps({"results": hits}).encode())
        return request.path.startswith("/v1/search?q=thing")

    registry.intercept = answer
    lines = mine.text("search", f"{registry.host}/thing").splitlines()
    assert lines[0].split() == ["NAME", "DESCRIPTION", "STARS", "OFFICIAL"]
    assert lines[1].split() == ["two", "9"]
    assert lines[2].split() == ["one", "d" * 44 + "…", "3", "[OK]"]
    found = mine.text("search", "-f", "stars=5", "--format", "{{.Name}}", f"{registry.host}/thing")
    assert found == "two"
    registry.intercept = None
    refused = mine("search", f"{registry.host}/thing", code=1).stderr.decode()
    assert f"registry {registry.host} offers no search" in refused
    mine("search", "--limit", "0", "x", code=125)


def test_a_pull_that_cannot_be_says_so_with_1(lamina: Lamina, registry: RegistryServer) -> None:
    registry.put_image("app", "1", [layer(a=b"a")])
    for words, text in (
        (("pull", f"{registry.host}/app:2"), "manifest unknown"),
        (("pull", f"{registry.host}/nothing"), "manifest unknown"),
        (("pull", "-a", f"{registry.host}/app:1"), "tag can't be used with --all-tags/-a"),
        (("pull", "127.0.0.1:1/app"), "connection refused"),
        (("pull", "UPPER"), "must be lowercase"),
        (("push", f"{registry.host}/none:1"), "No such image"),
        (("push", f"{registry.host}/app@sha256:{64 * '0'}"), "cannot push a digest reference"),
        (("pull", "--platform", "a/b/c/d", f"{registry.host}/app:1"), '"a/b/c/d": cannot parse platform specifier'),
    ):
        done = lamina(*words, code=1)
        assert text in done.stderr.decode(), words
    assert lamina.text("images", "-q") == ""


def test_all_tags_are_those_of_images(lamina: Lamina, registry: RegistryServer) -> None:
    """What a tag means counts, not what it is called."""
    app = [layer(a=b"a")]
    for tag in ("1", f"sha256-{64 * '0'}", f"sha256-{64 * '0'}.sig"):
        registry.put_image("app", tag, app)
    index = registry.put_index("app", "all", {"linux/amd64": app, "linux/s390x": app}, attested=True)
    kind = "application/vnd.test.thing.v1+json"
    cache = registry.put_image("app", "none", app)
    cache["config"]["mediaType"] = kind
    registry.put_manifest("app", "cache", cache)
    signature = registry.put_image("app", "none", app)
    signature["layers"][0]["mediaType"] = kind
    registry.put_manifest("app", "signature", signature)
    for tag, entries in (("buildkit", signature["layers"]), ("referrers", json.loads(index)["manifests"][2:])):
        document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
        registry.put_manifest("app", tag, document, INDEX)
    registry.put_manifest("app", "other", {"schemaVersion": 2, "mediaType": kind}, kind)
    registry.manifests.pop(("app", "none"))
    done = lamina("pull", "-a", "-q", f"{registry.host}/app")
    told = done.stderr.decode().splitlines()
    passed = ["buildkit", "cache", "other", "referrers", "signature"]
    assert [line.partition(" is passed over: ")[0] for line in told] == [f"tag {tag}" for tag in passed]
    assert all(f"{registry.host}/app is no container image: " in line for line in told)
    tags = set(lamina.text("images", "--format", "{{.Tag}}").split())
    assert sorted(tags) == ["1", "all", f"sha256-{64 * '0'}", f"sha256-{64 * '0'}.sig"]
    for tag in tags:
        lamina("image", "inspect", f"{registry.host}/app:{tag}")


def test_a_terminal_shows_bars(lamina: Lamina, registry: RegistryServer) -> None:
    registry.put_image("app", "1", [layer(a=os.urandom(2_000_000))])
    master, slave = pty.openpty()
    process = lamina.start("pull", f"{registry.host}/app:1", stdout=slave, stderr=slave, stdin=subprocess.DEVNULL)
    os.close(slave)
    text = b""
    try:
        while data := os.read(master, 1 << 16):
            text += data
    except OSError:
        pass  # the other end has gone
    os.close(master)
    assert process.wait() == 0
    assert b": Downloading" in text and b"MB/2" in text and b"\x1b[" in text
    assert b": Pull complete" in text and b"Status: Downloaded newer image" in text


def test_ctrl_c_ends_a_pull_that_hangs(lamina: Lamina, registry: RegistryServer) -> None:
    import threading

    registry.put_image("app", "1", [layer(a=b"a")])
    reached = threading.Event()

    def hang(request: Request) -> bool:
        if request.command != "GET" or "/blobs/" not in request.path or "config" in request.path:
            return False
        size = len(registry.blobs[request.path.rpartition("/")[2]])
        if size > 200:
            return False
        request.send_response(200)
        request.send_header("Content-Length", str(size))
        request.end_headers()
        request.wfile.flush()
        reached.set()
        request.rfile.read(1)  # until the client goes
        return True

    registry.intercept = hang
    process = lamina.start("pull", f"{registry.host}/app:1", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert reached.wait(60)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 130 and b"Traceback" not in told, told
    assert lamina("fsck").returncode == 0


def test_what_needs_no_registry_loads_nothing_for_it(busybox: Lamina, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN true\n")
    busybox("build", "-q", "-t", "made", tmp_path)
    program = (
        "import sys; from builder.cli import main; sys.argv = {!r}; code = main(); "
        "bad = [m for m in ('urllib3', 'ssl', 'http.client', 'builder.transfer.registry.session') if m in sys.modules];"
        "sys.exit(f'{{bad}}' if bad or code else 0)"
    )
    for words in (["build", "-t", "made", str(tmp_path)], ["images"], ["create", "made", "true"], ["--version"]):
        done = subprocess.run(
            [sys.executable, "-c", program.format(["lamina", *words])],
            env={**busybox.variables(None)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (words, done.stderr)


def test_proxies_of_the_configuration_reach_builds_and_containers(busybox: Lamina, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"proxies": {"default": {"httpProxy": "http://p.test:1"}}}))
    mine = replace(busybox, environment={**busybox.environment, "DOCKER_CONFIG": str(tmp_path)})
    done = mine.text("run", "--rm", "busybox", "sh", "-c", "echo $HTTP_PROXY $http_proxy")
    assert done == "http://p.test:1 http://p.test:1"
    done = mine.text("run", "--rm", "-e", "http_proxy=own", "busybox", "sh", "-c", "echo $HTTP_PROXY $http_proxy")
    assert done == "http://p.test:1 own"
    (tmp_path / "context").mkdir()
    (tmp_path / "context/Dockerfile").write_text("FROM busybox\nRUN echo $http_proxy > /seen\n")
    mine("build", "-q", "-t", "seen", tmp_path / "context")
    assert mine.text("run", "--rm", "-e", "http_proxy=", "seen", "cat", "/seen") == "http://p.test:1"
    assert "p.test" not in mine.text("history", "--no-trunc", "seen")


def test_who_reaches_no_registry_is_told_what_makes_the_same_image(mine: Lamina) -> None:
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:1", "CONTAINERS_REGISTRIES_CONF": os.devnull}
    told = mine("pull", "debian:bookworm", code=1, environment=nowhere).stderr.decode()
    assert told.endswith(", or make one without a registry: lamina bootstrap debian:bookworm\n")
    assert "bootstrap" not in mine("pull", "alpine", code=1, environment=nowhere).stderr.decode()
