"""Debian package mirrors: which one the host uses, what it offers, and its packages, checked to the last byte.

The chain of trust is apt's: keyring → ``InRelease`` (gpgv) → ``Packages`` (sha256) → package (sha256). No address of a
mirror stands in this code: the host's apt configuration or the caller names it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from builder.errors import DigestMismatch, DownloadFailed, LimitExceeded
from builder.store.unpack import unpack
from runtime.values import dataclass

_TIMEOUT = 30
_INDEX_MAX = 256 << 20
_PACKAGE_MAX = 1 << 30
_CHUNK = 1 << 17
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Source:
    """One mirror with a suite, as apt would use it."""

    uri: str
    suite: str
    keyring: str | None = None


@dataclass(frozen=True, slots=True)
class Package:
    """One binary package as the index describes it."""

    name: str
    filename: str
    size: int
    sha256: str
    essential: bool
    priority: str
    depends: tuple[tuple[str, ...], ...]
    """Alternatives, versions left out, of Pre-Depends and Depends."""
    provides: tuple[str, ...]


def sources(etc_apt: Path) -> tuple[Source, ...]:
    """What ``sources.list`` and ``sources.list.d`` name, both forms, in the order of apt."""
    found: list[Source] = []
    directory = etc_apt / "sources.list.d"
    files = [etc_apt / "sources.list"]
    if directory.is_dir():
        files += sorted(directory.iterdir())
    for path in files:
        if not path.is_file():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        if path.suffix == ".list":
            found += _one_line(text)
        elif path.suffix == ".sources":
            for fields in paragraphs(text):
                if "deb" in fields.get("Types", "").split() and fields.get("Enabled", "yes").lower() != "no":
                    keyring = fields.get("Signed-By", "")
                    for uri in fields.get("URIs", "").split():
                        for suite in fields.get("Suites", "").split():
                            found.append(Source(uri.rstrip("/"), suite, keyring if keyring.startswith("/") else None))
    return tuple(found)


def _one_line(text: str) -> Iterator[Source]:
    for line in text.splitlines():
        words = line.split("#", 1)[0].split()
        if words[:1] != ["deb"]:
            continue
        words = words[1:]
        keyring = None
        if words and words[0].startswith("["):
            end = next((at for at, word in enumerate(words) if word.endswith("]")), len(words) - 1)
            for option in " ".join(words[: end + 1]).strip("[]").split():
                if option.startswith("signed-by=/"):
                    keyring = option.partition("=")[2]
            words = words[end + 1 :]
        if len(words) >= 2:
            yield Source(words[0].rstrip("/"), words[1], keyring)


def paragraphs(text: str) -> Iterator[dict[str, str]]:
    """Debian's control format: fields with continuation lines, paragraphs divided by empty lines."""
    fields: dict[str, str] = {}
    key = ""
    for line in (*text.splitlines(), ""):
        if not line.strip():
            if fields:
                yield fields
            fields, key = {}, ""
        elif line.startswith("#"):
            continue
        elif line[0] in " \t":
            if key:
                fields[key] += "\n" + line.strip()
        else:
            key, _, value = line.partition(":")
            fields[key] = value.strip()


def fetch(
    uri: str,
    proxies: Sequence[tuple[str, str]],
    *,
    limit: int,
    watch: Callable[[int, int], object] = lambda done, total: None,
) -> bytes:
    """The bytes behind *uri*; *watch* hears (bytes so far, bytes in all or 0). Raises DownloadFailed, LimitExceeded."""
    import http.client
    import urllib.error
    import urllib.request

    opener = urllib.request.build_opener(urllib.request.ProxyHandler(dict(proxies)))
    data = bytearray()
    try:
        with opener.open(uri, timeout=_TIMEOUT) as answer:
            total = int(answer.headers.get("Content-Length") or 0)
            while chunk := answer.read(_CHUNK):
                data += chunk
                watch(len(data), total)
                if len(data) > limit:
                    raise LimitExceeded(f"{uri} is larger than {limit} bytes")
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as err:
        raise DownloadFailed(f"cannot fetch {uri}: {err}", hint="check the network, or name another --mirror") from err
    if len(data) < total:
        raise DownloadFailed(f"cannot fetch {uri}: it ended after {len(data)} of {total} bytes")
    return bytes(data)


def exists(source: Source, proxies: Sequence[tuple[str, str]]) -> bool:
    """Whether the mirror has that suite now."""
    try:
        fetch(f"{source.uri}/dists/{source.suite}/InRelease", proxies, limit=_INDEX_MAX)
    except DownloadFailed:
        return False
    return True


class Cache:
    """Packages and indexes that were fetched before, as files named by their sha256."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def get(self, sha256: str) -> bytes | None:
        """The package with that digest, if it is here and whole."""
        try:
            data = (self._directory / sha256).read_bytes()
        except FileNotFoundError:
            return None
        return data if hashlib.sha256(data).hexdigest() == sha256 else None

    def put(self, sha256: str, data: bytes) -> None:
        """Keep a package. Raises OSError."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        temporary = self._directory / f"{sha256}.{os.urandom(4).hex()}"
        temporary.write_bytes(data)
        temporary.rename(self._directory / sha256)


