"""Changes of image configs, each giving a new value: configs are immutable."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builder.oci.configs import ContainerConfig, History, ImageConfig
    from builder.oci.digests import DiffID
    from builder.oci.platforms import Platform


def empty(platform: Platform) -> ImageConfig:
    """The config of FROM scratch."""
    from builder.oci.configs import ImageConfig

    return ImageConfig(
        architecture=platform.architecture,
        os=platform.os,
        variant=platform.variant,
        os_version=platform.os_version,
        os_features=platform.os_features,
    )


def append(config: ImageConfig, diff_id: DiffID | None, history: History) -> ImageConfig:
    """`config` with one more step: a layer on top, or (None) a history line without one.

    `history.empty_layer` is set to say the same, and `created` of the config becomes the step's.
    """
    return replace(
        config,
        diff_ids=config.diff_ids if diff_id is None else (*config.diff_ids, diff_id),
        history=(*config.history, replace(history, empty_layer=diff_id is None)),
        created=history.created if history.created is not None else config.created,
    )


def with_config(config: ImageConfig, container: ContainerConfig) -> ImageConfig:
    """`config` for containers that start with `container`."""
    return replace(config, config=container)
