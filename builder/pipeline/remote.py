"""What comes from elsewhere for a context or an ADD: files over http(s), and git repositories by the git program.

Nothing here trusts the other side: downloads are counted and digested while they stream, credentials go to the host
that they were given for and to no other, git gets no option from a URL and runs no hook or helper.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from builder.errors import ContextError, DownloadFailed, InvalidInput, Unsupported
from runtime.values import dataclass, replace

if TYPE_CHECKING:
    from urllib.request import OpenerDirector

_TIMEOUT = 60
"""Seconds without a byte until a server is given up."""
_BLOCK = 1 << 20
_SCP = re.compile(r"[A-Za-z0-9_.-]+@[A-Za-z0-9_.-]+:(?!/?\d+/)\S+")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_COMMIT_BEGINNING = re.compile(r"[0-9a-f]{7,64}")
_QUERIES = ("ref", "branch", "tag", "subdir", "checksum", "commit", "keep-git-dir", "submodules")
_UNNAMED = "__unnamed__"


@dataclass(frozen=True, slots=True)
class GitSource:
    """A git repository as a URL names it: `url#ref:subdir`, or `url?ref=…&subdir=…`."""

    url: str
    ref: str = ""
    subdir: str = ""
    checksum: str = ""
    """A commit or the beginning of one, which the ref must be."""
    keep_git_dir: bool | None = None
    """None: not said, which is no."""
    submodules: bool = True


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came from elsewhere, as records may name it: without credentials. `digest` is "sha256:…" of a file, and
    "sha1:…" (or sha256) of a repository's commit."""

    uri: str
    digest: str


def fetched_file(url: str, digest: str) -> Fetched:
    """A download as records may name it."""
    return Fetched(_shown(url), digest)


def fetched_commit(source: GitSource, commit: str) -> Fetched:
    """A repository as records may name it, in the short form of its URL."""
    fragment = source.ref + (f":{source.subdir}" if source.subdir else "")
    algorithm = "sha1" if len(commit) == 40 else "sha256"
    return Fetched(_shown(source.url) + (f"#{fragment}" if fragment else ""), f"{algorithm}:{commit}")


def is_url(text: str) -> bool:
    """Whether *text* is an http or https URL."""
    return text.startswith(("http://", "https://"))


def is_remote(text: str) -> bool:
    """Whether *text* is an http(s) URL or a git repository. Raises as `git_source`."""
    return is_url(text) or git_source(text) is not None


def git_source(text: str) -> GitSource | None:
    """What *text* means as a git repository; None when it is none.

    Raises: InvalidInput for a ref, subdirectory or query that cannot be meant.
    """
    scp = _SCP.fullmatch(text.partition("#")[0]) is not None
    if not scp and not text.startswith(("http://", "https://", "git://", "ssh://")):
        return None
    base, _, fragment = text.partition("#")
    base, _, query = base.partition("?")
    if text.startswith(("http://", "https://")) and not base.endswith(".git"):
        return None
    ref, _, subdir = fragment.partition(":")
    found = _with_query(GitSource(base, ref, subdir), query)
    for part in (found.ref, found.subdir, found.url):
        if part.startswith("-") or "\0" in part or "\n" in part:
            raise InvalidInput(f"invalid git source {_shown(text)}: a part of it looks like an option")
    if ".." in found.subdir.split("/"):
        raise InvalidInput(f"invalid git source {_shown(text)}: the subdirectory leaves the repository")
    return found


def _with_query(source: GitSource, query: str) -> GitSource:
    """*source* with what stands behind the "?" of its URL, which must not contradict the fragment."""
    values: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _QUERIES:
            raise InvalidInput(
                f'unexpected query "{name}" in {_shown(source.url)}', hint=f"known: {', '.join(_QUERIES)}"
            )
        if name in values:
            raise InvalidInput(f'query "{name}" has multiple values in {_shown(source.url)}')
        if not value and name not in ("keep-git-dir", "submodules"):
            raise InvalidInput(f'query "{name}" has no value in {_shown(source.url)}')
        values[name] = value
    if "tag" in values and "branch" in values:
        raise InvalidInput(f"branch conflicts with tag in {_shown(source.url)}")
    ref, subdir = source.ref, source.subdir
    for name, prefix in (("ref", ""), ("tag", "refs/tags/"), ("branch", "refs/heads/")):
        if name in values:
            wanted = values[name] if values[name].startswith(prefix) else prefix + values[name]
            ref = _agreed("ref", ref, wanted)
    if "subdir" in values:
        subdir = _agreed("subdir", subdir, values["subdir"])
    checksum = values.get("checksum", values.get("commit", ""))
    switches = {
        name: _yes_or_no(name, values[name] or "true") for name in ("keep-git-dir", "submodules") if name in values
    }
    return replace(
        source,
        ref=ref,
        subdir=subdir,
        checksum=checksum,
        keep_git_dir=switches.get("keep-git-dir"),
        submodules=switches.get("submodules", True),
    )


