"""Images out of OCI layouts that are directories, by tag, by digest and of an index; and layouts that lie."""

import hashlib
import io
import json
import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from builder.errors import ContextError, EngineError
from builder.oci import platforms
from builder.oci.digests import Digest
from builder.oci.platforms import Platform
from builder.store import Store, tarheaders, validate
from builder.transfer import docker_archive, importer, layout_in
from builder.transfer.layout_in import read_image

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
Json = dict[str, Any]


def tar(name: str, data: bytes) -> bytes:
    head = tarheaders.header(name.encode(), b"0", 0o644, (0, 0), len(data), 0)
    return head + data + tarheaders.padding(len(data)) + tarheaders.END


@pytest.fixture
def layout(tmp_path: Path) -> tuple[Path, Digest, Digest]:
    """(directory, image id of one:v1, image id of two:latest)."""
    archive = io.BytesIO()
    with Store.open(tmp_path / "first") as store:
        made = [
            importer.import_image(
                store,
                io.BytesIO(tar("name", name.encode())),
                created=datetime(2024, 1, 1, tzinfo=UTC),
                platform=platforms.parse(platform),
                reference=name,
            )
            for name, platform in (("one:v1", "linux/amd64"), ("two", "linux/arm64"))
        ]
        docker_archive.save(store, ["one:v1", "two"], archive.write)
    (tmp_path / "layout").mkdir()
    subprocess.run(["tar", "-x", "-C", tmp_path / "layout"], input=archive.getvalue(), check=True)
    return tmp_path / "layout", made[0], made[1]


def index(layout: Path) -> Json:
    return dict(json.loads((layout / "index.json").read_text()))


def put(layout: Path, document: Json) -> Json:
    """Write a blob; the descriptor of it."""
    data = json.dumps(document).encode()
    digest = hashlib.sha256(data).hexdigest()
    (layout / "blobs/sha256" / digest).write_bytes(data)
    return {"mediaType": document["mediaType"], "digest": f"sha256:{digest}", "size": len(data)}


def test_a_blob_that_was_read_takes_no_file(layout: tuple[Path, Digest, Digest]) -> None:
    """As many layers as the images of a layout may have, a process cannot have files open."""
    with layout_in.opened(layout[0]) as files:
        (one, *_) = files.index().manifests
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            blob = files.open_blob(one)
            assert len(os.listdir("/proc/self/fd")) == before + 1
            assert blob.read(0) == b"" and len(blob.read(one.size)) == one.size
            assert blob.read(1) == blob.read(1) == b""
            assert len(os.listdir("/proc/self/fd")) == before
        files.open_blob(one)
    assert len(os.listdir("/proc/self/fd")) == before - 1  # the directory


def test_by_tag_by_digest_and_alone(layout: tuple[Path, Digest, Digest], tmp_path: Path) -> None:
    path, one, two = layout
    digest = index(path)["manifests"][1]["digest"]
    with Store.open(tmp_path / "second") as store:

        def read(**named: str | None) -> Digest:
            return read_image(store, path, platform=AMD64, **{"tag": None, "digest": None, **named})  # type: ignore[arg-type]

        assert [read(tag="v1"), read(tag="docker.io/library/one:v1"), read(digest=digest), read()] == [
            one,
            one,
            two,
            two,
        ]
        for wrong in ({"tag": "none"}, {"digest": "sha256:" + "0" * 64}):
            with pytest.raises(ContextError, match="has no image") as caught:
                read(**wrong)
            assert "v1" in str(caught.value.hint)
        document = index(path)
        (path / "index.json").write_text(json.dumps({**document, "manifests": document["manifests"][:1]}))
        assert read() == read(tag="anything") == one
        validate.image(store, one)
        assert [listed.references for listed in store.images.list()] == [(), ()]


def test_an_index_gives_the_image_of_the_platform(layout: tuple[Path, Digest, Digest], tmp_path: Path) -> None:
    path, one, two = layout
    below = [
        {**manifest, "annotations": {}, "platform": {"os": "linux", "architecture": architecture}}
        for manifest, architecture in zip(index(path)["manifests"], ("amd64", "arm64"), strict=True)
    ]
    media_type = "application/vnd.oci.image.index.v1+json"
    inner = put(path, {"schemaVersion": 2, "mediaType": media_type, "manifests": below})
    (path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [inner]}))
    with Store.open(tmp_path / "second") as store:
        found = [read_image(store, path, tag=None, digest=None, platform=platform) for platform in (AMD64, ARM64)]
        assert found == [one, two]
        with pytest.raises(ContextError, match="no image for linux/s390x"):
            read_image(store, path, tag=None, digest=None, platform=Platform("linux", "s390x"))


def _cut(path: Path) -> None:
    for blob in (path / "blobs/sha256").iterdir():
        blob.write_bytes(blob.read_bytes()[:-1])


def _changed(path: Path) -> None:
    for blob in (path / "blobs/sha256").iterdir():
        data = bytearray(blob.read_bytes())
        data[len(data) // 2] ^= 1
        blob.write_bytes(data)


def _outside(path: Path) -> None:
    for blob in list((path / "blobs/sha256").iterdir()):
        blob.rename(path.parent / blob.name)
        blob.symlink_to(path.parent / blob.name)


def _endless(path: Path) -> None:
    document = index(path)
    link = document["manifests"][0]
    for _ in range(9):
        media_type = "application/vnd.oci.image.index.v1+json"
        link = put(path, {"schemaVersion": 2, "mediaType": media_type, "manifests": [link]})
    (path / "index.json").write_text(json.dumps({**document, "manifests": [link]}))


@pytest.mark.parametrize(
    "harm",
    [
        _cut,
        _changed,
        _outside,
        _endless,
        lambda path: (path / "oci-layout").unlink(),
        lambda path: (path / "oci-layout").write_text('{"imageLayoutVersion": "2"}'),
        lambda path: (path / "oci-layout").write_text("[]"),
        lambda path: (path / "oci-layout").write_text("[" * 100_000),
        lambda path: (path / "index.json").write_text("{}"),
        lambda path: (path / "index.json").unlink(),
        lambda path: path.rename(path.parent / "away"),
    ],
)
def test_layouts_that_lie(layout: tuple[Path, Digest, Digest], tmp_path: Path, harm: Callable[[Path], object]) -> None:
    harm(layout[0])
    with Store.open(tmp_path / "second") as store:
        with pytest.raises(EngineError):
            read_image(store, layout[0], tag="v1", digest=None, platform=AMD64)
        assert store.images.list() == ()
