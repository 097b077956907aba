"""Indexes in archives: what came goes out byte for byte, a platform can be chosen, archives that lie are refused."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.errors import ArchiveInvalid, DigestMismatch, EngineError, PlatformNotFound
from builder.oci import descriptors as d
from builder.oci import digests, platforms
from builder.oci.digests import Digest
from builder.oci.manifests import Index, Manifest
from builder.oci.references import Reference
from builder.store import Store, tarheaders, validate
from builder.transfer import docker_archive, importer
from builder.transfer.docker_archive import Loaded

AMD64, ARM64, S390X = (platforms.parse(f"linux/{each}") for each in ("amd64", "arm64", "s390x"))
NAME = "docker.io/library/multi:1"


def _tar(files: Mapping[str, bytes]) -> bytes:
    out = b""
    for name, data in files.items():
        head = tarheaders.header(name.encode(), b"0", 0o644, (0, 0), len(data), 0)
        out += head + data + tarheaders.padding(len(data))
    return out + tarheaders.END


def _files(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        found = ((each.name, tar.extractfile(each)) for each in tar if each.isreg())
        return {name: file.read() for name, file in found if file is not None}


class Made:
    """An OCI layout by another tool: an index of images with packed layers, in a form of its own."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}'}
        self.entries: list[dict[str, Any]] = []

    def blob(self, data: bytes, media_type: str) -> dict[str, Any]:
        digest = digests.of(data)
        self.files["blobs/" + digest.replace(":", "/")] = data
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def image(self, platform: str, layers: Mapping[bytes, str]) -> dict[str, Any]:
        """An image; its layers' tars with the media type that says how they are packed."""
        system, architecture = platform.split("/")[:2]
        config = {
            "architecture": architecture,
            "os": system,
            "rootfs": {"type": "layers", "diff_ids": [digests.of(each) for each in layers]},
        }
        packers = {d.OCI_LAYER: bytes, d.OCI_LAYER_GZIP: gzip.compress, d.OCI_LAYER_ZSTD: zstandard.compress}
        document = {
            "schemaVersion": 2,
            "config": self.blob(json.dumps(config).encode(), d.OCI_CONFIG),
            "layers": [self.blob(packers[kind](data), kind) for data, kind in layers.items()],
        }
        entry = self.blob(json.dumps(document, indent=3).encode(), d.OCI_MANIFEST)
        entry["platform"] = {"os": system, "architecture": architecture}
        self.entries.append(entry)
        return entry

    def attestation(self, of: str) -> None:
        document = {
            "schemaVersion": 2,
            "config": self.blob(b'{"for": "' + of.encode() + b'"}', d.OCI_CONFIG),
            "layers": [self.blob(b'{"says": "' + of.encode() + b'"}', "application/vnd.in-toto+json")],
        }
        entry = self.blob(json.dumps(document).encode(), d.OCI_MANIFEST)
        entry["annotations"] = {
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": of,
        }
        entry["platform"] = {"os": "unknown", "architecture": "unknown"}
        self.entries.append(entry)

    def archive(self, *, name: str = NAME) -> tuple[bytes, Digest]:
        """The archive, and the digest of its index."""
        document = {"schemaVersion": 2, "mediaType": d.OCI_INDEX, "manifests": self.entries, "annotations": {"a": "b"}}
        top = self.blob(json.dumps(document, indent=1).encode(), d.OCI_INDEX)
        digest = Digest(top["digest"])
        if name:
            top["annotations"] = {"io.containerd.image.name": name}
        self.files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [top]}).encode()
        return _tar(self.files), digest


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        yield opened
        assert opened.fsck(full=True) == ()


@pytest.fixture
def multi() -> Made:
    made = Made()
    shared = _tar({"shared": b"s" * 3000})
    for at, (platform, kind) in enumerate(
        {"linux/amd64": d.OCI_LAYER_GZIP, "linux/arm64": d.OCI_LAYER_ZSTD, "linux/s390x": d.OCI_LAYER}.items()
    ):
        made.image(platform, {shared: kind, _tar({"own": b"%d" % at}): kind})
    for entry in list(made.entries):
        made.attestation(entry["digest"])
    return made


def _saved(store: Store, *names: str, **options: Any) -> bytes:
    out = io.BytesIO()
    docker_archive.save(store, names, out.write, **options)
    return out.getvalue()


def _valid(store: Store) -> None:
    for one in store.images.list():
        validate.image(store, one.id, full=True)


