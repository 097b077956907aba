"""containerd's hosts.toml: for one registry, the hosts that have what it has, and how each of them is spoken to.

    certs.d/REGISTRY/hosts.toml     the registry as references call it; with a port also REGISTRY_PORT_; _default is for
                                    registries that have none of their own
    server = "https://…"            asked after all hosts; without it the registry itself, spoken to as the fields say
                                    that stand outside of any table
    [host."https://…"]              in their order
      capabilities                  resolve and pull (both are needed to be asked for a tag), push; all without it
      ca, client                    files, from here; a pair of files where the key is apart
      skip_verify, override_path, dial_timeout, proxy, [host."…".header]

What is not known is passed over, as containerd does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from builder.transfer import hostfiles
from runtime.values import dataclass

NAME = "hosts.toml"
_DEFAULT = "_default"
ALL = frozenset({"pull", "resolve", "push"})
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


@dataclass(frozen=True, slots=True)
class Way:
    """How a host is spoken to, beyond what holds for all. `connect` in seconds, 0 as usual; `proxy` None as usual."""

    authorities: tuple[Path, ...] = ()
    clients: tuple[tuple[Path, Path | None], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    connect: float = 0
    proxy: str | None = None


USUAL = Way()


@dataclass(frozen=True, slots=True)
class Spoken:
    """One host; `host` is "" for the registry itself, `root` is the path of the API."""

    host: str = ""
    scheme: str = ""
    root: str = "/v2"
    capabilities: frozenset[str] = ALL
    skip_verify: bool = False
    way: Way = USUAL


@dataclass(frozen=True, slots=True)
class Hosts:
    """One file."""

    path: Path
    hosts: tuple[Spoken, ...]
    server: Spoken

    @property
    def default(self) -> bool:
        """Whether it is for all registries that have none of their own."""
        return self.path.parent.name == _DEFAULT


def find(directories: Sequence[Path], registry: str) -> Hosts | None:
    """What these directories have for a registry (host[:port]); None for nothing. Raises InvalidInput."""
    host, colon, port = registry.rpartition(":")
    names = (f"{host}_{port}_", registry) if colon and port.isdigit() else (registry,)
    candidates = [each / name / NAME for each in directories for name in names]
    path = hostfiles.first(*candidates, *(each / _DEFAULT / NAME for each in directories))
    return None if path is None else _read(path)


def _read(path: Path) -> Hosts:
    document = hostfiles.toml(path)
    tables = document.get("host", {})
    if not isinstance(tables, dict):
        _fail(path, "", "host", 'must be tables: [host."https://…"]')
    server = document.get("server", "")
    if not isinstance(server, str):
        _fail(path, "", "server", "must be a text")
    hosts = tuple(_Table(path, url, table).spoken(url) for url, table in tables.items())
    return Hosts(path, hosts, _Table(path, "", document).spoken(server))


def _fail(path: Path, table: str, key: str, reason: str) -> NoReturn:
    raise hostfiles.toml_error(path, key, reason, after=f'"{table}"' if table else "")


class _Table:
    """One table, whose fields are taken by name and type."""

    def __init__(self, path: Path, url: str, fields: object) -> None:
        self._path = path
        self._url = url
        if not isinstance(fields, dict):
            _fail(path, "", "host", f'"{url}" must be a table')
        self._fields: Mapping[str, Any] = fields

    def _fail(self, key: str, reason: str) -> NoReturn:
        _fail(self._path, self._url, key, reason)

    def spoken(self, url: str) -> Spoken:
        """The host at `url`, "" for the registry itself."""
        skip_verify, override = self._truth("skip_verify"), self._truth("override_path")
        scheme, host, path = self._parts(url)
        root = path if override and url else path if path.endswith("/v2") else path + "/v2"
        return Spoken(
            host,
            # Who need not show a certificate shall speak TLS all the same.
            scheme or ("https" if skip_verify and host else ""),
            root,
            self._capabilities(),
            skip_verify,
            Way(
                tuple(self._directory / each for each in self._texts("ca")),
                tuple(self._clients()),
                tuple(self._headers()),
                self._seconds("dial_timeout"),
                self._proxy(),
            ),
        )

    @property
    def _directory(self) -> Path:
        return self._path.parent

    def _parts(self, url: str) -> tuple[str, str, str]:
        if not url:
            return "", "", ""
        parts = urlsplit(url if "://" in url else f"//{url}")
        if parts.scheme not in ("", "http", "https") or not parts.netloc or "@" in parts.netloc or parts.query:
            self._fail("server" if not self._url else url, f"{url!r} is not http(s)://host[:port][/path]")
        return parts.scheme, parts.netloc, parts.path.rstrip("/")

    def _truth(self, key: str) -> bool:
        value = self._fields.get(key, False)
        if not isinstance(value, bool):
            self._fail(key, "must be true or false")
        return value

    def _texts(self, key: str) -> list[str]:
        value = self._fields.get(key, [])
        found = [value] if isinstance(value, str) else value
        if not isinstance(found, list) or not all(isinstance(each, str) and each for each in found):
            self._fail(key, "must be a text, or a list of texts")
        return found

    def _capabilities(self) -> frozenset[str]:
        found = frozenset(self._texts("capabilities"))
        if found - ALL:
            self._fail("capabilities", f"unknown capability {min(found - ALL)!r}: there are pull, resolve, push")
        return found or ALL

    def _clients(self) -> Iterator[tuple[Path, Path | None]]:
        value = self._fields.get("client", [])
        for each in [value] if isinstance(value, str) else value if isinstance(value, list) else [None]:
            pair: list[Any] = each if isinstance(each, list) else [each]
            if not 0 < len(pair) <= 2 or not all(isinstance(name, str) for name in pair) or not pair[0]:
                self._fail("client", "must be a file, a list of files, or a list of pairs of files")
            yield self._directory / pair[0], self._directory / pair[1] if len(pair) == 2 and pair[1] else None

    def _headers(self) -> Iterator[tuple[str, str]]:
        table = self._fields.get("header", {})
        if not isinstance(table, dict):
            self._fail("header", "must be a table")
        for name, value in table.items():
            values = [value] if isinstance(value, str) else value
            good = isinstance(values, list) and all(isinstance(each, str) for each in values)
            if not good or not _HEADER.fullmatch(name) or any(mark in each for each in values for mark in "\r\n\0"):
                self._fail(name, "is no header: a text, or a list of texts")
            yield name, ", ".join(values)

    def _seconds(self, key: str) -> float:
        value = self._fields.get(key, "")
        parts = _DURATION.findall(value) if isinstance(value, str) else []
        if value and "".join("".join(each) for each in parts) != value:
            self._fail(key, f'{value!r} is no duration like "30s"')
        return sum(float(number) * _SECONDS[unit] for number, unit in parts)

    def _proxy(self) -> str | None:
        value = self._fields.get("proxy", None)
        if value is None:
            return None
        if not isinstance(value, str) or urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).netloc:
            self._fail("proxy", "must be http://host[:port] or https://host[:port]")
        return str(value)
