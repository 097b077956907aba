"""Pull: what comes is checked, nothing is half stored, nothing is fetched twice."""

import gzip
import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from registryserver import INDEX, LAYER, MANIFEST, RegistryServer, Request, digest

from builder.errors import (
    ArchiveInvalid,
    DigestMismatch,
    EngineError,
    InvalidDocument,
    InvalidImage,
    LimitExceeded,
    PlatformNotFound,
    RegistryFailed,
    RegistryNotFound,
    RegistryUnreachable,
    Unsupported,
)
from builder.oci import platforms
from builder.oci.references import Reference
from builder.store import Store
from builder.store.apply import Limits
from builder.store.validate import image as validate
from builder.transfer.registry.progress import Message
from builder.transfer.registry.pull import Pulled, pull
from builder.transfer.registry.repository import NotAnImage

AMD64 = platforms.parse("linux/amd64")


@pytest.fixture
def bring(store: Store, registry: RegistryServer, connect: Any) -> Callable[..., Pulled]:
    """Pull from the registry; every image that comes is whole."""

    def brought(name: str = "app:1", platform: str = "linux/amd64", **options: Any) -> Pulled:
        registries = options.pop("registries", None) or connect()
        pulled = pull(
            store,
            registries,
            Reference.parse(f"{registry.host}/{name}"),
            platform=platforms.parse(platform),
            **options,
        )
        validate(store, pulled.image_id, full=True)
        return pulled

    return brought


def nothing_kept(store: Store) -> bool:
    return store.images.list() == () and store.snapshots.list() == ()


def test_an_image_comes_whole_and_is_found_by_tag_and_digest(
    store: Store, registry: RegistryServer, bring: Any, layer: Any
) -> None:
    layers = [layer(a=b"a" * 5000), layer(b=b"b"), layer(a=b"a" * 5000)]
    manifest = registry.put_image("app", "1", layers, Labels={"k": "v"})
    messages: list[Message] = []
    pulled = bring(emit=messages.append)
    image = store.images.get(pulled.image_id)
    assert pulled.image_id == manifest["config"]["digest"] and pulled.fresh
    assert image.config.config.labels == {"k": "v"} and image.origin == "pull"
    assert list(image.config.diff_ids) == [digest(each) for each in layers]
    name = f"{registry.host}/app"
    for text in (f"{name}:1", f"{name}@{pulled.digest}"):
        assert store.images.resolve(text) == pulled.image_id
    short = [each["digest"][7:19] for each in manifest["layers"]]
    lines = [(each.id, each.status) for each in messages if not each.total]
    assert lines[0] == ("1", "Pulling from app")
    assert lines[-2:] == [
        ("", f"Digest: {pulled.digest}"),
        ("", f"Status: Downloaded newer image for {name}:1"),
    ]
    for each in (short[0], short[1]):
        wanted = ["Pulling fs layer", "Verifying Checksum", "Download complete", "Pull complete"]
        assert [status for id, status in lines if id == each] == wanted
    assert any(each.total and each.status == "Downloading" for each in messages)


def test_what_is_here_is_not_fetched_again(registry: RegistryServer, bring: Any, layer: Any) -> None:
    registry.put_image("app", "1", [layer(a=b"a")])
    first = bring()
    registry.put_image("app", "2", [layer(a=b"a"), layer(b=b"b")])
    registry.requests.clear()
    again = bring()
    assert again == Pulled(first.image_id, first.digest, first.reference, False)
    assert [f"{method} {path}" for method, path, _ in registry.requests] == ["GET /v2/", "HEAD /v2/app/manifests/1"]
    messages: list[Message] = []
    bring("app:2", emit=messages.append)
    assert max(registry.sent.values()) == 1 * max(len(registry.blobs[each]) for each in registry.sent)
    assert [each.status for each in messages].count("Already exists") == 1


def test_a_tag_that_moves_is_followed_the_next_time(
    store: Store, registry: RegistryServer, bring: Any, layer: Any
) -> None:
    registry.put_image("app", "1", [layer(a=b"old")])
    old = bring()
    registry.put_image("app", "1", [layer(a=b"new")])
    new = bring()
    assert new.fresh and new.image_id != old.image_id
    assert store.images.resolve(f"{registry.host}/app:1") == new.image_id
    assert store.images.resolve(f"{registry.host}/app@{old.digest}") == old.image_id


