"""Debian's docker-registry on loopback, for tests that want a real registry; and what else of the host they need."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

USER, PASSWORD = "me", "pa55word"
HTPASSWD = "me:$2b$04$/325yJ9WaOJek.2uAQIW.OWnnm.TE69JNPqDrG7mlFtssiDhWkVhq\n"


def need(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def docker_registry(directory: Path, *, authority: trustme.CA | None = None) -> Iterator[str]:
    """Debian's docker-registry on loopback: with TLS and a password when it has an authority; its host:port."""
    program, host = need("docker-registry"), f"127.0.0.1:{free_port()}"
    directory.mkdir()
    config: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(directory / "data")}},
        "http": {"addr": host},
    }
    if authority is not None:
        certificate = authority.issue_cert("127.0.0.1")
        certificate.cert_chain_pems[0].write_to_path(str(directory / "cert.pem"))
        certificate.private_key_pem.write_to_path(str(directory / "key.pem"))
        (directory / "htpasswd").write_text(HTPASSWD)
        config["http"]["tls"] = {"certificate": str(directory / "cert.pem"), "key": str(directory / "key.pem")}
        config["auth"] = {"htpasswd": {"realm": "test", "path": str(directory / "htpasswd")}}
    (directory / "config.yml").write_text(json.dumps(config))
    with open(directory / "log", "wb") as log:
        server = subprocess.Popen([program, "serve", str(directory / "config.yml")], stdout=log, stderr=log)
    try:
        until = time.monotonic() + 30
        # It tells nobody that it is ready but by answering.
        while True:
            try:
                socket.create_connection(("127.0.0.1", int(host.rpartition(":")[2]))).close()
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < until, (directory / "log").read_text()
                time.sleep(0.05)
        yield host
    finally:
        server.terminate()
        server.wait(30)
