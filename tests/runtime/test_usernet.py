"""The network of a plain user's container: a root of a user namespace only, who may not touch the host's interfaces."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from runtime import usernet

pytestmark = pytest.mark.root

SCRIPT = """
import socket, sys
from runtime import defaults, usernet, userns
from runtime.container import Launcher
from runtime.ports import PortMapping
from runtime.spec import Process, Rootfs

program, directory, layer, closed = sys.argv[1:]
userns.enter(f"{directory}/run")
assert usernet.needed()
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
script = f"ip -4 addr show eth0; nc -w 3 10.0.2.2 {closed} < /dev/null && echo reached; echo hello | nc -l -p 80"
spec = defaults.build_spec(
    "test-usernet", Rootfs((layer,), f"{directory}/upper", f"{directory}/work"), Process(("sh", "-c", script))
)
helpers = []

def network(pid):
    mapping = PortMapping(80, host_ip="127.0.0.1", host_port=port)
    helpers.append(usernet.start(pid, (mapping,), among=(program,)))

with Launcher() as launcher:
    running = launcher.start(spec, stdout=1, stderr=2, network=network)
    answer = b""
    while not answer:  # until the container listens
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            try:
                answer = connection.recv(100)
            except ConnectionResetError:
                pass
    running.kill(9)
    running.wait()
for helper in helpers:
    helper.stop()
    helper.stop()
print("answer", answer.decode())
"""


def test_root_of_the_host_needs_none():
    assert not usernet.needed()


@pytest.mark.parametrize("program", ["pasta", "slirp4netns"])
def test_a_container_reaches_the_outside_and_is_reached(busybox, tmp_path, program):
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("no /dev/net/tun")
    for name in ("upper", "work"):
        (tmp_path / name).mkdir()
    # Something of the host's that only its loopback should see.
    with socket.socket() as private:
        private.bind(("127.0.0.1", 0))
        private.listen()
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, program, tmp_path, busybox, str(private.getsockname()[1])],
            capture_output=True, text=True, timeout=60, check=False, cwd=Path(__file__).parent.parent.parent,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "inet 10.0.2.100/24" in done.stdout and "answer hello" in done.stdout
    assert "reached" not in done.stdout
