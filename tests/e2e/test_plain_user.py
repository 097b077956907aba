"""All of it without root: with one id, and with the many that /etc/subuid gives."""

from __future__ import annotations

import fcntl
import os
import pwd
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from registryserver import RegistryServer

pytestmark = pytest.mark.root

SCRIPT = (str(Path(sys.executable).parent / "lamina"),)
# An interpreter below root's home is closed to others; the system's own of the same version can run the same packages.
PATHS = [path for path in sys.path if path.endswith("site-packages")] + [str(Path(__file__).parent.parent.parent)]
SYSTEM = "/usr/bin/python3"
BY_SYSTEM = (SYSTEM, "-c", f"import sys; sys.path[:0] = {PATHS!r}; from builder.cli import main; sys.exit(main())")
FIRST_ID, IDS = 700000, 65536


@dataclass(frozen=True, slots=True)
class Plain:
    """The command as a user without any rights types it."""

    uid: int
    gid: int
    home: Path
    many: bool
    command: tuple[str, ...] = SCRIPT

    def __call__(self, *arguments: str | Path, stdin: bytes = b"", code: int = 0) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(
            [*self.command, *arguments], input=stdin, capture_output=True, cwd=self.home, timeout=120, check=False,
            user=self.uid, group=self.gid, extra_groups=[], umask=0o022,
            env={"PATH": os.environ["PATH"], "HOME": str(self.home), "XDG_RUNTIME_DIR": f"{self.home}/run"},
        )  # fmt: skip
        assert done.returncode == code, (done.stdout + done.stderr).decode(errors="replace")
        return done

    def text(self, *arguments: str | Path, **options: Any) -> str:
        return self(*arguments, **options).stdout.decode().removesuffix("\n")

    def context(self, dockerfile: str, **files: str) -> Path:
        directory = Path(tempfile.mkdtemp(dir=self.home))
        for name, text in {"Dockerfile": dockerfile, **files}.items():
            (directory / name).write_text(text)
            os.chown(directory / name, self.uid, self.gid)
        os.chown(directory, self.uid, self.gid)
        return directory


def unused_user() -> tuple[int, int]:
    known = {entry.pw_uid for entry in pwd.getpwall()}
    uid = next(number for number in range(54321, 60000) if number not in known)
    return uid, uid


def starts(command: Plain) -> bool:
    try:
        command("--version")
    except (PermissionError, AssertionError):
        return False
    return True


def same_version() -> bool:
    """Whether the system's interpreter takes the packages of this one's environment."""
    if not os.access(SYSTEM, os.X_OK):
        return False
    version = "import sys; print(sys.version_info[:2])"
    return subprocess.run([SYSTEM, "-c", version], capture_output=True, text=True, check=False).stdout.strip() == str(
        sys.version_info[:2]
    )


@pytest.fixture(scope="module", params=["one id", "many ids"])
def plain(request: pytest.FixtureRequest, run_directory: Path) -> Iterator[Plain]:
    many = request.param == "many ids"
    if many and not (shutil.which("newuidmap") and shutil.which("newgidmap")):
        pytest.skip("newuidmap is not installed")
    home = Path(tempfile.mkdtemp(prefix="lamina-plain-"))
    with open(run_directory / "subuid.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = {
            path: path.read_bytes() if path.exists() else None for path in map(Path, ("/etc/subuid", "/etc/subgid"))
        }
        try:
            if many:
                user = pwd.getpwnam("games")  # newuidmap serves only users that passwd knows
                uid, gid = user.pw_uid, user.pw_gid
                for path in before:
                    with open(path, "a") as file:
                        file.write(f"{user.pw_name}:{FIRST_ID}:{IDS}\n")
            else:
                uid, gid = unused_user()
            os.chown(home, uid, gid)
            command = Plain(uid, gid, home, many)
            if not starts(command) and same_version():
                command = Plain(uid, gid, home, many, BY_SYSTEM)
            if not starts(command):
                pytest.skip("the interpreter or this checkout is not readable for other users")
            yield command
            names = command.text("ps", "-aq").split()
            if names:
                command("rm", "-f", *names)
        finally:
            for path, text in before.items():
                if text is None:
                    path.unlink(missing_ok=True)
                else:
                    path.write_bytes(text)
            shutil.rmtree(home)


@pytest.fixture(scope="module")
def busybox(plain: Plain, base_archives: Any) -> Plain:
    plain("load", stdin=base_archives.get("busybox").read_bytes())
    return plain