def _agreed(what: str, first: str, second: str) -> str:
    if first and first != second:
        raise InvalidInput(f'{what} conflicts: "{first}" vs "{second}"')
    return second


def _yes_or_no(name: str, value: str) -> bool:
    if value.lower() in ("1", "t", "true"):
        return True
    if value.lower() in ("0", "f", "false"):
        return False
    raise InvalidInput(f'invalid {name} value: "{value}"', hint="write true or false")


def download(
    url: str,
    directory: Path,
    *,
    headers: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> tuple[Path, str]:
    """Fetch *url* into *directory*: (the file, "sha256:…").

    The file has mode 0600, the name that ends the URL's path, and the server's Last-Modified as its
    time (the epoch without one). *environment* may name proxies, as curl's does. Raises: DownloadFailed, OSError.
    """
    import urllib.error
    import urllib.request
    from email.utils import parsedate_to_datetime
    from http.client import HTTPException

    place, own = _without_password(url)
    request = urllib.request.Request(place, headers={"User-Agent": "lamina", **own, **(headers or {})})
    path = directory / filename(url)
    digest = hashlib.sha256()
    size = 0
    try:
        with _opener(environment or {}).open(request, timeout=_TIMEOUT) as reply, open(path, "xb") as file:
            os.fchmod(file.fileno(), 0o600)
            expected = reply.headers.get("Content-Length")
            while block := reply.read(_BLOCK):
                digest.update(block)
                file.write(block)
                size += len(block)
            modified = reply.headers.get("Last-Modified")
    except urllib.error.HTTPError as err:
        err.close()
        raise DownloadFailed(f"failed to load {_shown(url)}: invalid response status {err.code} {err.reason}") from err
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as err:
        reason = getattr(err, "reason", None) or err
        reason = getattr(reason, "strerror", None) or reason
        raise DownloadFailed(f"failed to load {_shown(url)}: {reason}") from err
    if expected is not None and expected.isdecimal() and int(expected) != size:
        raise DownloadFailed(f"failed to load {_shown(url)}: the connection ended after {size} of {expected} bytes")
    try:
        seconds = int(parsedate_to_datetime(modified).timestamp()) if modified else 0
    except ValueError:
        seconds = 0
    os.utime(path, (seconds, seconds))
    return path, f"sha256:{digest.hexdigest()}"


def filename(url: str) -> str:
    """The last part of the URL's path, and docker's word for it where there is none."""
    name = unquote(_parts(url).path).rstrip("/").rpartition("/")[2]
    return _UNNAMED if name in ("", ".", "..") or "\0" in name else name


def authorization(url: str, secrets: Mapping[str, bytes]) -> dict[str, str]:
    """The header that `--secret id=HTTP_AUTH_TOKEN_<host>` or `HTTP_AUTH_HEADER_<host>` gives for *url*."""
    host = _parts(url).hostname or ""
    header = secrets.get(f"HTTP_AUTH_HEADER_{host}")
    token = secrets.get(f"HTTP_AUTH_TOKEN_{host}")
    if header is not None:
        return {"Authorization": header.decode("latin-1").strip()}
    return {} if token is None else {"Authorization": f"Bearer {token.decode('latin-1').strip()}"}


def fetch_git(
    source: GitSource,
    directory: Path,
    *,
    secrets: Mapping[str, bytes] | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Check *source* out into the empty *directory*, which gets the commit's time; returns the commit.

    *environment* is what git is started with (PATH, HOME and SSH_AUTH_SOCK for ssh, proxies); the settings that keep it
    safe stand above it.

    Raises: Unsupported (no git program), ContextError (cannot be fetched, no such ref, another commit than the
    checksum says).
    """
    environment = environment or {}
    if shutil.which("git", path=environment.get("PATH", os.defpath)) is None:
        raise Unsupported(f"the git program is needed for {_shown(source.url)}", hint="install git")
    run = _Git(directory, source, secrets or {}, environment)
    run("init", "--quiet", "--template=", ".")
    wanted = source.ref or source.checksum or "HEAD"
    if _COMMIT_BEGINNING.fullmatch(wanted) is None or not run.fetched_commit(source.url, wanted):
        run("fetch", "--quiet", "--no-tags", "--depth=1", "--", source.url, wanted)
        run("checkout", "--quiet", "--detach", "FETCH_HEAD")
    if source.submodules:
        run("submodule", "update", "--quiet", "--init", "--recursive", "--depth=1")
    commit, seconds = run("log", "-1", "--format=%H %ct", "HEAD").split()
    if source.checksum and not commit.startswith(source.checksum):
        raise ContextError(f"expected checksum to match {source.checksum}, got {commit}")
    if not source.keep_git_dir:
        shutil.rmtree(directory / ".git")
    os.utime(directory, (int(seconds), int(seconds)))
    return commit


class _Git:
    """Calls of git in one directory, deaf to the user's and the system's configuration."""

    def __init__(
        self, directory: Path, source: GitSource, secrets: Mapping[str, bytes], environment: Mapping[str, str]
    ) -> None:
        self._directory = directory
        self._shown = _shown(source.url)
        host = _parts(source.url).hostname or ""
        options = {"core.hooksPath": "/dev/null", "protocol.file.allow": "never", "protocol.ext.allow": "never"}
        header = secrets.get(f"GIT_AUTH_HEADER.{host}") or secrets.get("GIT_AUTH_HEADER")
        token = secrets.get(f"GIT_AUTH_TOKEN.{host}") or secrets.get("GIT_AUTH_TOKEN")
        if token is not None and header is None:
            import base64

            header = b"basic " + base64.b64encode(b"x-access-token:" + token.strip())
        if header is not None and is_url(source.url):
            origin = _parts(source.url)
            options[f"http.{origin.scheme}://{origin.netloc}/.extraheader"] = (
                f"Authorization: {header.decode('latin-1')}"
            )
        # By environment: what stands in an argument is for every user of the machine to read.
        self._environment = {
            **{name: value for name, value in environment.items() if not name.startswith("GIT_")},
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": "http:https:git:ssh",
            "GIT_CONFIG_COUNT": str(len(options)),
            **{f"GIT_CONFIG_KEY_{number}": name for number, name in enumerate(options)},
            **{f"GIT_CONFIG_VALUE_{number}": value for number, value in enumerate(options.values())},
        }

    def fetched_commit(self, url: str, commit: str) -> bool:
        """Fetch and check out *commit*, or what begins so; False when there is no such commit.

        By its whole digest alone, if the server allows that; otherwise everything is fetched and looked through.
        """
        if _COMMIT.fullmatch(commit):
            with suppress(ContextError):
                self("fetch", "--quiet", "--no-tags", "--depth=1", "--", url, commit)
                self("checkout", "--quiet", "--detach", "FETCH_HEAD")
                return True
        self("fetch", "--quiet", "--tags", "--", url, "+refs/heads/*:refs/remotes/origin/*")
        try:
            found = self("rev-parse", "--quiet", "--verify", "--end-of-options", f"{commit}^{{commit}}").strip()
        except ContextError:
            return False
        if not found.startswith(commit):
            return False  # a branch or tag that is called so
        self("checkout", "--quiet", "--detach", found)
        return True

    def __call__(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments],
            cwd=self._directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"git {arguments[0]} ended with {done.returncode}"]
            # The first fatal line is the reason, what follows it are consequences.
            reason = next((line for line in said if line.startswith("fatal: ")), said[-1])
            raise ContextError(f"failed to fetch {self._shown}: {reason}")
        return done.stdout


def _opener(environment: Mapping[str, str]) -> OpenerDirector:
    """urllib's, which sends Authorization on to another host and would read a file; this one does neither."""
    import urllib.request
    from http.client import HTTPMessage
    from typing import IO

    def setting(name: str) -> str:
        return environment.get(name) or environment.get(name.upper()) or ""

    class Proxies(urllib.request.ProxyHandler):
        def proxy_open(self, req: urllib.request.Request, proxy: str, type: str) -> object:
            if _is_direct(req.host, setting("no_proxy")):
                return None
            return super().proxy_open(req, proxy, type)

    class Redirects(urllib.request.HTTPRedirectHandler):
        def redirect_request(
            self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
        ) -> urllib.request.Request | None:
            following = super().redirect_request(req, fp, code, msg, headers, newurl)
            if following is not None and _parts(newurl)[:2] != _parts(req.full_url)[:2]:
                following.remove_header("Authorization")
            return following

    proxies = {scheme: value for scheme in ("http", "https") if (value := setting(f"{scheme}_proxy"))}
    return urllib.request.build_opener(Redirects, Proxies(proxies))


def _is_direct(place: str, no_proxy: str) -> bool:
    """Whether *place* ("host" or "host:port") is, or lies below, one of the names in *no_proxy* ("a,.b.c" or "*")."""
    host = place.rpartition(":")[0] if place.rpartition(":")[2].isdecimal() else place
    names = [name.strip().lstrip(".").lower() for name in no_proxy.split(",") if name.strip()]
    return any(name == "*" or f".{host.lower()}".endswith(f".{name}") for name in names)


def _without_password(url: str) -> tuple[str, Mapping[str, str]]:
    """(*url* without "user:password@", the header that says the same)."""
    import base64

    parts = _parts(url)
    user, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, {}
    name, _, password = user.partition(":")
    plain = f"{unquote(name)}:{unquote(password)}".encode()
    return parts._replace(netloc=host).geturl(), {"Authorization": f"Basic {base64.b64encode(plain).decode()}"}


def _shown(url: str) -> str:
    """*url* without a password, for messages and records."""
    return re.sub(r"//[^/@]*@", "//", url)


def _parts(url: str) -> SplitResult:
    """The parts of a URL. Raises InvalidInput."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - it is looked at when it is asked for
    except ValueError as err:
        raise InvalidInput(f"invalid URL {_shown(url)!r}: {err}") from err
    return parts
