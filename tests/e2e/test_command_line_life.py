"""The life of containers from the command line: ps, logs, stop, start, attach, exec, cp, commit, diff, export, rm."""

import bz2
import gzip
import io
import json
import lzma
import os
import signal
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root

Lamina = Any  # the fixture's type lives in conftest, which tests do not import


@pytest.fixture
def name(request: pytest.FixtureRequest, busybox_store: Lamina) -> Iterator[str]:
    """A container name of this test's own; a container of that name is removed afterwards."""
    made = "c-" + "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    yield made
    busybox_store("rm", "-f", "-v", made)


def started(lamina: Lamina, name: str, script: str, *options: str) -> None:
    """A container in the background that has got as far as printing `ready`."""
    lamina("run", "-d", "--name", name, "--network", "none", *options, "busybox", "sh", "-c", script)
    follower = lamina.start("logs", "-f", name, stdout=subprocess.PIPE)
    try:
        assert any(line == b"ready\n" for line in follower.stdout)
    finally:
        follower.kill()
        follower.communicate()


LOOP = "trap 'exit 5' TERM; echo ready; while true; do sleep 0.05; done"


def status(lamina: Lamina, name: str) -> str:
    text: str = lamina.text("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name)
    return text


def test_a_container_is_stopped_started_waited_for_and_removed(busybox_store: Lamina, name: str) -> None:
    started(busybox_store, name, LOOP)
    shown = busybox_store.text("ps", "--format", "{{.Names}} {{.Image}} {{.Status}}")
    assert any(line.startswith(f"{name} busybox Up ") for line in shown.splitlines())
    assert "cannot remove container" in busybox_store("rm", name, code=1).stderr.decode()
    assert busybox_store.text("stop", name) == name
    assert status(busybox_store, name) == "exited 5"
    assert name not in busybox_store.text("ps", "--format", "{{.Names}}").split()
    line = busybox_store.text("ps", "-a", "--filter", f"name={name}", "--format", "{{.Status}}")
    assert line.startswith("Exited (5) ")
    assert busybox_store.text("wait", name) == "5"
    assert busybox_store.text("start", name) == name
    assert status(busybox_store, name) == "running 0"
    assert busybox_store.text("kill", name) == name
    assert busybox_store.text("wait", name) == "137"
    assert busybox_store.text("restart", "-t", "0", name) == name
    assert busybox_store.text("rm", "-f", name) == name
    assert busybox_store("inspect", name, code=1).stdout == b"[]\n"


def test_create_start_attached_and_again(busybox_store: Lamina, name: str) -> None:
    identity = busybox_store.text("create", "--name", name, "busybox", "sh", "-c", "echo o; echo e >&2; exit 4")
    assert len(identity) == 64 and status(busybox_store, name) == "created 0"
    for _ in range(2):
        done = busybox_store("start", "-a", name, code=4)
        assert (done.stdout, done.stderr) == (b"o\n", b"e\n")
    assert busybox_store.text("logs", name) == "o\no"
    typed = "typed-" + name
    busybox_store("create", "-i", "--name", typed, "busybox", "cat")
    assert busybox_store("start", "-ai", typed, stdin=b"to the cat").stdout == b"to the cat"
    busybox_store("rm", typed)


def test_attach_joins_the_output_and_the_exit_code(busybox_store: Lamina, name: str) -> None:
    busybox_store("run", "-di", "--name", name, "busybox", "sh", "-c", "read a; echo got $a; exit 6")
    done = busybox_store("attach", name, stdin=b"line\n", code=6)
    assert done.stdout == b"got line\n"
    assert "stopped container" in busybox_store("attach", name, code=1).stderr.decode()


def test_attached_run_passes_signals_on(busybox_store: Lamina, name: str) -> None:
    script = "trap 'echo term; exit 9' TERM; echo ready; while true; do sleep 0.05; done"
    process = busybox_store.start("run", "--name", name, "busybox", "sh", "-c", script, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=60)[0] == b"term\n" and process.returncode == 9


def test_logs(busybox_store: Lamina, name: str) -> None:
    busybox_store(
        "run", "--name", name, "busybox", "sh", "-c", "for i in 1 2 3; do echo $i; done; echo err >&2; echo -n end"
    )
    done = busybox_store("logs", name)
    assert (done.stdout, done.stderr) == (b"1\n2\n3\nend", b"err\n")
    assert busybox_store("logs", "--tail", "1", name).stdout == b"end"
    stamped = busybox_store.text("logs", "-t", name).splitlines()
    assert all(line[:4].isdigit() and line[10] == "T" for line in stamped)
    assert busybox_store("logs", "--since", "2100-01-01", name).stdout == b""
    assert busybox_store("logs", "-f", name).stdout == b"1\n2\n3\nend"
    assert "No such container: nobody" in busybox_store("logs", "nobody", code=1).stderr.decode()


def test_logs_f_ends_with_the_container(busybox_store: Lamina, name: str) -> None:
    busybox_store("run", "-di", "--name", name, "busybox", "sh", "-c", "echo ready; read a; echo last")
    follower = busybox_store.start("logs", "-f", name, stdout=subprocess.PIPE)
    assert follower.stdout.readline() == b"ready\n"
    busybox_store("attach", name, stdin=b"\n")
    assert follower.communicate(timeout=60)[0] == b"last\n" and follower.returncode == 0


def test_exec_is_given_what_the_container_s_first_process_was(busybox_store: Lamina, name: str) -> None:
    run = busybox_store
    options = ("--ulimit", "nofile=77:88", "--security-opt", "seccomp=unconfined", "--cap-drop=CHOWN", "-h", "myself")
    run("run", "-d", "--name", name, *options, "busybox", "sleep", "1000")
    facts = "echo $HOSTNAME; ulimit -n; ulimit -Hn; grep -E '^(CapBnd|Seccomp):' /proc/{}/status"
    first, other = (run.text("exec", name, "sh", "-c", facts.format(pid)) for pid in ("1", "self"))
    assert first == other
    assert first.split()[:3] == ["myself", "77", "88"] and first.split()[-1] == "0"
    assert run.text("exec", "--privileged", name, "sh", "-c", facts.format("self")) != first


def test_exec(busybox_store: Lamina, name: str) -> None:
    started(busybox_store, name, LOOP, "-e", "GIVEN=1", "-w", "/tmp")
    run = busybox_store
    assert run.text("exec", name, "sh", "-c", "echo $GIVEN; pwd") == "1\n/tmp"
    assert run.text(
        "exec", "-e", "MORE=2", "-w", "/etc", "-u", "nobody", name, "sh", "-c", "echo $MORE; pwd; id -un"
    ) == ("2\n/etc\nnobody")
    assert run("exec", "-i", name, "cat", stdin=b"through").stdout == b"through"
    assert run("exec", name, "cat", stdin=b"not through").stdout == b""
    done = run("exec", name, "sh", "-c", "echo o; echo e >&2; exit 3", code=3)
    assert (done.stdout, done.stderr) == (b"o\n", b"e\n")
    assert "executable file not found" in run("exec", name, "nothing", code=127).stderr.decode()
    run("exec", name, "/etc/passwd", code=126)
    run("exec", name, "sh", "-c", "kill -9 $$", code=137)
    assert run("exec", "-d", name, "sleep", "88").stdout == b""
    assert any(row.endswith("sleep 88") for row in run.text("top", name).splitlines())
    run("exec", "-d", name, "nothing", code=127)
    run("stop", "-t", "0", name)
    assert "is not running" in run("exec", name, "true", code=1).stderr.decode()
    assert "No such container: nobody" in run("exec", "nobody", "true", code=1).stderr.decode()


def test_pause_and_unpause(busybox_store: Lamina, name: str) -> None:
    started(busybox_store, name, LOOP)
    assert busybox_store.text("pause", name) == name
    assert status(busybox_store, name) == "paused 0"
    assert "(Paused)" in busybox_store.text("ps", "--filter", f"name={name}", "--format", "{{.Status}}")
    assert "paused" in busybox_store("exec", name, "true", code=1).stderr.decode()
    assert busybox_store.text("unpause", name) == name
    busybox_store("exec", name, "true")


def test_rename_and_top(busybox_store: Lamina, name: str) -> None:
    started(busybox_store, name, LOOP)
    header, *rows = busybox_store.text("top", name).splitlines()
    assert header.split()[:2] == ["UID", "PID"] and any("sh -c trap" in row for row in rows)
    busybox_store("rename", name, f"{name}-b")
    busybox_store("rename", f"{name}-b", name)
    clash = busybox_store("run", "--name", name, "busybox", "true", code=125)
    assert f'The container name "/{name}" is already in use' in clash.stderr.decode()


def test_cp_both_ways(busybox_store: Lamina, name: str, tmp_path: Path) -> None:
    busybox_store("run", "--name", name, "busybox", "sh", "-c", "mkdir /d; echo inner > /d/f; ln -s f /d/l")
    busybox_store("cp", f"{name}:/d", tmp_path / "out")
    assert (tmp_path / "out/f").read_text() == "inner\n" and (tmp_path / "out/l").readlink() == Path("f")
    (tmp_path / "in").write_text("outer\n")
    (tmp_path / "in").chmod(0o640)
    busybox_store("cp", tmp_path / "in", f"{name}:/d/")
    busybox_store("cp", tmp_path / "in", f"{name}:/renamed")
    with tarfile.open(fileobj=io.BytesIO(busybox_store("cp", f"{name}:/d", "-").stdout)) as archive:
        assert sorted(archive.getnames()) == ["d", "d/f", "d/in", "d/l"]
        assert archive.getmember("d/in").mode == 0o640
    assert busybox_store("cp", f"{name}:/renamed", "-").stdout.find(b"outer\n") > 0
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        member = tarfile.TarInfo("from-tar")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"tar"))
    busybox_store("cp", "-", f"{name}:/d", stdin=stream.getvalue())
    busybox_store("cp", f"{name}:/d/from-tar", tmp_path)
    assert (tmp_path / "from-tar").read_text() == "tar"
    missing = busybox_store("cp", f"{name}:/nothing", tmp_path, code=1).stderr.decode()
    assert "Could not find the file /nothing in container" in missing
    busybox_store("cp", tmp_path / "no-such-file", f"{name}:/", code=1)


