"""Caches in directories that somebody else has filled: nothing outside of them is read, written or removed."""

import io
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from builder.errors import ArchiveInvalid, DigestMismatch, InvalidInput
from builder.oci import platforms
from builder.oci.cacheconfigs import CacheEntry
from builder.store import Store, tarheaders
from builder.store.snapshots import LayerID
from builder.transfer import caches, importer
from builder.transfer.caches import directory
from builder.transfer.registry.progress import Teller, silent

pytestmark = pytest.mark.root
Export = Callable[[Store], None]


def filled(root: Path, data: bytes) -> tuple[Store, LayerID]:
    """A store with one layer."""
    head = tarheaders.header(b"name", b"0", 0o644, (0, 0), len(data), 0)
    archive = io.BytesIO(head + data + tarheaders.padding(len(data)) + tarheaders.END)
    store = Store.open(root)
    moment, platform = datetime(2024, 1, 1, tzinfo=UTC), platforms.parse("linux/amd64")
    image = importer.import_image(store, archive, created=moment, platform=platform, reference="app")
    return store, store.images.get(image).layers[0]


@pytest.fixture
def cache(tmp_path: Path) -> tuple[Path, Export, CacheEntry]:
    """(a cache of one layer, what writes it again, its entry)."""
    first, layer = filled(tmp_path / "first", b"data")
    diff_id = first.snapshots.get(layer).diff_id
    assert diff_id is not None
    entry = CacheEntry("key", "", "", diff_id)

    def export(store: Store) -> None:
        with directory.written(store, tmp_path / "cache") as place:
            caches.export(place, (entry,), [layer], Teller(silent))

    export(first)
    first.close()
    return tmp_path / "cache", export, entry


def precious(tmp_path: Path) -> Path:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / ("a" * 64)).write_text("precious")
    return tmp_path / "elsewhere"


@pytest.mark.parametrize("inner", ["blobs/sha256", "blobs"])
def test_an_export_removes_nothing_behind_a_symlink(
    tmp_path: Path, cache: tuple[Path, Export, CacheEntry], inner: str
) -> None:
    path, export, _ = cache
    elsewhere = precious(tmp_path)
    if inner == "blobs":
        (elsewhere / "sha256").symlink_to(".")
    os.rename(path / inner, tmp_path / "away")
    (path / inner).symlink_to(elsewhere)
    with Store.open(tmp_path / "first") as store, pytest.raises(InvalidInput, match="is a symlink"):
        export(store)
    assert (elsewhere / ("a" * 64)).read_text() == "precious"


@pytest.mark.parametrize("make", [lambda path: path.symlink_to("../elsewhere/" + "a" * 64), os.mkfifo])
def test_an_export_takes_the_place_of_what_is_no_file(
    tmp_path: Path, cache: tuple[Path, Export, CacheEntry], make: Callable[[Path], None]
) -> None:
    path, export, _ = cache
    elsewhere = precious(tmp_path)
    for file in (path / "index.json", path / "oci-layout"):
        file.unlink()
        make(file)
    with Store.open(tmp_path / "first") as store:
        export(store)
    assert (elsewhere / ("a" * 64)).read_text() == "precious"
    assert (path / "index.json").read_bytes().startswith(b"{") and not (path / "index.json").is_symlink()


@pytest.mark.parametrize("kind", ["outside", "endless", "pipe", "damaged"])
def test_a_blob_that_is_none_is_refused_and_only_a_damaged_one_goes(
    tmp_path: Path, cache: tuple[Path, Export, CacheEntry], kind: str
) -> None:
    path, _, entry = cache
    elsewhere = precious(tmp_path) / ("a" * 64)
    (opened,) = caches.open_caches(directory.Directory(Store.open(tmp_path / "second"), path))
    for blob in (path / "blobs/sha256").iterdir():
        if blob.read_bytes().startswith(b"{"):
            continue
        size = blob.stat().st_size
        blob.unlink()
        match kind:
            case "outside":
                blob.symlink_to(elsewhere)
            case "endless":
                blob.symlink_to("/dev/zero")
            case "pipe":
                os.mkfifo(blob)
            case _:
                blob.write_bytes(bytes(size))
        with pytest.raises((ArchiveInvalid, DigestMismatch)):
            opened.fetch(entry.layer, Teller(silent))
        assert os.path.lexists(blob) is (kind != "damaged")
    assert elsewhere.read_text() == "precious"
