"""`run` as a user types it: each option does what it says inside of the container, and the exit codes are docker's."""

import json
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root

Lamina = Any  # the fixture's type lives in conftest, which tests do not import


def sh(lamina: Lamina, script: str, *options: str | Path, **more: object) -> str:
    """The output of a shell script in a new busybox container without a network."""
    text: str = lamina.text("run", "--rm", "--network", "none", *options, "busybox", "sh", "-c", script, **more)
    return text


@pytest.fixture
def name(request: pytest.FixtureRequest, busybox_store: Lamina) -> Iterator[str]:
    """A container name of this test's own; a container of that name is removed afterwards."""
    made = "c-" + "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    yield made
    busybox_store("rm", "-f", "-v", made)


def test_output_and_exit_code_are_the_commands(busybox_store: Lamina) -> None:
    done = busybox_store("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7", code=7)
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")
    assert busybox_store("ps", "-aq").stdout == b""


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--nope", "busybox"], 125, "unknown flag: --nope"),
        (["no-such-image"], 125, "Unable to find image 'no-such-image:latest' locally"),
        (["busybox", "no-such-program"], 127, 'exec: "no-such-program": executable file not found in $PATH'),
        (["busybox", "/no/such"], 127, "no such file or directory"),
        (["busybox", "/etc"], 126, "/etc"),
        (["busybox", "/etc/passwd"], 126, "permission denied"),
        (["--user", "nobody-here", "busybox", "true"], 125, "unable to find user nobody-here"),
        (["-w", "relative", "busybox", "true"], 125, "needs to be an absolute path"),
        (["--memory", "1k", "busybox", "true"], 125, "memory"),
        (["--cap-add", "FLY", "busybox", "true"], 125, "FLY"),
        (["--network", "no-such-network", "busybox", "true"], 125, "network no-such-network not found"),
        (["--mount", "type=bind,src=/no/such,dst=/x", "busybox", "true"], 125, "bind source path does not exist"),
        (["-v", "relative/dir:/x", "busybox", "true"], 125, "invalid"),
        (["--env-file", "/no/such/file", "busybox", "true"], 125, "No such file"),
        (["--restart", "sometimes", "busybox", "true"], 125, "sometimes"),
        (["--rm", "--restart", "always", "busybox", "true"], 125, "cannot specify both --restart and --rm"),
        (["--name", "b@d", "busybox", "true"], 125, "Invalid container name (b@d)"),
        (["-p", "99999:80", "busybox", "true"], 125, "99999"),
        (["--sysctl", "kernel.core_pattern=x", "busybox", "true"], 125, "is not allowed"),
        (["UPPER", "true"], 125, "repository name (library/UPPER) must be lowercase"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_run_leaves_no_container(
    busybox_store: Lamina, arguments: list[str], code: int, text: str
) -> None:
    done = busybox_store("run", "--rm", *arguments, code=code)
    assert text in done.stderr.decode() and done.stdout == b""
    assert busybox_store("ps", "-aq").stdout == b""


def test_a_container_can_be_told_and_has_a_list_of_mounts(busybox_store: Lamina, name: str) -> None:
    script = "test -f /.dockerenv && cmp /etc/mtab /proc/mounts && df -P /"
    assert busybox_store.text("run", "--name", name, "busybox", "sh", "-c", script).endswith(" /")
    assert busybox_store.text("diff", name) == ""


def test_dockers_own_variables_come_first(busybox_store: Lamina) -> None:
    shown = busybox_store.text("run", "--rm", "--hostname", "h", "-e", "A=1", "-e", "PATH=/bin", "busybox", "/bin/env")
    assert shown.splitlines() == ["PATH=/bin", "HOSTNAME=h", "A=1", "HOME=/root"]


@pytest.mark.parametrize("number", [9, 15])
def test_a_signal_gives_128_and_its_number(busybox_store: Lamina, number: int) -> None:
    # as PID 1 the program would ignore it: with --init another process gets it
    options = ("--rm", "--init", "--network", "none")
    busybox_store("run", *options, "busybox", "sh", "-c", f"kill -{number} $$", code=128 + number)


def test_environment_files_labels_names_and_directories(busybox_store: Lamina, tmp_path: Path, name: str) -> None:
    file = tmp_path / "env"
    file.write_text("# comment\nFROM_FILE=a b\nFROM_HOST\n")
    options = ["-e", "ONE=1", "-e", "TAKEN", "--env-file", file, "-w", "/made/here", "--label", "a=b", "--name", name]
    options += ["--hostname", "box", "--add-host", "db:10.9.8.7", "--network", "none"]
    script = "echo $ONE,$TAKEN,$FROM_FILE,$FROM_HOST; pwd; hostname; grep db /etc/hosts"
    busybox_store("run", *options, "busybox", "sh", "-c", script, environment={"TAKEN": "t", "FROM_HOST": "h"})
    assert busybox_store.text("logs", name).splitlines() == ["1,t,a b,h", "/made/here", "box", "10.9.8.7\tdb"]
    assert busybox_store.text("inspect", "-f", "{{.Config.Labels.a}} {{.Config.Hostname}}", name) == "b box"


def test_user_and_group(busybox_store: Lamina) -> None:
    assert sh(busybox_store, "id -u; id -g", "-u", "1000:2000") == "1000\n2000"
    assert sh(busybox_store, "id -u", "--user", "nobody") == sh(busybox_store, "grep ^nobody /etc/passwd | cut -d: -f3")
    assert "1234" in sh(busybox_store, "id -G", "--group-add", "1234").split()


def test_entrypoint_replaces_the_images(busybox_store: Lamina) -> None:
    assert busybox_store.text("run", "--rm", "--entrypoint", "/bin/echo", "busybox", "a", "b") == "a b"


def test_stdin_reaches_the_command_only_with_i(busybox_store: Lamina) -> None:
    assert busybox_store("run", "--rm", "-i", "busybox", "cat", stdin=b"typed" * 50_000).stdout == b"typed" * 50_000
    assert busybox_store("run", "--rm", "busybox", "cat", stdin=b"typed").stdout == b""


def cgroup(file: str, old: str) -> str:
    """A script that reads a control group's file, of either version, as the container sees it."""
    return f"cat /sys/fs/cgroup/{file} 2>/dev/null || cat /sys/fs/cgroup/{old}"


def test_limits(busybox_store: Lamina) -> None:
    assert sh(busybox_store, cgroup("memory.max", "memory/memory.limit_in_bytes"), "--memory", "64m") == str(64 << 20)
    assert sh(busybox_store, cgroup("pids.max", "pids/pids.max"), "--pids-limit", "17") == "17"
    quota = sh(busybox_store, cgroup("cpu.max", "cpu/cpu.cfs_quota_us"), "--cpus", "0.5")
    assert quota in ("50000 100000", "50000")
    assert sh(busybox_store, "ulimit -n", "--ulimit", "nofile=100:200") == "100"
    assert sh(busybox_store, "df -k /dev/shm | tail -1", "--shm-size", "8m").split()[1] == "8192"


def test_memory_beyond_the_limit_is_killed(busybox_store: Lamina, name: str) -> None:
    script = "x=a; while true; do x=$x$x; done"
    options = ("--memory", "16m", "--memory-swap", "16m", "--network", "none", "--name", name)
    busybox_store("run", *options, "busybox", "sh", "-c", script, code=137)
    assert busybox_store.text("inspect", "-f", "{{.State.OOMKilled}} {{.State.ExitCode}}", name) == "true 137"


def test_read_only_root_with_a_tmpfs(busybox_store: Lamina) -> None:
    script = "touch /x 2>&1; touch /scratch/x && df -k /scratch | tail -1"
    refused, size = sh(busybox_store, script, "--read-only", "--tmpfs", "/scratch:size=1m").splitlines()
    assert "Read-only file system" in refused and size.split()[1] == "1024"
    assert "Read-only" in sh(busybox_store, "(: >> /etc/hosts) 2>&1; true", "--read-only")


def test_a_tmpfs_takes_programs_when_it_is_asked_to(busybox_store: Lamina) -> None:
    script = "cp /bin/busybox /t/true && /t/true && echo ran"
    assert sh(busybox_store, script, "--tmpfs", "/t:exec") == "ran"
    busybox_store("run", "--rm", "--tmpfs", "/t", "busybox", "sh", "-c", script, code=126)


def test_capabilities_privilege_and_security_options(busybox_store: Lamina) -> None:
    def effective(*options: str) -> int:
        return int(sh(busybox_store, "grep CapEff /proc/self/status | cut -f2", *options), 16)

    net_raw, sys_admin = 1 << 13, 1 << 21
    assert effective() & net_raw and not effective() & sys_admin
    assert not effective("--cap-drop", "NET_RAW") & net_raw
    assert effective("--cap-drop", "ALL") == 0
    assert effective("--cap-drop", "ALL", "--cap-add", "SYS_ADMIN") == sys_admin
    assert effective("--privileged") & sys_admin
    seccomp = "grep ^Seccomp: /proc/self/status | cut -f2"
    assert sh(busybox_store, seccomp) == "2"
    assert sh(busybox_store, seccomp, "--security-opt", "seccomp=unconfined") == "0"
    no_new = "grep NoNewPrivs /proc/self/status | cut -f2"
    assert sh(busybox_store, no_new, "--security-opt", "no-new-privileges") == "1"


def test_a_seccomp_profile_from_a_file(busybox_store: Lamina, tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    denied = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [denied]}))
    script = "mkdir /x 2>/dev/null || echo refused"
    assert sh(busybox_store, script, "--security-opt", f"seccomp={profile}") == "refused"