def test_cp_into_a_running_containers_volume(busybox_store: Lamina, name: str, tmp_path: Path) -> None:
    started(busybox_store, name, LOOP, "--tmpfs", "/t")
    (tmp_path / "f").write_text("in tmpfs")
    busybox_store("cp", tmp_path / "f", f"{name}:/t/f")
    assert busybox_store.text("exec", name, "cat", "/t/f") == "in tmpfs"


def test_cp_writes_through_a_link_and_into_what_is_to_be_mounted(
    busybox_store: Lamina, name: str, tmp_path: Path
) -> None:
    (tmp_path / "in").write_text("in")
    (tmp_path / "bound").mkdir()
    options = ["-v", f"{name}:/data/v", "-v", f"{tmp_path}/bound:/data/b:ro"]
    busybox_store("create", "--name", name, *options, "busybox", "sh", "-c", "cat /data/v/in && ls -l /link")
    try:
        with tarfile.open(tmp_path / "link.tar", "w") as archive:
            link = tarfile.TarInfo("link")
            link.type, link.linkname = tarfile.SYMTYPE, "data/v/in"
            archive.addfile(link)
        busybox_store("cp", "-", f"{name}:/", stdin=(tmp_path / "link.tar").read_bytes())
        busybox_store("cp", tmp_path / "in", f"{name}:/link")
        assert b"marked read-only" in busybox_store("cp", tmp_path / "in", f"{name}:/data/b", code=1).stderr
        busybox_store("cp", f"{name}:/data/v/in", tmp_path / "out")
        assert (tmp_path / "out").read_text() == "in" and list((tmp_path / "bound").iterdir()) == []
        shown = busybox_store.text("start", "-a", name)
        assert shown.startswith("in") and shown.endswith("/link -> data/v/in")
    finally:
        busybox_store("rm", "-f", name)
        busybox_store("volume", "rm", name)


