"""Builds from end to end on busybox: what is cached, what runs, what it gives, and what is left when it does not."""

import json
import os
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from builder.store import Store
from builder.store.validate import image as validate
from runtime.rootfs import open_rootfs
from runtime.spec import Rootfs

pytestmark = pytest.mark.root

Lamina = Any  # the fixture's type lives in conftest, which tests do not import


class Project:
    """A context directory that is built again and again."""

    def __init__(self, lamina: Lamina, directory: Path) -> None:
        self.lamina = lamina
        self.directory = directory
        directory.mkdir()

    def write(self, dockerfile: str, **files: str) -> None:
        (self.directory / "Dockerfile").write_text(dockerfile)
        for name, text in files.items():
            (self.directory / name).write_text(text)

    def build(self, *options: str, code: int = 0) -> str:
        """Build as "built"; the progress. What was made is whole."""
        done = self.lamina("build", "--progress=plain", "-t", "built", *options, self.directory, code=code)
        if code == 0:
            with Store.open(self.lamina.root) as store:
                validate(store, store.images.resolve("built"), full=True)
        return done.stderr.decode()  # type: ignore[no-any-return]

    def plan(self, *options: str) -> dict[str, tuple[str, str]]:
        """Instruction → (hit, miss or unknown; why)."""
        lines = self.lamina.text("plan", "--format=json", *options, self.directory).splitlines()
        rows = [json.loads(line) for line in lines]
        return {row["Step"].partition("] ")[2]: (row["Cache"], row["Why"]) for row in rows}

    def file(self, path: str) -> str:
        """The text of a file of the image, without the last line break."""
        with self.merged() as root:
            return (root / path.lstrip("/")).read_text().removesuffix("\n")

    @contextmanager
    def merged(self) -> Iterator[Path]:
        """The files of the image."""
        with Store.open(self.lamina.root) as store:
            layers = store.images.layers(store.images.resolve("built"))
            root = open_rootfs(Rootfs(tuple(map(str, store.snapshots.lowers(layers))), readonly=True))
            try:
                yield Path(f"/proc/self/fd/{root}")
            finally:
                os.close(root)

    @property
    def image(self) -> dict[str, Any]:
        return json.loads(self.lamina.text("inspect", "built"))[0]  # type: ignore[no-any-return]


