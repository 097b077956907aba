"""Push: what came goes out as it came, what is there is not sent, what broke off goes on."""

import json
import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
from registryserver import RegistryServer, Request, digest

from builder.errors import (
    DigestMismatch,
    ImageNotFound,
    RegistryDenied,
    RegistryError,
    RegistryFailed,
    RegistryUnreachable,
)
from builder.oci import platforms
from builder.oci.references import Reference
from builder.store import Store
from builder.store.validate import image as validate
from builder.transfer import docker_archive
from builder.transfer.importer import import_image
from builder.transfer.registry import upload
from builder.transfer.registry.progress import Message
from builder.transfer.registry.pull import Pulled, pull
from builder.transfer.registry.push import Pushed, push

pytestmark = pytest.mark.usefixtures("small_chunks")

PLATFORM = platforms.parse("linux/amd64")


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "CHUNK", 1 << 16)


@pytest.fixture
def made(store: Store, registry: RegistryServer, layer: Any) -> Callable[..., str]:
    """An image of ours, under a name at the registry."""
    import io
    from datetime import UTC, datetime

    def make(name: str = "app:1", data: bytes = b"data") -> str:
        reference = f"{registry.host}/{name}"
        when = datetime(2024, 1, 1, tzinfo=UTC)
        image = import_image(store, io.BytesIO(layer(file=data)), created=when, platform=PLATFORM, reference=reference)
        validate(store, image, full=True)
        return reference

    return make


@pytest.fixture
def send(store: Store, connect: Any) -> Callable[..., Pushed]:
    def sent(reference: str, **options: Any) -> Pushed:
        registries = options.pop("registries", None) or connect()
        return push(store, registries, Reference.parse(reference), **options)

    return sent


def test_an_image_that_is_removed_meanwhile_goes_out_whole(
    store: Store, registry: RegistryServer, made: Callable[..., str], send: Callable[..., Pushed]
) -> None:
    name = made()

    def removed(request: Request) -> bool:
        if request.command == "POST":
            store.images.remove(name, force=True)
            registry.intercept = None
        return False

    registry.intercept = removed
    pushed = send(name)
    assert digest(registry.manifests["app", "1"][1]) == pushed.manifest.digest
    assert store.images.list() == () and store.fsck(full=True) == ()


def bring(store: Store, registries: Any, reference: str) -> Pulled:
    pulled = pull(store, registries, Reference.parse(reference), platform=PLATFORM)
    validate(store, pulled.image_id, full=True)
    return pulled


def test_what_is_pushed_can_be_pulled(
    registry: RegistryServer, made: Any, send: Any, connect: Any, store: Store, tmp_path: Any
) -> None:
    name = made(data=os.urandom(200_000))
    messages: list[Message] = []
    pushed = send(name, emit=messages.append)
    image = store.images.resolve(name)
    with Store.open(tmp_path / "other") as other:
        pulled = bring(other, connect(), name)
        assert (pulled.image_id, pulled.digest) == (image, pushed.manifest.digest)
    assert store.images.resolve(f"{registry.host}/app@{pushed.manifest.digest}") == image
    diff_id = store.images.get(image).config.diff_ids[0][7:19]
    lines = [(each.id, each.status) for each in messages if not each.total]
    assert lines == [
        (diff_id, "Preparing"),
        (diff_id, "Pushed"),
        ("", f"1: digest: {pushed.manifest.digest} size: {pushed.manifest.size}"),
    ]
    assert [each for each in messages if each.total][-1].current == [each for each in messages if each.total][-1].total


def test_an_image_that_was_pulled_goes_out_byte_for_byte(
    registry: RegistryServer, send: Any, connect: Any, store: Store, layer: Any
) -> None:
    manifest = registry.put_image("app", "1", [layer(a=b"a" * 9000), layer(b=b"b")], Labels={"k": "v"})
    data = json.dumps(manifest, indent=3).encode()  # a form of its own
    registry.put_manifest("app", "1", data)
    pulled = bring(store, connect(), f"{registry.host}/app:1")
    with RegistryServer() as other:
        copy = f"{other.host}/new/place:2"
        store.images.tag(Reference.parse(copy), pulled.image_id)
        assert send(copy).manifest.digest == pulled.digest == digest(data)
        assert other.manifests["new/place", "2"][1] == data
        assert other.blobs == {each: registry.blobs[each] for each in other.blobs} and len(other.blobs) == 3