def test_build_and_run(busybox: Plain) -> None:
    context = busybox.context(
        "FROM busybox\n"
        "RUN echo made > /made && chown 5:6 /made && mknod /null c 1 3; id -u > /uid\n"
        "COPY --chown=7:8 note /notes/\n"
        "USER 9\n"
        'CMD ["sh", "-c", "id -u; cat /notes/note"]\n',
        note="from the context\n",
    )
    busybox("build", "--network", "none", "-t", "made", context)
    again = busybox("build", "--network", "none", "-t", "made", context)
    assert again.stderr.count(b"CACHED") == 2
    if busybox.many:
        assert busybox.text("run", "--rm", "--network", "none", "made").splitlines() == ["9", "from the context"]
    script = "cat /made /uid /notes/note; stat -c %u:%g /made /notes/note"
    lines = busybox.text("run", "--rm", "--network", "none", "-u", "0", "made", "sh", "-c", script).splitlines()
    owners = ["5:6", "7:8"] if busybox.many else ["0:0", "0:0"]  # the one id is everybody
    assert lines == ["made", "0", "from the context", *owners]
    busybox("fsck")


def test_the_hosts_network(busybox: Plain) -> None:
    inside = busybox.text("run", "--rm", "--network", "host", "busybox", "readlink", "/proc/self/ns/net")
    assert inside == os.readlink("/proc/self/ns/net")


def test_nothing_of_the_hosts_has_to_be_given_back(busybox: Plain) -> None:
    context = busybox.context("FROM busybox\nCOPY of-root /\nRUN echo 1 > /1\n", **{"of-root": "x"})
    os.chown(context / "of-root", 0, 0)
    assert "reproducible: " in busybox.text("verify", "--network", "none", context)
    shutil.rmtree(context)
    busybox("system", "prune", "-f")


def test_a_process_more_in_a_container_on_the_hosts_namespaces(busybox: Plain) -> None:
    shared = ("--network", "host", "--uts", "host", "--ipc", "host", "--pid", "host")
    busybox("run", "-d", "--name", "shared", *shared, "busybox", "sleep", "1000")
    for kind in ("net", "uts", "ipc", "pid"):
        inside = busybox.text("exec", "shared", "readlink", f"/proc/self/ns/{kind}")
        assert inside == os.readlink(f"/proc/self/ns/{kind}")
    busybox("rm", "-f", "shared")


def test_a_container_in_the_background(busybox: Plain) -> None:
    script = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.1; done"
    for name in ("first", "second"):
        busybox("run", "-d", "--name", name, "--network", "none", "busybox", "sh", "-c", script)
    # Each was started by a command of its own, and both can be entered by a third.
    for name in ("first", "second"):
        assert busybox.text("exec", name, "sh", "-c", "echo $0 in $(hostname)", name).startswith(f"{name} in ")
    joined = busybox.text("run", "--rm", "--network", "none", "--pid", "container:first", "busybox", "ps")
    assert re.search(r"^ *1 .*trap", joined, re.MULTILINE)
    busybox("cp", "first:/etc/passwd", "copied")
    assert (busybox.home / "copied").read_text().startswith("root:")
    listed = busybox.text("ps", "--format", "{{.Names}}").split()
    assert sorted(listed) == ["first", "second"]
    while "up" not in busybox.text("logs", "first"):
        pass
    busybox("stop", "first")
    assert busybox.text("logs", "first").splitlines() == ["up", "bye"]
    assert busybox.text("inspect", "-f", "{{.State.ExitCode}}", "first") == "3"
    busybox("rm", "-f", "first", "second")
    assert busybox.text("ps", "-aq") == ""


def test_what_is_stored_survives_the_namespace(busybox: Plain) -> None:
    """Saved by one command and loaded by the next, with nothing of ours running between them."""
    context = busybox.context("FROM busybox\nRUN echo x > /x\n")
    busybox("build", "--network", "none", "-t", "kept", context)
    before = busybox.text("inspect", "-f", "{{json .RootFS.Layers}}", "kept")
    busybox("save", "-o", "kept.tar", "kept")
    busybox("rmi", "-f", "kept")
    busybox("load", "-i", "kept.tar")
    assert busybox.text("inspect", "-f", "{{json .RootFS.Layers}}", "kept") == before
    busybox("fsck")