@contextmanager
def started(project: Project, mark: str, *, count: int = 1) -> Iterator[subprocess.Popen[bytes]]:
    """A build under way, *count* of whose steps have made the file /*mark*."""
    with subprocess.Popen(
        project.lamina.command("build", "-t", "built", project.directory),
        env=project.lamina.variables(None),
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        pause = threading.Event()
        while process.poll() is None and len(list(project.lamina.root.glob(f"active/*/upper/{mark}"))) < count:
            pause.wait(0.01)
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def project(busybox: Lamina, tmp_path: Path) -> Project:
    return Project(busybox, tmp_path / "context")


def test_the_same_build_again_runs_nothing_and_gives_the_same_image(project: Project) -> None:
    project.write("FROM busybox\nENV A=1\nWORKDIR /w\nCOPY f .\nRUN cat f > g\n", f="text\n")
    project.build()
    first = project.image
    assert project.file("/w/g") == "text"
    assert project.build().count("CACHED") == 3
    assert project.image == first


def test_a_missed_step_says_why(project: Project) -> None:
    text = "FROM busybox\nARG V\nENV E=1\nCOPY . /src\nRUN echo $V > /v\nRUN echo last > /last\n"
    project.write(text, one="1", two="2")
    project.build("--build-arg", "V=1")
    assert set(project.plan("--build-arg", "V=1").values()) == {("hit", "")}
    planned = project.plan("--build-arg", "V=2")
    assert planned["COPY . /src"] == ("hit", "")
    assert planned["RUN echo $V > /v"] == ("miss", "build arg V changed")
    assert planned["RUN echo last > /last"] == ("miss", "build arg V changed")
    project.write(text.replace("E=1", "E=2"))
    assert project.plan("--build-arg", "V=1")["RUN echo $V > /v"] == ("miss", "ENV E changed")
    project.write(text.replace("echo last", "echo end"))
    assert project.plan("--build-arg", "V=1")["RUN echo end > /last"] == ("miss", "instruction changed")
    project.write(text, one="changed")
    planned = project.plan("--build-arg", "V=1")
    assert planned["COPY . /src"] == ("miss", "one content changed")
    assert planned["RUN echo $V > /v"] == ("unknown", "an earlier step changed")
    assert "cache miss: one content changed" in project.build("--build-arg", "V=1")


def test_what_a_step_made_again_without_a_change_stops_there(project: Project) -> None:
    project.write("FROM busybox\nCOPY f /f\nRUN wc -l < /f > /lines && rm /f\nRUN cat /lines > /out\n", f="a\n")
    project.build()
    project.write("FROM busybox\nCOPY f /f\nRUN rm /f; echo 1 > /lines\nRUN cat /lines > /out\n")
    (project.directory / "f").write_text("a\n")
    told = project.build()
    # The second RUN is another instruction with the same result: what stands on it is found by content.
    assert told.count("CACHED") == 2
    assert project.file("/out") == "1"


def test_no_cache_filter_runs_one_stage_and_looks_at_what_it_gave(project: Project) -> None:
    project.write(
        "FROM busybox AS made\nRUN echo same > /made\nFROM busybox\nCOPY --from=made /made /\nRUN cat /made > /out\n"
    )
    project.build()
    told = project.build("--no-cache-filter=made")
    assert told.count("CACHED") == 2
    assert "cache miss: --no-cache" in told


def test_a_stage_whose_copy_is_cached_is_not_needed(project: Project) -> None:
    project.write("FROM busybox AS a\nRUN echo a > /a\nFROM busybox\nCOPY --from=a /a /\n")
    project.build()
    assert "RUN echo a" not in project.build()


def test_only_the_target_is_built(project: Project) -> None:
    project.write("FROM busybox AS one\nRUN echo 1 > /n\nFROM busybox AS bad\nRUN false\nFROM one AS two\nRUN true\n")
    project.build("--target=one")
    assert project.file("/n") == "1"
    project.build()
    project.build("--target=bad", code=1)


def test_scratch_is_an_empty_source(project: Project) -> None:
    project.write("FROM scratch AS nothing\nFROM busybox\nCOPY --from=nothing / /empty/\n", extra="not this")
    project.build()
    with project.merged() as root:
        assert not list((root / "empty").iterdir())


def test_what_lies_on_linked_files_depends_on_all_below_them(project: Project) -> None:
    text = "FROM busybox AS base\nRUN echo {} > /n\nFROM base AS linked\nCOPY --link f /f\nCOPY --link f /g\n"
    for number in ("one", "two"):
        project.write(text.format(number) + "RUN cat /n > /out\n", f="f")
        project.build()
        assert project.file("/out") == number
        project.write(text.format(number) + "FROM busybox\nCOPY --from=linked /n /g /\n", f="f")
        project.build()
        assert project.file("/n") == number
        project.write(text.format(number) + "FROM busybox\nRUN --mount=from=linked,target=/m cat /m/n > /out\n", f="f")
        project.build()
        assert project.file("/out") == number
    # the same key, but another outcome: what was made on the one before does not stand
    moment = text.format("$(cat /proc/uptime)") + "RUN cp /n /out\n"
    project.write(moment, f="f")
    for _ in range(2):
        told = project.build("--no-cache-filter", "base")
        assert "COPY --link f /f\n#3 CACHED" in told and project.file("/out") == project.file("/n")
    assert "RUN cp /n /out\n#5 CACHED" in project.build()


def test_linked_files_do_not_depend_on_what_they_lie_on(project: Project) -> None:
    project.write("FROM busybox\nRUN echo 1 > /n\nCOPY --link f /f\n", f="f")
    project.build()
    project.write("FROM busybox\nRUN echo 2 > /n\nCOPY --link f /f\n")
    assert "COPY --link f /f\n#3 CACHED" in project.build()
    assert (project.file("/n"), project.file("/f")) == ("2", "f")


def test_one_changed_file_is_the_only_one_that_is_copied(project: Project) -> None:
    project.write("FROM busybox\nCOPY . /src\n", **{f"f{n}": str(n) for n in range(20)})
    project.build()
    (project.directory / "f7").write_text("seven")
    project.build()
    with Store.open(project.lamina.root) as store:
        newest = store.records.list(limit=1)[0]
        copied = next(step for step in store.records.steps(newest.id) if step.name.endswith("COPY . /src"))
    assert (copied.facts["files"], copied.facts["linked"]) == (21, 20)


def test_two_stages_run_at_the_same_time(project: Project) -> None:
    """Each waits for the other to write into a shared cache: one after the other they would never end."""
    meet = "touch /c/{0}; until [ -e /c/{1} ]; do sleep 0.05; done; echo {0} > /{0}"
    project.write(
        f"FROM busybox AS a\nRUN --mount=type=cache,id=m,target=/c {meet.format('a', 'b')}\n"
        f"FROM busybox AS b\nRUN --mount=type=cache,id=m,target=/c {meet.format('b', 'a')}\n"
        "FROM busybox\nCOPY --from=a /a /\nCOPY --from=b /b /\n"
    )
    project.build()
    assert (project.file("/a"), project.file("/b")) == ("a", "b")


def test_two_builds_that_want_the_same_step_run_it_once(project: Project) -> None:
    project.write("FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /id\n")
    others = [
        project.lamina.start("build", "-q", "-t", f"t{n}", project.directory, stdout=subprocess.PIPE) for n in "ab"
    ]
    ids = {process.communicate(timeout=60)[0] for process in others}
    assert len(ids) == 1
    assert [process.returncode for process in others] == [0, 0]


def test_a_layer_that_another_build_has_not_hashed_yet_is_found_whole(project: Project) -> None:
    project.write("FROM busybox\nRUN echo 1 > /1\n")
    first = project.lamina.text("build", "-q", project.directory)
    database = sqlite3.connect(next(project.lamina.root.glob("*.db*")))
    with database:
        # As it is between the record of a step and the digests of its layer.
        rows = database.execute("SELECT layer FROM cache_records WHERE text LIKE 'RUN echo 1%'").fetchall()
        database.executemany("UPDATE layers SET diff_id = NULL, content_digest = NULL WHERE id = ?", rows)
        database.execute("DELETE FROM parsed")
    database.close()
    assert len(rows) == 1 and project.lamina.text("build", "-q", project.directory) == first


def test_from_takes_names_and_only_long_beginnings_of_ids(project: Project) -> None:
    digits = project.lamina.text("images", "-q", "--no-trunc", "busybox").removeprefix("sha256:")
    # a number alone would be a stage's index
    start = digits[: len(digits) - len(digits.lstrip("0123456789")) + 1]
    for line in (f"FROM {start}", f"FROM busybox\nCOPY --from={start} /bin/sh /\n"):
        project.write(line + "\n")
        assert f"cannot use {start}:latest: registry docker.io is blocked" in project.build(code=1)  # a name
    project.write(f"FROM {digits[:12]}\nCOPY --from=sha256:{digits} /bin/sh /\n")
    project.build()
    assert project.plan()[f"COPY --from=sha256:{digits} /bin/sh /"][0] == "hit"


def test_a_failing_step_is_shown_and_kept(project: Project) -> None:
    project.write("FROM busybox\nRUN echo kept > /file; echo said; \\\n    exit 3\n")
    told = project.build(code=1)
    assert 'process "/bin/sh -c echo kept > /file; echo said;     exit 3"' in told
    assert "exit code: 3" in told
    assert "   2 | >>> RUN echo kept" in told
    assert "   3 | >>>     exit 3" in told
    assert "said" in told
    with Store.open(project.lamina.root) as store:
        (failed,) = store.snapshots.list_failed()
        assert (failed.path / "file").read_text() == "kept\n"
        step = store.records.steps(failed.build)[-1]
        assert (step.status, step.exit_code) == ("failed", 3)


def test_a_failing_step_stops_the_others(project: Project) -> None:
    project.write(
        "FROM busybox AS a\nRUN sleep 300\nFROM busybox AS b\nRUN false\n"
        "FROM busybox\nCOPY --from=a /a /\nCOPY --from=b /b /\n"
    )
    project.build(code=1)
    with Store.open(project.lamina.root) as store:
        steps = store.records.steps(store.records.list(limit=1)[0].id)
        assert {step.status for step in steps} == {"cancelled", "failed"}
        assert len(store.snapshots.list_failed()) == 1


def test_an_interrupt_ends_everything_and_moves_no_tag(project: Project) -> None:
    project.write("FROM busybox\nRUN echo first > /f\n")
    project.build()
    before = project.image["Id"]
    project.write(
        "FROM busybox AS a\nRUN : > /on; sleep 300\nFROM busybox AS b\nRUN : > /on; sleep 301\n"
        "FROM busybox\nCOPY --from=a /f /a\nCOPY --from=b /f /b\n"
    )
    with started(project, "on", count=2) as process:
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(60) == 130
    assert project.image["Id"] == before
    with Store.open(project.lamina.root) as store:
        assert store.records.list(limit=1)[0].status == "cancelled"
        assert not store.snapshots.list_failed()
    assert not list((project.lamina.root / "active").iterdir())


def test_a_killed_build_goes_on_where_it_was(project: Project) -> None:
    """The steps before the kill are found, and the result is that of a build which nobody killed."""
    text = "FROM busybox\nRUN echo 1 > /f; touch -d @0 /f\nRUN {}echo 2 > /g; touch -d @0 /g /\n"
    project.write(text.format(""))
    project.build()
    whole = project.image["RootFS"]["Layers"]
    project.write(text.format(": > /started; sleep 300; "))
    with started(project, "started") as process:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)
    project.write(text.format(""))
    assert project.build().count("CACHED") == 2
    assert project.image["RootFS"]["Layers"] == whole