def test_a_tag_that_moves_during_the_pull_changes_nothing(registry: RegistryServer, bring: Any, layer: Any) -> None:
    before = registry.put_image("app", "1", [layer(a=b"old")])

    def move(request: Request) -> bool:
        if request.command == "GET" and "/manifests/" in request.path:
            registry.put_image("app", "1", [layer(a=b"new")])
        return False

    registry.intercept = move
    assert bring().image_id == before["config"]["digest"]


def index_of(registry: RegistryServer, layer: Any, *wanted: str) -> dict[str, Any]:
    entries = []
    for each in wanted:
        system, architecture, *variant = each.split("/")
        manifest = registry.put_image("app", f"for-{architecture}", [layer(a=each.encode())], architecture=architecture)
        data = json.dumps(manifest).encode()
        platform = {"os": system, "architecture": architecture} | ({"variant": variant[0]} if variant else {})
        entries.append({"mediaType": MANIFEST, "digest": digest(data), "size": len(data), "platform": platform})
    return {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}


def test_an_index_gives_the_image_for_the_platform(
    store: Store, registry: RegistryServer, bring: Any, layer: Any
) -> None:
    index = index_of(registry, layer, "linux/arm64", "linux/amd64", "linux/arm/v6", "linux/arm/v7")
    registry.put_manifest("app", "1", index, INDEX)
    found = {each: bring(platform=each) for each in ("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/arm/v6")}
    assert len({each.digest for each in found.values()}) == 1
    for text, each in found.items():
        assert store.images.get(each.image_id).config.architecture == text.split("/")[1]
    for text, each in found.items():
        assert store.images.resolve(f"{registry.host}/app:1", platform=platforms.parse(text)) == each.image_id
    arm = platforms.parse("linux/arm64")
    digest_name = f"{registry.host}/app@{found['linux/amd64'].digest}"
    assert store.images.resolve(digest_name, platform=arm) == found["linux/arm64"].image_id
    registry.requests.clear()
    assert not bring(platform="linux/amd64", name=f"app@{found['linux/amd64'].digest}").fresh
    assert not registry.seen("blobs")
    with pytest.raises(RegistryNotFound, match="no matching manifest for linux/s390x") as error:
        bring(platform="linux/s390x")
    assert "linux/arm64" in (error.value.hint or "")


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ("nested", "no matching manifest for linux/amd64"),
        ("many", "has 10001 entries, more than 10000"),
        ("huge", "more than the 8388608 that we read"),
        ("size", "its descriptor says"),
        ("digest", "digest"),
    ],
)
def test_an_index_that_lies_is_refused_and_names_nothing(
    store: Store, registry: RegistryServer, bring: Any, layer: Any, entries: str, told: str
) -> None:
    index = index_of(registry, layer, "linux/amd64")
    (entry,) = index["manifests"]
    match entries:
        case "nested":
            entry |= {"mediaType": INDEX, "digest": registry.put_manifest("app", "below", dict(index), INDEX)}
        case "many":
            index["manifests"] = [entry] * 10_001
        case "huge":
            index["manifests"] = [entry] * 100_000
        case "size":
            entry["size"] += 1
        case "digest":
            entry["digest"] = digest(b"other")
            registry.manifests["app", entry["digest"]] = (MANIFEST, b"{}")
    registry.put_manifest("app", "1", index, INDEX)
    with pytest.raises(EngineError, match=told):
        bring("app:1")
    assert store.images.shown() == ()


def test_a_single_manifest_for_another_platform_is_an_error_only_when_one_was_asked_for(
    registry: RegistryServer, bring: Any, layer: Any
) -> None:
    registry.put_image("app", "1", [layer(a=b"a")], architecture="arm64")
    assert bring().fresh
    with pytest.raises(PlatformNotFound, match="does not provide the specified platform") as error:
        bring("app:1", exact=True)
    assert "is for linux/arm64" in (error.value.hint or "")


def test_plain_and_zstd_layers(registry: RegistryServer, bring: Any, layer: Any) -> None:
    import zstandard

    data, kind = layer(a=b"a" * 1000), "application/vnd.oci.image.layer.v1.tar"
    manifest = registry.put_image("app", "1", [data, data])
    packed = zstandard.compress(data)
    manifest["layers"] = [
        {"mediaType": kind, **registry.put_blob("app", data)},
        {"mediaType": f"{kind}+zstd", **registry.put_blob("app", packed)},
    ]
    registry.put_manifest("app", "1", manifest)
    assert bring().fresh


# --- what must not be believed ---------------------------------------------------------------------------------------


