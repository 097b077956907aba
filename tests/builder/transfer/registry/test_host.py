"""Retries, redirects, refusals, and that an Authorization header stays where it belongs."""

import json
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import trustme
from registryserver import RegistryServer, Request

from builder.errors import (
    CredentialsFailed,
    InvalidInput,
    LimitExceeded,
    RegistryBusy,
    RegistryDenied,
    RegistryError,
    RegistryFailed,
    RegistryNotFound,
    RegistryUnreachable,
)
from builder.oci.references import Reference
from builder.transfer.registry.client import BRIEF, PATIENT, Cut, Patience
from builder.transfer.registry.session import Registries, first


def head(registries: Registries, name: str) -> Any:
    return registries.resolve(Reference.parse(name))


def logged_in(home: Path, host: str) -> dict[str, str]:
    path = home / "config.json"
    path.write_text(json.dumps({"auths": {host: {"username": "me", "password": "pa55"}}}))
    return {"DOCKER_CONFIG": str(home)}


@pytest.fixture
def second() -> Iterator[RegistryServer]:
    with RegistryServer() as server:
        yield server


@pytest.fixture
def image(registry: RegistryServer, layer: Any) -> str:
    registry.put_image("app", "1", [layer(a=b"a")])
    return f"{registry.host}/app:1"


def failing(times: int, status: int, **headers: str) -> Any:
    """Answers the first requests for a manifest with an error."""
    left = [times]

    def intercept(request: Request) -> bool:
        if "/manifests/" not in request.path or not left[0]:
            return False
        left[0] -= 1
        if status:
            request.error(status, "ANY", "what\x1b[31mever", **headers)
        else:
            request.cut()
        return True

    return intercept


@pytest.mark.parametrize("status", [0, 500, 502, 503, 504, 429, 408])
def test_what_may_pass_is_tried_again_with_growing_pauses(
    registry: RegistryServer, image: str, connect: Any, status: int
) -> None:
    pauses: list[float] = []
    registry.intercept = failing(3, status)
    assert head(connect(pauses=pauses), image).size
    assert pauses == sorted(pauses) and len(pauses) == 3 and pauses[2] > 3 * pauses[0]


def test_a_head_that_breaks_off_anywhere_is_no_answer(registry: RegistryServer, image: str, connect: Any) -> None:
    descriptor = head(connect(), image)
    said = (
        f"HTTP/1.1 200 OK\r\nContent-Type: {descriptor.media_type}\r\n"
        f"Docker-Content-Digest: {descriptor.digest}\r\nContent-Length: {descriptor.size}\r\n\r\n"
    ).encode()
    for end in range(len(said) - 1):
        left = [1]

        def intercept(request: Request, end: int = end, left: list[int] = left) -> bool:
            if "/manifests/" not in request.path or not left:
                return False
            left.clear()
            request.wfile.write(said[:end])
            request.cut()
            return True

        registry.intercept = intercept
        assert head(connect(), image) == descriptor and not left


def test_retry_after_is_respected_and_too_long_is_an_error(registry: RegistryServer, image: str, connect: Any) -> None:
    pauses: list[float] = []
    registry.intercept = failing(1, 429, Retry_After="7")
    head(connect(pauses=pauses), image)
    assert pauses == [7.0]
    registry.intercept = failing(1, 503, Retry_After=format_datetime(datetime.now(UTC) + timedelta(seconds=50)))
    head(connect(pauses=pauses), image)
    assert 30 < pauses.pop() <= 50
    registry.intercept = failing(1, 429, Retry_After="3600")
    with pytest.raises(RegistryBusy) as error:
        head(connect(pauses=pauses), image)
    assert error.value.wait == 3600 and "in 3600 s" in (error.value.hint or "")
    assert registry.host in error.value.message and "/app" in error.value.message


@pytest.mark.parametrize(
    "status, kind",
    [
        (401, RegistryDenied),
        (403, RegistryDenied),
        (404, RegistryNotFound),
        (429, RegistryBusy),
        (500, RegistryFailed),
        (503, RegistryFailed),
        (418, RegistryFailed),
    ],
)
def test_a_refusal_names_host_repository_and_what_to_do(
    registry: RegistryServer, image: str, connect: Any, status: int, kind: type[RegistryError]
) -> None:
    registry.intercept = failing(99, status)
    repository = connect().repositories(Reference.parse(image))[0]
    with pytest.raises(kind) as error:
        repository.manifest("1")
    assert (error.value.registry, error.value.repository) == (registry.host, "app")
    assert registry.host in error.value.message and "app" in error.value.message
    assert "any: what[31mever" in error.value.message  # no escape sequence of a stranger reaches a terminal
    assert error.value.hint or status == 418