def test_init_reaps_and_passes_signals_on(busybox_store: Lamina) -> None:
    assert sh(busybox_store, "echo $$", "--init") != "1"
    assert sh(busybox_store, "echo $$") == "1"


def test_volumes_binds_and_mounts(busybox_store: Lamina, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("host")
    assert sh(busybox_store, "cat /in/file; echo new > /in/made", "-v", f"{tmp_path}:/in") == "host"
    assert (tmp_path / "made").read_text() == "new\n"
    script = "cat /in/file; touch /in/x 2>/dev/null || echo ro"
    assert sh(busybox_store, script, "-v", f"{tmp_path}:/in:ro") == "hostro"
    assert sh(busybox_store, script, "--mount", f"type=bind,src={tmp_path},dst=/in,readonly") == "hostro"
    sh(busybox_store, "echo kept > /data/f", "-v", "vol:/data")
    assert sh(busybox_store, "cat /data/f", "--mount", "type=volume,src=vol,dst=/data") == "kept"
    assert sh(busybox_store, "cat /etc/passwd", "-v", "etc:/etc").startswith("root:")  # the image's files are copied up
    assert sh(busybox_store, "stat -f -c %T /t", "--mount", "type=tmpfs,dst=/t,tmpfs-size=1m") == "tmpfs"
    before = busybox_store.text("volume", "ls", "-q")
    sh(busybox_store, "true", "-v", "/anonymous")  # --rm takes the anonymous volume along
    assert busybox_store.text("volume", "ls", "-q") == before
    busybox_store("volume", "rm", "vol", "etc")


def test_networks_none_host_and_bridge(busybox_store: Lamina) -> None:
    links = "ls /sys/class/net | sort | xargs"
    assert sh(busybox_store, links) == "lo"
    host = busybox_store.text("run", "--rm", "--network", "host", "busybox", "readlink", "/proc/self/ns/net")
    assert host == str(Path("/proc/self/ns/net").readlink())
    bridged = busybox_store.text("run", "--rm", "busybox", "sh", "-c", f"{links}; ip route | grep -c default")
    assert bridged == "eth0 lo\n1"


def test_a_shared_network_brings_its_owners_names(busybox_store: Lamina, name: str) -> None:
    names = ("--hostname", "owner", "--domainname", "example.org", "--add-host", "db:10.9.8.7", "--dns", "10.1.1.1")
    busybox_store("run", "-d", "--name", name, *names, "busybox", "sleep", "1000")
    script = "hostname; echo $HOSTNAME; cat /proc/sys/kernel/domainname /etc/hosts /etc/resolv.conf"
    told = busybox_store.text("exec", name, "sh", "-c", script)
    assert busybox_store.text("run", "--rm", "--network", f"container:{name}", "busybox", "sh", "-c", script) == told
    assert told.startswith("owner\nowner\nexample.org\n") and "10.9.8.7\tdb" in told and "10.1.1.1" in told
    busybox_store("create", "--name", f"{name}-2", "--network", f"container:{name}", "busybox")
    assert busybox_store.text("inspect", "-f", "{{.Config.Hostname}}", f"{name}-2") == "owner"
    busybox_store("rm", f"{name}-2")


def test_a_shared_networks_owner_leads_to_no_file_of_the_host(busybox_store: Lamina, name: str, tmp_path: Path) -> None:
    # /etc of the image is a link: nothing is mounted on it, so the container may put another directory there
    (tmp_path / "secret").write_text("of the host")
    (tmp_path / "root" / "real").mkdir(parents=True)
    (tmp_path / "root" / "etc").symlink_to("real")
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY --from=busybox /bin /bin\nCOPY root /\n")
    busybox_store("build", "-q", "-t", "bare", tmp_path)
    busybox_store("run", "-d", "--name", name, "bare", "sleep", "1000")
    swap = f"rm /etc && mkdir /etc && ln -s {tmp_path}/secret /etc/hosts && mkfifo /etc/resolv.conf"
    busybox_store("exec", name, "sh", "-c", swap)
    joined = ("run", "--rm", "--network", f"container:{name}", "busybox", "cat", "/etc/hosts", "/etc/resolv.conf")
    assert busybox_store.text(*joined) == ""
    busybox_store("rm", "-f", name)
    busybox_store("rmi", "bare")


def test_who_joins_a_users_network_later_finds_the_others_by_name(busybox_store: Lamina) -> None:
    started = {"early": ("--network", "late-net"), "late": (), "elsewhere": ("--network", "host")}
    busybox_store("network", "create", "late-net")
    try:
        for name, options in started.items():
            busybox_store("run", "-d", "--name", name, *options, "busybox", "sleep", "1000")
        busybox_store("network", "connect", "--alias", "other", "late-net", "late")
        assert "nameserver 127.0.0.11" in busybox_store.text("exec", "late", "cat", "/etc/resolv.conf")
        template = '{{(index .NetworkSettings.Networks "late-net").IPAddress}}'
        addresses = {name: busybox_store.text("inspect", "-f", template, name) for name in ("early", "late")}
        for asked, by, found in (("early", "late", "early"), ("late", "early", "late"), ("other", "early", "late")):
            assert f"Address: {addresses[found]}\n" in busybox_store.text("exec", by, "nslookup", asked) + "\n"
        refused = busybox_store("network", "connect", "late-net", "elsewhere", code=1)
        assert b"container sharing network namespace with another container or host" in refused.stderr
    finally:
        busybox_store("rm", "-f", *started, code=None)
        busybox_store("network", "rm", "late-net")


def test_the_hosts_network_brings_the_hosts_name(busybox_store: Lamina) -> None:
    hosts = busybox_store.text("run", "--rm", "--network", "host", "busybox", "hostname")
    assert hosts == socket.gethostname()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_a_published_port_answers_on_the_host(busybox_store: Lamina, name: str) -> None:
    port = free_port()
    serve = "mkdir /w; echo served > /w/index.html; echo ready; exec httpd -f -p 80 -h /w"
    busybox_store("run", "-d", "--name", name, "-p", f"127.0.0.1:{port}:80", "busybox", "sh", "-c", serve)
    follower = busybox_store.start("logs", "-f", name, stdout=subprocess.PIPE)
    assert follower.stdout.readline() == b"ready\n"
    # the server listens a moment after it says so: connections are tried until it does
    for _ in range(200):
        try:
            answer = urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10).read()
            break
        except OSError:
            busybox_store("exec", name, "true")
    assert answer == b"served\n"
    assert busybox_store.text("port", name, "80") == f"127.0.0.1:{port}"
    assert f"127.0.0.1:{port}->80/tcp" in busybox_store.text("ps", "--format", "{{.Ports}}")
    taken = busybox_store("run", "--rm", "-p", f"127.0.0.1:{port}:80", "busybox", "true", code=125)
    assert str(port) in taken.stderr.decode()
    busybox_store("stop", "-t", "0", name)
    follower.wait(60)
    follower.stdout.close()


