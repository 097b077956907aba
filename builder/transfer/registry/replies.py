"""What a registry's refusal means: the error to show, naming the registry, the repository and what to do. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urljoin, urlsplit

from builder.errors import RegistryBusy, RegistryDenied, RegistryError, RegistryFailed, RegistryNotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.transfer.registry.endpoints import Endpoint

_SHOWN = 300
_LONGEST = 1 << 31


class Reply(Protocol):
    """The head of an answer."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...


def failure(reply: Reply, endpoint: Endpoint, body: bytes, what: str) -> RegistryError:
    """The error for an answer that is none of those wanted; `what` was asked for ("manifest for app:1")."""
    host, repository, status = endpoint.host, endpoint.repository, reply.status
    said = told(body) or _STATUS.get(status, f"status {status}")
    if status == 404 and what.startswith("manifest") and not body:
        said = "manifest unknown"  # HEAD has no body to say it in
    if status in (401, 403) or (status == 404 and "NAME_UNKNOWN" in codes(body)):
        kind = RegistryNotFound if status == 404 else RegistryDenied
        return kind(
            host,
            repository,
            f"access to {endpoint.name or host} denied, the repository does not exist or may require "
            f"'lamina login {endpoint.keys[0]}': {said}",
            hint=f"check the name, or log in: lamina login {endpoint.keys[0]}",
        )
    if status == 404:
        return RegistryNotFound(
            host, repository, f"{what} not found: {said}", hint=f"check the name; registry {host} does not have it"
        )
    if status == 429:
        wait = retry_after(reply.headers.get("Retry-After", ""))
        when = f"in {wait:.0f} s" if wait else "later"
        return RegistryBusy(
            host,
            repository,
            f"registry {host} refuses more requests for {endpoint.name}: {said}",
            wait=wait,
            hint=f"try again {when}, log in (lamina login {endpoint.keys[0]}), or name a mirror in registry-mirrors",
        )
    if status >= 500:
        return RegistryFailed(
            host,
            repository,
            f"registry {host} failed at {what}: status {status}, {said}",
            hint="try again later, or ask whoever runs it; its log says more",
        )
    return RegistryFailed(host, repository, f"registry {host} refused {what}: status {status}, {said}")


def tls_hint(text: str, host: str) -> str:
    """What to do about a connection that failed with `text`, in OpenSSL's words; "" when it was no matter of TLS."""
    found = next((hint for words, hint in _TLS.items() if any(word in text for word in words.split("|"))), "")
    return found.format(directory=f"/etc/lamina/certs.d/{host}")


_TLS = {
    "has expired|not yet valid": "whoever runs the registry must renew its certificate; or is the clock here wrong?",
    "mismatch": "call the registry by a name that its certificate is for, or let it have one for this name",
    "not trusted": "put its authority into {directory}/ca.crt, or add the host to insecure-registries",
    "wrong version number|http request": "it speaks no TLS; add it to insecure-registries if that is how it should be",
    "eof occurred|alert": "it may want a client certificate of an authority it knows: {directory}/client.cert and .key",
}
"""By what OpenSSL says."""


def codes(body: bytes) -> tuple[str, ...]:
    """The error codes in a body, as distribution-spec has them."""
    return tuple(code for code, _ in _errors(body))


def told(body: bytes) -> str:
    """What a registry says itself, harmless for a terminal; "" when it says nothing."""
    parts = [f"{code.replace('_', ' ').lower()}: {message}" if code else message for code, message in _errors(body)]
    text = "; ".join(parts)
    return "".join(letter for letter in text if letter.isprintable())[:_SHOWN]


def number(text: str) -> int | None:
    """A count in a header; None for what is none, or more than any file has."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def absolute(base: str, target: str) -> str:
    """What a URL in an answer means beside that answer's own; "" for what is no URL."""
    try:
        url = urljoin(base, target)
        urlsplit(url).port  # noqa: B018 - it is looked at when it is asked for
    except ValueError:
        return ""
    return url


def retry_after(text: str) -> float | None:
    """Seconds to wait by a Retry-After header, None when it says nothing. A date counts from now."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        wait = number(text.lstrip("0") or "0")
        return float(_LONGEST if wait is None else min(wait, _LONGEST))
    from datetime import UTC, datetime
    from email.utils import parsedate_to_datetime

    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    if moment.tzinfo is None:
        return None
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _errors(body: bytes) -> list[tuple[str, str]]:
    try:
        document = json.loads(body)
        found = document.get("errors")
        if isinstance(found, list):
            return [(str(each.get("code") or ""), str(each.get("message") or "")) for each in found[:5]]
        text = document.get("message") or document.get("details") or ""
        return [("", str(text))] if text else []
    except (ValueError, AttributeError, RecursionError):
        return []


_STATUS = {
    401: "unauthorized: authentication required",
    403: "denied: requested access to the resource is denied",
    404: "not found",
    429: "toomanyrequests",
    500: "internal server error",
    502: "bad gateway",
    503: "service unavailable",
    504: "gateway timeout",
}
