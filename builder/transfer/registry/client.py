"""The connections of one command: requests one by one, and what broken ones mean.

urllib3 brings connections, pools, TLS and proxies. It follows no redirect and repeats nothing by itself, since both are
matters of who may see an Authorization header: `host` does that. Everything may be used by several threads; `abort`
ends what they wait for.
"""

from __future__ import annotations

import http.client
import io
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import (
    HTTPError,
    IncompleteRead,
    InsecureRequestWarning,
    LocationParseError,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from builder import VERSION
from builder.errors import InvalidInput, LimitExceeded
from builder.transfer.registry import endpoints
from builder.transfer.registry.credentials import Credentials
from builder.transfer.registry.hostsfile import USUAL, Way
from builder.transfer.registry.replies import absolute, number
from builder.transfer.workers import Stopped
from runtime.values import dataclass

if TYPE_CHECKING:
    from builder.errors import RegistryError
    from builder.transfer.registry.credentials import Keyring
    from builder.transfer.registry.settings import Settings

_BASE_WAIT = 0.2
_CHUNK = 1 << 18
PROGRESS = 1 << 14
"""Bytes of gain after which the attempts of a transfer are counted anew."""

Body = Callable[[], "bytes | Iterable[bytes]"]
"""Gives a request's body, anew for each attempt."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How often something is tried, and how many seconds it may take: to connect; until a registry says that it is one,
    or a token comes; each piece of another answer; a pause that the registry asks for (beyond it the user decides).
    """

    attempts: int = 5
    connect: float = 15.0
    ping: float = 15.0
    read: float = 60.0
    pause: float = 60.0

    def is_over(self, attempt: int, err: Cut) -> bool:
        """Whether attempt number `attempt`, which ended so, was the last. Who does not answer is seldom asked again."""
        return attempt >= (self.attempts // 2 if err.late else self.attempts)

    def failures(self, before: int, gained: int, err: Cut) -> int | None:
        """How many attempts of a transfer have failed in a row, after `before` and one that brought `gained` bytes and
        ended so; None when it was the last. Those before a gain do not count.
        """
        if gained >= PROGRESS:
            return 1
        return None if self.is_over(before + 1, err) else before + 1


PATIENT = Patience()
BRIEF = Patience(attempts=2, connect=5.0, ping=10.0, read=30.0, pause=2.0)
"""With what can be done without: a cache, or a mirror that has another place behind it. One that answers may have to
fetch what it is asked for, and one lost connection among many is no reason to do without a whole cache."""


class Cut(Exception):
    """A connection ended or stalled in the middle: worth another try. `text` says how, for a person; `late`: nothing
    came in time; `error`: what the registry said, when it was an answer that may be another one the next time."""

    def __init__(self, text: str, *, late: bool = False, error: RegistryError | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.late = late
        self.error = error


class Answer:
    """A response whose body is still to be read. `url` is where it came from, after redirects."""

    def __init__(self, response: urllib3.BaseHTTPResponse, url: str) -> None:
        self._response = response
        self.url = url
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers

    def chunks(self) -> Iterator[bytes]:
        """The body in pieces. Raises Cut."""
        with _translated():
            # What there is, so that a process that is killed loses nothing that it had received.
            while data := self._response.read1(_CHUNK):
                yield data

    def read(self, limit: int, what: str) -> bytes:
        """All of the body. Raises LimitExceeded, Cut."""
        stated = number(self.headers.get("Content-Length", ""))
        if stated is not None and stated > limit:
            raise LimitExceeded(f"{what} has {stated} bytes, more than the {limit} that we read")
        data = b""
        for chunk in self.chunks():
            data += chunk
            if len(data) > limit:
                raise LimitExceeded(f"{what} has more than the {limit} bytes that we read")
        return data

    def close(self) -> None:
        """Give the connection back if the body was read, else end it."""
        self._response.close()
        self._response.release_conn()


class Client:
    """Connections to all hosts that one command talks to. A context manager."""

    def __init__(
        self,
        settings: Settings,
        keyring: Keyring,
        *,
        sleep: Callable[[float], object] = time.sleep,
        jitter: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.keyring = keyring
        self.clock = clock
        self.told: Callable[[str], object] = str
        """Hears why there is a pause, or another place is asked."""
        self._sleep = sleep
        self._jitter = jitter
        self._guard = threading.Lock()
        self._pools: dict[tuple[str, bool, str, Way], urllib3.PoolManager] = {}
        self._open: set[urllib3.BaseHTTPResponse] = set()
        self._stopped = False

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        for pool in self._pools.values():
            pool.clear()

    def abort(self) -> None:
        """End what other threads wait for: their next read or request raises Stopped."""
        with self._guard:
            self._stopped = True
            waiting = tuple(self._open)
        for response in waiting:
            try:
                response.shutdown()
            except (OSError, ValueError, RuntimeError):
                pass  # it ended in the meantime

    def pause(self, attempt: int, why: str, wait: float | None = None) -> None:
        """Wait before attempt number `attempt` (1 is the second); `wait` seconds if somebody asked for that."""
        self.check()
        seconds = wait if wait is not None else _BASE_WAIT * 2 ** min(attempt, 7) * (0.5 + self._jitter() / 2)
        self.told(f"{why}; trying again in {max(seconds, 1):.0f} s")
        self._sleep(seconds)
        self.check()

    def check(self) -> None:
        """Raise Stopped after `abort`."""
        if self._stopped:
            raise Stopped

    @contextmanager
    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body | None,
        *,
        insecure: bool,
        way: Way = USUAL,
        patience: Patience = PATIENT,
    ) -> Iterator[Answer]:
        """One request, no more; the answer is closed with the block. Raises Cut, NotConnected, Stopped."""
        self.check()
        parts = urlsplit(url)
        pool = self._pool(parts.scheme, parts.netloc, insecure=insecure, way=way)
        sent = {"User-Agent": f"lamina/{VERSION}", "Accept-Encoding": "identity", **headers}
        with _translated(pool.proxy.netloc if pool.proxy is not None else None):
            response = pool.urlopen(
                method,
                url,
                body=None if body is None else body(),
                headers=sent,
                redirect=False,
                retries=False,
                timeout=urllib3.Timeout(connect=way.connect or patience.connect, read=patience.read),
                preload_content=False,
                decode_content=False,
            )
        with self._guard:
            self._open.add(response)
        answer = Answer(response, url)
        try:
            yield answer
        finally:
            with self._guard:
                self._open.discard(response)
            answer.close()

    def _pool(self, scheme: str, host: str, *, insecure: bool, way: Way) -> urllib3.PoolManager:
        proxy = self.settings.proxy(scheme, host) if way.proxy is None else way.proxy
        key = (f"{scheme}://{host}", insecure, proxy, way)
        with self._guard:
            if key not in self._pools:
                options: dict[str, object] = {"maxsize": 16, "blocksize": 1 << 18}
                if scheme == "https":
                    options["ssl_context"] = endpoints.tls(host, self.settings, insecure=insecure, way=way)
                    if insecure:
                        options["assert_hostname"] = False
                        # It was the user's decision, or is loopback: nothing to warn of again.
                        urllib3.disable_warnings(InsecureRequestWarning)
                made = _through(proxy, host, options) if proxy else urllib3.PoolManager(**options)  # type: ignore[arg-type]
                made.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
                self._pools[key] = made
            return self._pools[key]


def _through(proxy: str, host: str, options: Mapping[str, object]) -> urllib3.ProxyManager:
    """Connections to `host` through a proxy, whose URL may have a name and password. Raises InvalidInput."""
    url = absolute("", proxy)
    parts = urlsplit(url)
    hint = "only http:// and https:// proxies are spoken to; NO_PROXY names hosts that need none"
    if url and parts.scheme not in ("http", "https"):
        raise InvalidInput(
            f"cannot reach {host} through proxy {parts.scheme}://{parts.hostname}: unknown scheme", hint=hint
        )
    headers = {}
    if parts.username:
        known = Credentials(unquote(parts.username), unquote(parts.password or ""))
        headers["Proxy-Authorization"] = known.basic()
    try:
        if not parts.hostname:
            raise LocationParseError(url)
        return urllib3.ProxyManager(url, proxy_headers=headers, **options)  # type: ignore[arg-type]
    except LocationParseError:
        # The URL is not shown, and not in the traceback of a cause: there may be a password in it.
        raise InvalidInput(f"cannot reach {host}: the URL of the proxy for it is invalid", hint=hint) from None


class _Lines:
    """The lines of an answer's head, which are whole: the end of a connection is not the end of a head or a number."""

    def __init__(self, source: io.BufferedIOBase) -> None:
        self._source = source

    def readline(self, size: int) -> bytes:
        line = self._source.readline(size)
        if not line.endswith(b"\n") and len(line) < size:
            raise http.client.RemoteDisconnected("the connection ended in the head of an answer")
        return line

    def close(self) -> None:
        self._source.close()


class _Response(http.client.HTTPResponse):
    """http.client takes a head that broke off for a whole one: `Content-Length: 602` of 60241, or none at all."""

    def begin(self) -> None:
        source = self.fp
        self.fp = _Lines(source)  # type: ignore[assignment]
        try:
            super().begin()
        finally:
            if self.fp:
                self.fp = source


class _HTTPConnection(HTTPConnection):
    response_class = _Response


class _HTTPSConnection(HTTPSConnection):
    response_class = _Response


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


class NotConnected(Exception):
    """There is no connection, and there will not be one: `text` says why; `plain`: perhaps the host speaks no TLS."""

    def __init__(self, text: str, *, plain: bool) -> None:
        super().__init__(text)
        self.text = text
        self.plain = plain


@contextmanager
def _translated(proxy: str | None = None) -> Iterator[None]:
    """urllib3's and the system's errors as Cut or NotConnected; `proxy` is the host that stands between."""
    try:
        yield
    except MaxRetryError as err:
        raise _connection(err.reason or err, proxy) from err
    except (HTTPError, OSError) as err:
        raise _connection(err, proxy) from err


def _connection(err: BaseException, proxy: str | None) -> Cut | NotConnected:
    cause = err
    while isinstance(cause, HTTPError) and (cause.__cause__ or cause.__context__):
        cause = cause.__cause__ or cause.__context__  # type: ignore[assignment]
    if isinstance(err, ProxyError) and proxy is not None:
        said = str(cause).removeprefix("Tunnel connection failed: ")
        if said != str(cause):
            return NotConnected(f"proxy {proxy}: {said}", plain=True)
        found = _connection(err.original_error, None)
        found.text = f"proxy {proxy}: {found.text}"
        return found
    if isinstance(err, NameResolutionError) or isinstance(cause, socket.gaierror):
        return NotConnected("no such host", plain=False)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return NotConnected(f"its certificate is not trusted: {cause.verify_message}", plain=False)
    if isinstance(err, SSLError) or isinstance(cause, ssl.SSLError):
        reason = getattr(cause, "reason", None) or str(cause)
        return NotConnected(f"TLS failed: {reason.replace('_', ' ').lower()}", plain=True)
    if isinstance(err, NewConnectionError) or isinstance(cause, ConnectionRefusedError):
        text = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(err)
        return NotConnected(text.lower(), plain=True)
    if isinstance(err, ReadTimeoutError | TimeoutError) or isinstance(cause, TimeoutError):
        return Cut("no answer in time", late=True)
    if isinstance(err, IncompleteRead | ProtocolError) or isinstance(cause, OSError):
        return Cut("the connection was cut off")
    return Cut(str(err)[:200])
