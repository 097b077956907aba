"""Downloads and git repositories, from servers on the loopback device that do not always behave."""

import hashlib
import http.server
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from builder.errors import ContextError, DownloadFailed, InvalidInput, Unsupported
from builder.pipeline.add_step import AddSpec, select
from builder.pipeline.context import open_context
from builder.pipeline.copy_step import CopySpec, read_manifest
from builder.pipeline.remote import GitSource, authorization, download, fetch_git, filename, git_source

Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


@contextmanager
def server(answers: Mapping[str, Answer]) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """(base URL, [(path, Authorization)] of what was asked) of a server with *answers* by path."""
    asked: list[tuple[str, str | None]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers.get("Authorization")))
            answers[self.path.partition("?")[0]](self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{httpd.server_port}", asked
        finally:
            httpd.shutdown()
            thread.join()


def body(data: bytes, *, length: int | None = None, **headers: str) -> Answer:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data) if length is None else length))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(data)
        handler.close_connection = True

    return answer


def redirect(place: str) -> Answer:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", place)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def test_a_download(tmp_path: Path) -> None:
    answers = {"/d/x%20y.txt": body(b"data", Last_Modified="Thu, 01 Jan 2015 00:00:00 GMT"), "/d/": body(b"")}
    with server(answers) as (base, _):
        path, digest = download(f"{base}/d/x%20y.txt?q=1", tmp_path)
        other, _ = download(f"{base}/d/", tmp_path)
    assert (path.name, other.name) == ("x y.txt", "d")
    assert digest == "sha256:" + hashlib.sha256(b"data").hexdigest()
    assert (path.stat().st_mtime, path.stat().st_mode & 0o777, other.stat().st_mtime) == (1420070400, 0o600, 0)


@pytest.mark.parametrize("length", [5, 5_000_000])
def test_a_download_that_ends_early(tmp_path: Path, length: int) -> None:
    with server({"/x": body(b"data", length=length)}) as (base, _):
        with pytest.raises(DownloadFailed):
            download(f"{base}/x", tmp_path)


def test_a_status_and_a_closed_port(tmp_path: Path) -> None:
    def missing(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_error(404)

    with server({"/x": missing}) as (base, _):
        with pytest.raises(DownloadFailed, match="404"):
            download(f"{base}/x", tmp_path)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(DownloadFailed, match="refused"):
            download(f"http://user:word@127.0.0.1:{closed.getsockname()[1]}/x", tmp_path)


@pytest.mark.parametrize("place", ["http://[", "http://user:pa55@[::1/x", "http://h:999999/x", "http://h:x/"])
def test_what_is_no_address_is_an_error(tmp_path: Path, place: str) -> None:
    for act in (lambda: download(place, tmp_path), lambda: authorization(place, {}), lambda: filename(place)):
        with pytest.raises(InvalidInput, match="invalid URL") as caught:
            act()
        assert "pa55" not in caught.value.message


def test_a_password_is_not_shown(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(DownloadFailed) as caught:
            download(f"http://user:word@127.0.0.1:{closed.getsockname()[1]}/x", tmp_path)
    assert "word" not in str(caught.value)


def test_a_password_in_the_url(tmp_path: Path) -> None:
    with server({"/x": body(b"x")}) as (base, asked):
        download(base.replace("//", "//user:w%40rd@") + "/x", tmp_path)
    assert asked == [("/x", "Basic dXNlcjp3QHJk")]


def test_authorization_goes_to_its_host_alone(tmp_path: Path) -> None:
    """CVE-2018-18074 and its kind: a redirect to another place must not carry the header on."""
    with server({"/end": body(b"x")}) as (other, asked_other):
        with server({"/same": redirect("/end"), "/away": redirect(f"{other}/end"), "/end": body(b"x")}) as (
            base,
            asked,
        ):
            for name in ("same", "away"):
                (tmp_path / name).mkdir()
                headers = authorization(f"{base}/{name}", {"HTTP_AUTH_TOKEN_127.0.0.1": b"word\n"})
                download(f"{base}/{name}", tmp_path / name, headers=headers)
    assert asked == [("/same", "Bearer word"), ("/end", "Bearer word"), ("/away", "Bearer word")]
    assert asked_other == [("/end", None)]


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "///etc/passwd"])
def test_a_redirect_to_something_else_than_http(tmp_path: Path, place: str) -> None:
    with server({"/x": redirect(place), "/etc/passwd": lambda handler: handler.send_error(404)}) as (base, _):
        with pytest.raises(DownloadFailed):
            download(f"{base}/x", tmp_path)


def test_a_redirect_without_end(tmp_path: Path) -> None:
    with server({"/x": redirect("/x")}) as (base, asked):
        with pytest.raises(DownloadFailed):
            download(f"{base}/x", tmp_path)
    assert len(asked) < 20


