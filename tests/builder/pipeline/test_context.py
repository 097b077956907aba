"""Contexts of every kind, and that nothing in one leads out of it."""

import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from builder.errors import BuildError, ContextError, DockerfileNotFound, EngineError
from builder.pipeline.context import (
    LARGEST_DOCKERFILE,
    Context,
    ImageSource,
    LayoutSource,
    StageSource,
    Tree,
    open_context,
    open_named,
)
from builder.pipeline.copy_step import CopySpec, select

Open = Callable[..., Context]


@pytest.fixture
def open_it(tmp_path: Path) -> Iterator[Open]:
    with ExitStack() as undo:
        count = iter(range(100))

        def scratch() -> Path:
            path = tmp_path / f"scratch{next(count)}"
            path.mkdir()
            return path

        def opened(source: str, *, stdin: bytes | None = None, **more: Any) -> Context:
            stream = None if stdin is None else io.BytesIO(stdin)
            context = open_context(
                source, dockerfile=more.pop("dockerfile", None), stdin=stream, scratch=scratch, cwd=tmp_path, **more
            )
            undo.callback(context.close)
            return context

        yield opened


@pytest.fixture
def place(tmp_path: Path) -> Path:
    path = tmp_path / "ctx"
    path.mkdir()
    (path / "Dockerfile").write_text("FROM a")
    (tmp_path / "secret").write_text("theirs")
    return path