class Mirror:
    """One suite of a mirror, its index loaded and checked."""

    def __init__(
        self,
        source: Source,
        architecture: str,
        proxies: Sequence[tuple[str, str]],
        keyrings: Sequence[Path],
        scratch: Path,
        cache: Cache,
        watch: Callable[[int, int], object] = lambda done, total: None,
    ) -> None:
        self.source = source
        self._cache = cache
        self._proxies = tuple(proxies)
        release = fetch(f"{source.uri}/dists/{source.suite}/InRelease", proxies, limit=_INDEX_MAX)
        self.verified = _verify(release, keyrings, scratch)
        path = f"main/binary-{architecture}/Packages.xz"
        fields = next(paragraphs(_signed_text(release)), {})
        wanted = {
            line.split()[2]: line.split()[0] for line in fields.get("SHA256", "").splitlines() if len(line.split()) == 3
        }
        if path not in wanted:
            raise DownloadFailed(f"{source.uri} has no packages for {architecture} in {source.suite}")
        index = self._fetched(f"dists/{source.suite}/{path}", wanted[path], _INDEX_MAX, watch)
        self.packages: Mapping[str, Package] = {one.name: one for one in _packages(index)}

    def download(self, package: Package, watch: Callable[[int, int], object] = lambda done, total: None) -> bytes:
        """The .deb file of *package*, from the cache if it is there. Raises DownloadFailed, DigestMismatch."""
        if package.size > _PACKAGE_MAX:
            raise LimitExceeded(f"package {package.name} is larger than {_PACKAGE_MAX} bytes")
        return self._fetched(package.filename, package.sha256, package.size, watch)

    def _fetched(self, path: str, sha256: str, limit: int, watch: Callable[[int, int], object]) -> bytes:
        if not _HEX.issuperset(sha256) or len(sha256) != 64:
            raise DownloadFailed(f"{self.source.uri} has no sha256 of {path}")
        data = self._cache.get(sha256)
        if data is None:
            data = fetch(f"{self.source.uri}/{path}", self._proxies, limit=limit, watch=watch)
            _check(data, sha256, path)
            self._cache.put(sha256, data)
        return data


def keyrings(etc_apt: Path, source: Source) -> tuple[Path, ...]:
    """Keyrings of the host that may vouch for *source*."""
    if source.keyring:
        return (Path(source.keyring),)
    trusted = etc_apt / "trusted.gpg.d"
    return tuple(sorted(trusted.glob("*.gpg"))) if trusted.is_dir() else ()


def data_member(deb: bytes) -> tuple[str, bytes]:
    """(name, bytes) of the ``data.tar`` in a .deb, which is an ar archive. Raises DownloadFailed."""
    at = 8
    while deb.startswith(b"!<arch>\n") and at + 60 <= len(deb):
        name = deb[at : at + 16].decode("ascii", "replace").strip().rstrip("/")
        digits = deb[at + 48 : at + 58].strip()
        if not digits.isdigit():
            break
        size = int(digits)
        if name.startswith("data.tar"):
            return name, deb[at + 60 : at + 60 + size]
        at += 60 + size + size % 2
    raise DownloadFailed("package is no Debian archive")


def _verify(release: bytes, keys: Sequence[Path], scratch: Path) -> bool:
    import shutil
    import subprocess

    gpgv = shutil.which("gpgv", path="/usr/bin:/bin")
    there = [key for key in keys if key.is_file()]
    if gpgv is None or not there:
        return False
    path = scratch / "InRelease"
    path.write_bytes(release)
    command = [gpgv, *(part for key in there for part in ("--keyring", os.fspath(key))), os.fspath(path)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    if done.returncode:
        raise DownloadFailed(
            f"the mirror's signature is not from a known key: {done.stderr.decode(errors='replace').strip()[-300:]}",
            hint="update the host's keyring package, or check the mirror",
        )
    return True


def _signed_text(release: bytes) -> str:
    text = release.decode("utf-8", "replace")
    if text.startswith("-----BEGIN PGP SIGNED MESSAGE-----"):
        text = text.partition("\n\n")[2].partition("\n-----BEGIN PGP SIGNATURE-----")[0]
    return text


def _check(data: bytes, sha256: str, what: str) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise DigestMismatch(what, sha256, found)


def _packages(index: bytes) -> Iterator[Package]:
    import io

    stream, parts, total = unpack(io.BytesIO(index)), [], 0
    while chunk := stream.read(1 << 20):
        total += len(chunk)
        if total > _INDEX_MAX:
            raise LimitExceeded(f"package index is larger than {_INDEX_MAX} bytes")
        parts.append(chunk)
    for fields in paragraphs(b"".join(parts).decode("utf-8", "replace")):
        depends = ",".join(filter(None, (fields.get("Pre-Depends"), fields.get("Depends"))))
        yield Package(
            name=fields.get("Package", ""),
            filename=fields.get("Filename", ""),
            size=int(fields.get("Size", "0")),
            sha256=fields.get("SHA256", ""),
            essential=fields.get("Essential") == "yes",
            priority=fields.get("Priority", ""),
            depends=tuple(
                tuple(_plain(one) for one in group.split("|")) for group in depends.split(",") if group.strip()
            ),
            provides=tuple(_plain(one) for one in fields.get("Provides", "").split(",") if one.strip()),
        )


def _plain(dependency: str) -> str:
    return dependency.split("(", 1)[0].split("[", 1)[0].strip().split(":", 1)[0]
