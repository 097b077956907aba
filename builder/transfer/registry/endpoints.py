"""From a reference to the places that may have it, mirrors first and then the registry itself; and TLS for each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import InvalidInput, RegistryBlocked
from builder.oci.references import DEFAULT_REGISTRY
from builder.transfer.registry.hostsfile import USUAL, Hosts, Spoken, Way
from builder.transfer.registry.settings import Place
from runtime.values import dataclass

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from builder.oci.references import Reference
    from builder.transfer.registry.settings import Settings

HUB = "registry-1.docker.io"
"""Where the registry that references call docker.io answers."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place of a repository. `host` is host[:port]; `repository` the path there.

    `name` is registry/repository as the reference has it, for messages; `root` is the path of its API, `namespace` what
    it wants to be told of the registry that is meant.
    """

    host: str
    repository: str
    name: str
    scheme: str = ""
    insecure: bool = False
    root: str = "/v2"
    namespace: str = ""
    way: Way = USUAL

    @property
    def keys(self) -> tuple[str, ...]:
        """Under which registries credentials for it may be filed."""
        return (DEFAULT_REGISTRY,) if self.host == HUB else (self.host,)


def endpoints(reference: Reference, settings: Settings, *, push: bool = False) -> tuple[Endpoint, ...]:
    """Where to look for an image, in this order; for a push only the registry itself. Raises RegistryBlocked."""
    rule = settings.rule_for(reference.name)
    if rule is not None and rule.blocked:
        raise RegistryBlocked(
            reference.registry,
            reference.repository,
            f"cannot use {reference.familiar()}: registry {reference.registry} is blocked by {rule.source}",
            hint=f"take out what blocks {rule.prefix} there, or use another registry",
        )
    return tuple(_found(reference, settings, push=push))


def _found(reference: Reference, settings: Settings, *, push: bool) -> Iterator[Endpoint]:
    rule = settings.rule_for(reference.name)
    hosts = settings.hosts(reference.registry)
    said = rule is not None or (reference.registry == DEFAULT_REGISTRY and settings.hub_mirrors)
    if hosts is not None and not (hosts.default and said):
        yield from _listed(reference, hosts, settings, push=push)
        return
    if not push:
        if reference.registry == DEFAULT_REGISTRY:
            for mirror in settings.hub_mirrors:
                yield _endpoint(mirror, f"{mirror.location}/{reference.repository}", reference, settings)
        for mirror in rule.mirrors if rule else ():
            if mirror.tag_only if reference.digest else mirror.digest_only:
                continue
            rest = reference.name[len(rule.prefix) :] if rule else ""
            yield _endpoint(mirror, mirror.location + rest, reference, settings)
    place, name = Place(reference.registry), reference.name
    if rule is not None:
        place = rule.place
        if place.location and place.location != rule.prefix:
            name = place.location + reference.name[len(rule.prefix) :]
    yield _endpoint(place, name, reference, settings)


def _listed(reference: Reference, hosts: Hosts, settings: Settings, *, push: bool) -> Iterator[Endpoint]:
    """The hosts of a hosts.toml that can do what is wanted, then its server."""
    needed = {"push"} if push else {"pull"} if reference.digest else {"pull", "resolve"}
    for each in (*hosts.hosts, hosts.server):
        if needed <= each.capabilities or each is hosts.server:
            yield _spoken(each, reference.registry, reference.repository, reference.name, settings)
            if push:
                return


def _spoken(spoken: Spoken, registry: str, repository: str, name: str, settings: Settings) -> Endpoint:
    host = spoken.host or registry
    if host == DEFAULT_REGISTRY:
        host = HUB
    insecure = spoken.skip_verify or spoken.scheme == "http"
    if not insecure and not spoken.way.authorities:
        insecure = _insecure(host, settings)
    namespace = registry if host not in (registry, HUB) else ""
    return Endpoint(host, repository, name, spoken.scheme, insecure, spoken.root, namespace, spoken.way)


def _insecure(host: str, settings: Settings, place: Place | None = None) -> bool:
    # Who gave a host a certificate wants it checked.
    if any(_authorities(path) for path in settings.certificate_directories(host)):
        return place is not None and place.scheme == "http" and place.insecure
    return (place is not None and place.insecure) or settings.is_insecure(host)


def _endpoint(place: Place, name: str, reference: Reference, settings: Settings) -> Endpoint:
    host, _, repository = name.partition("/")
    if host == DEFAULT_REGISTRY:
        host = HUB
    return Endpoint(host, repository, reference.name, place.scheme, _insecure(host, settings, place))


def of_host(host: str, settings: Settings) -> Endpoint:
    """The registry itself, for `login`: no repository. Raises InvalidInput."""
    hosts = settings.hosts(host)
    if hosts is not None:
        return _spoken(hosts.server, host, "", host, settings)
    real = HUB if host == DEFAULT_REGISTRY else host
    return Endpoint(real, "", host, insecure=_insecure(real, settings))


def tls(host: str, settings: Settings, *, insecure: bool, way: Way = USUAL) -> ssl.SSLContext:
    """The TLS settings for `host`: the system's authorities, those of certs.d/HOST/*.crt as well, and the client's
    certificates there; and what its `way` has. Raises InvalidInput.
    """
    import ssl

    context = ssl.create_default_context()
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    directories = settings.certificate_directories(host)
    for path in (*(each for directory in directories for each in _authorities(directory)), *way.authorities):
        try:
            context.load_verify_locations(path)
        except (ssl.SSLError, OSError) as err:
            raise InvalidInput(f"cannot use certificate {path}: {err}") from err
    pairs: list[tuple[Path, Path | None]] = list(way.clients)
    for path in (each for directory in directories for each in sorted(directory.glob("*.cert"))):
        key = path.with_suffix(".key")
        if not key.is_file():
            hint = f"see {path.parent}"
            raise InvalidInput(f"missing key {key.name} for client certificate {path.name}", hint=hint)
        pairs.append((path, key))
    for path, own in pairs:
        try:
            context.load_cert_chain(path, own)
        except (ssl.SSLError, OSError) as err:
            raise InvalidInput(f"cannot use client certificate {path}: {err}") from err
    return context


def _authorities(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.crt"))
