"""What the host and the user say about registries: mirrors, insecure and blocked ones, certificates, proxies.

Read from files that docker and podman have, the user's before the system's; of each kind the first that exists counts:

    daemon.json       ~/.config/lamina, ~/.config/docker, /etc/lamina, /etc/docker: `registry-mirrors` (of docker.io),
                      `insecure-registries` (host[:port] or a CIDR range), `proxies`
    registries.conf   $CONTAINERS_REGISTRIES_CONF, ~/.config/containers, /etc/containers (TOML, version 2; with the
                      files of registries.conf.d beside it): `[[registry]]` prefix, location, insecure, blocked and
                      `[[registry.mirror]]`. Short names follow docker's rules, so aliases and search lists are ignored.
    certs.d           HOST[:PORT]/{*.crt, *.cert, *.key} below ~/.config/{lamina,docker,containers,containerd},
                      ~/.docker and /etc/{lamina,docker,containers,containerd}: all of them
    hosts.toml        in the same directories, the first that exists (`hostsfile`). For its registry it goes before
                      the mirrors and the location that the other files have (one in _default after them); what they
                      block stays blocked

Nothing here touches the network, and nothing is read before a registry is talked to.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.errors import InvalidInput
from builder.transfer.hostfiles import config_home, daemon_json, document, first, home, toml
from builder.transfer.registry import hostsfile
from runtime.values import dataclass, field

if TYPE_CHECKING:
    from builder.oci.documents import Object
    from builder.transfer.registry.hostsfile import Hosts


@dataclass(frozen=True, slots=True)
class Place:
    """Where images may be: `location` is host[:port][/path], `scheme` "http", "https" or "" (https unless insecure)."""

    location: str
    scheme: str = ""
    insecure: bool = False
    digest_only: bool = False
    """Asked only for manifests by digest."""
    tag_only: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """One `[[registry]]`: images whose name begins with `prefix` are at `place`, after its `mirrors`."""

    prefix: str
    place: Place
    mirrors: tuple[Place, ...] = ()
    blocked: bool = False
    source: str = ""
    """The file that says so."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All of it. `environment` is the user's: proxies, and what credential helpers are started with."""

    environment: Mapping[str, str]
    hub_mirrors: tuple[Place, ...] = ()
    insecure: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    certificates: tuple[Path, ...] = ()
    """Directories that may have a directory named by a host."""
    proxies: Mapping[str, str] = field(default_factory=dict)
    """http, https and no → value, from daemon.json; the environment goes before."""

    def rule_for(self, name: str) -> Rule | None:
        """The rule with the longest prefix of `name` (registry/repository)."""
        fitting = [(length, rule) for rule in self.rules if (length := _fits(rule.prefix, name)) >= 0]
        return max(fitting, key=lambda each: each[0])[1] if fitting else None

    def is_insecure(self, host: str) -> bool:
        """Whether plain HTTP and unchecked certificates are accepted from `host`: loopback, or configured."""
        bare = bare_host(host)
        if bare == "localhost" or host in self.insecure or bare in self.insecure:
            return True
        return _in_ranges(bare, self.insecure)

    def certificate_directories(self, host: str) -> tuple[Path, ...]:
        """The certs.d directories that there are for `host`."""
        return tuple(path for each in self.certificates if os.path.isdir(path := each / host))

    def hosts(self, registry: str) -> Hosts | None:
        """The hosts.toml of a registry as references call it. Raises InvalidInput."""
        return hostsfile.find(self.certificates, registry)

    def proxy(self, scheme: str, host: str) -> str:
        """The proxy for `scheme`://`host`, "" for none; NO_PROXY as curl and Go read it."""
        from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

        named = {key: self._variable(f"{key}_proxy") or self.proxies.get(key, "") for key in ("http", "https", "no")}
        if not named[scheme] or bare_host(host) == "localhost" or proxy_bypass_environment(host, named):
            return ""
        if _in_ranges(bare_host(host), [each.strip() for each in named["no"].split(",")]):
            return ""
        return named[scheme] if "://" in named[scheme] else "http://" + named[scheme]

    def _variable(self, name: str) -> str:
        return self.environment.get(name, "") or self.environment.get(name.upper(), "")


def _in_ranges(host: str, ranges: Sequence[str]) -> bool:
    """Whether a host is an address of loopback, or in one of the CIDR ranges; what is no range is left out."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    if address.is_loopback:
        return True
    for each in ranges:
        try:
            if address in ipaddress.ip_network(each, strict=False):
                return True
        except ValueError:
            continue
    return False


def bare_host(host: str) -> str:
    """`host` without its port and without the brackets of an IPv6 address."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0] if host.count(":") == 1 else host