def test_no_connection_says_why(connect: Any, registry: RegistryServer) -> None:
    with pytest.raises(RegistryUnreachable, match=r"cannot reach registry 127.0.0.1:1 for .*/app: connection refused"):
        head(connect(), "127.0.0.1:1/app")
    registry.intercept = lambda request: request.cut() or True  # type: ignore[func-returns-value]
    with pytest.raises(RegistryUnreachable, match="the connection was cut off"):
        head(connect(), f"{registry.host}/app")


def test_a_password_never_follows_a_redirect_to_another_host(
    registry: RegistryServer, second: RegistryServer, image: str, connect: Any, tmp_path: Path
) -> None:
    registry.user = ("me", "pa55")
    second.put_image("app", "1", [])
    second.blobs, second.repositories = registry.blobs, registry.repositories

    def away(request: Request) -> bool:
        if "/blobs/" not in request.path:
            return False
        assert request.headers["Authorization"]
        request.reply(307, Location=f"http://{second.host}{request.path}")
        return True

    registry.intercept = away
    registries = connect(logged_in(tmp_path, registry.host))
    repository = registries.repositories(Reference.parse(image))[0]
    digest = next(iter(registry.blobs))
    with repository.open_blob(digest, 0) as (_, answer):
        assert answer.read(1 << 20, "blob") == registry.blobs[digest]
    assert second.requests and not any("pa55" in str(headers) for _, _, headers in second.requests)
    assert not any(headers["Authorization"] for _, _, headers in second.requests)


def test_a_realm_of_another_host_gets_no_password_over_plain_http(
    registry: RegistryServer, second: RegistryServer, image: str, connect: Any, tmp_path: Path
) -> None:
    registry.user, registry.realm = ("me", "pa55"), f"http://{second.host}/token"
    second.intercept = lambda request: request.reply(200, b'{"token": "good"}') or True  # type: ignore[func-returns-value]
    assert head(connect(logged_in(tmp_path, registry.host)), image).size
    assert len(second.seen("/token")) == 1
    assert not any(headers["Authorization"] or "me" in path for _, path, headers in second.requests)


@pytest.mark.parametrize("location", ["", "ftp://x/y", "file:///etc/passwd", "http://user:pw@127.0.0.1:1/"])
def test_redirects_to_nowhere_are_refused(registry: RegistryServer, image: str, connect: Any, location: str) -> None:
    def away(request: Request) -> bool:
        if "/manifests/" in request.path:
            request.reply(302, Location=location)
        return "/manifests/" in request.path

    registry.intercept = away
    with pytest.raises(RegistryFailed, match="which is refused"):
        head(connect(), image)
    registry.intercept = lambda request: "/manifests/" in request.path and not request.reply(302, Location=request.path)
    with pytest.raises(RegistryFailed, match="in a circle"):
        head(connect(), image)


def test_a_missing_helper_means_that_nobody_is_asked(
    registry: RegistryServer, image: str, connect: Any, tmp_path: Path
) -> None:
    registry.user = ("me", "pa55")
    (tmp_path / "config.json").write_text('{"credsStore": "missing"}')
    with pytest.raises(CredentialsFailed, match="executable file not found"):
        head(connect({"DOCKER_CONFIG": str(tmp_path), "PATH": "/nowhere"}), image)
    # It was asked how to log in, and that is all.
    assert [path for _, path, _ in registry.requests] == ["/v2/"]


def test_documents_are_bounded(registry: RegistryServer, image: str, connect: Any) -> None:
    def endless(request: Request) -> bool:
        if "/manifests/" not in request.path:
            return False
        request.send_response(200)
        request.send_header("Connection", "close")
        request.end_headers()
        for _ in range(100):
            request.wfile.write(bytes(1 << 20))
        return True

    registry.intercept = endless
    repository = connect().repositories(Reference.parse(image))[0]
    with pytest.raises(LimitExceeded, match=r"more than the \d+ bytes"):
        repository.manifest("1")


# --- TLS ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure(authority: trustme.CA, layer: Any) -> Iterator[RegistryServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with RegistryServer(tls=context) as server:
        server.put_image("app", "1", [layer(a=b"a")])
        yield server


def trust(etc: Path, host: str, authority: trustme.CA) -> Path:
    directory = etc / "docker/certs.d" / host
    directory.mkdir(parents=True)
    authority.cert_pem.write_to_path(str(directory / "ca.crt"))
    return directory