def test_a_proxy_of_the_environment(tmp_path: Path) -> None:
    with server({"http://nowhere.invalid/x": body(b"by proxy")}) as (base, asked):
        path, _ = download("http://nowhere.invalid/x", tmp_path, environment={"http_proxy": base})
    assert path.read_bytes() == b"by proxy"
    assert len(asked) == 1
    with server({"/y": body(b"direct")}) as (base, _):
        environment = {"HTTP_PROXY": "http://127.0.0.1:1", "NO_PROXY": "127.0.0.1"}
        download(f"{base}/y", tmp_path, environment=environment)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://h/a/b.tar.gz?x=/y#z", "b.tar.gz"),
        ("http://h/a/", "a"),
        ("http://h", "__unnamed__"),
        ("http://h/", "__unnamed__"),
        ("http://h/a/%2e%2e", "__unnamed__"),
        ("http://h/a%2fb", "b"),
        ("http://h/..%2f..%2fetc%2fpasswd", "passwd"),
        ("http://h/%00", "__unnamed__"),
    ],
)
def test_names(url: str, name: str) -> None:
    assert filename(url) == name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dir", None),
        ("http://h/x.tar", None),
        ("http://h/x.git", GitSource("http://h/x.git")),
        ("https://h/x.git#v1:sub/dir", GitSource("https://h/x.git", "v1", "sub/dir")),
        ("git://h/x", GitSource("git://h/x")),
        ("git@h:o/r.git#main", GitSource("git@h:o/r.git", "main")),
        ("ssh://git@h/o/r?ref=v1&subdir=a", GitSource("ssh://git@h/o/r", "v1", "a")),
        ("git://h/x?commit=abc&keep-git-dir=1", GitSource("git://h/x", checksum="abc", keep_git_dir=True)),
        ("git://h/x?tag=v1&keep-git-dir", GitSource("git://h/x", "refs/tags/v1", keep_git_dir=True)),
        ("git://h/x?branch=b#refs/heads/b:a", GitSource("git://h/x", "refs/heads/b", "a")),
        ("git://h/x?submodules=false&keep-git-dir=0", GitSource("git://h/x", keep_git_dir=False, submodules=False)),
        ("ext::sh -c touch", None),
        ("file:///repo.git", None),
    ],
)
def test_git_sources(text: str, expected: GitSource | None) -> None:
    assert git_source(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "git://h/x#--upload-pack=touch /marker",
        "git://h/x#main:../x",
        "git://h/x#main:a/../../x",
        "git://h/x#main:-x",
        "git://h/x?ref=--upload-pack=x",
        "git://h/x?what=1",
        "git://h/x?ref=a&ref=b",
        "git://h/x?ref=",
        "git://h/x?ref=a#b",
        "git://h/x?subdir=a#b:c",
        "git://h/x?tag=a&branch=a",
        "git://h/x?keep-git-dir=maybe",
        "git://h/x#a%0ab".replace("%0a", "\n"),
    ],
)
def test_git_sources_that_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        git_source(text)


# git


CLEAN = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@b",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@b",
}


def git(directory: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=directory, env=CLEAN, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository `repo/x` below the directory that `served` serves."""
    path = tmp_path / "repo/x"
    path.mkdir(parents=True)
    git(path, "init", "-q", "-b", "main")
    (path / "file").write_text("one")
    (path / "sub").mkdir()
    (path / "sub/Dockerfile").write_text("FROM scratch\n")
    (path / "out").symlink_to("/etc")
    git(path, "add", ".")
    git(path, "commit", "-q", "-m", "one")
    git(path, "tag", "v1")
    (path / "file").write_text("two")
    git(path, "commit", "-q", "-a", "-m", "two")
    return path


@pytest.fixture
def served(repository: Path) -> Iterator[str]:
    """`git daemon` on the loopback device."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    daemon = subprocess.Popen(
        [
            "git",
            "-c",
            "uploadpack.allowAnySHA1InWant=true",
            "-c",
            "safe.directory=*",
            "daemon",
            "--export-all",
            "--informative-errors",
            "--verbose",
            f"--base-path={repository.parent}",
            "--listen=127.0.0.1",
            f"--port={port}",
        ],
        env=CLEAN,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert daemon.stderr is not None
    try:
        assert b"Ready" in daemon.stderr.readline()
        yield f"git://127.0.0.1:{port}/x"
    finally:
        os.killpg(daemon.pid, 15)
        daemon.wait()
        daemon.stderr.close()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    path = tmp_path / "place"
    path.mkdir()
    return path


def test_a_branch_and_a_tag(served: str, place: Path, tmp_path: Path, repository: Path) -> None:
    assert fetch_git(GitSource(served), place, environment=CLEAN) == git(repository, "rev-parse", "main")
    assert (place / "file").read_text() == "two"
    assert not (place / ".git").exists()
    other = tmp_path / "other"
    other.mkdir()
    fetch_git(GitSource(served, "v1", keep_git_dir=True), other, environment=CLEAN)
    assert (other / "file").read_text() == "one"
    assert (other / ".git").is_dir()


def test_a_fetched_context_says_when_it_was_made(served: str, repository: Path, tmp_path: Path) -> None:
    """For SOURCE_DATE_EPOCH=context."""
    (repository / "Dockerfile").write_text("FROM scratch\n")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "three", "--date", "2001-02-03T04:05:06Z")
    count = iter(range(10))

    def scratch() -> Path:
        path = tmp_path / f"scratch{next(count)}"
        path.mkdir()
        return path

    for source in (served, f"{served}#main:sub"):
        with closing(
            open_context(source, dockerfile=None, stdin=None, scratch=scratch, cwd=tmp_path, environment=CLEAN)
        ) as context:
            assert context.epoch == int(git(repository, "log", "-1", "--format=%ct"))


