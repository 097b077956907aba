"""ADD: archives in a real overlay, downloads with checksums, repositories."""

import hashlib
import http.server
import io
import os
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from builder.errors import BuildError, DigestMismatch, DownloadFailed, EngineError
from builder.pipeline.add_step import AddSpec, select
from builder.pipeline.copy_step import CopySpec, materialise
from builder.pipeline.trees import Tree
from runtime.rootfs import open_rootfs
from runtime.spec import Rootfs

pytestmark = pytest.mark.root

Add = Callable[..., Path]


def packed(compression: str = "", **files: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=f"w:{compression}") as archive:  # type: ignore[call-overload]
        for name, text in files.items():
            info = tarfile.TarInfo(name.replace("__", "/"))
            info.size, info.uid, info.gid, info.mtime = len(text), 5, 6, 77
            archive.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


@pytest.fixture
def context(tmp_path: Path) -> Path:
    path = tmp_path / "context"
    path.mkdir()
    return path


@pytest.fixture
def lower(tmp_path: Path) -> Path:
    path = tmp_path / "lower"
    path.mkdir()
    return path


@pytest.fixture
def add(tmp_path: Path, context: Path, lower: Path) -> Iterator[Add]:
    """Add sources to the image `lower`; gives the upper directory."""
    with ExitStack() as undo:
        tree = Tree(os.open(context, os.O_RDONLY), "context", keeps_owner=False)
        undo.callback(tree.close)
        count = iter(range(100))

        def directory() -> Path:
            path = tmp_path / f"scratch{next(count)}"
            path.mkdir()
            return path

        def run(*sources: str, to: str = "/out/", secrets: dict[str, bytes] | None = None, **flags: object) -> Path:
            copied = {name: flags.pop(name) for name in ("chown", "chmod") if name in flags}
            spec = AddSpec(CopySpec(sources, to, **copied), **flags)  # type: ignore[arg-type]
            environment = {"PATH": os.environ["PATH"]}
            upper, work = directory(), directory()
            upper.chmod(0o755)
            with select(spec, tree, scratch=directory, secrets=secrets, environment=environment) as selection:
                root = open_rootfs(Rootfs((str(lower),), readonly=True))
                try:
                    materialise(
                        selection,
                        upper=upper,
                        root=root,
                        writable=lambda: open_rootfs(Rootfs((str(lower),), str(upper), str(work))),
                    )
                finally:
                    os.close(root)
            return upper

        yield run


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz"])
def test_archives_are_unpacked(add: Add, context: Path, compression: str) -> None:
    (context / "x.bin").write_bytes(packed(compression, d__file="text"))
    upper = add("x.bin")
    assert (upper / "out/d/file").read_text() == "text"
    status = (upper / "out/d/file").stat()
    assert (status.st_uid, status.st_gid, status.st_mtime) == (5, 6, 77)
    assert (add("x.bin", unpack=False) / "out/x.bin").is_file()
    status = (add("x.bin", chown="1:2") / "out/d/file").stat()
    assert (status.st_uid, status.st_gid) == (1, 2)


@pytest.mark.parametrize("data", [b"", b"text\n", b"\x1f\x8b\x08 no gzip", b"BZh9 nothing", bytes(1024), b"PK\3\4"])
def test_what_is_no_archive_is_a_file(add: Add, context: Path, data: bytes) -> None:
    (context / "x.tar.gz").write_bytes(data)
    assert (add("x.tar.gz") / "out/x.tar.gz").read_bytes() == data


def test_an_archive_meets_the_image(add: Add, context: Path, lower: Path, tmp_path: Path) -> None:
    """Links of the image are followed inside the image, whatever the archive has below their names."""
    (lower / "real").mkdir()
    (lower / "inside").symlink_to("/real")
    (lower / "outside").symlink_to(f"/../../../../../..{tmp_path}")
    (lower / "file").write_text("old")
    (context / "x").write_bytes(packed(inside__a="A", outside__canary="C", file="new"))
    try:
        upper = add("x", to="/")
    except EngineError:
        pass  # a name whose way leads nowhere may be refused
    else:
        assert (upper / "file").read_text() == "new"
    assert not (tmp_path / "canary").exists()
    assert (lower / "file").read_text() == "old"


