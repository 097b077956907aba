"""One registry seen through a client: its scheme, who we are there, retries and redirects, errors in our words.

    retries     cut connections, 408, 429, 5xx: with growing, jittered pauses, or as Retry-After says; time-outs once;
                of a mirror or a cache once, time-outs never: the next place, or the step itself, is the better try
    redirects   of GET and HEAD; the Authorization header stays with the host that it is for; never from https to http
    downgrade   plain http is tried only where the host is insecure by configuration or is loopback, after https failed

Everything may be used by several threads.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from builder.errors import RegistryFailed, RegistryUnreachable
from builder.transfer.registry.auth import Authorizer
from builder.transfer.registry.client import PATIENT, Cut, NotConnected
from builder.transfer.registry.hostsfile import USUAL
from builder.transfer.registry.replies import absolute, failure, retry_after, tls_hint
from runtime.values import dataclass, replace

if TYPE_CHECKING:
    from builder.transfer.registry.client import Answer, Body, Client, Patience
    from builder.transfer.registry.credentials import Credentials
    from builder.transfer.registry.endpoints import Endpoint

AGAIN = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses that are worth another try."""
_REDIRECTS = 10
_ERROR_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request as `Host.request` describes it."""

    method: str
    url: str
    scopes: Sequence[str]
    headers: Mapping[str, str]
    body: Body | None
    fine: Sequence[int]
    retry: bool
    what: str
    read: float


class Host:
    """One registry: knows its scheme and who we are there."""

    def __init__(self, client: Client, endpoint: Endpoint, patience: Patience = PATIENT) -> None:
        self.client = client
        self.endpoint = endpoint
        self.patience = patience
        self._guard = threading.Lock()
        self._origin = ""
        self.authorizer = Authorizer(
            endpoint.host,
            self._credentials,
            self._fetch,
            client.clock,
            name=endpoint.name if endpoint.repository else "",
        )
        self._found: Credentials | None = None
        self._asked = False

    @property
    def registry(self) -> str:
        """What the user calls it."""
        return self.endpoint.keys[0]

    def origin(self) -> str:
        """scheme://host of the registry, found out with the first call, which also learns how it wants us to log in.

        Raises RegistryUnreachable, RegistryFailed, Stopped.
        """
        with self._guard:
            if not self._origin:
                self._origin = self._ping()
            return self._origin

    def _ping(self) -> str:
        endpoint = self.endpoint
        patience = replace(self.patience, read=self.patience.ping)
        schemes = (endpoint.scheme,) if endpoint.scheme else ("https", "http") if endpoint.insecure else ("https",)
        attempt = 0
        for scheme in schemes:
            origin = f"{scheme}://{endpoint.host}"
            while True:
                attempt += 1
                try:
                    with self.client.send(
                        "GET",
                        f"{origin}{endpoint.root}/",
                        dict(endpoint.way.headers),
                        None,
                        insecure=endpoint.insecure,
                        way=endpoint.way,
                        patience=patience,
                    ) as answer:
                        if answer.status in AGAIN:
                            if attempt < patience.attempts and self._wait(answer, attempt):
                                continue
                            raise failure(answer, endpoint, answer.read(_ERROR_MAX, "error"), f"GET {endpoint.root}/")
                        if answer.status == 401:
                            self.authorizer.challenged(answer.headers.get("WWW-Authenticate", ""), origin)
                        return origin
                except NotConnected as err:
                    if err.plain and scheme != schemes[-1]:
                        break
                    raise self._unreachable(err.text, secure=scheme == "https") from err
                except Cut as err:
                    if scheme != schemes[-1]:
                        break
                    self._again(attempt, err)
        raise AssertionError("one scheme is the last")

    def _again(self, attempt: int, err: Cut) -> None:
        """Wait for the next attempt. Raises RegistryUnreachable when there is none."""
        if self.patience.is_over(attempt, err):
            raise self._unreachable(err.text) from err
        self.client.pause(attempt, f"registry {self.endpoint.host}: {err.text}")

    def _unreachable(self, text: str, *, secure: bool = False) -> RegistryUnreachable:
        endpoint = self.endpoint
        hint = (tls_hint(text, endpoint.host) if secure else "") or "check the name and the network"
        if text.startswith("proxy "):
            hint = "see HTTP_PROXY, HTTPS_PROXY and NO_PROXY, or proxies in daemon.json"
        where = f" for {endpoint.name}" if endpoint.repository else ""
        return RegistryUnreachable(
            endpoint.host, endpoint.repository, f"cannot reach registry {endpoint.host}{where}: {text}", hint=hint
        )

    @contextmanager
    def request(
        self,
        method: str,
        url: str,
        *,
        scopes: Sequence[str],
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        fine: Sequence[int] = (200,),
        retry: bool = True,
        what: str = "",
        read: float = 0,
    ) -> Iterator[Answer]:
        """A request with all that this module promises; `url` may be a path. The answer's status is one of `fine`.

        `what` is what was asked for, for messages; `read` seconds are waited for the answer (0: as usual). Raises
        RegistryErrors, LimitExceeded, Stopped; Cut when the connection broke and `retry` is off, or while the body is
        read.
        """
        with ExitStack() as undo:
            # Opened apart from its use: what the caller's block raises must not be taken for a failed attempt.
            yield self._opened(_Asked(method, url, scopes, headers or {}, body, fine, retry, what, read), undo)

    def call(
        self,
        method: str,
        url: str,
        *,
        scopes: Sequence[str],
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        fine: Sequence[int] = (200,),
        limit: int = _ERROR_MAX,
        needs: str = "",
        what: str = "",
    ) -> Reply:
        """As `request` for a small answer, read whole (at most `limit` bytes), again if it was cut off.

        `needs` names a header without which it cannot be whole.
        """
        attempt = 0
        while True:
            attempt += 1
            try:
                with self.request(
                    method, url, scopes=scopes, headers=headers, body=body, fine=fine, what=what
                ) as answer:
                    data = b"" if method == "HEAD" else answer.read(limit, what or url)
                    if needs and answer.status != 204 and needs not in answer.headers:
                        raise Cut(f"the answer had no {needs}")
                    return Reply(answer.status, answer.headers, data, answer.url)
            except Cut as err:
                self._again(attempt, err)

    def _opened(self, asked: _Asked, undo: ExitStack) -> Answer:
        url = urljoin(self.origin() + "/", asked.url)
        renewed = False
        attempt = 0
        while True:
            attempt += 1
            try:
                with ExitStack() as stack:
                    answer = stack.enter_context(self._redirected(asked, url))
                    if answer.status in asked.fine:
                        undo.push(stack.pop_all())
                        return answer
                    if answer.status == 401 and not renewed and self._is_ours(answer.url):
                        answer.read(_ERROR_MAX, "error")  # whole, so that its head is
                        renewed = True
                        attempt -= 1
                        self.authorizer.rejected(asked.scopes)
                        self.authorizer.challenged(answer.headers.get("WWW-Authenticate", ""), self._origin)
                        continue
                    again = answer.status in AGAIN and (asked.retry or answer.status == 429)
                    if again and attempt < self.patience.attempts and self._wait(answer, attempt):
                        continue
                    error = failure(answer, self.endpoint, answer.read(_ERROR_MAX, "error"), asked.what or url)
                    if answer.status in AGAIN and not again:
                        raise Cut(f"status {answer.status}", error=error)
                    raise error
            except Cut as err:
                if not asked.retry:
                    raise
                self._again(attempt, err)
            except NotConnected as err:
                raise self._unreachable(err.text, secure=True) from err

    def _wait(self, answer: Answer, attempt: int) -> bool:
        """Pause as the registry asks; False when that would be too long."""
        wait = retry_after(answer.headers.get("Retry-After", ""))
        if wait is not None and wait > self.patience.pause:
            return False
        why = "asks us to wait" if wait else f"status {answer.status}"
        self.client.pause(attempt, f"{urlsplit(answer.url).netloc}: {why}", wait)
        return True

    @contextmanager
    def _redirected(self, asked: _Asked, url: str) -> Iterator[Answer]:
        client, method = self.client, asked.method
        for _ in range(_REDIRECTS):
            mine = self._is_ours(url)
            sent = dict(asked.headers)
            if mine:
                sent = {**client.keyring.headers(), **dict(self.endpoint.way.headers), **sent}
                authorization = self.authorizer.header(asked.scopes)
                if authorization is not None:
                    sent["Authorization"] = authorization
            insecure = self.endpoint.insecure if mine else client.settings.is_insecure(urlsplit(url).netloc)
            way = self.endpoint.way if mine else USUAL
            patience = self.patience
            if asked.read:
                patience = replace(patience, read=asked.read)
            with client.send(method, url, sent, asked.body, insecure=insecure, way=way, patience=patience) as answer:
                if answer.status not in (301, 302, 303, 307, 308) or method not in ("GET", "HEAD"):
                    yield answer
                    return
                if "Location" not in answer.headers:
                    raise Cut("the redirect led nowhere")
                url = self._next(url, answer.headers["Location"])
        raise RegistryFailed(
            self.endpoint.host,
            self.endpoint.repository,
            f"registry {self.endpoint.host} redirects {self.endpoint.name} in a circle",
        )

    def _next(self, url: str, location: str) -> str:
        target = absolute(url, location)
        parts = urlsplit(target)
        allowed = ("http", "https") if urlsplit(url).scheme == "http" else ("https",)
        if not location or parts.scheme not in allowed or not parts.netloc or "@" in parts.netloc:
            raise RegistryFailed(
                self.endpoint.host,
                self.endpoint.repository,
                f"registry {self.endpoint.host} redirects {self.endpoint.name} to "
                f"{parts.scheme or 'nowhere'}://{parts.hostname or ''}, which is refused",
                hint="from https no redirect may lead to http",
            )
        return target

    def _is_ours(self, url: str) -> bool:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.netloc}" == self._origin

    def _credentials(self) -> Credentials | None:
        if not self._asked:
            self._found, self._asked = self.client.keyring.get(self.registry, self.endpoint.repository), True
        return self._found

    def use(self, credentials: Credentials) -> None:
        """Log in with these instead of what the keyring has."""
        self._found, self._asked = credentials, True

    def _fetch(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> tuple[int, bytes]:
        mine = self._is_ours(url)
        insecure = self.client.settings.is_insecure(urlsplit(url).netloc) or (self.endpoint.insecure and mine)
        way = self.endpoint.way if mine else USUAL
        patience = replace(self.patience, read=self.patience.ping)
        for attempt in range(1, patience.attempts + 1):
            try:
                with self.client.send(
                    method,
                    url,
                    headers,
                    None if body is None else lambda: body,
                    insecure=insecure,
                    way=way,
                    patience=patience,
                ) as answer:
                    last = attempt == patience.attempts
                    if answer.status not in AGAIN or last or not self._wait(answer, attempt):
                        return answer.status, answer.read(_ERROR_MAX, "token")
            except (Cut, NotConnected) as err:
                if isinstance(err, NotConnected) or patience.is_over(attempt, err):
                    raise RegistryUnreachable(
                        self.endpoint.host,
                        self.endpoint.repository,
                        f"cannot reach {urlsplit(url).netloc}, where registry {self.endpoint.host} wants us to log in "
                        f"for {self.endpoint.name}: {err.text}",
                        hint="check the name and the network",
                    ) from err
                self.client.pause(attempt, f"{urlsplit(url).netloc}: {err.text}")
        raise AssertionError("the last attempt returns or raises")