def test_tls_with_an_authority_of_certs_d(
    secure: RegistryServer, authority: trustme.CA, connect: Any, tmp_path: Path
) -> None:
    trust(tmp_path / "etc", secure.host, authority)
    assert head(connect(), f"{secure.host}/app:1").size


PAST = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "trusted, name, until, hint",
    [
        (False, "127.0.0.1", None, "certs.d"),
        (True, "other.test", None, "a name that its certificate is for"),
        (True, "127.0.0.1", PAST, "must renew its certificate"),
    ],
)
def test_a_wrong_certificate_is_an_error_and_never_plain_http(
    authority: trustme.CA, connect: Any, tmp_path: Path, trusted: bool, name: str, until: datetime | None, hint: str
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name, not_after=until).configure_cert(context)
    with RegistryServer(tls=context) as server:
        trust(tmp_path / "etc", server.host, authority if trusted else trustme.CA())
        with pytest.raises(RegistryUnreachable, match="its certificate is not trusted") as error:
            head(connect(), f"{server.host}/app:1")
        assert hint in (error.value.hint or "")
        assert server.requests == []


def test_a_server_that_fell_back_to_http_is_not_spoken_to(
    registry: RegistryServer, image: str, connect: Any, tmp_path: Path, authority: trustme.CA
) -> None:
    trust(tmp_path / "etc", registry.host, authority)
    with pytest.raises(RegistryUnreachable, match="TLS failed") as error:
        head(connect(logged_in(tmp_path, registry.host)), image)
    assert "it speaks no TLS" in (error.value.hint or "")
    assert registry.requests == []


def test_loopback_may_have_any_certificate(secure: RegistryServer, connect: Any) -> None:
    assert head(connect(), f"{secure.host}/app:1").size


def test_a_redirect_from_https_to_http_is_refused(
    secure: RegistryServer, registry: RegistryServer, connect: Any
) -> None:
    secure.intercept = lambda request: (
        "/manifests/" in request.path and not request.reply(307, Location=f"http://{registry.host}{request.path}")
    )
    with pytest.raises(RegistryFailed, match="which is refused"):
        head(connect(), f"{secure.host}/app:1")
    assert registry.requests == []


def test_a_client_certificate_is_shown(authority: trustme.CA, connect: Any, tmp_path: Path, layer: Any) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    with RegistryServer(tls=context) as server:
        server.put_image("app", "1", [layer(a=b"a")])
        directory = trust(tmp_path / "etc", server.host, authority)
        with pytest.raises(RegistryUnreachable) as error:
            head(connect(), f"{server.host}/app:1")
        assert "client.cert" in (error.value.hint or "")
        mine = authority.issue_cert("me@example.test")
        mine.cert_chain_pems[0].write_to_path(str(directory / "client.cert"))
        mine.private_key_pem.write_to_path(str(directory / "client.key"))
        assert head(connect(), f"{server.host}/app:1").size


def test_the_first_place_that_works_is_taken(
    registry: RegistryServer, second: RegistryServer, image: str, connect: Any, tmp_path: Path
) -> None:
    conf = tmp_path / "registries.conf"
    mirrors = "".join(f'[[registry.mirror]]\nlocation = "{host}"\n' for host in ("127.0.0.1:1", second.host))
    conf.write_text(f'[[registry]]\nlocation = "{registry.host}"\n{mirrors}')
    registries = connect({"CONTAINERS_REGISTRIES_CONF": str(conf)})
    repositories = registries.repositories(Reference.parse(image))
    assert [each.endpoint.host for each in repositories] == ["127.0.0.1:1", second.host, registry.host]
    place, _ = first(repositories, lambda each: each.head("1"))
    assert place.endpoint.host == registry.host and second.seen("HEAD /v2/app/manifests/1")


def test_a_mirror_that_fails_is_asked_once_more_at_most(
    registry: RegistryServer, second: RegistryServer, image: str, connect: Any, tmp_path: Path
) -> None:
    conf = tmp_path / "registries.conf"
    conf.write_text(f'[[registry]]\nlocation = "{registry.host}"\n[[registry.mirror]]\nlocation = "{second.host}"\n')
    pauses: list[float] = []
    told: list[str] = []
    registries = connect({"CONTAINERS_REGISTRIES_CONF": str(conf)}, pauses)
    registries.client.told = told.append
    second.intercept = failing(99, 503)
    registry.intercept = failing(1, 503)
    assert head(registries, image).size
    assert len(second.seen("/manifests/")) == len(pauses) == 2
    assert told[0] == f"{second.host}: status 503; trying again in 1 s"
    assert told[1].startswith(f"registry {second.host} failed at manifest for {image}: status 503")
    assert told[1].endswith("; asking the next place")
    assert told[2] == f"{registry.host}: status 503; trying again in 1 s"
    # For as long as it asks for, we do not wait: the next place is there.
    second.intercept = failing(99, 503, **{"Retry-After": "3"})
    assert head(registries, image).size
    assert len(second.seen("/manifests/")) == 3 and len(pauses) == 2