def test_programs_of_the_image_unpack_nothing(add: Add, context: Path, lower: Path, tmp_path: Path) -> None:
    """CVE-2026-41567: a decompressor that the image brings along must never be started."""
    (lower / "usr/bin").mkdir(parents=True)
    for name in ("xz", "gzip", "unpigz", "bzip2", "tar", "zstd"):
        (lower / "usr/bin" / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/marker\n")
        (lower / "usr/bin" / name).chmod(0o755)
    for compression in ("gz", "bz2", "xz"):
        (context / compression).write_bytes(packed(compression, a="A"))
    add("gz", "bz2", "xz")
    assert not (tmp_path / "marker").exists()


# downloads


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The URL under which the files of `www` are, over http."""
    www = tmp_path / "www"
    www.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(www))  # type: ignore[arg-type]

        def do_GET(self) -> None:
            if self.path.startswith("/closed") and self.headers.get("Authorization") != "Bearer word":
                self.send_error(401)
            else:
                super().do_GET()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{httpd.server_port}"
        finally:
            httpd.shutdown()
            thread.join()


def test_a_url(add: Add, served: str, tmp_path: Path) -> None:
    data = packed("gz", a="A")
    (tmp_path / "www/x.tgz").write_bytes(data)
    os.utime(tmp_path / "www/x.tgz", (1000, 1000))
    path = add(f"{served}/x.tgz") / "out/x.tgz"
    assert (path.read_bytes(), path.stat().st_mode & 0o7777, path.stat().st_mtime) == (data, 0o600, 1000)
    assert (add(f"{served}/x.tgz", unpack=True) / "out/a").read_text() == "A"
    assert (add(f"{served}/x.tgz", to="/name", chmod="644") / "name").stat().st_mode & 0o777 == 0o644
    with pytest.raises(DownloadFailed, match="404"):
        add(f"{served}/none")
    assert (add(f"{served}/") / "out/__unnamed__").is_file()


def test_a_checksum(add: Add, served: str, context: Path, tmp_path: Path) -> None:
    (tmp_path / "www/x").write_text("data")
    (context / "local").touch()
    right = "sha256:" + hashlib.sha256(b"data").hexdigest()
    add(f"{served}/x", checksum=right)
    with pytest.raises(DigestMismatch, match="digest mismatch"):
        add(f"{served}/x", checksum="sha256:" + "0" * 64)
    for wrong, message in (
        ("md5:" + "0" * 32, "unsupported digest algorithm"),
        ("0" * 64, "format"),
        ("sha256:0", "format"),
    ):
        with pytest.raises(BuildError, match=message):
            add(f"{served}/none", checksum=wrong)
    with pytest.raises(BuildError, match="checksum can't be specified"):
        add("local", checksum=right)
    with pytest.raises(BuildError, match="multiple sources"):
        add(f"{served}/x", f"{served}/x", checksum=right)


def test_a_secret_opens_a_url(add: Add, served: str, tmp_path: Path) -> None:
    (tmp_path / "www/closed").write_text("data")
    with pytest.raises(DownloadFailed, match="401"):
        add(f"{served}/closed")
    assert (add(f"{served}/closed", secrets={"HTTP_AUTH_TOKEN_127.0.0.1": b"word"}) / "out/closed").is_file()


def test_a_repository_over_http(add: Add, served: str, tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    (made / "sub").mkdir()
    (made / "sub/file").write_text("one")
    (made / "escape").symlink_to(tmp_path)
    environment = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": "/dev/null"}
    user = ("-c", "user.name=a", "-c", "user.email=a@b")
    for command in (
        ("init", "-q", "-b", "main"),
        ("add", "."),
        (*user, "commit", "-q", "-m", "one"),
        ("clone", "-q", "--bare", ".", str(tmp_path / "www/r.git")),
        ("--git-dir", str(tmp_path / "www/r.git"), "update-server-info"),
    ):
        subprocess.run(["git", *command], cwd=made, env=environment, check=True, capture_output=True)
    with pytest.raises(EngineError):
        add(f"{served}/r.git#main:escape")  # CVE-2026-33748
    with pytest.raises(EngineError):
        add(f"{served}/none.git")
