"""`build` and `plan` as a user types them: flags, sources on stdin, what lands on which stream, and failures."""

import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root

Lamina = Any  # the fixture's type lives in conftest, which tests do not import
HELLO = Path(__file__).parents[2] / "testdata" / "hello"


def project(directory: Path, dockerfile: str, **files: str) -> Path:
    """A build context."""
    directory.mkdir(exist_ok=True)
    (directory / "Dockerfile").write_text(dockerfile)
    for name, text in files.items():
        (directory / name).write_text(text)
    return directory


def output(lamina: Lamina, image: str) -> str:
    text: str = lamina.text("run", "--rm", "--network", "none", image)
    return text


def test_the_issues_first_lines(busybox: Lamina) -> None:
    busybox("build", "-t", "hello", HELLO)
    assert output(busybox, "hello")
    assert busybox.text("images", "--format", "{{.Repository}}:{{.Tag}}", "hello") == "hello:latest"


def test_quiet_prints_the_id_alone_and_files_have_it(busybox_store: Lamina, tmp_path: Path) -> None:
    directory = project(tmp_path / "p", "FROM busybox\nLABEL a=b\n")
    done = busybox_store(
        "build", "-q", "--iidfile", tmp_path / "iid", "--metadata-file", tmp_path / "meta", "-t", "q:1", directory
    )
    identity = done.stdout.decode().strip()
    assert identity.startswith("sha256:") and len(identity) == 71 and done.stderr == b""
    assert (tmp_path / "iid").read_text() == identity
    assert json.loads((tmp_path / "meta").read_text())["containerimage.config.digest"] == identity
    assert busybox_store.text("images", "-q", "--no-trunc", "q:1") == identity


def test_progress_is_talk_and_comes_in_three_forms(busybox_store: Lamina, tmp_path: Path) -> None:
    directory = project(tmp_path / "p", "FROM busybox\nRUN echo step-output\n")
    plain = busybox_store("build", "--no-cache", "--progress", "plain", directory)
    assert plain.stdout == b"" and b"RUN echo step-output" in plain.stderr and b"step-output\n" in plain.stderr
    assert b"CACHED" in busybox_store("build", directory).stderr
    raw = busybox_store("build", "--no-cache", "--progress", "rawjson", directory)
    documents = [json.loads(line) for line in raw.stderr.splitlines()]
    assert any(vertex["name"].endswith("RUN echo step-output") for each in documents for vertex in each["vertexes"])
    assert busybox_store("build", "--progress", "sideways", directory, code=None).returncode != 0


def test_args_labels_target_and_another_dockerfile(busybox_store: Lamina, tmp_path: Path) -> None:
    text = (
        'ARG BASE=busybox\nFROM $BASE AS one\nARG WHO=nobody\nRUN echo one $WHO > /said\nCMD ["cat", "/said"]\n'
        "FROM one AS two\nRUN echo two > /said\nFROM one AS never\nRUN false\n"
    )
    directory = project(tmp_path / "p", "FROM none\n")
    (directory / "Other").write_text(text)
    common = ("build", "-q", "-f", directory / "Other", "--label", "made=here", "--build-arg", "WHO")
    busybox_store(*common, "--target", "one", "-t", "t:one", directory, environment={"WHO": "env"})
    busybox_store(*common, "--target", "two", "-t", "t:two", directory)
    assert output(busybox_store, "t:one") == "one env"
    assert output(busybox_store, "t:two") == "two"
    assert busybox_store.text("inspect", "-f", "{{.Config.Labels.made}}", "t:one") == "here"
    unknown = busybox_store(*common, "--target", "nope", directory, code=1)
    assert "nope" in unknown.stderr.decode()


def test_no_cache_and_no_cache_filter(busybox_store: Lamina, tmp_path: Path) -> None:
    directory = project(
        tmp_path / "p",
        "FROM busybox AS a\nRUN cat /proc/sys/kernel/random/uuid > /a\n"
        "FROM busybox AS b\nRUN cat /proc/sys/kernel/random/uuid > /b\n"
        'FROM busybox\nCOPY --from=a /a /\nCOPY --from=b /b /\nCMD ["cat", "/a", "/b"]\n',
    )

    def values(*options: str) -> list[str]:
        busybox_store("build", "-q", "-t", "nc", *options, directory)
        return output(busybox_store, "nc").splitlines()

    first = values()
    assert values() == first
    filtered = values("--no-cache-filter", "b")
    assert filtered[0] == first[0] and filtered[1] != first[1]
    fresh = values("--no-cache")
    assert fresh[0] != first[0] and fresh[1] != filtered[1]


