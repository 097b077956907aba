"""Images copied between stores are the same images, also those whose layers came from elsewhere."""

from __future__ import annotations

import io
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from builder.oci import platforms
from builder.store import Store, validate
from builder.transfer import docker_archive, duplicate, importer

pytestmark = pytest.mark.root


def foreign() -> bytes:
    """A tar as we would not write it: its bytes come back by a recipe."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name in ("b", "a"):
            member = tarfile.TarInfo(name)
            member.size, member.uname = 1, "somebody"
            archive.addfile(member, io.BytesIO(b"x"))
    return out.getvalue()


def test_an_image_is_the_same_in_the_other_store(tmp_path: Path) -> None:
    with Store.open(tmp_path / "one") as one, Store.open(tmp_path / "two") as two:
        image = importer.import_image(
            one,
            io.BytesIO(foreign()),
            created=datetime(2024, 1, 1, tzinfo=UTC),
            platform=platforms.host("x86_64"),
            reference="app:1",
        )
        for _ in range(2):
            duplicate.copy_image(one, two, image, "other")
        assert two.images.resolve("app:1") == two.images.resolve("other") == image
        validate.image(two, image, full=True)
        archives = []
        for store in (one, two):
            out = io.BytesIO()
            docker_archive.save(store, ["app:1"], out.write)
            archives.append(out.getvalue())
        assert archives[0] == archives[1]
        assert two.fsck(full=True) == ()