def test_a_thousand_steps(project: Project) -> None:
    project.write("FROM scratch\n" + "".join(f"COPY <<f{n} /f{n}\n{n}\nf{n}\n" for n in range(1000)))
    project.build()
    assert len(project.image["RootFS"]["Layers"]) == 1000
    assert project.build().count("CACHED") == 1000


def test_networks_of_a_step(project: Project) -> None:
    project.write(
        "FROM busybox\n"
        "RUN ip -o -4 addr show eth0 > /default\n"
        "RUN --network=none ip -o link > /none\n"
        "RUN grep host.internal /etc/hosts > /hosts; cat /etc/resolv.conf > /resolv\n"
    )
    project.build("--add-host", "host.internal=host-gateway")
    assert " inet " in project.file("/default")
    assert project.file("/none").count("\n") == 0
    assert "nameserver" in project.file("/resolv")
    assert not project.file("/hosts").startswith("host-gateway")
    project.write("FROM busybox\nRUN --network=host ip -o link > /host\n")
    assert "network.host is not allowed" in project.build(code=1)
    project.build("--allow=network.host")


def test_a_fixed_time(project: Project) -> None:
    project.write("FROM busybox\nENV A=1\nRUN true\n")
    project.build("--build-arg", "SOURCE_DATE_EPOCH=1000000000")
    assert project.image["Created"] == "2001-09-09T01:46:40Z"