def test_cp_keeps_the_owner_or_gives_it_to_the_containers_user(
    busybox_store: Lamina, name: str, tmp_path: Path
) -> None:
    (tmp_path / "in").write_text("in")
    os.chown(tmp_path / "in", 7, 8)
    busybox_store("create", "--name", name, "-u", "33:1", "busybox", "stat", "-c", "%u:%g", "/kept", "/given")
    busybox_store("cp", tmp_path / "in", f"{name}:/kept")
    busybox_store("cp", "-a", tmp_path / "in", f"{name}:/given")
    assert busybox_store.text("start", "-a", name).split() == ["7:8", "33:1"]


def test_a_commit_of_nothing_adds_no_layer_and_what_was_for_builds_goes(
    busybox_store: Lamina, name: str, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nONBUILD RUN false\nENV A=1 B=1\n")
    busybox_store("build", "-q", "-t", f"{name}:1", tmp_path)
    busybox_store("create", "--name", name, "-e", "C=1", "-e", "B=2", f"{name}:1", "true")
    busybox_store("commit", name, f"{name}:2")
    form = "{{len .RootFS.Layers}} {{json .Config.OnBuild}} {{json .Config.Env}}"
    layers, on_build, env = busybox_store.text("inspect", "-f", form, f"{name}:2").split()
    assert layers == "1" and on_build == "null"
    assert [each for each in json.loads(env) if not each.startswith("PATH=")] == ["C=1", "B=2", "A=1"]
    busybox_store("rm", name)
    busybox_store("rmi", f"{name}:2", f"{name}:1")
    busybox_store("fsck")


def test_a_committed_image_has_the_containers_health_check(busybox_store: Lamina, name: str) -> None:
    busybox_store("create", "--name", name, "--health-cmd", "true", "--health-retries", "2", "busybox", "true")
    busybox_store("commit", name, f"{name}:1")
    shown = json.loads(busybox_store.text("inspect", "-f", "{{json .Config.Healthcheck}}", f"{name}:1"))
    assert shown == {"Test": ["CMD-SHELL", "true"], "Retries": 2}
    busybox_store("rmi", f"{name}:1")


def test_cp_stays_inside_of_the_container(busybox_store: Lamina, name: str, tmp_path: Path) -> None:
    """Links that the container made to lead out of it are followed within its own root (CVE-2018-15664 and kin)."""
    secret = tmp_path / "secret"
    secret.write_text("host")
    out, absolute = tmp_path / "out", str(tmp_path)
    out.mkdir()
    script = f"ln -s {absolute} /abs; ln -s ../../../../../..{absolute} /rel; ln -s {secret} /file; ln -s / /root-link"
    busybox_store("run", "--name", name, "busybox", "sh", "-c", script)
    for path in ("/abs/secret", "/rel/secret", "/root-link/" + absolute + "/secret"):
        assert "Could not find the file" in busybox_store("cp", f"{name}:{path}", out, code=1).stderr.decode()
    assert "Could not find the file" in busybox_store("cp", "-L", f"{name}:/file", out, code=1).stderr.decode()
    (tmp_path / "new").write_text("new")
    for path in ("/abs/made", "/rel/made", "/file"):
        busybox_store("cp", tmp_path / "new", f"{name}:{path}", code=None)
    assert secret.read_text() == "host" and not (tmp_path / "made").exists()


def test_cp_out_of_a_container_that_swaps_its_directories(busybox_store: Lamina, name: str, tmp_path: Path) -> None:
    """A process of the container exchanges a directory for a link while files are copied: none comes from the host."""
    secret = tmp_path / "host" / "f"
    secret.parent.mkdir()
    secret.write_text("host")
    script = (
        f"mkdir /d; echo inner > /d/f; ln -s {secret.parent} /l; echo ready; "
        "while true; do mv /d /x; mv /l /d; mv /d /l; mv /x /d; done"
    )
    started(busybox_store, name, script)
    for number in range(10):
        busybox_store("cp", f"{name}:/d/f", tmp_path / f"got{number}", code=None)
        busybox_store("cp", tmp_path / "host" / "f", f"{name}:/d/made", code=None)
    found = {path.read_text() for path in tmp_path.glob("got*")}
    assert found <= {"inner\n"} and not (secret.parent / "made").exists()


def packed(kind: str) -> bytes:
    """A tar with the file `f`, compressed."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        member = tarfile.TarInfo("f")
        member.size = 6
        archive.addfile(member, io.BytesIO(b"packed"))
    if kind == "zst":
        compressed: bytes = pytest.importorskip("zstandard").ZstdCompressor().compress(stream.getvalue())
        return compressed
    return {"tar": bytes, "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[kind](stream.getvalue())


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
def test_cp_runs_no_program_of_the_container(
    busybox_store: Lamina, name: str, tmp_path: Path, *, running: bool
) -> None:
    """A container with its own tar, gzip and name service libraries is no way to run code with our rights
    (CVE-2019-14271, CVE-2026-41567)."""
    tools = "xz unxz zstd unzstd unpigz pigz gzip gunzip bzip2 bunzip2 tar"
    script = (
        "for d in /bin /sbin /usr/bin /usr/sbin /usr/local/bin; do mkdir -p $d; for t in "
        + tools
        + "; do rm -f $d/$t; printf '#!/bin/sh\\ntouch /canary /tmp/canary\\n' > $d/$t; chmod 755 $d/$t; done; done; "
        "for l in libnss_files.so.2 libnss_compat.so.2; do mkdir -p /lib /usr/lib; cp /bin/sh /lib/$l; done; "
        "mkdir /d; echo ready; " + ("sleep 1000" if running else "true")
    )
    if running:
        started(busybox_store, name, script)
    else:
        busybox_store("run", "--name", name, "--network", "none", "busybox", "sh", "-c", script)
    for kind in ("tar", "gz", "bz2", "xz", "zst"):
        busybox_store("cp", "-", f"{name}:/d", stdin=packed(kind))
        busybox_store("cp", f"{name}:/d/f", tmp_path / kind)
        assert (tmp_path / kind).read_bytes() == b"packed"
    assert not any(line.endswith("canary") for line in busybox_store.text("diff", name).splitlines())


def test_diff_commit_history_and_export(busybox_store: Lamina, name: str, tmp_path: Path) -> None:
    busybox_store(
        "run",
        "--name",
        name,
        "busybox",
        "sh",
        "-c",
        "echo n > /new; echo >> /etc/passwd; rm /etc/motd || rm /etc/group",
    )
    changed = busybox_store.text("diff", name).splitlines()
    assert "A /new" in changed and "C /etc" in changed and "C /etc/passwd" in changed
    assert any(line.startswith("D /etc/") for line in changed)
    options = ("-m", "add tools", "-a", "me", "-c", 'CMD ["cat", "/new"]', "-c", "ENV X=1")
    identity = busybox_store.text("commit", *options, name, "made:tag")
    assert identity.startswith("sha256:")
    assert busybox_store.text("run", "--rm", "made:tag") == "n"
    (document,) = json.loads(busybox_store.text("inspect", "made:tag"))
    assert document["Author"] == "me" and document["Comment"] == "add tools" and "X=1" in document["Config"]["Env"]
    assert "add tools" in busybox_store.text("history", "--no-trunc", "made:tag").splitlines()[1]
    with tarfile.open(fileobj=io.BytesIO(busybox_store("export", name).stdout)) as archive:
        names = archive.getnames()
        assert "new" in names and "bin/busybox" in names and not any(each.startswith("/") for each in names)
    busybox_store("export", "-o", tmp_path / "x.tar", name)
    busybox_store("import", "-c", 'CMD ["cat", "/new"]', "-c", "ENV PATH=/bin", tmp_path / "x.tar", "imported:1")
    assert busybox_store.text("run", "--rm", "imported:1") == "n"
    assert "made:tag" in busybox_store.text("rmi", "made:tag")
    busybox_store("rmi", "imported:1")


def test_both_spellings_are_the_same_command(busybox_store: Lamina, name: str) -> None:
    busybox_store("container", "create", "--name", name, "busybox", "true")
    assert name in busybox_store.text("container", "ls", "-a", "--format", "{{.Names}}").split()
    assert busybox_store.text("container", "inspect", "-f", "{{.Name}}", name) == f"/{name}"
    assert busybox_store.text("image", "ls", "-q") == busybox_store.text("images", "-q")
    assert busybox_store.text("container", "rm", name) == name


def test_what_is_not_there_is_told_for_each_name(busybox_store: Lamina, name: str) -> None:
    busybox_store("create", "--name", name, "busybox", "true")
    for verb in ("start", "stop", "kill", "rm", "wait", "pause", "restart", "top", "port", "diff", "inspect"):
        done = busybox_store(verb, "nobody-here", code=1)
        assert "nobody-here" in done.stderr.decode()
    done = busybox_store("rm", "nobody-here", name, code=1)
    assert done.stdout.decode() == f"{name}\n"
    assert (
        "is not running"
        in busybox_store("kill", busybox_store.text("create", "busybox", "true"), code=1).stderr.decode()
    )
    busybox_store("container", "prune", "-f")


@pytest.mark.parametrize(
    ("filter", "found"),
    [
        ("name=^/{0}$", True),
        ("name=^{0}$", True),
        ("name=^x{0}", False),
        ("ancestor=busybox", True),
        ("ancestor=never-built", False),
        ("expose=7", True),
        ("publish=6-8/tcp", True),
        ("publish=7/udp", False),
        ("status=created", True),
        ("health=none", True),
    ],
)
def test_filters_find_containers(busybox_store: Lamina, name: str, filter: str, found: bool) -> None:
    busybox_store("create", "--name", name, "-p", "7", "busybox", "true")
    listed = busybox_store.text("ps", "-a", "--filter", filter.format(name), "--format", "{{.Names}}").split()
    assert (name in listed) == found


@pytest.mark.parametrize("filter", ["status=x", "health=x", "exited=x", "publish=x", "is-task=x", "name=[", "colour=x"])
def test_a_filter_that_can_match_nothing_is_refused(busybox_store: Lamina, filter: str) -> None:
    done = busybox_store("ps", "--filter", filter, code=1)
    assert b"filter" in done.stderr and done.stdout == b""
    assert b"expected name=value" in busybox_store("ps", "--filter", "status", code=125).stderr


def test_a_stopped_container_is_on_its_networks_by_name(busybox_store: Lamina, name: str) -> None:
    busybox_store("create", "--name", name, "busybox", "true")
    form = "{{range $name, $net := .NetworkSettings.Networks}}{{$name}}:{{$net.IPAddress}}{{end}}"
    assert busybox_store.text("inspect", "-f", form, name) == "bridge:"


def test_links_give_names(busybox_store: Lamina, name: str) -> None:
    busybox_store("run", "-d", "--name", name, "busybox", "sleep", "600")
    busybox_store("run", "--rm", "--link", f"{name}:other", "busybox", "ping", "-c1", "-W5", "other")
    done = busybox_store("run", "--rm", "--link", "nobody", "busybox", "true", code=125)
    assert b"could not get container for nobody" in done.stderr
    busybox_store("kill", name)
    assert b"non running container" in busybox_store("run", "--rm", "--link", name, "busybox", code=125).stderr


def test_an_export_goes_to_a_pipe_as_it_is(busybox_store: Lamina, name: str, tmp_path: Path) -> None:
    busybox_store("create", "--name", name, "busybox", "true")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with (tmp_path / "copy").open("wb") as copy, subprocess.Popen(["cat", pipe], stdout=copy):
        busybox_store("export", "-o", pipe, name)
    assert b"etc/passwd\0" in (tmp_path / "copy").read_bytes() and stat.S_ISFIFO(pipe.stat().st_mode)
    told = busybox_store("export", "-o", tmp_path / "no/file", name, code=1).stderr.decode()
    assert f"{tmp_path}/no/file: No such file" in told


def test_predefined_networks_are_listed_and_stay(busybox_store: Lamina) -> None:
    busybox_store("run", "--rm", "busybox", "true")  # the bridge is made at its first use
    listed = busybox_store.text("network", "ls", "--filter", "type=builtin", "--format", "{{.Name}} {{.Driver}}")
    assert listed.splitlines() == ["bridge bridge", "host host", "none null"]
    assert busybox_store.text("network", "inspect", "-f", "{{.Driver}} {{len .IPAM.Config}}", "none") == "null 0"
    for network in ("bridge", "host", "none"):
        assert b"pre-defined" in busybox_store("network", "rm", network, code=1).stderr
        assert b"predefined" in busybox_store("network", "create", network, code=1).stderr
    assert b"not found" in busybox_store("network", "rm", "-f", "never-made").stderr


def test_nothing_is_pruned_without_a_yes(busybox_store: Lamina, name: str) -> None:
    busybox_store("create", "--name", name, "busybox", "true")
    busybox_store("container", "prune", stdin=b"n\n")
    assert name in busybox_store.text("ps", "-a", "--format", "{{.Names}}").split()


def test_top_takes_the_options_of_ps(busybox_store: Lamina, name: str) -> None:
    started(busybox_store, name, LOOP)
    header, *rows = busybox_store.text("top", name, "-o", "pid,comm").splitlines()
    assert header.split() == ["PID", "COMMAND"] and any(row.split()[1] == "sh" for row in rows)
    assert b"PID" in busybox_store("top", name, "-o", "comm", code=1).stderr
    assert b"ps:" in busybox_store("top", name, "--never", code=1).stderr