def tar(*members: tuple[str, bytes | str | None], mode: str = "w") -> bytes:
    """An archive: bytes are files, text a symlink's target, None a directory."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.mode = 0o644
            if content is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            elif isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
            else:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return out.getvalue()


def names(context: Context) -> list[str]:
    with select(CopySpec(("/",), "/"), context.tree) as selection:
        manifest = selection.manifest().split(b"\0")[:-1:2]
    return sorted(os.fsdecode(name) for name in manifest)


# local directories


def test_a_directory(open_it: Open, place: Path) -> None:
    context = open_it("ctx")
    assert (context.dockerfile, context.dockerfile_name, context.ignore_name) == (b"FROM a", "Dockerfile", None)
    assert names(context) == ["/Dockerfile"]


def test_where_the_dockerfile_is_looked_for(open_it: Open, place: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("FROM other")
    assert open_it("ctx", dockerfile="other").dockerfile == b"FROM other"
    assert open_it("ctx", dockerfile=str(place / "Dockerfile")).dockerfile == b"FROM a"
    assert open_it("ctx", dockerfile="-", stdin=b"FROM b").dockerfile == b"FROM b"
    (place / "Dockerfile").rename(place / "dockerfile")
    assert open_it("ctx").dockerfile_name == "dockerfile"
    (place / "dockerfile").unlink()
    with pytest.raises(DockerfileNotFound):
        open_it("ctx")


@pytest.mark.parametrize("kind", ["fifo", "directory", "large", "dangling"])
def test_a_dockerfile_that_is_none(open_it: Open, place: Path, kind: str) -> None:
    path = place / "Dockerfile"
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "dangling":
        path.symlink_to("nowhere")
    else:
        with open(path, "wb") as file:
            file.truncate(LARGEST_DOCKERFILE + 1)
    with pytest.raises((ContextError, DockerfileNotFound)):
        open_it("ctx")


@pytest.mark.parametrize(
    ("source", "message"), [("none", "not found"), ("secret", "must be a directory"), ("secret/x", "directory")]
)
def test_a_context_that_is_none(open_it: Open, place: Path, source: str, message: str) -> None:
    with pytest.raises(ContextError, match=message):
        open_it(source)


def test_ignore_files(open_it: Open, place: Path) -> None:
    (place / "a").touch()
    (place / ".dockerignore").write_text("a\n.dockerignore\n")
    context = open_it("ctx")
    assert (context.ignore_name, names(context)) == (".dockerignore", ["/Dockerfile"])
    (place / "Dockerfile.dockerignore").write_text("*\n!a\n")
    context = open_it("ctx")
    assert (context.ignore_name, names(context)) == ("Dockerfile.dockerignore", ["/a"])
    (place / "Dockerfile.dockerignore").write_text("[\n")
    with pytest.raises(ContextError, match=r"error reading Dockerfile\.dockerignore"):
        open_it("ctx")


def test_an_ignore_file_that_leads_outside(open_it: Open, place: Path, tmp_path: Path) -> None:
    (tmp_path / "patterns").write_text("a\n")
    (place / "a").touch()
    (place / ".dockerignore").symlink_to("../patterns")
    assert "/a" in names(open_it("ctx"))
    (place / ".dockerignore").unlink()
    os.mkfifo(place / ".dockerignore")
    with pytest.raises(ContextError):
        open_it("ctx")


# what comes whole


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_on_standard_input(open_it: Open, mode: str) -> None:
    data = tar(("Dockerfile", b"FROM a"), ("d", None), ("d/x", b"x"), (".dockerignore", b"y"), ("y", b""), mode=mode)
    context = open_it("-", stdin=data)
    assert context.dockerfile == b"FROM a"
    assert names(context) == ["/.dockerignore", "/Dockerfile", "/d", "/d/x"]
    assert open_it("-", dockerfile="d/x", stdin=data).dockerfile == b"x"


def test_a_dockerfile_on_standard_input(open_it: Open) -> None:
    context = open_it("-", stdin=b"FROM a\n")
    assert (context.dockerfile, names(context)) == (b"FROM a\n", [])


@pytest.mark.parametrize("stdin", [None, b"", b" \n\n", b"\x1f\x8b broken", tar(("x", b""))[:700]])
def test_standard_input_with_nothing_in_it(open_it: Open, stdin: bytes | None) -> None:
    with pytest.raises(EngineError):
        open_it("-", stdin=stdin)


def test_both_cannot_come_from_standard_input(open_it: Open) -> None:
    with pytest.raises(ContextError, match="can't use stdin for both"):
        open_it("-", dockerfile="-", stdin=b"FROM a")


@pytest.mark.parametrize("target", ["../secret", "../../secret", "/secret", "/../secret", "/proc/self/root/etc/passwd"])
def test_a_dockerfile_link_stays_inside(open_it: Open, tmp_path: Path, target: str) -> None:
    """CVE-2026-33748: the Dockerfile of a context that came from elsewhere must not be a file of the host."""
    (tmp_path / "secret").write_text("theirs")
    for name in ("Dockerfile", "dockerfile"):
        with pytest.raises((DockerfileNotFound, ContextError)):
            open_it("-", stdin=tar((name, target), ("x", b"")))
    if target.endswith("secret"):
        assert open_it("-", stdin=tar(("Dockerfile", target), ("secret", b"mine"))).dockerfile == b"mine"


@pytest.mark.parametrize(
    "members",
    [
        (("../canary", b"x"),),
        (("a/../../canary", b"x"),),
        (("/canary", b"x"),),
        (("link", ".."), ("link/canary", b"x")),
        (("link", "/"), ("link/canary", b"x")),
        (("link", "../canary"), ("link", b"x")),
        ((".", ".."), ("canary", b"x")),
        (("d", None), ("d", ".."), ("d/canary", b"x")),
    ],
)
def test_a_tar_writes_nothing_outside(
    open_it: Open, tmp_path: Path, members: tuple[tuple[str, bytes | str | None], ...]
) -> None:
    """CVE-2026-17106 and its kind: kept inside or refused, either is good."""
    try:
        open_it("-", stdin=tar(("Dockerfile", b"FROM a"), *members))
    except EngineError:
        pass
    assert not (tmp_path / "canary").exists()
    assert not Path("/canary").exists()


def test_a_tar_keeps_its_owners(open_it: Open) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo("Dockerfile")
        info.uid, info.gid, info.mode = os.geteuid() or 5, os.getegid() or 6, 0o640
        archive.addfile(info)
    context = open_it("-", stdin=out.getvalue())
    assert context.tree.keeps_owner
    status = os.stat("Dockerfile", dir_fd=context.tree.fd)
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (info.uid, info.gid, 0o640)


def test_the_short_form_of_a_repository(open_it: Open, tmp_path: Path) -> None:
    for source in ("github.com/owner/name#v1:sub", "github.com/owner/name.git"):
        with pytest.raises(EngineError, match=r"https://github.com/owner/name\.git"):
            open_it(source, environment={"PATH": str(tmp_path)})  # where no git program is
    (tmp_path / "github.com/owner/name").mkdir(parents=True)
    (tmp_path / "github.com/owner/name/Dockerfile").write_text("FROM here")
    assert open_it("github.com/owner/name").dockerfile == b"FROM here"


# named contexts


def test_named_contexts(tmp_path: Path, place: Path) -> None:
    def named(value: str) -> object:
        return open_named("n", value, scratch=lambda: tmp_path, cwd=tmp_path)

    assert named("docker-image://busybox:1") == ImageSource("busybox:1")
    assert named("target:base") == StageSource("base")
    assert named("oci-layout://dir/x:v1@sha256:00") == LayoutSource(tmp_path / "dir/x", "v1", "sha256:00")
    assert named("oci-layout:///dir") == LayoutSource(Path("/dir"), None, None)
    tree = named("ctx")
    assert isinstance(tree, Tree)
    with tree:
        assert (tree.label, tree.keeps_owner, tree.path) == ("context n", False, place)
    with pytest.raises(ContextError, match="failed to get build context n"):
        named("none")


def test_no_descriptor_stays_open(open_it: Open, place: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    (place / ".dockerignore").write_text("[")
    for _ in range(3):
        with pytest.raises(ContextError):
            open_it("ctx")
        with pytest.raises(BuildError):
            open_it("-", stdin=tar(("x", b"")))
    assert len(os.listdir("/proc/self/fd")) == before
