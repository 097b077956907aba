"""The hardening table of docker, read from inside a container; and escapes that must fail, with a canary outside."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from runtime import defaults
from runtime.errors import CommandNotFound, CommandNotInvocable, ContainerError, MountFailed, UserNotFound
from runtime.linux.files import RENAME_EXCHANGE, renameat2
from runtime.spec import Device, Mount, Rlimit, Rootfs, Spec

pytestmark = pytest.mark.root

CAPS = "00000000a80425fb"


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    host = tmp_path / "host"
    (host / "etc").mkdir(parents=True)
    (host / "secret").write_text("top")
    (host / "etc/passwd").write_text("bob:x:0:0::/:/bin/sh\n")
    return host


def state(tree: Path) -> list[tuple[str, int, int, int, str]]:
    found = []
    for path in sorted([tree, *tree.rglob("*")]):
        status = path.lstat()
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found.append((str(path), status.st_ino, status.st_mode, status.st_mtime_ns, digest))
    return found


def test_capabilities_are_dockers_fourteen(box):
    lines = dict(line.split(":\t") for line in box.shell("grep Cap /proc/self/status").splitlines())
    assert lines == {"CapInh": "0" * 16, "CapPrm": CAPS, "CapEff": CAPS, "CapBnd": CAPS, "CapAmb": "0" * 16}


def test_another_user_has_no_effective_capabilities(box):
    lines = box.shell("grep -E 'Cap(Eff|Prm|Inh|Bnd)' /proc/self/status", user="app").split()
    assert lines == ["CapInh:", "0" * 16, "CapPrm:", "0" * 16, "CapEff:", "0" * 16, "CapBnd:", CAPS]


def test_seccomp_denies_what_docker_denies(box):
    assert "Seccomp:\t2\n" in box.shell("cat /proc/self/status")
    for command in ("unshare -m true", "unshare -U true", "mount -t tmpfs none /tmp", "mount -t cgroup c /tmp"):
        assert "denied" in box.shell(f"{command} 2>&1 && echo allowed || echo denied"), command
    allowed = box.shell("unshare -m true && echo allowed", lambda spec: defaults.privileged(spec))
    assert allowed == "allowed\n"


def test_no_new_privileges_is_off_and_can_be_on(box):
    assert box.shell("grep NoNewPrivs /proc/self/status").split() == ["NoNewPrivs:", "0"]
    assert box.shell("grep NoNewPrivs /proc/self/status", no_new_privileges=True).split() == ["NoNewPrivs:", "1"]


def test_paths_are_masked_and_read_only(box):
    for path in defaults.MASKED_PATHS:
        assert box.shell(f"for p in {path}; do test ! -e $p || test -z \"$(cat $p 2>/dev/null; ls $p/ 2>/dev/null)\" "
                         f"|| echo visible; done") == "", path  # fmt: skip
    for path in ("/proc/sys/kernel/core_pattern", "/sys/kernel/x"):
        assert "Read-only" in box.shell(f"echo x 2>&1 > {path} || true; (echo x > {path}) 2>&1 || true"), path


def test_mounts_and_their_options(box):
    table = {}
    for line in box.shell("cat /proc/self/mountinfo").splitlines():
        head, _, tail = line.partition(" - ")
        assert "shared:" not in head and "master:" not in head
        fields = head.split()
        table[fields[4]] = (tail.split()[0], set(fields[5].split(",")), tail.split()[2])
    safe = {"nosuid", "nodev", "noexec"}
    assert table["/"][0] == "overlay"
    assert table["/proc"][0] == "proc" and table["/proc"][1] >= safe
    assert table["/dev"][0] == "tmpfs" and "nosuid" in table["/dev"][1] and "size=65536k" in table["/dev"][2]
    assert table["/dev/pts"][0] == "devpts" and table["/dev/pts"][1] >= {"nosuid", "noexec"}
    assert "gid=5" in table["/dev/pts"][2] and "ptmxmode=666" in table["/dev/pts"][2]
    assert table["/dev/shm"][1] >= safe and "size=65536k" in table["/dev/shm"][2]
    assert table["/dev/mqueue"][0] == "mqueue" and table["/dev/mqueue"][1] >= safe
    assert table["/sys"][0] == "sysfs" and table["/sys"][1] >= safe | {"ro"}
    assert table["/sys/fs/cgroup"][1] >= safe | {"ro"}


def test_devices(box):
    text = box.shell("cd /dev; for f in *; do test -c $f && test ${f#std} = $f && stat -Lc '%n %t:%T' $f; done; true")
    assert text.split("\n")[:-1] == [
        "full 1:7", "null 1:3", "ptmx 5:2", "random 1:8", "tty 5:0", "urandom 1:9", "zero 1:5"]  # fmt: skip
    assert "not permitted" in box.shell("mknod /tmp/d b 254 0 && (cat /tmp/d > /dev/null) 2>&1 || true")


def test_a_device_that_was_given_and_one_that_was_not(box):
    # 10:229 is fuse, whether this kernel has it or not: the group of devices is asked first.
    fuse = Device("/dev/fuse", "c", 10, 229, mode=0o600)
    script = "stat -c '%t:%T %a' $0; { true <> $0; } 2>&1 || true"
    given = box.shell(script.replace("$0", "/dev/fuse"), lambda spec: replace(spec, devices=(fuse,)))
    assert given.startswith("a:e5 600\n") and "not permitted" not in given
    # The capability to make nodes is docker's default; to use one that was not given is not allowed.
    assert "not permitted" in box.shell("mknod /tmp/fuse c 10 229 && " + script.replace("$0", "/tmp/fuse"))


def test_row_4_a_console_that_is_a_link_of_the_images(box, canary, tmp_path):
    layer = tmp_path / "hostile"
    (layer / "dev").mkdir(parents=True)
    (layer / "dev/pts").symlink_to(f"..{canary}")
    (layer / "dev/console").symlink_to(f"..{canary}/secret")
    before = state(canary)
    hostile = box.on(layer)
    spec = hostile.spec("sh", "-c", "tty; stat -c %F /dev/console; echo > /dev/console", terminal=True)
    running = box.launcher.start(spec, stdout=2, stderr=2)
    assert running.console is not None
    text = b""
    try:
        while part := os.read(running.console, 4096):
            text += part
    except OSError:
        pass
    os.close(running.console)
    assert running.wait(10).code == 0 and text.split() == [b"/dev/pts/0", b"character", b"special", b"file"]
    assert state(canary) == before


def test_only_standard_descriptors_and_own_namespaces(box):
    read, write = os.pipe()
    os.set_inheritable(write, True)
    try:
        assert box.shell("ls /proc/1/fd; true").split() == ["0", "1", "2"]
        kinds = ("mnt", "net", "uts", "pid", "ipc", "time")
        inside = box.shell(f"for k in {' '.join(kinds)}; do readlink /proc/self/ns/$k; done").split()
        assert all(os.readlink(f"/proc/self/ns/{kind}") != there for kind, there in zip(kinds, inside, strict=True))
    finally:
        os.close(read)
        os.close(write)


def test_sysctls_limits_host_name_and_process_one(box):
    script = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start; ulimit -Sn; hostname; umask; cat /proc/1/oom_score_adj"
    assert box.shell(script, oom_score_adj=100).split() == ["0", "1024", "buildsandbox", "0022", "100"]
    assert box.shell("ulimit -Sn; ulimit -Hn", rlimits=(Rlimit("nofile", 512, 1024),)).split() == ["512", "1024"]


def test_memory_limit_is_told_as_such(box):
    spec = box.spec("sh", "-c", "x=$(head -c 100000000 /dev/zero | tail); exit 3")
    result, _ = box.run(replace(spec, resources=replace(spec.resources, memory=16 << 20)))
    assert result.oom_killed and result.usage.peak_memory <= 16 << 20


def test_row_1_no_descriptor_leads_out(box):
    for number in range(3, 20):
        with pytest.raises((CommandNotFound, CommandNotInvocable)):
            box.run(box.spec("pwd", cwd=f"/proc/self/fd/{number}"))


def test_row_2_the_interpreter_cannot_be_written(box, tmp_path):
    layer = tmp_path / "layer"
    layer.mkdir()
    (layer / "entry").write_text("#!/proc/self/exe\n")
    (layer / "entry").chmod(0o755)
    before = hashlib.sha256(Path(sys.executable).read_bytes()).hexdigest()
    try:
        box.on(layer).run(box.on(layer).spec("/entry"))
    except ContainerError as err:
        assert err.code in (126, 127)
    spec = replace(box.spec("sh", "-c", "(: >> /proc/1/exe) 2>&1; echo done"), init=True)
    _, text = box.run(spec)
    assert "denied" in text or "nonexistent" in text
    assert hashlib.sha256(Path(sys.executable).read_bytes()).hexdigest() == before


def test_row_3_a_false_dev_null_masks_nothing(box, tmp_path):
    (tmp_path / "layer/dev").mkdir(parents=True)
    (tmp_path / "layer/dev/null").symlink_to("/proc/sys/kernel/core_pattern")
    text = box.on(tmp_path / "layer").shell("stat -c %t:%T /dev/null; cat /proc/timer_list | wc -c")
    assert text.split() == ["1:3", "0"]


@pytest.mark.parametrize("name", ["proc", "dev", "sys"])
def test_rows_5_and_6_system_directories_that_are_links_are_refused(box, canary, tmp_path, name):
    layer = tmp_path / "layer"
    layer.mkdir()
    (layer / name).symlink_to(f"../..{canary}")
    before = state(canary)
    with pytest.raises(MountFailed, match=f"/{name}"):
        box.on(layer).shell("true")
    assert state(canary) == before


def test_row_5_nothing_is_mounted_over_proc(box, tmp_path):
    for destination in ("/proc", "/proc/sys", "/tmp/../proc/self", "//proc/sys"):
        with pytest.raises(MountFailed, match="inside /proc"):
            box.shell("true", lambda spec, at=destination: replace(spec, mounts=(Mount("bind", str(tmp_path), at),)))


@contextmanager
def flipping(directory: Path, one: str, other: str) -> Iterator[None]:
    """The two names of *directory* change places all the time."""
    stop = threading.Event()
    fd = os.open(directory, os.O_RDONLY)

    def flip() -> None:
        while not stop.is_set():
            renameat2(fd, one, fd, other, RENAME_EXCHANGE)

    thread = threading.Thread(target=flip)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        os.close(fd)


def test_row_7_a_link_that_flips_in_a_shared_volume(box, canary, tmp_path):
    volume = tmp_path / "volume"
    (volume / "a").mkdir(parents=True)
    (volume / "b").symlink_to(f"../../../../../..{canary}")
    before = state(canary)
    mounts = (Mount("bind", str(volume), "/v"), Mount("tmpfs", "", "/v/a/x"))
    with flipping(volume, "a", "b"):
        for _ in range(15):
            with suppress(MountFailed):
                box.shell("true", lambda spec: replace(spec, mounts=mounts))
    assert state(canary) == before


@pytest.mark.parametrize("kind", ["overlay", "bind"])
def test_row_17_a_source_that_flips_while_it_is_mounted(box, canary, tmp_path, kind):
    """As a stage's files are mounted, and a context's: at a path in them, which leads out every other moment."""
    stage = tmp_path / "stage"
    (stage / "src").mkdir(parents=True)
    (stage / "src/inside").touch()
    (stage / "out").symlink_to(f"../../../../../..{canary}")
    (tmp_path / "mount-upper").mkdir()
    (tmp_path / "mount-work").mkdir()
    if kind == "overlay":
        files = Rootfs((str(stage),), str(tmp_path / "mount-upper"), str(tmp_path / "mount-work"), volatile=True)
        mount = Mount("overlay", "", "/m", subpath="src", rootfs=files)
    else:
        mount = Mount("bind", str(stage), "/m", ("rbind",), subpath="src")
    before, seen = state(canary), set()
    with flipping(stage, "src", "out"):
        for _ in range(40):
            with suppress(MountFailed):
                listing = box.shell("ls /m; touch /m/BREAKOUT", lambda spec: replace(spec, mounts=(mount,)))
                seen.add(listing.split()[0])
    assert state(canary) == before
    assert seen and seen <= {"inside", "BREAKOUT"}


def test_row_9_stubs_go_and_follow_no_link(box, canary):
    before = state(canary)
    mounts = (Mount("tmpfs", "", "/a/b"), Mount("file", "", "/s/secret", data=b"x"))
    box.shell("rm -rf /a 2>/dev/null; ln -s /host /z; cat /s/secret", lambda spec: replace(spec, mounts=mounts))
    assert state(canary) == before
    assert sorted(os.listdir(box.upper)) == ["z"]


def test_row_15_no_mount_is_shared(box, tmp_path):
    text = box.shell("cat /proc/self/mountinfo", lambda s: replace(s, mounts=(Mount("bind", str(tmp_path), "/v"),)))
    assert "shared:" not in text


@pytest.mark.parametrize("kind", ["link", "zero", "fifo", "huge"])
def test_row_18_a_passwd_that_is_no_file(box, canary, tmp_path, kind):
    etc = tmp_path / "layer/etc"
    etc.mkdir(parents=True)
    match kind:
        case "link":
            (etc / "passwd").symlink_to(f"../../../../../..{canary}/etc/passwd")
        case "zero":
            (etc / "passwd").symlink_to("/dev/zero")
        case "fifo":
            os.mkfifo(etc / "passwd")
        case "huge":
            with open(etc / "passwd", "wb") as file:
                file.truncate(2 << 30)
    with pytest.raises(UserNotFound):
        box.on(tmp_path / "layer").shell("id", user="bob")


@pytest.mark.parametrize("user", ["4294967296", "-1", "2147483648:0", "1000000000000", "0:4294967296", "nobody:x"])
def test_row_19_ids_out_of_range(box, user):
    with pytest.raises(UserNotFound):
        box.shell("id", user=user)


def test_row_20_supplementary_groups(box):
    assert box.shell("id -G", user="app").split() == ["1000", "50"]
    assert box.shell("id -G", user="app:staff").split() == ["50"]
    assert box.shell("id -G", user="33").split() == ["0"]
    assert set(box.shell("id -G", user="33", additional_groups=("staff", "7")).split()) == {"0", "50", "7"}


def test_row_21_exec_is_as_hard(box):
    running = box.launcher.start(box.spec("sleep", "100"), stdout=2, stderr=2)
    read, write = os.pipe()
    try:
        process = box.spec("sh", "-c", "grep -E 'Cap|Seccomp:' /proc/self/status; ls /proc/1/ns | wc -l").process
        assert box.launcher.exec_(running.pid, process, stdout=write, stderr=2).wait().code == 0
        text = os.read(read, 4096).decode().split()
    finally:
        os.close(read)
        os.close(write)
        running.kill(9)
        assert running.wait(10).code == 137
    assert text[1::2][:6] == ["0" * 16, CAPS, CAPS, CAPS, "0" * 16, "2"]


def test_read_only_root(box):
    def change(spec: Spec) -> Spec:
        return replace(spec, rootfs=replace(spec.rootfs, readonly=True))

    assert "Read-only" in box.shell("(touch /x) 2>&1 || true", change)
