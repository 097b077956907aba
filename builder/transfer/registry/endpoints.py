"""From a reference to the places that may have it, mirrors first and then the registry itself; and TLS for each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import InvalidInput, RegistryBlocked
from builder.oci.references import DEFAULT_REGISTRY
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

    `name` is registry/repository as the reference has it, for messages; `mirror`: the reference names another registry.
    """

    host: str
    repository: str
    name: str
    scheme: str = ""
    insecure: bool = False
    mirror: bool = False

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
    if not push:
        if reference.registry == DEFAULT_REGISTRY:
            for mirror in settings.hub_mirrors:
                yield _endpoint(mirror, f"{mirror.location}/{reference.repository}", reference, settings, mirror=True)
        for mirror in rule.mirrors if rule else ():
            if mirror.tag_only if reference.digest else mirror.digest_only:
                continue
            rest = reference.name[len(rule.prefix) :] if rule else ""
            yield _endpoint(mirror, mirror.location + rest, reference, settings, mirror=True)
    place, name = Place(reference.registry), reference.name
    if rule is not None:
        place = rule.place
        if place.location and place.location != rule.prefix:
            name = place.location + reference.name[len(rule.prefix) :]
    yield _endpoint(place, name, reference, settings)


def _endpoint(place: Place, name: str, reference: Reference, settings: Settings, *, mirror: bool = False) -> Endpoint:
    host, _, repository = name.partition("/")
    if host == DEFAULT_REGISTRY:
        host = HUB
    insecure = place.insecure or settings.is_insecure(host)
    # Who gave a host a certificate wants it checked.
    if place.scheme != "http" and any(_authorities(path) for path in settings.certificate_directories(host)):
        insecure = False
    return Endpoint(host, repository, reference.name, place.scheme, insecure, mirror)


def of_host(host: str, settings: Settings) -> Endpoint:
    """The registry itself, for `login`: no repository."""
    real = HUB if host == DEFAULT_REGISTRY else host
    insecure = settings.is_insecure(real)
    if any(_authorities(path) for path in settings.certificate_directories(real)):
        insecure = False
    return Endpoint(real, "", host, insecure=insecure)


def tls(host: str, settings: Settings, *, insecure: bool) -> ssl.SSLContext:
    """The TLS settings for `host`: the system's authorities, those of certs.d/HOST/*.crt as well, and the client's
    certificates there. Raises InvalidInput.
    """
    import ssl

    context = ssl.create_default_context()
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for directory in settings.certificate_directories(host):
        for path in _authorities(directory):
            try:
                context.load_verify_locations(path)
            except (ssl.SSLError, OSError) as err:
                raise InvalidInput(f"cannot use certificate {path}: {err}") from err
        for path in sorted(directory.glob("*.cert")):
            key = path.with_suffix(".key")
            if not key.is_file():
                raise InvalidInput(
                    f"missing key {key.name} for client certificate {path.name}", hint=f"see {directory}"
                )
            try:
                context.load_cert_chain(path, key)
            except (ssl.SSLError, OSError) as err:
                raise InvalidInput(f"cannot use client certificate {path}: {err}") from err
    return context


def _authorities(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.crt"))
