"""Builds that were made before from the same input, remembered whole: the next one is neither parsed nor planned.

What is remembered under a digest of everything that a request says: the images that FROM and --from named, the digest
of every selection from the build's own context, and the outcome. It stands when the names still mean the same images,
the selections have the same digests, and the outcome is whole. Anything else is built in the ordinary way, as is what
looks at more than that (ADD, named contexts, mounts of the context, --no-cache). Losing it costs a few milliseconds.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from builder import VERSION
from builder.errors import EngineError
from builder.oci import platforms
from builder.pipeline.progress import BuildWarning
from builder.pipeline.request import BuiltImage
from builder.store.images import BASE_ID
from parser.redact import has_credentials

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.oci.digests import Digest
    from builder.pipeline.lookup import StepState
    from builder.pipeline.plan import Plan
    from builder.pipeline.request import BuildRequest
    from builder.pipeline.sources import Sources
    from builder.pipeline.steps import StepSpec
    from builder.store import Store
    from builder.store.records import StepRecord

FORMAT = 4
"""Raise it when the same input comes to another outcome."""


class Replay:
    """A remembered outcome. `steps` are [number, name, line, key, identity, layer] of those that the target needs,
    `bases` what FROM and --from named, for which platform, and which image that was; `images` those of the platforms,
    which `image` is the index of, or the only one of."""

    __slots__ = ("bases", "image", "images", "steps", "target", "warnings")

    def __init__(self, known: dict[str, Any]) -> None:
        self.image: Digest = known["image"]
        self.target: str = known["target"]
        self.images = tuple(BuiltImage(image, platforms.parse(text)) for image, text in known["images"])
        self.bases: list[tuple[str, str, str]] = known["bases"]
        self.steps: Sequence[list[object]] = known["steps"]
        self.warnings = tuple(BuildWarning(*one) for one in known["warnings"])

    def numbered(self) -> tuple[tuple[int, str], ...]:
        """(number, name) of each step."""
        return tuple((number, name) for number, name, *_ in self.steps)  # type: ignore[misc]

    def facts(self, request: BuildRequest) -> str:
        """What the build's record says besides, as JSON."""
        return json.dumps(facts(request, self.target))

    def rows(self) -> list[tuple[Any, ...]]:
        """The steps as `store.outcomes` keeps them."""
        return [
            (number, name, key, identity, layer, json.dumps({"line": line}))
            for number, name, line, key, identity, layer in self.steps
        ]

    def records(self, build: str, now: float) -> list[StepRecord]:
        """The steps as records of *build*; *now* in unix seconds."""
        from builder.store.records import StepRecord

        moment = int(now * 1e9)
        return [
            StepRecord(
                build=build,
                number=number,  # type: ignore[arg-type]
                name=name,  # type: ignore[arg-type]
                status="cached",
                key=key,  # type: ignore[arg-type]
                step=identity,  # type: ignore[arg-type]
                layer=layer,  # type: ignore[arg-type]
                started=moment,
                finished=moment,
                exit_code=None,
                facts={"line": line},
            )
            for number, name, line, key, identity, layer in self.steps
        ]


def remember(
    request: BuildRequest,
    store: Store,
    plan: Plan,
    states: Sequence[StepState],
    top: Digest,
    images: Sequence[BuiltImage],
) -> Replay | None:
    """Keep what *request* came to, if `recall` could tell whether it still holds; None when it could not."""
    if not _suits(request):
        return None
    from builder.pipeline import lookup
    from builder.pipeline.steps import BaseStep, CopyStep, RunStep, WorkdirStep

    selections: list[tuple[list[object], str]] = []
    for step, state in zip(plan.steps, states, strict=True):
        work = step.work
        if isinstance(work, CopyStep):
            if work.source.step is None:
                if work.source.context != "" or state.selection is None:
                    return None
                selections.append((_plain(work), state.selection.digest))
        elif isinstance(work, RunStep):
            if any(source is not None and source.step is None for source in work.sources):
                return None
        elif not isinstance(work, WorkdirStep | BaseStep):
            return None
    steps = [
        _listed(step, states)
        for step in lookup.needed(plan, lookup.found(states))
        if not isinstance(step.work, BaseStep)
    ]
    if any(step[-1] is None for step in steps):
        return None
    data: dict[str, Any] = {
        "bases": [(base.reference, base.platform, base.image_id) for base in plan.bases],
        "selections": selections,
        "image": top,
        "images": [(image.id, str(image.platform)) for image in images],
        "target": plan.target,
        "steps": steps,
        "warnings": [[one.message, one.line, one.detail, one.url, one.last] for one in plan.warnings],
    }
    store.files.put_parsed(_key(request), json.dumps(data).encode())
    return Replay(data)