def test_what_a_build_writes_belongs_to_the_user(busybox: Plain) -> None:
    context = busybox.context(
        "FROM busybox AS made\n"
        "RUN mkdir -p /out/d && echo x > /out/d/f && chown 5:6 /out/d/f && rm -rf /home && mkdir /home\n"
        "FROM made\nRUN rm /out/d/f; echo y > /out/d/g; rm -rf /home; mkdir /home\n"
    )
    build = ("build", "-q", "--network", "none")
    busybox(*build, "--target", "made", "-o", "out", context)
    assert (busybox.home / "out/out/d/f").read_text() == "x\n"
    owners = {path.lstat().st_uid for path in (busybox.home / "out").rglob("*")}
    assert owners == {busybox.uid} and (busybox.home / "out").stat().st_uid == busybox.uid
    busybox(*build, "--squash", "-t", "one", "-o", "type=docker", "-o", "type=oci,dest=one.tar", context)
    seen = busybox.text("run", "--rm", "--network", "none", "one", "sh", "-c", "ls /out/d /home")
    assert seen.split() == ["/home:", "/out/d:", "g"]
    assert (busybox.home / "one.tar").stat().st_uid == busybox.uid
    assert b"reproducible: both" in busybox("verify", "--network", "none", "-q", context).stdout
    busybox("fsck")


def test_images_and_caches_come_and_go(busybox: Plain) -> None:
    """Each command that writes or reads files and registries, from outside of the user's namespace."""
    context = busybox.context(
        "FROM busybox\nRUN --mount=type=cache,id=mine,target=/c echo kept > /c/f; date > /made\nCOPY f /\n", f="here"
    )
    with RegistryServer() as registry:
        name, cache = f"{registry.host}/app:1", f"{registry.host}/app:cache"
        busybox("build", "-q", "-t", name, "--sbom=true", "--push", f"--cache-to=type=registry,ref={cache}", context)
        image = busybox.text("inspect", "-f", "{{.Id}}", name)
        busybox("save", "-o", "app.tar", name)
        busybox("cache-mount", "export", "-o", "mine.tar", "mine")
        busybox("cache-mount", "export", "--push", f"{registry.host}/mounts:1", "mine")
        busybox("export", "-o", "root.tar", busybox.text("create", name))
        busybox("sbom", "-o", "sbom.json", name)
        busybox("rm", *busybox.text("ps", "-aq").split())
        busybox("rmi", "-f", name)
        busybox("builder", "prune", "-af")
        for come in (("pull", "-q", name), ("load", "-q", "-i", "app.tar")):
            busybox(*come)
            assert busybox.text("inspect", "-f", "{{.Id}}", name) == image
            busybox("rmi", "-f", name)
        for come in ("--pull", f"{registry.host}/mounts:1"), ("mine.tar",):
            busybox("cache-mount", "import", *come)
            assert "mine" in busybox.text("cache-mount", "ls")
            busybox("cache-mount", "rm", "mine")
        busybox("build", "-q", "-t", "again", f"--cache-from={cache}", context)
        assert busybox.text("inspect", "-f", "{{.Id}}", "again") == image
        busybox("image", "rm", "again")
    with tarfile.open(busybox.home / "root.tar") as members:
        assert "made" in members.getnames()
    assert busybox("fsck", "--full").returncode == 0


def test_nothing_belongs_to_anybody_else(busybox: Plain) -> None:
    allowed = {busybox.uid, *(range(FIRST_ID, FIRST_ID + IDS) if busybox.many else ())}
    owners = {path.lstat().st_uid for path in busybox.home.rglob("*")}
    assert owners <= allowed
    assert not busybox.many or len(owners) > 1


def test_a_setting_that_needs_a_controller_is_refused_with_a_reason(busybox: Plain) -> None:
    groups = Path("/proc/self/cgroup").read_text()
    if not re.search(r"^\d+:memory:", groups, re.MULTILINE):
        pytest.skip("this host may have delegated its memory controller")
    failed = busybox("run", "--rm", "--network", "none", "-m", "64m", "busybox", "true", code=125)
    assert b'no usable cgroup controller "memory"' in failed.stderr


def test_a_network_of_its_own(busybox: Plain) -> None:
    program = shutil.which("pasta") or shutil.which("slirp4netns")
    if not program or Path("/dev/net/tun").stat().st_mode & 0o006 != 0o006:
        shared = busybox("run", "--rm", "busybox", "cat", "/proc/net/dev")
        assert b"host's network" in shared.stderr
        interfaces = [line.split(":")[0].strip() for line in shared.stdout.decode().splitlines() if ":" in line]
        assert set(interfaces) & {path.name for path in Path("/sys/class/net").iterdir()} - {"lo"}
        busybox("run", "--rm", "-p", "80", "busybox", "true", code=125)
        return
    assert "inet 10.0.2.100/24" in busybox.text("run", "--rm", "busybox", "ip", "-4", "addr", "show", "eth0")
