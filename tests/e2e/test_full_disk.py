"""Containers that fill the store's disk: what they said and how they ended is known, and they can be removed."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root

# In namespaces of its own, so that the small disk and the bridge go with the script.
SCRIPT = """
mount -t tmpfs -o size=12m none "$DISK" && ip link set lo up || exit 99
lamina() {{ {lamina} --root "$DISK/store" "$@"; }}
lamina load -qi {archive} > /dev/null
fill='dd if=/dev/zero of=/y bs=1M count=20 2> /dev/null; echo told; exit 3'
for round in 1 2; do lamina run --rm busybox sh -c "$fill"; echo "ended $?"; done
lamina run --name full busybox sh -c "$fill"
lamina inspect -f '{{{{.State.Status}}}} {{{{.State.ExitCode}}}}' full
lamina ps -a --format '{{{{.Names}}}}'
lamina rm full
mkdir "$DISK/context"
printf 'FROM busybox\\nRUN echo step told; dd if=/dev/zero of=/y bs=1M count=20; exit 4\\n' > "$DISK/context/Dockerfile"
lamina build "$DISK/context" 2>&1 | grep -oE 'step told$|did not complete successfully: exit code: 4' | sort | uniq
lamina run --rm busybox echo again
lamina fsck 2>&1
"""


def test_a_container_that_fills_the_disk_ends_as_it_does_elsewhere(
    busybox: Any, base_archives: Any, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    script = SCRIPT.format(lamina=busybox.command()[0], archive=base_archives.get("busybox"))
    command = ["unshare", "--mount", "--net", "--propagation", "private", "bash", "-c", script]
    environment = {**busybox.variables(None), "DISK": str(disk)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, env=environment)
    assert done.stdout.splitlines() == [
        *("told", "ended 3", "told", "ended 3", "told", "exited 3", "full", "full"),
        *("did not complete successfully: exit code: 4", "step told", "again", "the store is clean"),
    ], done.stderr