def test_what_was_loaded_is_saved_byte_for_byte(store: Store, multi: Made, tmp_path: Path) -> None:
    archive, digest = multi.archive()
    assert docker_archive.load(store, io.BytesIO(gzip.compress(archive))) == (Loaded(digest, "multi:1"),)
    assert [member.image is not None for member in store.indexes.get(digest).members] == [True] * 3 + [False] * 3
    _valid(store)
    store.collect(cache_budget=0)
    saved = _files(_saved(store, "multi:1"))
    blobs = {name: data for name, data in multi.files.items() if name.startswith("blobs/")}
    assert {name: data for name, data in saved.items() if name.startswith("blobs/")} == blobs
    (top,) = json.loads(saved["index.json"])["manifests"]
    assert (top["digest"], top["mediaType"]) == (digest, d.OCI_INDEX)
    # Who reads no index finds the image for this machine.
    (entry,) = json.loads(saved["manifest.json"])
    assert entry["RepoTags"] == ["multi:1"] and json.loads(saved[entry["Config"]])["architecture"] == "amd64"
    with Store.open(tmp_path / "other") as other:
        docker_archive.load(other, io.BytesIO(_tar(saved)))
        assert other.images.target("multi:1") == digest
        _valid(other)


def test_one_platform_of_it(store: Store, multi: Made, tmp_path: Path) -> None:
    archive, digest = multi.archive()
    docker_archive.load(store, io.BytesIO(archive), platforms=[ARM64])
    assert [str(one.platform) for one in store.images.list()] == ["linux/arm64"]
    assert store.images.target("multi:1") == digest
    docker_archive.load(store, io.BytesIO(archive))
    saved = _saved(store, "multi:1", platforms=[S390X])
    with Store.open(tmp_path / "other") as other:
        docker_archive.load(other, io.BytesIO(saved))
        assert other.images.target("multi:1") == digest
        assert [str(one.platform) for one in other.images.list()] == ["linux/s390x"]
        with pytest.raises(PlatformNotFound, match="specified platform"):
            docker_archive.load(other, io.BytesIO(saved), platforms=[AMD64])
        with pytest.raises(PlatformNotFound, match="multi:1 was found but does not provide"):
            _saved(other, "multi:1", platforms=[AMD64])


def test_an_image_alone_must_be_for_the_platform(store: Store, tmp_path: Path) -> None:
    image = _image(store, AMD64, "one:1")
    assert image
    archive = _saved(store, "one:1", platforms=[AMD64])
    with pytest.raises(PlatformNotFound):
        _saved(store, "one:1", platforms=[ARM64])
    with Store.open(tmp_path / "other") as other:
        with pytest.raises(PlatformNotFound) as caught:
            docker_archive.load(other, io.BytesIO(archive), platforms=[ARM64])
        assert caught.value.hint == f"it is here for {AMD64}; leave out --platform to take what the archive has"
        assert other.images.list() == ()
        docker_archive.load(other, io.BytesIO(archive), platforms=[AMD64])
        assert other.images.resolve("one:1") == image


def _image(store: Store, platform: platforms.Platform, name: str | None = None) -> Digest:
    return importer.import_image(
        store,
        io.BytesIO(_tar({"etc/name": str(platform).encode()})),
        created=datetime(2024, 1, 1, tzinfo=UTC),
        platform=platform,
        reference=name,
    )


def test_one_made_here_is_written_as_it_is_and_the_same_each_time(store: Store, tmp_path: Path) -> None:
    made = store.indexes.make([_image(store, AMD64), _image(store, ARM64)])
    store.images.tag(Reference.parse("made:1"), made)
    saved = _saved(store, "made:1")
    with Store.open(tmp_path / "other") as other:
        assert docker_archive.load(other, io.BytesIO(saved)) == (Loaded(made, "made:1"),)
        _valid(other)
        assert _saved(other, "made:1") == saved


def test_what_was_merged_gets_an_index_of_its_own(store: Store, multi: Made, tmp_path: Path) -> None:
    _, digest = multi.archive()
    docker_archive.load(store, io.BytesIO(multi.archive()[0]))
    saved = _saved(store, "multi:1", most=1)
    with Store.open(tmp_path / "other") as other:
        docker_archive.load(other, io.BytesIO(saved))
        assert other.images.target("multi:1") != digest
        assert [len(other.images.layers(one.id)) for one in other.images.list()] == [1, 1, 1]
        _valid(other)


def test_a_lost_packed_blob_costs_the_digest_not_the_image(store: Store, multi: Made, tmp_path: Path) -> None:
    archive, digest = multi.archive()
    docker_archive.load(store, io.BytesIO(archive))
    manifest = Manifest.from_json(store.indexes.kept(store.indexes.get(digest).members[0]) or b"")
    with store.database.write():
        store.database.run("DELETE FROM blobs WHERE digest = ?", (manifest.layers[0].digest,))
    saved = _saved(store, "multi:1")
    with Store.open(tmp_path / "other") as other:
        docker_archive.load(other, io.BytesIO(saved))
        assert {one.id for one in other.images.list()} == {one.id for one in store.images.list()}
        _valid(other)