def test_what_the_registry_has_is_not_sent(registry: RegistryServer, made: Any, send: Any, store: Store) -> None:
    first = send(made())
    received = registry.received
    messages: list[Message] = []
    assert send(made(), emit=messages.append).manifest == first.manifest
    assert any(each.status == "Layer already exists" for each in messages)
    other = made("other/app")
    messages.clear()
    assert send(other, emit=messages.append).manifest == first.manifest
    assert any(each.status == "Mounted from app" for each in messages)
    config = store.images.get(store.images.resolve(other)).raw
    assert registry.received == received + len(config)


def test_a_mount_that_is_refused_becomes_an_upload(registry: RegistryServer, made: Any, send: Any) -> None:
    send(made())
    registry.repositories["app"].clear()
    assert send(made("other/app")).manifest
    assert len(registry.repositories["other/app"]) == 2


def test_a_layer_whose_blob_was_not_kept_is_fetched_from_where_it_was(
    registry: RegistryServer, send: Any, connect: Any, store: Store, layer: Any
) -> None:
    tar = layer(a=b"a" * 9000)
    registry.put_image("app", "1", [tar])
    # The layer is here already, as a tar: its packed form is only known.
    docker_archive.load(store, _archive(tar))
    pulled = bring(store, connect(), f"{registry.host}/app:1")
    with RegistryServer() as other:
        store.images.tag(Reference.parse(f"{other.host}/copy"), pulled.image_id)
        assert send(f"{other.host}/copy").manifest.digest == pulled.digest