def test_restart_policies(busybox_store: Lamina, name: str) -> None:
    options = ("-d", "--name", name, "--network", "none", "--restart", "on-failure:2")
    busybox_store("run", *options, "busybox", "sh", "-c", "echo run; exit 3")
    assert busybox_store.text("wait", name) == "3"
    assert busybox_store.text("logs", name).split() == ["run"] * 3
    assert busybox_store.text("inspect", "-f", "{{.RestartCount}}", name) == "2"


AGAIN = ("sh", "-c", "while [ ! -e /go ]; do sleep 0.05; done; rm /go")
"""A program that ends when somebody makes /go."""


def let_policy_restart(busybox_store: Lamina, name: str) -> None:
    before = busybox_store.text("inspect", "-f", "{{.RestartCount}}", name)
    busybox_store("exec", name, "touch", "/go")
    for _ in range(500):
        now = busybox_store.text("inspect", "-f", "{{.RestartCount}} {{.State.Status}}", name)
        if now.split()[0] != before and now.endswith(" running"):
            return
    raise AssertionError(now)


def test_a_network_that_was_connected_stays_over_restarts(busybox_store: Lamina) -> None:
    def networks() -> list[str]:
        return busybox_store.text(
            "inspect", "-f", "{{range $n, $_ := .NetworkSettings.Networks}}{{$n}} {{end}}", "moved"
        ).split()

    busybox_store("network", "create", "later")
    try:
        busybox_store("run", "-d", "--name", "moved", "--restart", "always", "busybox", *AGAIN)
        busybox_store("network", "connect", "later", "moved")
        refused = busybox_store("network", "connect", "later", "moved", code=1)
        assert b"endpoint with name moved already exists in network later" in refused.stderr
        let_policy_restart(busybox_store, "moved")
        assert networks() == ["bridge", "later"]
        assert "eth1" in busybox_store.text("exec", "moved", "ls", "/sys/class/net")
        busybox_store("stop", "-t", "0", "moved")
        busybox_store("network", "disconnect", "bridge", "moved")
        refused = busybox_store("network", "disconnect", "bridge", "moved", code=1)
        assert b"is not connected to network bridge" in refused.stderr
        busybox_store("start", "moved")
        assert networks() == ["later"]
        busybox_store("network", "connect", "bridge", "moved")
        busybox_store("network", "disconnect", "later", "moved")
        let_policy_restart(busybox_store, "moved")
        assert networks() == ["bridge"]
    finally:
        busybox_store("rm", "-f", "moved", code=None)
        busybox_store("network", "rm", "later")


