"""The verbs of the protocol that pull and push do not use alone."""

import json
from typing import Any

import pytest
from registryserver import MANIFEST, RegistryServer, Request

from builder.errors import InvalidDocument, LimitExceeded, RegistryError, RegistryFailed, RegistryNotFound
from builder.oci.references import Reference


@pytest.fixture
def repository(registry: RegistryServer, connect: Any) -> Any:
    return connect().repositories(Reference.parse(f"{registry.host}/app"))[0]


def test_tags_come_page_by_page(registry: RegistryServer, repository: Any, layer: Any) -> None:
    names = [f"v{number}" for number in range(5)]
    for name in names:
        registry.put_image("app", name, [layer(a=name.encode())])
    assert list(repository.tags()) == names
    assert len(registry.seen("tags/list")) == 3


@pytest.mark.parametrize("tag", ["../b", "", "a\x1b[2J"])
def test_a_list_with_something_else_than_tags_is_refused(registry: RegistryServer, repository: Any, tag: str) -> None:
    def lying(request: Request) -> bool:
        request.reply(200, json.dumps({"tags": ["a", tag]}).encode())
        return True

    registry.intercept = lying
    with pytest.raises(InvalidDocument, match="which is no tag"):
        repository.tags()


def test_a_list_of_tags_goes_on_at_the_same_registry_and_ends(
    registry: RegistryServer, repository: Any, layer: Any
) -> None:
    def elsewhere(request: Request) -> bool:
        if "/tags/list" in request.path:
            request.reply(200, b'{"tags": ["a"]}', Link='<http://127.0.0.1:1/v2/app/tags/list?n=9>; rel="next"')
        return "/tags/list" in request.path

    registry.intercept = elsewhere
    assert repository.tags() == ("a", "a")
    with pytest.raises(RegistryNotFound):
        registry.intercept = None
        repository.manifest("nothing")


def test_a_registry_that_says_little_is_asked_for_the_manifest_itself(
    registry: RegistryServer, connect: Any, layer: Any
) -> None:
    registry.put_image("app", "1", [layer(a=b"a")])

    def bare(request: Request) -> bool:
        if request.command != "HEAD":
            return False
        request.reply(200)
        return True

    registry.intercept = bare
    found = connect().resolve(Reference.parse(f"{registry.host}/app:1"))
    assert (found.media_type, found.digest) == ("application/vnd.oci.image.manifest.v1+json", found.digest)
    assert len(registry.seen("GET .*/manifests/1")) == 1


def test_an_upload_that_would_leave_tls_is_refused() -> None:
    from builder.transfer.registry.repository import Repository

    class Bare(Repository):
        def __init__(self) -> None:
            from builder.transfer.registry.endpoints import Endpoint

            self.endpoint = Endpoint("r.test", "app", "r.test/app")

    here = "https://r.test/v2/app/blobs/uploads/"
    location = Bare()._location
    assert location({"Location": "/v2/x?state=1"}, here) == "https://r.test/v2/x?state=1"
    # A registry behind a proxy that ends TLS does not know how it was reached.
    assert location({"Location": "http://r.test/v2/x?state=1"}, here) == "https://r.test/v2/x?state=1"
    assert location({"Location": "https://other.test/x"}, here) == "https://other.test/x"
    with pytest.raises(RegistryFailed, match="without TLS"):
        location({"Location": "http://other.test/x"}, here)


NO_NUMBERS = ["\xb2", "9" * 5000, "-1", "1_0", ""]
NO_ADDRESSES = ["http://[", "//[::1", "http://h:999999/x", "http://a b/", "javascript:x", "\xff"]


@pytest.mark.parametrize(
    ("header", "status", "where", "value"),
    [
        *(("Content-Length", 200, "HEAD", value) for value in NO_NUMBERS),
        *(("Retry-After", 429, "GET", value) for value in NO_NUMBERS),
        *(("Location", 307, "GET", value) for value in NO_ADDRESSES),
        *(("WWW-Authenticate", 401, "GET", f'Bearer realm="{value}",service="a"') for value in NO_ADDRESSES),
        *(("Location", 202, "POST", value) for value in NO_ADDRESSES),
        *(("Range", 202, "POST", f"0-{value}") for value in NO_NUMBERS),
        *(("OCI-Chunk-Min-Length", 202, "POST", value) for value in NO_NUMBERS),
    ],
)
def test_what_a_head_says_wrong_is_never_more_than_an_error(
    registry: RegistryServer, repository: Any, header: str, status: int, where: str, value: str
) -> None:
    more = {"Location": "/v2/app/blobs/uploads/1"} if where == "POST" and header != "Location" else {}
    kind = {"Docker_Content_Digest": f"sha256:{'a' * 64}", "Content_Type": MANIFEST}

    def lying(request: Request) -> bool:
        if request.command != where:
            return False
        request.reply(status, **{header.replace("-", "_"): value, **kind, **more})
        return True

    registry.intercept = lying
    act = {"HEAD": lambda: repository.head("1"), "GET": lambda: repository.manifest("1"), "POST": repository.begin}
    try:
        found = act[where]()
    except RegistryError as err:
        assert registry.host in err.message
    else:
        assert found is None or where == "POST"


def test_a_list_that_goes_on_and_on_ends(registry: RegistryServer, repository: Any) -> None:
    count = 0

    def endless(request: Request) -> bool:
        nonlocal count
        count += 1
        request.reply(200, b'{"tags": ["a"]}', Link=f'</v2/app/tags/list?last={count}>; rel="next"')
        return True

    registry.intercept = endless
    with pytest.raises(LimitExceeded, match="has more than 1000 pages"):
        repository.tags()


def test_the_pages_of_a_list_are_bounded_together(registry: RegistryServer, repository: Any) -> None:
    def large(request: Request) -> bool:
        at = len(registry.requests)
        request.reply(200, b" " * (33 << 20) + b'{"tags": []}', Link=f'</v2/app/tags/list?last={at}>; rel="next"')
        return True

    registry.intercept = large
    with pytest.raises(LimitExceeded):
        repository.tags()
    assert len(registry.seen("tags/list")) == 2