def load(environment: Mapping[str, str], *, etc: Path = Path("/etc")) -> Settings:
    """Read the files. Raises InvalidInput, InvalidDocument (naming the file)."""
    mine = config_home(environment)
    daemon = daemon_json(environment, etc)
    conf = environment.get("CONTAINERS_REGISTRIES_CONF", "")
    candidates = (mine / "containers/registries.conf", etc / "containers/registries.conf")
    rules = _rules(first(*([Path(conf)] if conf else candidates)))
    names = ("lamina", "docker", "containers", "containerd")
    places = (*(mine / name for name in names), home(environment) / ".docker", *(etc / name for name in names))
    certificates = tuple(place / "certs.d" for place in places)
    if daemon is None:
        return Settings(environment, rules=rules, certificates=certificates, proxies={})
    with document(daemon) as found:
        mirrors = tuple(_mirror(url, daemon) for url in found.strings("registry-mirrors") or ())
        insecure = tuple(each.rpartition("://")[2].rstrip("/") for each in found.strings("insecure-registries") or ())
        return Settings(environment, mirrors, insecure, rules, certificates, _proxies(found))


def _mirror(url: str, path: Path) -> Place:
    scheme, mark, rest = url.partition("://")
    if not mark:
        scheme, rest = "https", url
    rest = rest.strip("/")
    if scheme not in ("http", "https") or not rest or "@" in rest or "?" in rest or "#" in rest:
        raise InvalidInput(f"invalid mirror in {path}: {url!r} is not http(s)://host[:port][/path]")
    return Place(rest, scheme=scheme, insecure=scheme == "http")


def _proxies(source: Object) -> dict[str, str]:
    found = source.object("proxies")
    if found is None:
        return {}
    return {key: found.string(f"{key}-proxy") or "" for key in ("http", "https", "no")}


def _fits(prefix: str, name: str) -> int:
    """How many characters of `name` a prefix covers, -1 when it does not fit; `*.example.com` covers subdomains."""
    if prefix.startswith("*."):
        host = name.partition("/")[0]
        return len(prefix) - 2 if bare_host(host).endswith(prefix[1:]) else -1
    fits = name.startswith(prefix) and name[len(prefix) : len(prefix) + 1] in ("", "/", ":", "@")
    return len(prefix) if fits else -1


def _rules(path: Path | None) -> tuple[Rule, ...]:
    if path is None:
        return ()
    more = path.with_name(path.name + ".d")
    rules: dict[str, Rule] = {}
    for each in (path, *sorted(more.glob("*.conf"))):
        # A later file's rule for the same prefix is the one, as podman has it.
        rules.update((rule.prefix, rule) for rule in _rules_of(each))
    return tuple(rules.values())


def _rules_of(path: Path) -> list[Rule]:
    document = toml(path)
    tables = document.get("registry", [])
    if "registries" in document or not isinstance(tables, list):
        raise InvalidInput(f"{path} has the form of version 1", hint="write it with [[registry]] tables (version 2)")
    return [_rule(table, path) for table in tables]


def _rule(table: Mapping[str, Any], path: Path) -> Rule:
    prefix = _text(table, "prefix", path) or _text(table, "location", path)
    location = _text(table, "location", path) or prefix
    if not prefix or (prefix.startswith("*.") and not table.get("location") and not table.get("blocked")):
        # A pattern alone says how to treat hosts that keep their names.
        location = ""
    if not prefix:
        raise InvalidInput(f"{path}: a [[registry]] has neither prefix nor location")
    mirrors: Sequence[Mapping[str, Any]] = table.get("mirror", [])
    digest_only = bool(table.get("mirror-by-digest-only"))
    return Rule(
        prefix=prefix,
        place=Place(location, insecure=bool(table.get("insecure"))),
        mirrors=tuple(_mirror_table(each, path, digest_only=digest_only) for each in mirrors),
        blocked=bool(table.get("blocked")),
        source=str(path),
    )


def _mirror_table(table: Mapping[str, Any], path: Path, *, digest_only: bool) -> Place:
    location = _text(table, "location", path)
    if not location:
        raise InvalidInput(f"{path}: a [[registry.mirror]] has no location")
    wanted = _text(table, "pull-from-mirror", path)
    return Place(
        location,
        insecure=bool(table.get("insecure")),
        digest_only=digest_only or wanted == "digest-only",
        tag_only=wanted == "tag-only",
    )


def _text(table: Mapping[str, Any], key: str, path: Path) -> str:
    value = table.get(key, "")
    if not isinstance(value, str) or "://" in value:
        raise InvalidInput(f"{path}: {key} must be host[:port][/path], not {value!r}")
    return value.strip("/")
