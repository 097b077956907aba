"""The two ends of a build that make no files: the plan from the Dockerfile, and the image's config from the layers."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from builder.errors import EngineError, ImageNotFound, InvalidReference
from builder.pipeline import checking
from builder.pipeline.plan import Plan, PlannedImage, make_plan
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
    from builder.store.images import Image
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

    host = platforms.host(os.uname().machine)

    def bases(reference: str, platform: Platform | None) -> Base:
        image = _image(request, store, reference, (platform, host), fetch)
        contents = tuple(store.snapshots.get(layer).content_digest for layer in image.layers)
        return Base(image.id, reference, image.config, tuple(image.layers), contents, str(platform or ""))

    dockerfile = parsed(request, store)
    plan = make_plan(dockerfile, request, bases, host=host)
    return replace(plan, warnings=(*plan.warnings, *checking.warnings(request, store, dockerfile, plan)))


def _image(
    request: BuildRequest,
    store: Store,
    reference: str,
    wanted: tuple[Platform | None, Platform],
    fetch: Fetch | None,
) -> Image:
    """The image that a name means for the platform that was asked for, or else for the host's.

    One for another platform is taken when its id was given, and when nobody asked for a platform: if the name is that
    of this one image, or of an index for which there is no other.
    """
    platform, host = wanted
    if fetch is not None and request.pull:
        try:
            return store.images.get(fetch(reference, platform))
        except (InvalidReference, ImageNotFound):
            pass  # an image's id
    here = _here(store, reference, platform or host)
    if here is not None and ((platform or host).matches(here.config.platform) or _is_id_of(reference, here)):
        return here
    if here is not None and platform is None and store.images.target(reference, shortest=BASE_ID) == here.id:
        return here
    try:
        if fetch is None or reference.startswith("sha256:"):
            raise ImageNotFound(reference)
        return store.images.get(fetch(reference, platform))
    except EngineError as err:
        if here is None:
            raise
        if platform is None:
            return here
        place = f"{reference} is here for {here.config.platform}, not for {platform}"
        err.hint = f"{place}; {err.hint}" if err.hint else place
        raise


def _is_id_of(reference: str, image: Image) -> bool:
    """Whether it is the image's id, or starts it."""
    return image.id.removeprefix("sha256:").startswith(reference.removeprefix("sha256:"))


def _here(store: Store, reference: str, platform: Platform) -> Image | None:
    """The image of that name in the store, for the platform if there is one for it, else any."""
    for one in (platform, None):
        try:
            return store.images.get(store.images.resolve(reference, platform=one, shortest=BASE_ID))
        except ImageNotFound:
            continue
    return None


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


def image_config(made: PlannedImage, store: Store, layers: Sequence[LayerID]) -> ImageConfig:
    """The config of the image: the plan's, with the digests of *layers* and the times at which they were made.

    A line of history without a layer takes the time of the layer before it (the first new layer's at the start), so
    a build which finds everything in the cache gives the very same image. With an epoch (SOURCE_DATE_EPOCH, unix
    seconds) all lines that are not the base image's have that time.
    """
    from builder.oci import times
    from builder.oci.configs import History

    found = store.snapshots.get_all(layers)
    new = iter(found[len(made.base.layers) if made.base else 0 :])
    created = [None if line.step is None or line.inherited else times.text(next(new).created) for line in made.history]
    inherited = [line.inherited.created for line in made.history if line.inherited and line.inherited.created]
    latest = next((text for text in created if text is not None), inherited[-1] if inherited else None)
    fixed = None if made.epoch is None else times.text(made.epoch * 1_000_000_000)
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
    made: PlannedImage, store: Store, config: ImageConfig, layers: Sequence[LayerID]
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