def test_who_shares_namespaces_has_those_that_the_other_has_by_now(busybox_store: Lamina) -> None:
    def namespace(name: str, kind: str) -> str:
        return busybox_store.text("exec", name, "readlink", f"/proc/1/ns/{kind}")

    try:
        busybox_store("run", "-d", "--name", "owner", "--ipc", "shareable", "busybox", "sleep", "1000")
        shared = ("--network", "container:owner", "--ipc", "container:owner")
        busybox_store("run", "-d", "--name", "guest", *shared, "--restart", "always", "busybox", *AGAIN)
        old = namespace("owner", "net")
        assert namespace("guest", "net") == old
        busybox_store("restart", "-t", "0", "owner")
        let_policy_restart(busybox_store, "guest")
        assert [namespace("guest", kind) for kind in ("net", "ipc")] == [
            namespace("owner", kind) for kind in ("net", "ipc")
        ]
        busybox_store("stop", "-t", "0", "owner")
        busybox_store("exec", "guest", "touch", "/go")
        busybox_store("wait", "guest")
        error = busybox_store.text("inspect", "-f", "{{.State.Error}}", "guest")
        assert "namespace of a non running container" in error
    finally:
        busybox_store("rm", "-f", "guest", "owner", code=None)


def test_stop_signal(busybox_store: Lamina, name: str) -> None:
    script = "trap 'echo usr1; exit 0' USR1; echo ready; while true; do sleep 0.05; done"
    options = ("-d", "--name", name, "--network", "none", "--stop-signal", "SIGUSR1")
    busybox_store("run", *options, "busybox", "sh", "-c", script)
    follower = busybox_store.start("logs", "-f", name, stdout=subprocess.PIPE)
    assert follower.stdout.readline() == b"ready\n"
    busybox_store("stop", "-t", "60", name)
    assert follower.communicate(timeout=60)[0] == b"usr1\n"
    assert busybox_store.text("inspect", "-f", "{{.State.ExitCode}}", name) == "0"


