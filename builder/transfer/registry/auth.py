"""Who we are to a registry: challenges, basic passwords, and the tokens that an authorization service gives.

One `Authorizer` per registry, shared by all threads. It answers a 401 once per scope and remembers the answer until it
ends. Where a password may go: to the registry that it is filed under, and to the service that this registry names in a
challenge which came over TLS, over TLS again; a challenge that came in the clear can send it to the registry itself and
nowhere else (CVE-2020-15157). Rules: distribution's token specification, as docker applies it.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from builder.errors import InvalidDocument, RegistryDenied, RegistryFailed
from builder.oci import documents
from builder.transfer.registry.replies import absolute, told
from runtime.values import dataclass

if TYPE_CHECKING:
    from builder.transfer.registry.credentials import Credentials

CLIENT_ID = "lamina"
_MARGIN = 10.0
"""Seconds before its end at which a token is not used any more."""
_LEAST = 60
"""Seconds that a token lives at least: services leave the field out, or say less than a request takes."""
_LIMIT = 1 << 20

Fetch = Callable[[str, str, Mapping[str, str], "bytes | None"], tuple[int, bytes]]
"""(method, url, headers, body) → (status, body): one request to an authorization service, no redirects."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way in that a registry names in WWW-Authenticate; `scheme` in lower case."""

    scheme: str
    parameters: Mapping[str, str]


def challenges(header: str) -> tuple[Challenge, ...]:
    """Read a WWW-Authenticate header (RFC 9110), which may hold several; what cannot be read is left out."""
    found: list[Challenge] = []
    parameters: dict[str, str] = {}
    token = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
    for match in re.finditer(rf'({token})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))|({token})', header):
        name, quoted, bare, scheme = match.groups()
        if scheme:
            parameters = {}
            found.append(Challenge(scheme.lower(), parameters))
        elif found:
            parameters[name.lower()] = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else bare
    return tuple(found)


class Authorizer:
    """The answers for one registry. `fetch` talks to authorization services, `clock` gives seconds."""

    def __init__(
        self,
        registry: str,
        credentials: Callable[[], Credentials | None],
        fetch: Fetch,
        clock: Callable[[], float],
        *,
        name: str = "",
    ) -> None:
        """`name` is the repository in messages, with its registry."""
        self._registry = registry
        self._name = name or f"registry {registry}"
        self._credentials = credentials
        self._fetch = fetch
        self._clock = clock
        self._guard = threading.Lock()
        self._known: tuple[Challenge, ...] = ()
        self._origin = ""
        self._tokens: dict[str, tuple[str, float]] = {}
        self.identity_token = ""
        """What the service gave for the password, to be kept in its place."""

    def challenged(self, header: str, origin: str) -> None:
        """The registry at `origin` (scheme://host) wants to know who we are."""
        found = challenges(header)
        with self._guard:
            if found:
                self._known, self._origin = found, origin

    def header(self, scopes: Sequence[str]) -> str | None:
        """The Authorization header for `scopes`, None when none is needed so far. Raises RegistryDenied,
        CredentialsFailed.
        """
        with self._guard:
            bearer = next((each for each in self._known if each.scheme == "bearer"), None)
            if bearer is not None:
                return "Bearer " + self._token(bearer, scopes)
            if any(each.scheme == "basic" for each in self._known):
                found = self._credentials()
                return found.basic() if found is not None and found.username else None
            return None

    def rejected(self, scopes: Sequence[str]) -> None:
        """A token for `scopes` was not accepted (any more)."""
        with self._guard:
            self._tokens.pop(" ".join(scopes), None)

    def _token(self, challenge: Challenge, scopes: Sequence[str]) -> str:
        key = " ".join(scopes)
        known = self._tokens.get(key)
        if known is not None and known[1] > self._clock():
            return known[0]
        token, lives = self._obtain(challenge, scopes)
        self._tokens[key] = token, self._clock() + lives - _MARGIN
        return token

    def _obtain(self, challenge: Challenge, scopes: Sequence[str]) -> tuple[str, float]:
        realm = absolute("", challenge.parameters.get("realm", ""))
        parts = urlsplit(realm)
        if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc:
            raise RegistryFailed(self._registry, "", f"registry {self._registry} names no usable token service")
        credentials = self._credentials() if self._may_know(parts.scheme, parts.netloc) else None
        service = challenge.parameters.get("service", "")
        if credentials is not None and credentials.identity_token:
            form = {"grant_type": "refresh_token", "refresh_token": credentials.identity_token, "service": service}
            body = urlencode([*form.items(), ("client_id", CLIENT_ID), ("scope", " ".join(scopes))]).encode()
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            status, answer = self._fetch("POST", realm, headers, body)
        else:
            query = [("service", service)] if service else []
            query += [("scope", scope) for scope in scopes]
            headers = {}
            if credentials is not None:
                query += [("account", credentials.username), ("client_id", CLIENT_ID), ("offline_token", "true")]
                headers["Authorization"] = credentials.basic()
            url = realm + ("&" if parts.query else "?") + urlencode(query)
            status, answer = self._fetch("GET", url, headers, None)
        return self._read(status, answer, parts.netloc, known=credentials is not None)

    def _may_know(self, scheme: str, host: str) -> bool:
        """Whether a token service may be given the password."""
        if f"{scheme}://{host}" == self._origin:
            return True
        return scheme == "https" and self._origin.startswith("https://")

    def _read(self, status: int, answer: bytes, host: str, *, known: bool) -> tuple[str, float]:
        said = ": " + words if (words := told(answer)) else ""
        if status in (400, 401, 403):
            raise RegistryDenied(
                self._registry,
                "",
                "unauthorized: incorrect username or password"
                if known
                else f"unauthorized: authentication required by {host} for {self._name}{said}",
                hint=f"log in: lamina login {self._registry}",
            )
        if status != 200:
            text = f"token service {host} for {self._name} answered with status {status}{said}"
            hint = "try again later, or log in" if status == 429 else "try again later, or ask whoever runs it"
            raise RegistryFailed(self._registry, "", text, hint=hint)
        try:
            document = documents.load(answer, "token", limit=_LIMIT)
            token = document.string("token") or document.string("access_token") or ""
            lives = document.integer("expires_in", default=_LEAST)
            self.identity_token = document.string("refresh_token") or self.identity_token
        except InvalidDocument as err:
            raise RegistryFailed(self._registry, "", f"token service {host} for {self._name}: {err.message}") from err
        if not token or not token.isprintable():
            raise RegistryFailed(self._registry, "", f"token service {host} for {self._name} gave no token")
        return token, float(max(lives, _LEAST))