class TestHostile:
    """What lies is refused with a clear error, and names nothing."""

    def refused(self, store: Store, archive: bytes, kind: type[EngineError], match: str) -> None:
        with pytest.raises(kind, match=match):
            docker_archive.load(store, io.BytesIO(archive))
        assert not any(one.references for one in store.images.shown())

    def test_an_index_in_the_index(self, store: Store, multi: Made) -> None:
        below = json.dumps({"schemaVersion": 2, "mediaType": d.OCI_INDEX, "manifests": multi.entries}).encode()
        multi.entries.append(multi.blob(below, d.OCI_INDEX))
        self.refused(store, multi.archive()[0], ArchiveInvalid, "which is no manifest but")

    def test_a_hundred_thousand_entries(self, store: Store, multi: Made) -> None:
        multi.entries[:] = [multi.entries[0]] * 100_000
        self.refused(store, multi.archive()[0], EngineError, "has 100000 entries|is larger than")

    def test_a_size_that_is_not_that_of_the_blob(self, store: Store, multi: Made) -> None:
        multi.entries[1]["size"] += 1
        self.refused(store, multi.archive()[0], ArchiveInvalid, "its descriptor says")

    def test_a_blob_that_is_another(self, store: Store, multi: Made) -> None:
        name = "blobs/" + str(multi.entries[0]["digest"]).replace(":", "/")
        archive, _ = multi.archive()
        files = _files(archive)
        files[name] = b"x" * len(files[name])
        self.refused(store, _tar(files), DigestMismatch, "has digest|digest")

    def test_a_layer_whose_packed_blob_is_another(self, store: Store, multi: Made) -> None:
        archive, _ = multi.archive()
        files = _files(archive)
        manifest = json.loads(files["blobs/" + multi.entries[0]["digest"].replace(":", "/")])
        name = "blobs/" + manifest["layers"][0]["digest"].replace(":", "/")
        files[name] = files[name][:-1] + bytes([files[name][-1] ^ 1])
        self.refused(store, _tar(files), DigestMismatch, "digest")

    def test_nothing_of_the_index_is_there(self, store: Store, multi: Made) -> None:
        archive, digest = multi.archive()
        gone = {"blobs/" + each["digest"].replace(":", "/") for each in multi.entries}
        files = {name: data for name, data in _files(archive).items() if name not in gone}
        self.refused(store, _tar(files), ArchiveInvalid, f"no image of the index {digest}")

    def test_an_index_that_says_it_is_a_manifest(self, store: Store, multi: Made) -> None:
        multi.entries[0]["mediaType"] = d.DOCKER_MANIFEST
        document = json.dumps({"schemaVersion": 2, "mediaType": d.OCI_INDEX, "manifests": []}).encode()
        multi.entries[0].update(multi.blob(document, d.OCI_MANIFEST))
        self.refused(store, multi.archive()[0], EngineError, "manifest")


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["linux/amd64", "linux/arm64", "linux/s390x", "linux/riscv64"]),
            st.lists(
                st.tuples(st.binary(max_size=40), st.sampled_from([d.OCI_LAYER, d.OCI_LAYER_GZIP, d.OCI_LAYER_ZSTD])),
                max_size=3,
                unique_by=lambda pair: pair[0],
            ),
        ),
        min_size=1,
        max_size=4,
        unique_by=lambda image: image[0],
    ),
    st.data(),
)
def test_any_index_comes_out_as_it_went_in(
    tmp_path_factory: pytest.TempPathFactory, images: list[tuple[str, list[tuple[bytes, str]]]], data: st.DataObject
) -> None:
    made = Made()
    for platform, layers in images:
        made.image(platform, {_tar({"f": content}): kind for content, kind in layers})
    some = data.draw(st.sets(st.sampled_from([platform for platform, _ in images]), min_size=1))
    archive, digest = made.archive()
    with Store.open(tmp_path_factory.mktemp("any")) as store:
        docker_archive.load(store, io.BytesIO(archive), platforms=[platforms.parse(each) for each in some])
        assert {str(each.platform) for each in store.indexes.get(digest).members if each.image} == some
        saved = _files(_saved(store, "multi:1"))
        _valid(store)
    index = Index.from_json(saved["blobs/" + digest.replace(":", "/")])
    there = {str(each.platform) for each in index.manifests if "blobs/" + each.digest.replace(":", "/") in saved}
    assert there == some
    assert all(made.files[name] == content for name, content in saved.items() if name.startswith("blobs/"))