def test_d_prints_the_id_and_cidfile_has_it(busybox_store: Lamina, tmp_path: Path, name: str) -> None:
    file = tmp_path / "cid"
    printed = busybox_store.text("run", "-d", "--cidfile", file, "--name", name, "busybox", "true")
    assert len(printed) == 64 and file.read_text() == printed
    assert busybox_store("run", "--cidfile", file, "busybox", "true", code=125).stderr.startswith(
        b"container ID file found"
    )


def test_a_killed_run_with_rm_leaves_its_container_to_the_next_command(busybox_store: Lamina, name: str) -> None:
    options = ("--rm", "-i", "--network", "none", "--name", name)
    process = busybox_store.start(
        "run", *options, "busybox", "sh", "-c", "echo ready; read line", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"ready\n"
    process.kill()
    process.communicate()
    # its stdin ended with the client, so the shell does too
    busybox_store("wait", name, code=None)
    assert name not in busybox_store.text("ps", "-a", "--format", "{{.Names}}").split()


def test_d_with_rm_goes_by_itself(busybox_store: Lamina, name: str) -> None:
    busybox_store("run", "-d", "--rm", "--network", "none", "--name", name, "busybox", "sleep", "1000")
    busybox_store("stop", "-t", "0", name)
    busybox_store("wait", name, code=None)
    assert name not in busybox_store.text("ps", "-a", "--format", "{{.Names}}").split()


def test_a_volume_for_etc_has_the_containers_own_files_too(busybox_store: Lamina, name: str) -> None:
    script = (
        "hostname && cat /etc/hostname && grep -c localhost /etc/hosts && test -s /etc/resolv.conf && ls /etc/passwd"
    )
    shown = busybox_store.text("run", "--rm", "-v", "/etc", "--hostname", "h", "busybox", "sh", "-c", script)
    assert shown.split() == ["h", "h", "2", "/etc/passwd"]
