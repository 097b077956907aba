"""save, load and import: what goes out comes in again, and archives that lie do not."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from builder.errors import EngineError
from builder.oci import platforms
from builder.store import Store, tarheaders
from builder.transfer import docker_archive, importer


def _tar(files: dict[str, bytes]) -> bytes:
    out = b""
    for name, data in files.items():
        out += (
            tarheaders.header(name.encode(), b"0", 0o644, (0, 0), len(data), 0) + data + tarheaders.padding(len(data))
        )
    return out + tarheaders.END


def test_saved_images_load_into_another_store(tmp_path: Path) -> None:
    archive = io.BytesIO()
    with Store.open(tmp_path / "one") as one, Store.open(tmp_path / "two") as two:
        image_id = importer.import_image(
            one,
            io.BytesIO(_tar({"etc/name": b"x"})),
            created=datetime(2024, 1, 1, tzinfo=UTC),
            platform=platforms.host("x86_64"),
            reference="app:1",
        )
        size = docker_archive.save(one, ["app:1"], archive.write)
        assert size == len(archive.getvalue())
        loaded = docker_archive.load(two, io.BytesIO(archive.getvalue()))
        assert loaded == (docker_archive.Loaded(image_id, "app:1"),)
        again = io.BytesIO()
        docker_archive.save(two, ["app:1"], again.write)
    assert again.getvalue() == archive.getvalue()


@pytest.mark.parametrize(
    "manifest",
    [
        b"[",
        b"{}",
        b"[{}]",
        json.dumps([{"Config": "../../etc/passwd", "Layers": []}]).encode(),
        json.dumps([{"Config": "sha256:../../x", "Layers": ["a"]}]).encode(),
        b"[" * 10_000,
    ],
)
def test_lying_archives_are_refused(manifest: bytes, tmp_path: Path) -> None:
    with Store.open(tmp_path / "store") as store:
        with pytest.raises(EngineError):
            docker_archive.load(store, io.BytesIO(_tar({"manifest.json": manifest})))
        assert store.images.list() == ()