def test_a_commit_that_must_be_the_one(served: str, place: Path, tmp_path: Path, repository: Path) -> None:
    commit = git(repository, "rev-parse", "v1")
    assert fetch_git(GitSource(served, "v1", checksum=commit[:12]), place, environment=CLEAN) == commit
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(ContextError, match="expected checksum"):
        fetch_git(GitSource(served, "main", checksum=commit), other, environment=CLEAN)


def test_the_beginning_of_a_commit(served: str, place: Path, repository: Path, tmp_path: Path) -> None:
    commit = git(repository, "rev-parse", "v1")
    assert fetch_git(GitSource(served, commit[:9]), place, environment=CLEAN) == commit
    other = tmp_path / "other"
    other.mkdir()
    git(repository, "branch", "decade5", "v1")
    assert fetch_git(GitSource(served, "decade5"), other, environment=CLEAN) == commit


@pytest.mark.parametrize("ref", ["none", "refs/heads/none", "0123456789"])
def test_a_ref_that_is_not_there(served: str, place: Path, ref: str) -> None:
    with pytest.raises(ContextError, match="failed to fetch"):
        fetch_git(GitSource(served, ref), place, environment=CLEAN)


def test_add_of_a_repository_leaves_out_what_is_excluded(served: str, place: Path) -> None:
    spec = AddSpec(CopySpec((served,), "/x/", exclude=("sub", "o*")))
    with select(spec, None, scratch=lambda: place, environment=CLEAN) as selection:
        assert list(read_manifest(selection.manifest())) == ["/file"]


@pytest.mark.parametrize("scheme", ["file", "ext"])
def test_transports_that_are_never_used(repository: Path, place: Path, scheme: str, tmp_path: Path) -> None:
    """CVE-2022-39253 and ext::sh, should such a URL ever come this far."""
    url = f"file://{repository}" if scheme == "file" else f"ext::sh -c touch% {tmp_path}/marker"
    with pytest.raises(ContextError, match="not allowed"):
        fetch_git(GitSource(url), place, environment={**CLEAN, "GIT_ALLOW_PROTOCOL": "file:ext"})
    assert not (tmp_path / "marker").exists()


def test_a_submodule_beside_the_server(served: str, repository: Path, place: Path) -> None:
    """A submodule by path would read the host's own directories."""
    (repository / ".gitmodules").write_text(f'[submodule "s"]\n\tpath = s\n\turl = {repository}\n')
    git(repository, "add", ".gitmodules")
    git(repository, "update-index", "--add", "--cacheinfo", f"160000,{git(repository, 'rev-parse', 'v1')},s")
    git(repository, "commit", "-q", "-m", "submodule")
    with pytest.raises(ContextError, match="not allowed"):
        fetch_git(GitSource(served), place, environment=CLEAN)


def test_the_users_settings_and_hooks_are_not_used(served: str, place: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    hooks = tmp_path / "templates/hooks"
    hooks.mkdir(parents=True)
    (hooks / "post-checkout").write_text(f"#!/bin/sh\ntouch {marker}\n")
    (hooks / "post-checkout").chmod(0o755)
    config = tmp_path / ".gitconfig"
    config.write_text(f"[init]\n\ttemplateDir = {hooks.parent}\n[core]\n\thooksPath = {hooks}\n")
    bad = {**CLEAN, "HOME": str(tmp_path), "GIT_CONFIG_GLOBAL": str(config), "GIT_TEMPLATE_DIR": str(hooks.parent)}
    fetch_git(GitSource(served), place, environment=bad)
    assert not marker.exists()


def test_without_the_program(place: Path, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="git program"):
        fetch_git(GitSource("git://127.0.0.1/x"), place, environment={"PATH": str(tmp_path)})
