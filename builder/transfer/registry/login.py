"""Login: a name and a password are tried at the registry, then kept where docker keeps them (`credentials`)."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from builder.errors import InvalidInput, RegistryDenied
from builder.oci.references import DEFAULT_REGISTRY
from builder.transfer.registry.credentials import Credentials
from builder.transfer.registry.replies import absolute

if TYPE_CHECKING:
    from builder.transfer.registry.host import Host
    from builder.transfer.registry.session import Registries


def registry_of(text: str) -> str:
    """The registry that a user means: host[:port] without the scheme and path that people paste; "" is docker.io.

    Raises InvalidInput.
    """
    parts = urlsplit(absolute("", text if "://" in text else f"//{text}"))
    if not text:
        return DEFAULT_REGISTRY
    if parts.scheme not in ("", "http", "https") or not parts.netloc or "@" in parts.netloc:
        raise InvalidInput(f"invalid registry: {text.rpartition('@')[2]!r}", hint="write it as host[:port]")
    aliases = ("index.docker.io", "registry-1.docker.io", DEFAULT_REGISTRY)
    return DEFAULT_REGISTRY if parts.netloc in aliases else parts.netloc


def login(registries: Registries, registry: str, credentials: Credentials) -> bool:
    """Try `credentials` at `registry` and keep them; whether a helper keeps them.

    Raises RegistryDenied (wrong password), other RegistryErrors, CredentialsFailed.
    """
    host = registries.host(registry)
    host.use(credentials)
    check(host, registry)
    token = host.authorizer.identity_token
    if token:
        credentials = Credentials(credentials.username, identity_token=token)
    return registries.keyring.store(registry, credentials)


def check(host: Host, registry: str) -> None:
    """Ask for nothing but to be let in. Raises RegistryDenied, other RegistryErrors."""
    try:
        host.call("GET", f"{host.endpoint.root}/", scopes=(), what=f"login to {registry}")
    except RegistryDenied as err:
        raise RegistryDenied(
            host.endpoint.host,
            "",
            f"login attempt to {host.origin()}{host.endpoint.root}/ failed: {err.message.rpartition('denied: ')[2]}",
            hint="check the user name and the password",
        ) from err
