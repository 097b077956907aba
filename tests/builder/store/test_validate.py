"""The check that every test of an image makes must itself find what is wrong."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from builder.errors import ImageNotFound, InvalidImage
from builder.oci import digests
from builder.store import Store, validate


def test_a_whole_image_gives_its_config(store: Store, make: Any) -> None:
    image = make.image("one", files={"a": "1"})
    assert validate.image(store, image, full=True) == store.images.get(image).config
    with pytest.raises(ImageNotFound):
        validate.image(store, digests.of(b"none"))


def test_a_layer_that_has_gone_or_changed_is_found(store: Store, make: Any) -> None:
    image = make.image("one", files={"a": "1"})
    path = store.snapshots.path(store.images.layers(image)[0])
    (path / "a").chmod(0o777)
    validate.image(store, image)
    with pytest.raises(InvalidImage, match="content digest"):
        validate.image(store, image, full=True)
    shutil.rmtree(path)
    with pytest.raises(InvalidImage, match="has gone"):
        validate.image(store, image)


def test_a_time_that_changed_is_found_in_the_tar_only(store: Store, make: Any) -> None:
    import os

    image = make.image("one", files={"a": "1"})
    os.utime(store.snapshots.path(store.images.layers(image)[0]) / "a", (1000, 1000))
    with pytest.raises(InvalidImage, match="its tar has digest"):
        validate.image(store, image, full=True)
