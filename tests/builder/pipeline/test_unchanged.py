"""The shortest way through a build comes to what the ordinary way comes to, whatever happened in between."""

import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from builder.cli import app, flags, repeats
from builder.cli.commands.build import FLAGS
from builder.cli.context import Cli
from builder.engine.builds import BuildWish
from builder.oci.platforms import Platform
from builder.oci.references import Reference
from builder.store import Store
from runtime.values import fields

pytestmark = pytest.mark.root

DOCKERFILE = """\
FROM base AS first
ARG WHO=me
COPY a.txt /one/
COPY *.json /two/
COPY src /three/
COPY --exclude=*.md docs /four/
COPY --parents ./src/./deep /five/
COPY <<TEXT /six
text of $WHO
TEXT
FROM scratch
COPY --from=first / /
COPY a* other/*.c /seven/
"""
ORDINARY = "--memory=1g"
"""Says nothing about the image, and is not among the flags of the short way."""


class Command:
    """The command, in this process, on one store."""

    def __init__(self, root: Path, context: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root = root
        self.context = context
        self._capsys = capsys
        self.env = {"LAMINA_ROOT": str(root), "HOME": str(root.parent)}

    def __call__(self, *words: str) -> tuple[int, str]:
        code = app.run(words, self.env)
        done = self._capsys.readouterr()
        return code, done.out + done.err

    def build(self, *words: str) -> tuple[int, str]:
        return self("build", "--progress=plain", "-t", "made", *words, str(self.context))

    def repeats(self, *words: str) -> bool:
        """Whether the short way is open."""
        values, _ = flags.parse(FLAGS, ["-t", "made", *words], stop_at_argument=False)
        with Cli(self.env) as cli:
            question = repeats.asked(cli, values, str(self.context))
            return repeats.find(cli, values, str(self.context), question) is not None

    def settle(self, *words: str) -> None:
        """Build until the files are old enough to be trusted: a change within one tick of the clock leaves no trace."""
        for _ in range(200):
            assert self.build(*words)[0] == 0
            if self.repeats(*words):
                return
        raise AssertionError("the short way is never taken")


@pytest.fixture
def context(tmp_path: Path) -> Path:
    top = tmp_path / "context"
    for name in (
        "a.txt",
        "x.json",
        "src/x.c",
        "src/deep/y.c",
        "src/no.log",
        "docs/z",
        "docs/z.md",
        "other/o.c",
        "no/n",
    ):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(name)
    (top / "src/link").symlink_to("x.c")
    (top / ".dockerignore").write_text("**/*.log\nno\n")
    (top / "Dockerfile").write_text(DOCKERFILE)
    return top


@pytest.fixture
def stores(tmp_path: Path, context: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[tuple[Command, Command]]:
    """Two stores with the same history, for one that may go the short way and one that never does."""
    pair = Command(tmp_path / "short", context, capsys), Command(tmp_path / "ordinary", context, capsys)
    base = tmp_path / "base"
    base.mkdir()
    (base / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /base\n")
    for store in pair:
        assert store("build", "-q", "-t", "base", str(base))[0] == 0
    yield pair
    for store in pair:
        assert store("fsck")[0] == 0


def comparable(told: tuple[int, str]) -> tuple[int, str]:
    """Without times and image ids, which two stores do not share."""
    code, text = told
    text = re.sub(r"sha256:[0-9a-f]{64}", "ID", text)
    return code, re.sub(r"(?m)^(#\d+ (?:DONE )?)\d+\.\d+s?", r"\1T", text)


def same_size(path: Path) -> None:
    """Other bytes of the same number, and the times put back as far as anybody can."""
    before = path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced(path: Path) -> None:
    """The same bytes in another file."""
    shutil.copy2(path, f"{path}.new")
    os.rename(f"{path}.new", path)


def outside(path: Path) -> None:
    """A directory goes out of the context, and a link leads there."""
    away = path.parent.parent / f"away-{path.name}"
    path.rename(away)
    path.symlink_to(away)


def inside(path: Path) -> None:
    path.rename(path.parent / "elsewhere")
    path.symlink_to("elsewhere")


def listen(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def attribute(path: Path) -> None:
    with suppress(OSError):  # not every file system has them
        os.setxattr(path, "user.note", b"1")


CHANGES: dict[str, Callable[[Path], object]] = {
    "nothing": lambda top: None,
    "content": lambda top: (top / "a.txt").write_text("other"),
    "content, size and mtime the same": lambda top: same_size(top / "src/deep/y.c"),
    "touched": lambda top: os.utime(top / "src/x.c"),
    "replaced by the same": lambda top: replaced(top / "x.json"),
    "mode": lambda top: (top / "src/x.c").chmod(0o600),
    "mode of a directory": lambda top: (top / "src/deep").chmod(0o700),
    "mode of a directory on the way": lambda top: (top / "other").chmod(0o700),
    "attribute of a file": lambda top: attribute(top / "a.txt"),
    "attribute of a directory": lambda top: attribute(top / "src"),
    "a new file": lambda top: (top / "src/new.c").write_text("new"),
    "a new directory": lambda top: (top / "src/empty").mkdir(),
    "a new file for a wildcard": lambda top: (top / "y.json").write_text("new"),
    "a new file for nobody": lambda top: (top / "nobody").write_text("new"),
    "a new file that is ignored": lambda top: (top / "src/other.log").write_text("new"),
    "a new file that is excluded": lambda top: (top / "docs/other.md").write_text("new"),
    "an ignored one": lambda top: (top / "src/no.log").write_text("other"),
    "an ignored directory": lambda top: (top / "no/n").write_text("other"),
    "one that goes": lambda top: (top / "src/new.c").unlink(),
    "a hard link": lambda top: os.link(top / "src/x.c", top / "src/again.c"),
    "a fifo": lambda top: os.mkfifo(top / "src/fifo"),
    "a socket": lambda top: listen(top / "src/socket"),
    "a link of another target": lambda top: ((top / "src/link").unlink(), (top / "src/link").symlink_to("y")),
    "a file for a link": lambda top: ((top / "src/link").unlink(), (top / "src/link").write_text("plain")),
    "a directory for a file": lambda top: ((top / "x.json").unlink(), (top / "x.json").mkdir()),
    "the Dockerfile, for nothing": lambda top: (top / "Dockerfile").write_text("# hello\n" + DOCKERFILE),
    "the Dockerfile": lambda top: (top / "Dockerfile").write_text(DOCKERFILE + "ENV A=1\n"),
    "the ignore file": lambda top: (top / ".dockerignore").write_text("**/*.log\nno\nsrc/again.c\n"),
    "an ignore file of its own": lambda top: (top / "Dockerfile.dockerignore").write_text("src/x.c\n"),
    "none of its own": lambda top: (top / "Dockerfile.dockerignore").unlink(),
    "no ignore file": lambda top: (top / ".dockerignore").unlink(),
    "an ignore file again": lambda top: (top / ".dockerignore").write_text("**/*.log\n"),
}


def test_both_ways_tell_the_same_after_every_change(stores: tuple[Command, Command], context: Path) -> None:
    short, ordinary = stores
    short.settle()
    ordinary.build(ORDINARY)
    for what, change in CHANGES.items():
        change(context)
        told = short.build()
        assert comparable(told) == comparable(ordinary.build(ORDINARY)), what
        if told[0] == 0:
            short.settle()
            assert short.build() == short.build(ORDINARY), what


@pytest.mark.parametrize("lead", [inside, outside])
def test_a_way_through_a_link_is_never_short(
    stores: tuple[Command, Command], context: Path, lead: Callable[[Path], None]
) -> None:
    short, ordinary = stores
    short.settle()
    ordinary.build(ORDINARY)
    lead(context / "other")
    for _ in range(3):
        assert not short.repeats()
        assert comparable(short.build()) == comparable(ordinary.build(ORDINARY))


def test_every_word_of_the_question_counts(stores: tuple[Command, Command], context: Path, tmp_path: Path) -> None:
    short, _ = stores
    (context / "second").write_text((context / "Dockerfile").read_text())
    short.settle()
    other = [
        ["--build-arg", "WHO=you"],
        ["--build-arg", "HTTP_PROXY=none"],
        ["--label", "a=b"],
        ["--label", "a=b", "--label", "c=d"],
        ["--target", "first"],
        ["-f", str(context / "second")],
        ["-t", "more"],
        ["--network", "none"],
        ["--add-host", "a:1.2.3.4"],
    ]
    for words in other:
        assert not short.repeats(*words), words
        short.settle(*words)
    for words in (["--no-cache"], ["--no-cache-filter=first"], ["--pull"], ["--build-context", "x=."], ["--allow=x"]):
        assert not short.repeats(*words), words
    for variable in ("DOCKER_DEFAULT_PLATFORM", "SOURCE_DATE_EPOCH"):
        short.env[variable] = {"SOURCE_DATE_EPOCH": "1"}.get(variable, "linux")
        assert not short.repeats(), variable
        del short.env[variable]
    assert short.repeats()
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker/config.json").write_text('{"proxies": {"default": {"httpProxy": "http://proxy:1"}}}')
    assert not short.repeats()
    short.settle()
    # what is only about showing does not
    assert short.repeats("--progress=plain", "-q", "--iidfile", str(tmp_path / "id"), "--rm=false")


def test_all_that_a_build_can_be_asked_is_in_the_question_or_needs_a_flag_that_is_not() -> None:
    """A new field of BuildWish belongs to one of these, and what fills it into `repeats.asked`, or not."""
    said = {
        "source",
        "cwd",
        "dockerfile",
        "build_args",
        "target",
        "tags",
        "labels",
        "network",
        "add_hosts",
        "platforms",
    }
    configured = {"proxies"}
    no_matter = {"asked", "environment"}  # git and downloads see the environment: neither is of the short way
    needs_a_flag = {
        *("contexts", "pull", "no_cache", "no_cache_filter", "shm_size", "ulimits", "resources", "cgroup_parent"),
        *("secrets", "ssh", "allow", "outputs", "squash", "max_layers", "cache_from", "cache_to", "attestations"),
    }
    assert {field.name for field in fields(BuildWish)} == said | configured | no_matter | needs_a_flag


def test_names_images_and_layers_are_looked_up_again(stores: tuple[Command, Command], tmp_path: Path) -> None:
    short, _ = stores
    short.settle()
    assert short("tag", "base", "made")[0] == 0
    assert not short.repeats()
    short.settle()
    assert short("rmi", "made")[0] == 0
    assert not short.repeats()
    short.settle()
    with Store.open(short.root) as store:
        layer = store.snapshots.path(store.images.layers(store.images.resolve("made"))[-1])
    layer.rename(tmp_path / "gone")
    assert not short.repeats()
    short.settle()
    short("fsck", "--repair")
    (tmp_path / "base/Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /other\n")
    assert short("build", "-q", "-t", "base", str(tmp_path / "base"))[0] == 0
    assert not short.repeats()


def test_it_is_recorded_as_the_ordinary_way_records(stores: tuple[Command, Command]) -> None:
    short, _ = stores
    short.settle()
    assert short.build(ORDINARY)[0] == 0 and short.repeats()
    with Store.open(short.root) as store:
        quick, plain = store.records.list(limit=2)
        rows = [
            [(step.number, step.name, step.status, step.key, step.step, step.layer, step.facts) for step in steps]
            for steps in (store.records.steps(quick.id), store.records.steps(plain.id))
        ]
    assert rows[0] == rows[1] and len(rows[0]) == 2
    assert quick.finished is not None and quick.started <= quick.finished
    for name in ("status", "image", "error", "facts", "dockerfile"):
        assert getattr(quick, name) == getattr(plain, name)


def test_what_somebody_left_who_died_is_not_passed_by(stores: tuple[Command, Command]) -> None:
    short, _ = stores
    short.settle()
    with Store.open(short.root) as store, store.database.write():
        store.database.run(
            "INSERT INTO leases (id, boot, pid, started, created, note) VALUES ('feed', 'boot', 1, 1, 1, 'dead')"
        )
    assert not short.repeats()
    assert short.build()[0] == 0
    assert short.repeats()


def test_a_damaged_note_is_none(stores: tuple[Command, Command]) -> None:
    short, _ = stores
    short.settle()
    with Store.open(short.root) as store, store.database.write():
        store.database.run("UPDATE parsed SET data = substr(data, 1, 20) WHERE hex(data) GLOB '[2A]9*'")
    assert not short.repeats()
    short.settle()


def test_several_platforms_are_one_outcome(stores: tuple[Command, Command], tmp_path: Path) -> None:
    platforms = ("--platform", "linux/amd64,linux/arm64")
    for store in stores:
        assert store("build", "-q", "-t", "base", *platforms, str(tmp_path / "base"))[0] == 0
        store.settle(*platforms)
    short, ordinary = stores
    quick, plain = short.build(*platforms), ordinary.build(*platforms, ORDINARY)
    assert comparable(quick) == comparable(plain) and "exporting manifest list sha256:" in quick[1]
    assert not short.repeats("--platform", "linux/arm64,linux/amd64") and not short.repeats()
    # the name of the base, one of its images, and the index are looked up again
    (tmp_path / "base/Dockerfile").write_text("FROM scratch\nARG TARGETARCH\nCOPY Dockerfile /base-$TARGETARCH\n")
    assert short("build", "-q", "-t", "base", *platforms, str(tmp_path / "base"))[0] == 0
    assert not short.repeats(*platforms)
    short.settle(*platforms)
    assert short("tag", "made", "kept")[0] == 0 and short("rmi", "made")[0] == 0
    assert not short.repeats(*platforms)
    short.settle(*platforms)
    with Store.open(short.root) as store:
        arm = store.images.resolve("made", platform=Platform("linux", "arm64"))
        layer = store.snapshots.path(store.images.layers(arm)[-1])
    layer.rename(tmp_path / "gone")
    assert not short.repeats(*platforms)
    short("fsck", "--repair")
    short.settle(*platforms)


def test_a_base_has_to_be_what_its_platform_chooses(stores: tuple[Command, Command], tmp_path: Path) -> None:
    short, _ = stores
    both, arm = ("--platform", "linux/amd64,linux/arm64"), ("--platform", "linux/arm64")
    text = "FROM scratch\nARG TARGETARCH\nCOPY Dockerfile /base-$TARGETARCH\n"
    (tmp_path / "base/Dockerfile").write_text(text)
    assert short("build", "-q", "-t", "base", *both, str(tmp_path / "base"))[0] == 0
    with Store.open(short.root) as store:
        before = store.images.target("base")
    (tmp_path / "base/Dockerfile").write_text(text + "LABEL a=b\n")
    assert short("build", "-q", "-t", "other", *arm, str(tmp_path / "base"))[0] == 0
    with Store.open(short.root) as store:
        here = store.images.resolve("base", platform=Platform("linux", "amd64"))
        after = store.indexes.make((here, store.images.resolve("other")))
        store.images.tag(Reference.parse("after"), after)
    # the second index has another image for that platform, and the same one for this
    for words, stands in ((arm, False), ((), True)):
        for target in (before, after):
            with Store.open(short.root) as store:
                store.images.tag(Reference.parse("base"), target)
            if target == before:
                short.settle(*words)
        assert short.repeats(*words) == stands