def recall(request: BuildRequest, store: Store, sources: Sources) -> Replay | None:
    """What *request* comes to, when it was built before and nothing has changed since; the image is leased.

    Raises what looking at the context raises."""
    if not _suits(request):
        return None
    data = store.files.get_parsed(_key(request))
    if data is None:
        return None
    known = json.loads(data)
    try:
        if any(_resolved(store, reference, text) != image for reference, text, image in known["bases"]):
            return None
        for image, _ in known["images"]:
            store.images.use(image)
            store.snapshots.get_all(store.images.layers(image))
        if request.indexed:
            store.indexes.use(known["image"])
    except EngineError:
        return None  # an image or a layer has gone: the ordinary way says so, or makes it again
    if known["selections"]:
        from builder.pipeline.copy_step import CopySpec, InlineFile

        tree = sources.context("")
        for (texts, flags, inline), digest in known["selections"]:
            named: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value for name, value in texts.items()
            }
            files = tuple(InlineFile(name, content.encode("utf-8", "surrogateescape")) for name, content in inline)
            if sources.copy(CopySpec(**named, **flags, inline=files), tree).digest != digest:
                return None
    return Replay(known)


def _resolved(store: Store, reference: str, platform: str) -> Digest:
    wanted = platforms.parse(platform) if platform else None
    return store.images.resolve(reference, platform=wanted, shortest=BASE_ID)


def facts(request: BuildRequest, target: str) -> dict[str, str]:
    """What the record of every build says besides of how it went."""
    said = {"target": target, "context": request.description, "dockerfile": request.dockerfile_name}
    if request.platforms:
        said["platforms"] = ",".join(map(str, request.platforms))
    return said


def _suits(request: BuildRequest) -> bool:
    exports = request.travel is not None and request.travel.export
    if request.pull or request.no_cache or request.no_cache_filter or request.contexts or exports:
        return False
    return not has_credentials(request.dockerfile)  # nothing of such a file is remembered


def _plain(work: object) -> list[object]:
    """A CopySpec as JSON can hold it."""
    from builder.pipeline.steps import CopyStep

    assert isinstance(work, CopyStep)
    spec = work.spec
    texts = {name: getattr(spec, name) for name in ("sources", "dest", "workdir", "chown", "chmod", "exclude")}
    flags = {name: getattr(spec, name) for name in ("parents", "link", "unpack")}
    inline = [(one.name, one.content.decode("utf-8", "surrogateescape")) for one in spec.inline]
    return [texts, flags, inline]


def _listed(step: StepSpec, states: Sequence[StepState]) -> list[object]:
    state = states[step.number - 1]
    line = step.span.start.line if step.span is not None else 0
    return [step.number, step.name, line, state.key, state.step, state.layers[-1] if state.layers else None]


def _key(request: BuildRequest) -> str:
    """A digest of all that a request says of the outcome; secrets are in no key, and names of tags do not matter."""
    parts = (
        FORMAT,
        VERSION,
        request.dockerfile_name,
        request.description,
        sorted(request.build_args.items()),
        sorted(request.proxies.items()),
        request.target,
        request.labels,
        request.context.matcher.patterns if request.context is not None and request.context.matcher else (),
        request.network,
        request.add_hosts,
        request.shm_size,
        [(limit.name, limit.soft, limit.hard) for limit in request.ulimits],
        [str(platform) for platform in request.platforms],
        (request.rewrite_timestamps, request.squash, request.max_layers, request.single_id, request.context_epoch),
        sorted(request.allow),
    )
    text = repr(parts).encode("utf-8", "surrogateescape")
    return hashlib.sha256(b"build\0%d\0" % len(text) + text + request.dockerfile).hexdigest()
