"""Documents of one image that contradict each other are found."""

from __future__ import annotations

import pytest

from builder.errors import InvalidDocument, InvalidImage
from builder.oci import descriptors, digests, validate
from builder.oci.configs import History, ImageConfig
from builder.oci.descriptors import Descriptor
from builder.oci.digests import DiffID
from builder.oci.manifests import Manifest

ONE, TWO = DiffID(digests.of(b"1")), DiffID(digests.of(b"2"))
GOOD = ImageConfig("amd64", "linux", diff_ids=(ONE, TWO), history=(History(), History(empty_layer=True), History()))


def test_a_consistent_image_gives_its_config() -> None:
    raw = GOOD.to_json()
    assert validate.image(digests.of(raw), raw, (ONE, TWO)) == GOOD


@pytest.mark.parametrize(
    ("config", "layers", "reason"),
    [
        (GOOD, (ONE,), "2 diff_ids for 1 layers"),
        (GOOD, (TWO, ONE), "layer 0 has diff_id"),
        (GOOD, (ONE, None), "layer 1 has not been hashed"),
        (
            ImageConfig("amd64", "linux", diff_ids=(ONE, TWO), history=(History(),)),
            (ONE, TWO),
            "history tells of 1 layers, there are 2",
        ),
    ],
)
def test_contradictions_are_found(config: ImageConfig, layers: tuple[DiffID | None, ...], reason: str) -> None:
    raw = config.to_json()
    with pytest.raises(InvalidImage) as caught:
        validate.image(digests.of(raw), raw, layers)
    assert reason in caught.value.reason


def test_the_history_of_other_tools_may_say_what_it_likes() -> None:
    config = ImageConfig("amd64", "linux", diff_ids=(ONE, TWO), history=(History(),))
    assert validate.image(digests.of(config.to_json()), config.to_json(), (ONE, TWO), foreign=True) == config


def test_a_config_under_another_id_is_found() -> None:
    with pytest.raises(InvalidImage, match="its config has digest"):
        validate.image(digests.of(b"other"), GOOD.to_json(), (ONE, TWO))
    with pytest.raises(InvalidDocument):
        validate.image(digests.of(b"[]"), b"[]", ())


def test_a_manifest_must_fit_its_config() -> None:
    raw = GOOD.to_json()
    config = Descriptor(descriptors.OCI_CONFIG, digests.of(raw), len(raw))
    layer = Descriptor(descriptors.OCI_LAYER, ONE, 10)
    assert validate.manifest(Manifest(config, (layer, layer)), raw) == GOOD
    with pytest.raises(InvalidImage, match="2 diff_ids for 1 layers"):
        validate.manifest(Manifest(config, (layer,)), raw)
    with pytest.raises(InvalidImage, match="another config"):
        validate.manifest(Manifest(config, (layer, layer)), raw + b" ")