def test_limits_hosts_and_network_of_run_steps(busybox_store: Lamina, tmp_path: Path) -> None:
    directory = project(
        tmp_path / "p",
        "FROM busybox\nRUN grep build-host /etc/hosts > /o; ls /sys/class/net >> /o; ulimit -n >> /o; "
        "df -k /dev/shm | tail -1 | awk '{print $2}' >> /o; "
        "(cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes) >> /o\n"
        'CMD ["cat", "/o"]\n',
    )
    options = ["--add-host", "build-host:10.1.2.3", "--network", "none", "--ulimit", "nofile=77:77"]
    options += ["--shm-size", "4m", "--memory", "64m"]
    busybox_store("build", "-q", "-t", "lim", *options, directory)
    assert output(busybox_store, "lim").split() == ["10.1.2.3", "build-host", "lo", "77", "4096", str(64 << 20)]


def test_a_dockerfile_or_a_whole_context_on_stdin(busybox_store: Lamina, tmp_path: Path) -> None:
    busybox_store("build", "-q", "-t", "in:1", "-", stdin=b'FROM busybox\nCMD ["echo", "from stdin"]\n')
    assert output(busybox_store, "in:1") == "from stdin"
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, data in (("Dockerfile", b'FROM busybox\nCOPY f /\nCMD ["cat", "/f"]\n'), ("f", b"in the tar")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    busybox_store("build", "-q", "-t", "in:2", "-", stdin=stream.getvalue())
    assert output(busybox_store, "in:2") == "in the tar"
    directory = project(tmp_path / "p", "FROM none\n", f="in the directory")
    busybox_store(
        "build", "-q", "-t", "in:3", "-f", "-", directory, stdin=b'FROM busybox\nCOPY f /\nCMD ["cat", "/f"]\n'
    )
    assert output(busybox_store, "in:3") == "in the directory"


def test_plan_tells_hit_or_miss_and_why_before_anything_happens(busybox: Lamina, tmp_path: Path) -> None:
    directory = project(tmp_path / "p", "FROM busybox\nRUN echo one\nCOPY f /\nRUN echo two\n", f="1")

    def planned() -> list[tuple[str, str, str]]:
        lines = busybox.text("plan", "-t", "app", "--format", "json", directory).splitlines()
        steps = [json.loads(line) for line in lines]
        return [(each["Cache"], each["Step"], each["Why"]) for each in steps]

    def caches() -> list[str]:
        return [cache for cache, step, _ in planned() if "RUN" in step or "COPY" in step]

    assert caches() == ["miss", "miss", "unknown"] or caches() == ["miss", "miss", "miss"]
    assert busybox.text("images", "-q", "app") == ""
    busybox("build", "-q", "-t", "app", directory)
    assert caches() == ["hit", "hit", "hit"]
    (directory / "f").write_text("2")
    assert caches()[:2] == ["hit", "miss"]
    why = next(why for _, step, why in planned() if "COPY" in step)
    assert "f" in why and why
    table = busybox.text("plan", directory).splitlines()
    assert table[0].split() == ["#", "CACHE", "STEP", "WHY"]
    (directory / "Dockerfile").write_text("FROM busybox\nRUN echo changed\n")
    assert any(why for cache, step, why in planned() if "changed" in step and cache == "miss")


FAILURES = [
    ("FROM busybox\nRUNN true\n", ["Dockerfile:2", "unknown instruction: RUNN", "did you mean RUN?"]),
    ("FROM busybox\nCOPY --nope a /\n", ["Dockerfile:2", "nope"]),
    ("FROM busybox\nCOPY missing /\n", ["missing", "not found"]),
    ("FROM busybox\nCOPY ../outside /\n", ["outside", "not found"]),
    ("FROM busybox\nRUN echo told; exit 7\n", ["told", "exit code: 7", ">>> RUN echo told; exit 7", "Dockerfile:2"]),
    ("FROM busybox\nWORKDIR /etc/passwd\n", ["mkdir /etc/passwd: not a directory"]),
    ("FROM busybox\nRUN : >> /etc/hosts\n", ["Read-only file system"]),
    ("FROM no-such-image\n", ["no-such-image"]),
    ("FROM busybox\nCOPY --from=nowhere /a /\n", ["nowhere"]),
    ("FROM xx AS yy\nFROM yy AS xx\n", ["xx"]),
    ("FROM busybox AS one\nCOPY --from=two /a /\nFROM one AS two\n", ["two"]),
    ("", ["empty"]),
    ("# nothing\n", ["no"]),
]


@pytest.mark.parametrize(("dockerfile", "texts"), FAILURES, ids=lambda value: repr(value)[:40])
def test_a_failed_build_ends_with_1_and_keeps_the_old_tag(
    busybox_store: Lamina, tmp_path: Path, dockerfile: str, texts: list[str]
) -> None:
    directory = project(tmp_path / "p", "FROM busybox\nLABEL old=1\n")
    old = busybox_store.text("build", "-q", "-t", "kept", directory)
    (directory / "Dockerfile").write_text(dockerfile)
    done = busybox_store("build", "-t", "kept", "-t", "never:1", "--iidfile", tmp_path / "iid", directory, code=1)
    told = done.stderr.decode()
    assert all(text in told for text in texts), told
    assert "internal error" not in told and "Traceback" not in told
    assert done.stdout == b""
    assert busybox_store.text("images", "-q", "--no-trunc", "kept") == old
    assert busybox_store.text("images", "-q", "never:1") == "" and not (tmp_path / "iid").exists()
    busybox_store("fsck")


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["no/such/directory"], 1, "no/such/directory"),
        (["-f", "no-such-file", "."], 1, "no-such-file"),
        (["--nope", "."], 125, "unknown flag: --nope"),
        (["-t", "UPPER", "."], 1, "UPPER"),
        (["-t", "a:b:c", "."], 1, "a:b:c"),
        (["--memory", "much", "."], 125, "much"),
        (["--ulimit", "nofile", "."], 125, "nofile"),
        (["--add-host", "nonsense", "."], 125, "nonsense"),
        ([], 1, "requires 1 argument"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_built_is_told_before_anything_is_done(
    busybox_store: Lamina, tmp_path: Path, arguments: list[str], code: int, text: str
) -> None:
    project(tmp_path, "FROM busybox\n")
    done = busybox_store("build", *arguments, cwd=tmp_path, code=None)
    assert text in done.stderr.decode() and done.stdout == b"" and "internal error" not in done.stderr.decode()
    assert done.returncode == code


def test_a_context_without_a_dockerfile(busybox_store: Lamina, tmp_path: Path) -> None:
    told = busybox_store("build", tmp_path, code=1).stderr.decode()
    assert "Dockerfile" in told and "no such file" in told.lower()


def test_a_build_that_is_interrupted_ends_with_130_and_leaves_nothing(busybox: Lamina, tmp_path: Path) -> None:
    directory = project(tmp_path / "p", "FROM busybox\nRUN echo begun; sleep 1000\n")
    process = busybox.start("build", "-t", "never", "--progress", "plain", directory, stderr=subprocess.PIPE)
    assert any(b"begun" in line and b"RUN" not in line for line in process.stderr)
    process.send_signal(2)
    process.stderr.read()
    assert process.wait(60) in (1, 130)
    process.stderr.close()
    assert busybox.text("images", "-q", "never") == ""
    busybox("fsck")


def test_two_builds_of_the_same_thing_at_once_give_one_image(busybox: Lamina, tmp_path: Path) -> None:
    directory = project(
        tmp_path / "p", "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /u; sleep 0.3\nRUN true\n"
    )
    builds = [busybox.start("build", "-q", "-t", f"same:{n}", directory, stdout=subprocess.PIPE) for n in range(3)]
    printed = {build.communicate(timeout=120)[0] for build in builds}
    assert [build.returncode for build in builds] == [0, 0, 0] and len(printed) == 1
    assert len(set(busybox.text("images", "-q", "same").splitlines())) == 1
    busybox("fsck")


def test_a_layer_that_repeats_files_is_told_once_with_what_to_do(busybox: Lamina, tmp_path: Path) -> None:
    directory = project(
        tmp_path / "p", "FROM busybox\nCOPY d /app\nRUN chown -R 7:8 /app && chmod 600 /app/big\nRUN chown 1 /app/0\n"
    )
    (directory / "d").mkdir()
    with open(directory / "d" / "big", "wb") as file:
        file.truncate(20_000_000)
    for number in range(10):
        (directory / "d" / str(number)).write_bytes(b"x" * 1000)
    told = busybox("build", "-t", "rep", directory).stderr.decode()
    message = "this layer repeats 20MB of the layer of line 2, only mode and owner differ: use COPY --chmod --chown in"
    assert f"RepeatedFiles: {message} line 2 (line 3)" in told and told.count("RepeatedFiles") == 1
    assert "RepeatedFiles" not in busybox("build", "-t", "rep", directory).stderr.decode()
    silent = (directory / "Dockerfile").read_text().replace("RUN chown -R", "# check=skip=RepeatedFiles\nRUN chown -R")
    assert "RepeatedFiles" not in busybox("build", "--no-cache", project(directory, silent)).stderr.decode()
    fixed = "FROM busybox\nCOPY --chown=7:8 --chmod=600 d /app\n"
    assert "RepeatedFiles" not in busybox("build", project(directory, fixed)).stderr.decode()


def test_the_same_files_can_be_copied_twice(busybox: Lamina, tmp_path: Path) -> None:
    directory = project(
        tmp_path / "p",
        "FROM busybox AS one\nCOPY d /app\nRUN rm /app/7\nCOPY d /app\nFROM busybox AS two\nCOPY d /app\n"
        "FROM one\nCOPY --from=two /app /two\n",
    )
    (directory / "d").mkdir()
    for number in range(700):  # so many that they are copied by the same read that digests them
        (directory / "d" / str(number)).write_text(str(number))
    busybox("build", "-q", "-t", "twice", "-o", "type=docker", "-o", tmp_path / "out", directory)
    for place in ("app", "two"):
        assert {one.name: one.read_text() for one in (tmp_path / "out" / place).iterdir()} == {
            str(number): str(number) for number in range(700)
        }
    busybox("fsck", "--full")
