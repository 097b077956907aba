"""Four projects as users have them: built from their own Dockerfiles, run, and asked what they do."""

import json
import re
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]

Lamina = Any  # the fixture's type lives in conftest, which tests do not import

PROJECTS = Path(__file__).parent.parent.parent / "testdata" / "projects"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def build(lamina: Lamina, name: str, *flags: str) -> None:
    """Build project `name` under its own tag; the store then passes every check on the image."""
    if CERTIFICATES.exists():
        flags = (*flags, f"--secret=id=ca,src={CERTIFICATES}")
    lamina("build", "-t", name, *flags, PROJECTS / name)
    lamina("fsck")


def test_shell_tool_on_busybox(busybox: Lamina) -> None:
    build(busybox, "shell-tool")
    counted = busybox.text("run", "--rm", "shell-tool").splitlines()
    assert counted[:3] == ["3 a", "3 of", "2 layer"] and len(counted) == 8
    missing = busybox("run", "--rm", "shell-tool", "nothing.txt", code=3)
    assert missing.stderr == b"count: cannot read 'nothing.txt'\n"


@pytest.mark.slow
def test_c_program_is_built_in_debian_and_shipped_from_scratch(debian: Lamina) -> None:
    build(debian, "c-static", "--build-arg", "VERSION=1.2")
    assert debian.text("run", "--rm", "c-static").split() == ["2", "3", "5", "7", "11", "13", "17", "19"]
    assert debian.text("run", "--rm", "c-static", "--version") == "primes 1.2"
    assert debian("run", "--rm", "c-static", "many", code=2).stderr == b"usage: primes LIMIT\n"
    [image] = json.loads(debian.text("inspect", "c-static"))
    assert len(image["RootFS"]["Layers"]) == 1
    assert image["Size"] < 2_000_000
    debian("build", "--target", "test", PROJECTS / "c-static")


@pytest.mark.slow
def test_flask_service_answers_on_a_published_port(debian: Lamina) -> None:
    build(debian, "flask-service")
    container = debian.text("run", "-d", "-p", "127.0.0.1:0:8000", "flask-service")
    try:
        port = re.fullmatch(r"127\.0\.0\.1:(\d+)", debian.text("port", container, "8000"))
        assert port
        reply = json.loads(fetch(f"http://127.0.0.1:{port[1]}/greet?name=lamina"))
        assert reply == {"greeting": "hello lamina", "user": 33}
        assert b"GET /greet?name=lamina" in debian("logs", container).stderr
    finally:
        debian("rm", "-f", container)


@pytest.mark.slow
def test_node_program_uses_its_npm_package(debian: Lamina) -> None:
    build(debian, "node-service")
    assert debian.text("run", "--rm", "node-service", "node", "table.js", "x").splitlines() == [
        "x is not a number",
        "12 is a number",
        "twelve is not a number",
    ]


def fetch(url: str) -> bytes:
    """The body at `url`, asked for until the server listens (it has ten seconds)."""
    deadline = time.monotonic() + 10
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as reply:
                return reply.read()
        except (urllib.error.URLError, ConnectionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)  # a server that does not listen yet gives nothing to wait on