def _archive(tar: bytes) -> Any:
    import io
    import tarfile

    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest(tar)]}}
    members = {
        "c.json": json.dumps(config).encode(),
        "l.tar": tar,
        "manifest.json": json.dumps([{"Config": "c.json", "RepoTags": ["kept:1"], "Layers": ["l.tar"]}]).encode(),
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return io.BytesIO(out.getvalue())


def cutting(registry: RegistryServer, points: list[int]) -> Callable[[Request], bool]:
    """Takes only so many bytes of a chunk, then cuts; for each of `points` once."""

    def intercept(request: Request) -> bool:
        if request.command not in ("PATCH", "PUT") or "/uploads/" not in request.path or not points:
            return False
        name = request.path.partition("/uploads/")[2].partition("?")[0]
        registry.take(request, registry.uploads[name], points.pop(0))
        request.cut()
        return True

    return intercept


def test_an_upload_that_breaks_off_goes_on_where_it_was(registry: RegistryServer, made: Any, send: Any) -> None:
    name = made(data=os.urandom(300_000))
    registry.intercept = cutting(registry, [0, 1000, 60_000, 10, 20_000])
    pushed = send(name)
    manifest = json.loads(registry.manifests["app", "1"][1])
    assert registry.received == manifest["layers"][0]["size"] + manifest["config"]["size"]
    assert pushed.manifest.size


def test_the_next_process_goes_on_with_an_upload(registry: RegistryServer, made: Any, send: Any) -> None:
    name = made(data=os.urandom(300_000))
    whole = cutting(registry, [1 << 20, 1000, *[0] * 50])
    registry.intercept = whole
    with pytest.raises(RegistryUnreachable, match=r"cannot be pushed to .*/app") as error:
        send(name)
    assert "not sent twice" in (error.value.hint or "")
    received = registry.received
    assert received > 60_000 and ("app", "1") not in registry.manifests
    registry.intercept = None
    send(name)
    manifest = json.loads(registry.manifests["app", "1"][1])
    assert registry.received == manifest["layers"][0]["size"] + manifest["config"]["size"]


def test_an_upload_that_the_registry_forgot_begins_again(registry: RegistryServer, made: Any, send: Any) -> None:
    name = made(data=os.urandom(300_000))
    registry.intercept = cutting(registry, [1 << 20, 1000, *[0] * 50])
    with pytest.raises(RegistryUnreachable):
        send(name)
    registry.intercept = None
    registry.uploads.clear()
    assert send(name).manifest


def test_chunks_are_as_large_as_the_registry_wants_them_at_least(
    registry: RegistryServer, made: Any, send: Any
) -> None:
    def least(request: Request) -> bool:
        if request.command != "POST":
            return False
        name = str(len(registry.requests))
        registry.uploads[name] = bytearray()
        location = f"http://{registry.host}/v2/app/blobs/uploads/{name}?state=a&more=b%2Fc"
        request.reply(202, Location=location, Range="0-0", OCI_Chunk_Min_Length="100000")
        return True

    registry.intercept = least
    send(made(data=os.urandom(300_000)))
    sizes = [int(headers["Content-Length"]) for _, _, headers in registry.seen("^PATCH .*/uploads/")]
    assert len(sizes) == 4 and sizes[:3] == [100_000] * 3
    assert registry.seen("^PATCH .*[?]state=a&more=b%2Fc$")  # as it was said, also the absolute one


@pytest.mark.parametrize("stated", ["", "sha256:" + 64 * "0"])
def test_what_the_registry_says_it_has_got_is_compared(
    registry: RegistryServer, made: Any, send: Any, stated: str
) -> None:
    def answer(request: Request) -> bool:
        if request.command != "PUT" or "/manifests/" not in request.path:
            return False
        request.read_body()
        request.reply(201, **({"Docker_Content_Digest": stated} if stated else {}))
        return True

    registry.intercept = answer
    with pytest.raises(DigestMismatch, match=f"on registry {registry.host}") if stated else nullcontext():
        send(made())


def test_a_registry_without_chunks_gets_a_blob_in_one_piece(registry: RegistryServer, made: Any, send: Any) -> None:
    def refuse(request: Request) -> bool:
        if request.command == "PATCH":
            request.read_body()
            request.error(416, "UNSUPPORTED")
        return request.command == "PATCH"

    registry.intercept = refuse
    assert send(made(data=os.urandom(300_000))).manifest


@pytest.mark.parametrize("status", [401, 429, 500, 502])
@pytest.mark.parametrize("command", ["PATCH", "PUT"])
def test_an_answer_that_may_be_another_one_costs_nothing_but_time(
    registry: RegistryServer, made: Any, send: Any, connect: Any, status: int, command: str
) -> None:
    """Also a body that was sent already goes out again: a token may end in the middle of a long push."""
    left = [1]

    def once(request: Request) -> bool:
        if request.command != command or "/uploads/" not in request.path or not left:
            return False
        left.clear()
        request.read_body()
        request.error(status, "ANY", "words")
        return True

    registry.intercept = once
    pauses: list[float] = []
    registries = connect(pauses=pauses)
    assert send(made(data=os.urandom(100_000)), registries=registries).manifest and not left
    assert len(pauses) == (status != 401)


def test_what_a_registry_says_again_and_again_is_the_error(
    registry: RegistryServer, made: Any, send: Any, connect: Any
) -> None:
    def refuse(request: Request) -> bool:
        if request.command == "PUT":
            request.read_body()
            request.error(503, "UNAVAILABLE", "words")
        return request.command == "PUT"

    registry.intercept = refuse
    with pytest.raises(RegistryFailed, match="unavailable: words"):
        send(made())
    assert len(registry.seen("^PUT ")) == 5


@pytest.mark.parametrize("status, kind", [(401, RegistryDenied), (403, RegistryDenied), (413, RegistryFailed)])
def test_a_refused_push_leaves_no_manifest(
    registry: RegistryServer, made: Any, send: Any, status: int, kind: type[RegistryError]
) -> None:
    def refuse(request: Request) -> bool:
        if request.command == "POST":
            request.error(status, "DENIED", "no push for you")
        return request.command == "POST"

    registry.intercept = refuse
    with pytest.raises(kind, match="no push for you"):
        send(made())
    assert not registry.manifests


def test_a_name_that_is_not_here(send: Any) -> None:
    with pytest.raises(ImageNotFound):
        send("127.0.0.1:1/nothing:1")


def test_a_foreign_layer_stays_as_it_came_in_another_image(
    registry: RegistryServer, send: Any, connect: Any, store: Store, layer: Any
) -> None:
    """An image that is built on a pulled one names the blobs that it came with."""
    base = registry.put_image("base", "1", [layer(a=b"a" * 9000)])
    pulled = store.images.get(bring(store, connect(), f"{registry.host}/base:1").image_id)
    config = replace(pulled.config, config=replace(pulled.config.config, user="me"))
    image = store.images.put(config, pulled.layers)
    validate(store, image, full=True)
    store.images.tag(Reference.parse(f"{registry.host}/app:1"), image)
    send(f"{registry.host}/app:1")
    manifest = json.loads(registry.manifests["app", "1"][1])
    assert [each["digest"] for each in manifest["layers"]] == [each["digest"] for each in base["layers"]]