def big(key: str, value: object) -> Callable[[dict[str, Any]], object]:
    def change(manifest: dict[str, Any]) -> None:
        manifest["layers"][0][key] = value

    return change


@pytest.mark.parametrize(
    "change, kind, text",
    [
        (big("size", 5), RegistryFailed, "its descriptor says 5"),
        (big("size", 1 << 40), RegistryFailed, "its descriptor says"),
        (big("digest", "sha256:" + 64 * "0"), RegistryNotFound, "blob 000000000000 of .*/app not found"),
        (big("digest", "sha256:../../../etc/passwd"), InvalidDocument, "invalid digest"),
        (big("digest", "sha512:" + 128 * "a"), Unsupported, "only sha256"),
        (big("mediaType", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"), Unsupported, "is foreign"),
        (
            big("mediaType", "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"),
            Unsupported,
            "is foreign",
        ),
        (big("mediaType", "text/html"), NotAnImage, "unsupported media type 'text/html'"),
        (
            lambda m: m["config"].update(mediaType="application/vnd.test.chart.v1+json"),
            NotAnImage,
            "no container",
        ),
        (big("mediaType", "application/vnd.oci.image.layer.v2.tar"), Unsupported, "layer .* unsupported media"),
        (lambda m: m["config"].update(size=3), RegistryFailed, "its descriptor says 3"),
        (lambda m: m["layers"].pop(), InvalidImage, "1 diff_ids for 0 layers"),
        (lambda m: m.update(manifests=[]), InvalidDocument, "ambiguous"),
        (lambda m: m.update(schemaVersion=1), InvalidDocument, "schemaVersion"),
    ],
)
def test_a_manifest_that_lies_is_an_error_and_nothing_is_kept(
    store: Store, registry: RegistryServer, bring: Any, layer: Any, change: Any, kind: type[EngineError], text: str
) -> None:
    manifest = registry.put_image("app", "1", [layer(a=b"a" * 100)])
    change(manifest)
    registry.put_manifest("app", "1", manifest)
    with pytest.raises(kind) as error:
        bring()
    assert re.search(text, error.value.message) and "app" in error.value.message
    assert nothing_kept(store)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"schemaVersion": 2, "schemaVersion": 2}',
        b"\xef\xbb\xbf{}",
        b'{"a": NaN}',
        b"[" * 10_000,
        b"<html>",
        b"null",
    ],
)
def test_documents_that_are_none(registry: RegistryServer, bring: Any, raw: bytes) -> None:
    registry.put_manifest("app", "1", raw)
    with pytest.raises(InvalidDocument) as error:
        bring()
    assert "/app from registry" in error.value.message


def test_a_manifest_of_100_mb_is_not_read(registry: RegistryServer, bring: Any) -> None:
    registry.put_manifest("app", "1", bytes(100 << 20))
    with pytest.raises(LimitExceeded, match="more than the"):
        bring()


def test_a_media_type_that_is_not_the_announced_one(registry: RegistryServer, bring: Any, layer: Any) -> None:
    manifest = registry.put_image("app", "1", [layer(a=b"a")])
    registry.put_manifest("app", "1", manifest, "application/vnd.docker.distribution.manifest.v2+json")
    with pytest.raises(InvalidDocument, match="was announced as"):
        bring()
    registry.put_manifest("app", "1", manifest, "application/vnd.docker.distribution.manifest.v1+prettyjws")
    with pytest.raises(RegistryFailed, match="schema 1"):
        bring()
    registry.put_manifest("app", "1", manifest, "text/html")
    with pytest.raises((InvalidDocument, RegistryFailed)):
        bring()


def test_a_layer_that_is_not_the_configs(store: Store, registry: RegistryServer, bring: Any, layer: Any) -> None:
    manifest = registry.put_image("app", "1", [layer(a=b"right")])
    wrong = gzip.compress(layer(a=b"wrong"))
    manifest["layers"] = [{"mediaType": LAYER, **registry.put_blob("app", wrong)}]
    registry.put_manifest("app", "1", manifest)
    with pytest.raises(DigestMismatch) as error:
        bring()
    assert "of 127.0.0.1" in error.value.message and "has digest" in error.value.message
    assert nothing_kept(store)


