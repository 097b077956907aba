"""Debian's docker-registry on loopback and a dockerd of a test's own, for tests that want the real other side."""

import json
import shutil
import socket
import subprocess
import tempfile
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


@contextmanager
def dockerd() -> Iterator[list[str]]:
    """A docker daemon with a store of its own and no network; the beginning of the commands that talk to it."""
    client, daemon = need("docker"), need("dockerd")
    with tempfile.TemporaryDirectory(prefix="docker-") as place:
        command = [need("unshare"), "-m", daemon, "--bridge", "none", "--iptables=false", "--ip-masq=false"]
        command += ["--storage-driver", "vfs", "--data-root", f"{place}/data", "--exec-root", f"{place}/exec"]
        command += ["--pidfile", f"{place}/pid", "--host", f"unix://{place}/sock"]
        with open(f"{place}/log", "wb") as log:
            server = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            docker = [client, "-H", f"unix://{place}/sock"]
            until = time.monotonic() + 60
            # The daemon tells nobody that it is ready but by answering.
            while subprocess.run([*docker, "version"], capture_output=True, check=False).returncode:
                if server.poll() is not None or time.monotonic() > until:
                    pytest.skip(f"dockerd does not start here: {Path(place, 'log').read_text()[-300:]}")
                time.sleep(0.1)
            yield docker
        finally:
            server.terminate()
            server.wait(60)