def test_who_does_not_answer_in_time_is_asked_less_often() -> None:
    assert [PATIENT.is_over(at, Cut("cut off")) for at in range(1, 6)] == [False, False, False, False, True]
    assert [PATIENT.is_over(at, Cut("late", late=True)) for at in (1, 2)] == [False, True]
    assert [BRIEF.is_over(at, Cut("cut off")) for at in (1, 2)] == [False, True]
    assert BRIEF.is_over(1, Cut("late", late=True))


def test_a_mirror_has_time_to_fetch_what_it_is_asked_for(
    registry: RegistryServer, second: RegistryServer, image: str, connect: Any, tmp_path: Path
) -> None:
    conf = tmp_path / "registries.conf"
    conf.write_text(f'[[registry]]\nlocation = "{registry.host}"\n[[registry.mirror]]\nlocation = "{second.host}"\n')
    registries = connect({"CONTAINERS_REGISTRIES_CONF": str(conf)})
    waited: list[tuple[str, float, float]] = []
    send = registries.client.send

    def watched(method: str, url: str, *given: Any, patience: Patience, **more: Any) -> Any:
        waited.append((url.partition("/v2/")[2], patience.connect, patience.read))
        return send(method, url, *given, patience=patience, **more)

    registries.client.send = watched
    head(registries, image)
    assert set(waited) == {("", 5, 10), ("app/manifests/1", 5, 30), ("", 15, 15), ("app/manifests/1", 15, 60)}


def test_a_proxy_is_told_its_password_and_named_when_it_fails(
    registry: RegistryServer, image: str, connect: Any, tmp_path: Path
) -> None:
    """It refuses CONNECT, so that an insecure host is asked without TLS."""
    etc = tmp_path / "etc" / "docker"
    etc.mkdir(parents=True)
    (etc / "daemon.json").write_text('{"insecure-registries": ["r.test:5000"]}')
    proxy = f"http://me:p%40ss@{registry.host}"
    environment = {"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy}
    assert head(connect(environment), "r.test:5000/app:1").size
    (_, _, headers), *_ = registry.seen("http://r.test:5000/v2/app/manifests/1")
    assert headers["Proxy-Authorization"] == "Basic bWU6cEBzcw=="
    head(connect({"HTTP_PROXY": f"http://m\u00e9:\u20ac@{registry.host}", "HTTPS_PROXY": proxy}), "r.test:5000/app:1")
    assert registry.requests[-1][2]["Proxy-Authorization"] == "Basic bcOpOuKCrA=="
    for url, text in ((proxy, "501"), ("http://me:pw@127.0.0.1:1", "connection refused")):
        host = url.rpartition("@")[2]
        with pytest.raises(RegistryUnreachable, match=rf"for s.test/app: proxy {host}: {text}") as error:
            head(connect({"HTTPS_PROXY": url}), "s.test/app:1")
        assert "HTTPS_PROXY" in (error.value.hint or "") and "pw" not in str(error.value)
    with pytest.raises(InvalidInput, match="through proxy socks5://x: unknown scheme"):
        head(connect({"HTTPS_PROXY": "socks5://me:pw@x:1"}), "s.test/app:1")


@pytest.mark.parametrize("address", ["[bad", "", "x:port", "x:99999", "a host:1", "me:pw@:1"])
def test_a_proxy_that_has_no_address_is_an_error_without_its_words(address: str, connect: Any) -> None:
    with pytest.raises(InvalidInput, match=r"^cannot reach s\.test: the URL of the proxy for it is invalid$"):
        head(connect({"HTTPS_PROXY": f"http://{address}"}), "s.test/app:1")


def test_headers_for_registries_are_sent(registry: RegistryServer, image: str, connect: Any, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"HttpHeaders": {"X-Meta-Team": "a"}}')
    head(connect({"DOCKER_CONFIG": str(tmp_path)}), image)
    assert registry.seen("/manifests/")[0][2]["X-Meta-Team"] == "a"
