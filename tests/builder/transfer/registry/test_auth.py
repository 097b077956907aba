"""Challenges, tokens, and where a password may go."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import RegistryDenied, RegistryFailed
from builder.transfer.registry.auth import Authorizer, challenges
from builder.transfer.registry.credentials import Credentials

ME = Credentials("me", "pw")


class Service:
    """A token service that notes what it is asked."""

    def __init__(self, status: int = 200, answer: bytes = b'{"token": "t1"}') -> None:
        self.asked: list[tuple[str, str, Mapping[str, str], bytes | None]] = []
        self.status, self.answer = status, answer

    def __call__(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> tuple[int, bytes]:
        self.asked.append((method, url, headers, body))
        return self.status, self.answer

    def authorizer(self, origin: str, realm: str, credentials: Credentials | None = ME) -> Authorizer:
        made = Authorizer("r.test", lambda: credentials, self, lambda: 0.0)
        made.challenged(f'Bearer realm="{realm}",service="reg"', origin)
        return made


def test_challenges_of_one_header() -> None:
    found = challenges('Basic realm="a, \\"b\\"", Bearer realm="https://t/x?y=1",service=s , scope="r:a:pull,push"')
    assert [each.scheme for each in found] == ["basic", "bearer"]
    assert found[0].parameters == {"realm": 'a, "b"'}
    assert found[1].parameters == {"realm": "https://t/x?y=1", "service": "s", "scope": "r:a:pull,push"}


@given(st.text())
def test_any_header_can_be_read(text: str) -> None:
    challenges(text)


def test_a_token_is_asked_for_once_and_again_when_it_was_not_accepted() -> None:
    service = Service()
    authorizer = service.authorizer("https://r.test", "https://auth.test/token?a=b")
    assert authorizer.header(["repository:a:pull"]) == authorizer.header(["repository:a:pull"]) == "Bearer t1"
    ((method, url, headers, _),) = service.asked
    assert method == "GET" and url.startswith("https://auth.test/token?a=b&service=reg&scope=repository%3Aa%3Apull")
    assert headers["Authorization"] == ME.basic()
    authorizer.rejected(["repository:a:pull"])
    authorizer.header(["repository:a:pull"])
    authorizer.header(["repository:b:pull"])
    assert len(service.asked) == 3


@pytest.mark.parametrize(
    "origin, realm, known",
    [
        ("https://r.test", "https://auth.test/token", True),
        ("https://r.test", "https://r.test/token", True),
        ("http://r.test", "http://r.test/token", True),
        ("https://r.test", "http://r.test/token", False),
        ("https://r.test", "http://auth.test/token", False),
        ("http://r.test", "https://auth.test/token", False),
        ("http://r.test", "http://auth.test/token", False),
        ("http://127.0.0.1:1", "http://127.0.0.1:2/token", False),
    ],
)
def test_a_password_goes_to_the_registry_or_where_it_says_over_tls(origin: str, realm: str, known: bool) -> None:
    for credentials in (ME, Credentials("", identity_token="idt")):
        service = Service()
        assert service.authorizer(origin, realm, credentials).header(["s"]) == "Bearer t1"
        ((_, url, headers, body),) = service.asked
        assert ("Authorization" in headers or b"idt" in (body or b"")) is known
        assert known or "me" not in url.partition("?")[2]


def test_an_identity_token_is_exchanged() -> None:
    service = Service(answer=b'{"access_token": "t2", "refresh_token": "new"}')
    authorizer = service.authorizer("https://r.test", "https://auth.test", Credentials("", identity_token="idt"))
    assert authorizer.header(["a", "b"]) == "Bearer t2"
    ((method, _, _, body),) = service.asked
    assert method == "POST" and body is not None
    assert b"grant_type=refresh_token" in body and b"refresh_token=idt" in body and b"scope=a+b" in body
    assert authorizer.identity_token == "new"


@pytest.mark.parametrize("realm", ["", "file:///etc/passwd", "https://user:pw@auth.test/", "//x"])
def test_a_realm_must_be_an_address(realm: str) -> None:
    service = Service()
    with pytest.raises(RegistryFailed, match="no usable token service"):
        service.authorizer("https://r.test", realm).header(["s"])
    assert not service.asked


@pytest.mark.parametrize(
    "status, answer, error, text",
    [
        (401, b"", RegistryDenied, "incorrect username or password"),
        (500, b"", RegistryFailed, "auth.test for registry r.test answered with status 500"),
        (429, b'{"message": "slow\\u001b down"}', RegistryFailed, "answered with status 429: slow down"),
        (200, b"{}", RegistryFailed, "gave no token"),
        (200, b"[]", RegistryFailed, "must be a JSON object"),
        (200, b'{"token": "a\\r\\nX: y"}', RegistryFailed, "gave no token"),
    ],
)
def test_a_service_that_gives_no_token(status: int, answer: bytes, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Service(status, answer).authorizer("https://r.test", "https://auth.test").header(["s"])


def test_basic_is_used_where_it_is_asked_for() -> None:
    authorizer = Authorizer("r.test", lambda: ME, Service(), lambda: 0.0)
    assert authorizer.header(["s"]) is None
    authorizer.challenged('Basic realm="x"', "https://r.test")
    assert authorizer.header(["s"]) == ME.basic()