@pytest.mark.parametrize("damage", [lambda data: data[:-10], lambda data: data[:20] + b"\0" * 9, lambda data: b"tar"])
def test_a_layer_that_cannot_be_unpacked(
    store: Store, registry: RegistryServer, bring: Any, layer: Any, damage: Any
) -> None:
    manifest = registry.put_image("app", "1", [layer(a=os.urandom(1000))])
    data = damage(gzip.compress(layer(a=os.urandom(1000))))
    manifest["layers"] = [{"mediaType": LAYER, **registry.put_blob("app", data)}]
    registry.put_manifest("app", "1", manifest)
    with pytest.raises(ArchiveInvalid):
        bring()
    assert nothing_kept(store)


def test_a_bomb_is_bounded(store: Store, registry: RegistryServer, bring: Any, layer: Any) -> None:
    registry.put_image("app", "1", [layer(a=bytes(50 << 20))])
    with pytest.raises(LimitExceeded):
        bring(limits=Limits(bytes=10 << 20))
    assert nothing_kept(store)


@pytest.mark.parametrize("command", ["HEAD", "GET"])
def test_a_head_that_lies_about_the_digest(
    store: Store, registry: RegistryServer, bring: Any, layer: Any, command: str
) -> None:
    registry.put_image("app", "1", [layer(a=b"a")])
    kind, data = registry.manifests["app", "1"]

    def lie(request: Request) -> bool:
        if "/manifests/1" not in request.path:
            return False
        # without its length a HEAD is no answer, and GET is asked
        length = {"Content_Length": ""} if request.command == "HEAD" != command else {}
        request.reply(200, data, Content_Type=kind, Docker_Content_Digest="sha256:" + 64 * "0", **length)
        return True

    registry.intercept = lie
    with pytest.raises(RegistryNotFound if command == "HEAD" else DigestMismatch):
        bring()
    assert nothing_kept(store)


def test_other_bytes_than_announced_are_never_a_blob(
    store: Store, registry: RegistryServer, bring: Any, layer: Any
) -> None:
    manifest = registry.put_image("app", "1", [layer(a=b"a")])
    name = manifest["layers"][0]["digest"]
    registry.blobs[name] = bytes(len(registry.blobs[name]))
    with pytest.raises(DigestMismatch, match="from registry"):
        bring()
    assert nothing_kept(store) and not any(store.layout.directory("content").iterdir())


# --- broken off -----------------------------------------------------------------------------------------------------


def cutting(registry: RegistryServer, points: list[int]) -> Callable[[Request], bool]:
    """Sends a blob only so far, for each of `points` once."""

    def intercept(request: Request) -> bool:
        if request.command != "GET" or "/blobs/" not in request.path or not points:
            return False
        name = request.path.rpartition("/")[2]
        data = registry.blobs[name]
        if len(data) < 10_000:
            return False
        start = int(request.headers.get("Range", "bytes=0-")[6:].partition("-")[0])
        end = max(start, min(points.pop(0), len(data) - 1))
        registry.sent[name] += end - start
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(data) - start))
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        request.end_headers()
        request.wfile.write(data[start:end])
        request.cut()
        return True

    return intercept


def test_a_download_that_breaks_off_goes_on_where_it_was(registry: RegistryServer, bring: Any, layer: Any) -> None:
    manifest = registry.put_image("app", "1", [layer(a=os.urandom(300_000))])
    registry.intercept = cutting(registry, [0, 1, 100_000, 100_001, 250_000, 10_000_000])
    bring()
    described = manifest["layers"][0]
    assert registry.sent[described["digest"]] == described["size"]


def test_a_download_that_never_gets_on_is_given_up_and_what_came_is_kept(
    registry: RegistryServer, bring: Any, layer: Any
) -> None:
    manifest = registry.put_image("app", "1", [layer(a=os.urandom(300_000))])
    described = manifest["layers"][0]
    registry.intercept = cutting(registry, [100_000] * 50)
    with pytest.raises(RegistryUnreachable, match=r"after 100000 of \d+ bytes") as error:
        bring()
    assert "what has come is kept" in (error.value.hint or "")
    registry.intercept = None
    bring()
    assert registry.sent[described["digest"]] == described["size"]


def test_a_layer_that_the_registry_cannot_give_just_now_comes_later(
    registry: RegistryServer, bring: Any, layer: Any
) -> None:
    name = registry.put_image("app", "1", [layer(a=b"a")])["layers"][0]["digest"]

    def fail(request: Request) -> bool:
        failed = name in request.path and len(registry.seen(name)) < 3
        if failed:
            request.error(502, "ANY", "words")
        return failed

    registry.intercept = fail
    bring()
    assert len(registry.seen(name)) == 3


