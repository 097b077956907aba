"""The files of a root's networks: kept whole, whatever happens while they are written."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from runtime import networkstate
from runtime.errors import NetworkError
from runtime.networkstate import NetworkRequest

# Its own mount namespace, so that the small disk goes with the process.
FULL = """
import os, subprocess, sys
from runtime import networkstate
from runtime.errors import NetworkError
from runtime.networkstate import NetworkRequest
disk = sys.argv[1]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], check=True)
root = os.path.join(disk, "networks")
def define(name):
    with networkstate.opened(root, write=True) as state:
        state.define(NetworkRequest(name), (), created="")
def known():
    with networkstate.opened(root, write=False) as state:
        return [network.name for network in state.networks]
define("one")
for ballast in (open(os.path.join(disk, "ballast"), "wb", buffering=0),):
    try:
        while ballast.write(bytes(4096)):
            pass
    except OSError:
        pass
try:
    define("two")
except NetworkError as err:
    print(err.message)
    print(err.hint)
print(known(), sorted(os.listdir(root)))
os.unlink(os.path.join(disk, "ballast"))
ballast.close()
define("two")
print(known())
"""


@pytest.mark.root
def test_a_full_disk_is_told_and_leaves_what_was(tmp_path: Path) -> None:
    command = ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", FULL, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"cannot write {tmp_path}/networks/networks.json: no space left on device",
        "make room on its disk: lamina system prune",
        "['one'] ['lock', 'networks.json']",
        "['one', 'two']",
    ]


def test_what_is_read_is_what_was_kept(tmp_path: Path) -> None:
    asked = NetworkRequest("one", subnet="10.99.0.0/24", labels=(("a", "b"),), internal=True)
    with networkstate.opened(str(tmp_path), write=True) as state:
        made = state.define(asked, (), created="now")
    with networkstate.opened(str(tmp_path), write=False) as again:
        assert again.networks == [made] and again.root == state.root
        assert again.find(made.id[:8]) == again.find("one") == made


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "networks.json").write_text(json.dumps({"networks": []})[:-3])
    with (
        pytest.raises(NetworkError, match=r"networks\.json is damaged"),
        networkstate.opened(str(tmp_path), write=True),
    ):
        pass
