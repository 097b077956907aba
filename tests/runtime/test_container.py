"""Starting, failing and ending containers, and what is left of them: nothing."""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.container import Launcher, freeze, thaw
from runtime.errors import CommandNotFound, CommandNotInvocable
from runtime.spec import IdMap, Mount, Spec

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


def test_inits_privileges_and_name_are_the_programs(box):
    show = "grep -hE '^(Cap|Seccomp|Uid)' /proc/1/status /proc/self/status | sort | uniq -u; cat /proc/1/cmdline"
    for user in ("0", "33"):
        text = box.run(replace(box.spec("sh", "-c", show, user=user), init=True))[1]
        assert text.startswith("/sbin/lamina-init\0--\0sh\0-c"), text


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

    script = (
        "cat /etc/hosts /etc/resolv.conf; hostname; ls /etc/hostname; (: >> /etc/hosts); touch /stage/new; ls /stage"
    )
    text = box.shell(f"({script}) 2>&1", change)
    assert text.split("\n")[:3] == ["127.0.0.1 x", "nameserver 1.1.1.1", "buildsandbox"]
    assert "/etc/hostname: No such file" in text and "Read-only file system" in text
    assert {"group", "new", "passwd"} <= set(text.split("\n"))
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
        for directory in groups_called(f"test-killed-{os.getpid()}"):
            # The lock goes with the last process that had it, which may be a helper of the killed one.
            try:
                fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:
                continue  # another launcher on this host has cleared it already
            fcntl.flock(fd, fcntl.LOCK_EX)
            os.close(fd)
        from runtime import cgroups

        cgroups.reap()
    assert groups_called(f"test-killed-{os.getpid()}") == []


def groups_called(name: str) -> list[str]:
    found = subprocess.run(["find", "/sys/fs/cgroup", "-name", name], capture_output=True, text=True, check=False)
    return found.stdout.split()


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


def test_memory_is_shared_with_the_ipc_namespace_of_another_container(box):
    first = box.launcher.start(
        box.spec("sh", "-c", "echo shared > /dev/shm/note; touch /dev/shm/ready; exec sleep 100"), stdout=2, stderr=2
    )

    def join(spec: Spec) -> Spec:
        return replace(spec, namespaces=replace(spec.namespaces, ipc=f"/proc/{first.pid}/ns/ipc"))

    script = (
        "until test -e /dev/shm/ready; do :; done; cat /dev/shm/note; readlink /proc/self/ns/ipc; touch /dev/shm/back"
    )
    inside = box.shell(script, join)
    assert inside.split() == ["shared", os.readlink(f"/proc/{first.pid}/ns/ipc")]
    assert os.path.exists(f"/proc/{first.pid}/root/dev/shm/back")
    assert box.shell("ls /dev/shm") == ""
    first.kill(signal.SIGKILL)
    first.wait(10)


def test_the_hosts_pid_and_ipc_namespaces(box):
    def share(spec: Spec) -> Spec:
        return replace(spec, namespaces=replace(spec.namespaces, pid="host", ipc="host"))

    name = f"lamina-test-{os.getpid()}"
    Path("/dev/shm", name).write_text("of the host\n")
    try:
        script = f"cat /dev/shm/{name}; ls -d /proc/{os.getpid()}"
        text = box.shell(f"readlink /proc/self/ns/pid; readlink /proc/self/ns/ipc; {script}", share)
    finally:
        Path("/dev/shm", name).unlink()
    assert text.splitlines() == [
        os.readlink("/proc/self/ns/pid"), os.readlink("/proc/self/ns/ipc"), "of the host", f"/proc/{os.getpid()}"
    ]  # fmt: skip


def test_what_is_left_in_the_hosts_pid_namespace_is_killed(box):
    def share(spec: Spec) -> Spec:
        return replace(spec, namespaces=replace(spec.namespaces, pid="host"))

    left = int(box.shell("sleep 1000 > /dev/null 2>&1 & echo $!", share))
    try:
        status = Path(f"/proc/{left}/stat").read_text()
    except FileNotFoundError:
        return
    assert status.rpartition(")")[2].split()[0] == "Z"  # dead; the host's init has not asked for it yet


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A directory that every user may enter, as pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


def test_a_user_namespace_of_its_own(box, busybox, reachable):
    """Its root is somebody who may do nothing here, so the layers must be where anybody can go."""
    ids = (IdMap(0, 100000, 65536),)
    shutil.copytree(busybox, reachable / "layer", symlinks=True)
    for name in ("upper", "work"):
        (reachable / name).mkdir()
        os.chown(reachable / name, 100000, 100000)
    box = replace(box, lowers=(str(reachable / "layer"),), upper=reachable / "upper", work=reachable / "work")

    def own(spec: Spec) -> Spec:
        return replace(spec, namespaces=replace(spec.namespaces, uid_maps=ids, gid_maps=ids), sysctls=())

    text = box.shell("id -u; cat /proc/self/uid_map; touch /new && chown 7:8 /new; cat /dev/null; echo $?", own)
    assert text.split() == ["0", "0", "100000", "65536", "0"]
    status = (box.upper / "new").stat()
    assert (status.st_uid, status.st_gid) == (100007, 100008)


def test_a_prepared_process_is_taken_only_for_its_own_kind(box):
    """One launcher: containers of one kind, then of others; each is what it was asked to be."""
    with Launcher() as launcher:
        box = replace(box, launcher=launcher, another=True)
        launcher.warm(box.spec("true"))
        for number in range(3):
            assert box.shell(f"hostname; echo {number}", lambda spec: replace(spec, hostname=f"h{spec.id[-4:]}"))
        size = box.shell("df -k /dev/shm | tail -1 | awk '{print $2}'", lambda spec: replace(spec, shm_size=1 << 20))
        assert size == "1024\n"
        ttl = (("net.ipv4.ip_default_ttl", "33"),)
        got = box.shell("cat /proc/sys/net/ipv4/ip_default_ttl", lambda spec: replace(spec, sysctls=ttl))
        assert got == "33\n"
        tmpfs = Mount("tmpfs", "", "/dev/shm", ("size=8k",))
        assert "size=8k" in box.shell("grep /dev/shm /proc/mounts", lambda spec: replace(spec, mounts=(tmpfs,)))
        assert box.shell("readlink /proc/self/ns/net",
                         lambda spec: replace(spec, sysctls=(), namespaces=replace(spec.namespaces, network="host"))
                         ).strip() == os.readlink("/proc/self/ns/net")  # fmt: skip