def test_a_server_without_ranges_sends_it_again(registry: RegistryServer, bring: Any, layer: Any) -> None:
    manifest = registry.put_image("app", "1", [layer(a=os.urandom(300_000))])
    cut = cutting(registry, [100_000])

    def without_ranges(request: Request) -> bool:
        del request.headers["Range"]
        return cut(request)

    registry.intercept = without_ranges
    bring()
    described = manifest["layers"][0]
    assert registry.sent[described["digest"]] == described["size"] + 100_000


def test_what_an_earlier_process_left_is_checked(
    store: Store, registry: RegistryServer, bring: Any, layer: Any
) -> None:
    manifest = registry.put_image("app", "1", [layer(a=os.urandom(300_000))])
    described = manifest["layers"][0]
    with store.content.partial(described["digest"]) as partial:
        partial.write(b"something else")
    bring()
    assert registry.sent[described["digest"]] == 2 * described["size"] - len(b"something else")


def test_a_blob_that_one_place_lacks_comes_from_the_next(
    registry: RegistryServer, bring: Any, connect: Any, layer: Any, tmp_path: Path
) -> None:
    manifest = registry.put_image("app", "1", [layer(a=b"a")])
    with RegistryServer() as mirror:
        mirror.manifests, mirror.repositories = registry.manifests, {"app": set()}
        conf = tmp_path / "registries.conf"
        conf.write_text(
            f'[[registry]]\nlocation = "{registry.host}"\n[[registry.mirror]]\nlocation = "127.0.0.1:1"\n'
            f'[[registry.mirror]]\nlocation = "{mirror.host}"\n'
        )
        bring(registries=connect({"CONTAINERS_REGISTRIES_CONF": str(conf)}))
        assert mirror.seen("HEAD /v2/app/manifests/1") and mirror.seen("GET .*blobs")
        assert not registry.seen("manifests") and registry.sent[manifest["layers"][0]["digest"]]


def test_an_error_in_one_layer_ends_the_others(store: Store, registry: RegistryServer, bring: Any, layer: Any) -> None:
    import threading

    layers = [layer(a=os.urandom(100_000)), layer(b=os.urandom(100_000)), layer(c=b"c")]
    manifest = registry.put_image("app", "1", layers)
    stuck = threading.Event()

    def intercept(request: Request) -> bool:
        if request.path.endswith(manifest["layers"][2]["digest"]):
            assert stuck.wait(30)
            request.error(403, "DENIED")
        elif request.path.endswith(manifest["layers"][0]["digest"]):
            request.send_response(200)
            request.send_header("Content-Length", str(manifest["layers"][0]["size"]))
            request.end_headers()
            request.wfile.write(bytes(10))
            request.wfile.flush()
            stuck.set()
            # Says no more until the client has gone.
            assert hashlib.sha256(request.rfile.read()).digest()
        else:
            return False
        return True

    registry.intercept = intercept
    with pytest.raises(EngineError, match="denied"):
        bring()
    assert store.images.list() == ()


def test_a_digest_of_another_algorithm_is_checked_as_well(registry: RegistryServer, bring: Any, layer: Any) -> None:
    manifest = registry.put_image("app", "1", [layer(a=b"a")])
    data = json.dumps(manifest).encode()
    name = "sha512:" + hashlib.sha512(data).hexdigest()
    registry.put_manifest("app", name, data)
    assert bring(f"app@{name}").digest == digest(data)
    registry.put_manifest("app", name, json.dumps(manifest, indent=1).encode())
    with pytest.raises(DigestMismatch, match=name):
        bring(f"app@{name}")


def test_an_image_whose_tag_moved_on_is_dangling_and_goes_with_its_digest(
    registry: RegistryServer, connect: Any, layer: Any, tmp_path: Path
) -> None:
    def bring(platform: str) -> Pulled:
        with Store.open(tmp_path / "own") as own:
            name = Reference.parse(f"{registry.host}/app:1")
            return pull(own, connect(), name, platform=platforms.parse(platform))

    registry.put_image("app", "1", [layer(a=b"old")])
    old = bring("linux/amd64")
    registry.put_manifest("app", "1", index_of(registry, layer, "linux/arm64"), INDEX)
    bring("linux/arm64")
    registry.put_image("app", "1", [layer(a=b"new")])
    new = bring("linux/amd64")
    with Store.open(tmp_path / "own") as own:
        assert old.image_id in [image.id for image in own.images.list() if image.dangling]
        own.collect(dangling=True)
        assert [image.id for image in own.images.list()] == [new.image_id]
        assert own.fsck(full=True) == ()
