"""Starting, failing and ending containers, and what is left of them: nothing."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.container import Launcher, freeze, thaw
from runtime.errors import CommandNotFound, CommandNotInvocable
from runtime.spec import Mount, Spec

pytestmark = pytest.mark.root


@pytest.mark.parametrize(
    ("argv", "error", "text"),
    [
        ("nosuch", CommandNotFound, 'exec: "nosuch": executable file not found in $PATH'),
        ("/no/such", CommandNotFound, 'exec: "/no/such": stat /no/such: no such file or directory'),
        ("/etc", CommandNotInvocable, 'exec: "/etc": is a directory'),
        ("/etc/passwd", CommandNotInvocable, 'exec: "/etc/passwd": permission denied'),
    ],
)
def test_a_program_that_cannot_run(box, argv, error, text):
    with pytest.raises(error) as raised:
        box.run(box.spec(argv))
    assert str(raised.value) == text


def test_exit_codes_and_signals(box):
    assert box.run(box.spec("sh", "-c", "exit 42"))[0].code == 42
    running = box.launcher.start(box.spec("sleep", "100"), stdout=2, stderr=2)
    running.kill(signal.SIGKILL)
    result = running.wait(10)
    assert (result.code, result.signal) == (137, 9)


def test_init_passes_signals_on_and_reaps(box):
    spec = replace(box.spec("sh", "-c", "trap 'exit 7' TERM; echo; while :; do sleep 0.1; done"), init=True)
    read, write = os.pipe()
    running = box.launcher.start(spec, stdout=write, stderr=2)
    os.read(read, 1)
    running.kill(signal.SIGTERM)
    assert running.wait(10).code == 7
    os.close(read)
    os.close(write)


def test_the_network_hook_sees_the_namespaces_and_may_refuse(box):
    seen = []
    box.launcher.start(
        box.spec("true"), stdout=2, stderr=2, network=lambda pid: seen.append(os.readlink(f"/proc/{pid}/ns/net"))
    ).wait(10)
    assert seen and seen[0] != os.readlink("/proc/self/ns/net")

    def refuse(pid: int) -> None:
        seen.append(pid)
        raise ConnectionError("no")

    with pytest.raises(ConnectionError):
        box.launcher.start(box.spec("true"), stdout=2, stderr=2, network=refuse)
    assert not os.path.exists(f"/proc/{seen[-1]}")


def test_a_terminal_of_its_own(box):
    spec = box.spec("sh", "-c", "tty; stty size; test -c /dev/console", terminal=True, console_size=(33, 77))
    running = box.launcher.start(spec, stdout=2, stderr=2)
    assert running.console is not None
    text = b""
    try:
        while part := os.read(running.console, 4096):
            text += part
    except OSError:
        pass
    os.close(running.console)
    assert running.wait(10).code == 0 and text == b"/dev/pts/0\r\n33 77\r\n"


def test_pause_and_unpause(box):
    running = box.launcher.start(box.spec("sleep", "100"), stdout=2, stderr=2)
    freeze(running.pid)
    running.kill(signal.SIGTERM)
    assert not select.select([running], [], [], 0)[0]
    thaw(running.pid)
    running.kill(signal.SIGKILL)
    assert running.wait(10).code == 137


def test_files_in_memory_and_mount_points_stay_out_of_the_layer(box, busybox):
    def change(spec: Spec) -> Spec:
        mounts = (
            Mount("tmpfs", "", "/mp/deep"),
            Mount("overlay", "", "/stage", subpath="etc", rootfs=replace(spec.rootfs, upper=None, work=None)),
        )
        return replace(spec, mounts=mounts, hosts="127.0.0.1 x\n", resolv_conf="nameserver 1.1.1.1\n")

    text = box.shell("cat /etc/hosts /etc/resolv.conf /etc/hostname; touch /stage/new; ls /stage", change)
    assert text.split("\n")[:3] == ["127.0.0.1 x", "nameserver 1.1.1.1", "buildsandbox"]
    assert {"group", "new", "passwd"} <= set(text.split("\n")[3:])
    assert os.listdir(box.upper) == [] and not (busybox / "etc/new").exists()


def test_killing_the_launcher_kills_and_the_next_one_clears(busybox, tmp_path):
    program = f"""
import os, sys, time
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from runtime import defaults
from runtime.container import Launcher
from runtime.spec import Process, Rootfs
launcher = Launcher()
rootfs = Rootfs(({str(busybox)!r},))
spec = defaults.build_spec("test-killed-{os.getpid()}", rootfs, Process(("sleep", "1000")))
r = launcher.start(spec, stdout=1, stderr=2)
print(r.pid, launcher._pid, flush=True)
time.sleep(1000)
"""
    for victim in ("command", "launcher"):
        command = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        assert command.stdout is not None
        pid, launcher = map(int, command.stdout.readline().split())
        pidfds = [os.pidfd_open(pid), os.pidfd_open(launcher)]
        os.kill(command.pid if victim == "command" else launcher, signal.SIGKILL)
        for pidfd in pidfds:
            assert select.select([pidfd], [], [], 10)[0]
            os.close(pidfd)
        command.kill()
        command.wait()
        command.stdout.close()
    with Launcher() as launcher_:
        launcher_.warm()
        from runtime import cgroups

        cgroups.reap()
    found = subprocess.run(
        ["find", "/sys/fs/cgroup", "-name", f"test-killed-{os.getpid()}"], capture_output=True, text=True, check=False
    )
    assert found.stdout == ""


def test_the_namespaces_of_another_container(box):
    first = box.launcher.start(box.spec("sleep", "100"), stdout=2, stderr=2)

    def join(spec: Spec) -> Spec:
        paths = {name: f"/proc/{first.pid}/ns/{kind}" for name, kind in (("pid", "pid"), ("network", "net"))}
        return replace(spec, namespaces=replace(spec.namespaces, **paths), sysctls=())

    inside = box.on().shell("readlink /proc/self/ns/net; ps | grep -c '[s]leep 100'", join)
    assert inside.split() == [os.readlink(f"/proc/{first.pid}/ns/net"), "1"]
    assert "sleep 100" not in box.shell("ps")
    first.kill(signal.SIGKILL)
    first.wait(10)
