"""Changes of image configs, each giving a new value: configs are immutable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.values import replace

if TYPE_CHECKING:
    from collections.abc import Sequence

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


def complete(config: ImageConfig) -> ImageConfig:
    """`config` with a history that tells of as many layers as there are.

    Images of other tools may have no history, or one that fits badly, and run all the same; what is built on them would
    inherit that. Missing lines are added after those that are there, as BuildKit does; surplus ones have no layer.
    """
    surplus = sum(not entry.empty_layer for entry in config.history) - len(config.diff_ids)
    if surplus == 0:
        return config
    if surplus < 0:
        from builder.oci.configs import History

        missing = History(created=config.created, comment="layer without a line of history")
        return replace(config, history=(*config.history, *(missing,) * -surplus))
    history = list(config.history)
    for position in reversed(range(len(history))):
        if surplus and not history[position].empty_layer:
            history[position] = replace(history[position], empty_layer=True)
            surplus -= 1
    return replace(config, history=tuple(history))


def append(config: ImageConfig, diff_id: DiffID | None, history: History) -> ImageConfig:
    """`config`, made `complete`, with one more step: a layer on top, or (None) a history line without one.

    `history.empty_layer` is set to say the same, and `created` of the config becomes the step's.
    """
    config = complete(config)
    return replace(
        config,
        diff_ids=config.diff_ids if diff_id is None else (*config.diff_ids, diff_id),
        history=(*config.history, replace(history, empty_layer=diff_id is None)),
        created=history.created if history.created is not None else config.created,
    )


def with_config(config: ImageConfig, container: ContainerConfig) -> ImageConfig:
    """`config` for containers that start with `container`."""
    return replace(config, config=container)


def regrouped(config: ImageConfig, counts: Sequence[int], diff_ids: Sequence[DiffID]) -> ImageConfig:
    """`config` after groups of adjacent layers have become one each: `counts` layers, bottom first, are now `diff_ids`.

    The last line of history of a group keeps the layer, the earlier ones say that they have none.
    """
    config = complete(config)
    keeps: set[int] = set()
    at = -1
    for count in counts:
        at += count
        keeps.add(at)
    history, layer = [], 0
    for line in config.history:
        if not line.empty_layer:
            line = line if layer in keeps else replace(line, empty_layer=True)
            layer += 1
        history.append(line)
    return replace(config, history=tuple(history), diff_ids=tuple(diff_ids))
