"""All registries that one command talks to: settings and credentials are read once, connections and tokens are shared.

with Registries(environment) as registries:
    descriptor = registries.resolve(Reference.parse("busybox"))
    pull(store, registries, …)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, TypeVar

from builder.errors import DigestMismatch, RegistryBusy, RegistryError, RegistryNotFound
from builder.transfer.registry import settings as configuration
from builder.transfer.registry.client import BRIEF, PATIENT, Client
from builder.transfer.registry.credentials import Keyring
from builder.transfer.registry.endpoints import Endpoint, endpoints, of_host
from builder.transfer.registry.host import Host
from builder.transfer.registry.repository import Repository
from runtime.values import replace

if TYPE_CHECKING:
    from builder.oci.descriptors import Descriptor
    from builder.oci.references import Reference
    from builder.transfer.registry.client import Patience

Found = TypeVar("Found")


class Registries:
    """A context manager; closing it closes the connections. `environment` is the user's (see `settings`).

    `client` stands in for the one that is made otherwise (its pauses and its clock). Hosts in `insecure` are taken for
    such as the settings name there. `brief`: what does not answer at once can be done without.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        client: Client | None = None,
        insecure: Sequence[str] = (),
        brief: bool = False,
    ) -> None:
        if client is None:
            found = configuration.load(environment)
            client = Client(replace(found, insecure=(*found.insecure, *insecure)), Keyring(environment))
        self.client = client
        self.settings = client.settings
        self.keyring = client.keyring
        self._hosts: dict[tuple[Endpoint, Patience], Host] = {}
        self._patience = BRIEF if brief else PATIENT
        self._guard = threading.Lock()
        self._undo = ExitStack()
        self._undo.enter_context(self.client)

    def __enter__(self) -> Registries:
        return self

    def __exit__(self, *exception: object) -> None:
        self._undo.close()

    def host(self, registry: str) -> Host:
        """The registry itself (host[:port], or "docker.io"), for login and search."""
        return self._host(of_host(registry, self.settings))

    def repositories(self, reference: Reference) -> tuple[Repository, ...]:
        """Where `reference` may be pulled from, the first place first. Raises RegistryBlocked."""
        *mirrors, last = endpoints(reference, self.settings)
        # To ask the next one is better than to ask again.
        return (*(Repository(self._host(each, BRIEF), each) for each in mirrors), Repository(self._host(last), last))

    def target(self, reference: Reference) -> Repository:
        """Where `reference` is pushed to. Raises RegistryBlocked."""
        (endpoint,) = endpoints(reference, self.settings, push=True)
        return Repository(self._host(endpoint), endpoint, push=True)

    def resolve(self, reference: Reference) -> Descriptor:
        """What `reference` means now: the descriptor of a manifest or index (media type, digest, size).

        Raises RegistryErrors, InvalidDocument, LimitExceeded.
        """
        return first(self.repositories(reference.tagged()), lambda each: described(each, reference.tagged()))[1]

    def _host(self, endpoint: Endpoint, patience: Patience | None = None) -> Host:
        # Tokens and the way to connect belong to the host, but an auth.json may be finer than that.
        key = replace(endpoint, name=""), patience or self._patience
        with self._guard:
            if key not in self._hosts:
                self._hosts[key] = Host(self.client, endpoint, key[1])
            return self._hosts[key]


def described(repository: Repository, reference: Reference) -> Descriptor:
    """The descriptor of what `reference` names in `repository`. Raises as `Registries.resolve`."""
    name = str(reference.digest or reference.tag)
    descriptor = repository.head(name)
    if descriptor is None or (reference.digest and descriptor.digest != reference.digest):
        descriptor = repository.manifest(name).descriptor
    return descriptor


def leading(
    repositories: Sequence[Repository], act: Callable[[Repository], Found]
) -> tuple[tuple[Repository, ...], Found]:
    """As `first`, but all places, that one first: should it not have what is asked for next, the others are asked."""
    place, found = first(repositories, act)
    return (place, *(each for each in repositories if each is not place)), found


def first(repositories: Sequence[Repository], act: Callable[[Repository], Found]) -> tuple[Repository, Found]:
    """What the first place that can gives, and which it was. Mirrors that fail are passed over, whatever the reason;
    the error is that of the registry itself, unless it has been told to wait.
    """
    errors: list[RegistryError | DigestMismatch] = []
    for each in repositories:
        try:
            return each, act(each)
        except (RegistryError, DigestMismatch) as err:
            if each is not repositories[-1] and not isinstance(err, RegistryNotFound):
                each.client.told(f"{err.message}; asking the next place")
            errors.append(err)
    failed = errors[-1]
    if len(errors) > 1 and not isinstance(failed, RegistryNotFound | RegistryBusy):
        tried = ", ".join(each.endpoint.host for each in repositories[:-1])
        failed.hint = f"{failed.hint or ''} (before, {tried} failed: {errors[0].message})".strip()
    raise failed
