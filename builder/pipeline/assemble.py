"""The two ends of a build that make no files: the plan from the Dockerfile, and the image's config from the layers."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from builder.errors import ImageNotFound, InvalidReference
from builder.pipeline import checking
from builder.pipeline.plan import Plan, make_plan
from builder.pipeline.steps import Base
from builder.store.images import BASE_ID
from parser.redact import has_credentials
from runtime.values import replace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from builder.oci.configs import History, ImageConfig
    from builder.oci.digests import DiffID, Digest
    from builder.oci.platforms import Platform
    from builder.pipeline.request import BuildRequest
    from builder.store import Store
    from builder.store.snapshots import LayerID
    from parser.instructions import Dockerfile

    Fetch = Callable[[str, Platform | None], Digest]

COMMENT = "buildkit.dockerfile.v0"
"""The comment of history lines; tools tell by it that "created_by" is an instruction."""


def planned(request: BuildRequest, store: Store, fetch: Fetch | None = None) -> Plan:
    """The plan of *request* with the images of *store* and what the checks say; *fetch* brings images that are not
    there, or all of them when the request says so.

    Raises as `make_plan`, ChecksFailed, and what *fetch* raises.
    """
    from builder.oci import platforms

    def bases(reference: str, platform: Platform | None) -> Base:
        image = store.images.get(_image(request, store, reference, platform or request.platform, fetch))
        contents = tuple(store.snapshots.get(layer).content_digest for layer in image.layers)
        return Base(image.id, reference, image.config, tuple(image.layers), contents)

    dockerfile = parsed(request, store)
    plan = make_plan(dockerfile, request, bases, host=platforms.host(os.uname().machine))
    return replace(plan, warnings=(*plan.warnings, *checking.warnings(request, store, dockerfile, plan)))


def _image(
    request: BuildRequest, store: Store, reference: str, platform: Platform | None, fetch: Fetch | None
) -> Digest:
    if fetch is not None and request.pull:
        try:
            return fetch(reference, platform)
        except (InvalidReference, ImageNotFound):
            pass  # an image's id
    try:
        return store.images.resolve(reference, shortest=BASE_ID)
    except ImageNotFound:
        if fetch is None or reference.startswith("sha256:"):
            raise
    return fetch(reference, platform)


def parsed(request: BuildRequest, store: Store) -> Dockerfile:
    """The Dockerfile as instructions, from the store when this very text was parsed before. Raises DockerfileError."""
    import parser
    from parser import serialize
    from parser.source import Source

    key = hashlib.sha256(parser.VERSION.encode() + b"\0" + request.dockerfile).hexdigest()
    known = store.files.get_parsed(key)
    if known is not None:
        try:
            return serialize.loads(known, Source.of(request.dockerfile, name=request.dockerfile_name))
        except ValueError:
            pass  # from another version of the program: parse again
    dockerfile = parser.parse(request.dockerfile, name=request.dockerfile_name)
    if not has_credentials(request.dockerfile):
        store.files.put_parsed(key, serialize.dumps(dockerfile))
    return dockerfile


def image_config(made: Plan, store: Store, layers: Sequence[LayerID], *, epoch: int | None = None) -> ImageConfig:
    """The config of the image: the plan's, with the digests of *layers* and the times at which they were made.

    A line of history without a layer takes the time of the layer before it (the first new layer's at the start), so
    a build which finds everything in the cache gives the very same image. With *epoch* (SOURCE_DATE_EPOCH, unix
    seconds) all lines that are not the base image's have that time.
    """
    from builder.oci import times
    from builder.oci.configs import History

    found = store.snapshots.get_all(layers)
    new = iter(found[len(made.base.layers) if made.base else 0 :])
    created = [None if line.step is None or line.inherited else times.text(next(new).created) for line in made.history]
    inherited = [line.inherited.created for line in made.history if line.inherited and line.inherited.created]
    latest = next((text for text in created if text is not None), inherited[-1] if inherited else None)
    fixed = None if epoch is None else times.text(epoch * 1_000_000_000)
    history: list[History] = []
    for line, moment in zip(made.history, created, strict=True):
        if line.inherited is not None:
            history.append(line.inherited)
            continue
        latest = fixed or moment or latest
        history.append(
            History(created=latest, created_by=line.created_by, comment=COMMENT, empty_layer=line.step is None)
        )
    diff_ids = tuple(layer.diff_id for layer in found if layer.diff_id is not None)
    return replace(made.template, diff_ids=diff_ids, history=tuple(history), created=fixed or latest)


def squashed(
    made: Plan, store: Store, config: ImageConfig, layers: Sequence[LayerID]
) -> tuple[ImageConfig, tuple[LayerID, ...]]:
    """The image with one layer for all that is above its base, and a line of history that says so, as docker does.

    Without any new layer it stays as it is.
    """
    from builder.oci import digests
    from builder.oci.configs import History
    from builder.store import derived

    base = len(made.base.layers) if made.base else 0
    if len(layers) == base:
        return config, tuple(layers)
    one = derived.merged(store, layers[base:], bottom=base == 0)
    kept = (*layers[:base], one)
    whole = digests.of(config.to_json())
    comment = f"merge {whole} to {made.base.image_id}" if made.base else f"create new from {whole}"
    old = sum(line.inherited is not None for line in made.history)
    history = (
        *config.history[:old],
        *(replace(line, empty_layer=True) for line in config.history[old:]),
        History(created=config.created, comment=comment),
    )
    return replace(config, history=history, diff_ids=_diff_ids(store, kept)), kept


def slimmed(
    store: Store, config: ImageConfig, layers: Sequence[LayerID], most: int
) -> tuple[ImageConfig, tuple[LayerID, ...]]:
    """The image with at most *most* layers, adjacent ones merged where that is cheapest."""
    if len(layers) <= most:
        return config, tuple(layers)
    from builder.oci import mutate
    from builder.store import derived

    counts = derived.groups([layer.size or 0 for layer in store.snapshots.get_all(layers)], most)
    kept = derived.grouped(store, layers, counts)
    return mutate.regrouped(config, counts, _diff_ids(store, kept)), kept


def _diff_ids(store: Store, layers: Sequence[LayerID]) -> tuple[DiffID, ...]:
    return tuple(layer.diff_id for layer in store.snapshots.get_all(layers) if layer.diff_id is not None)
