"""Provenance of a build: the SLSA v1 predicate, with BuildKit's definitions of its fields.

`min` says what was built from what, when and by whom; `max` adds the values of build arguments and labels, the ids of
secrets, the Dockerfile and the steps. In neither is a secret: values of `--secret` are taken out wherever they stand,
and so are credentials in URLs.

Rules: slsa.dev/spec/v1.0/provenance, and docs/attestations/slsa-definitions.md of BuildKit, which `buildType` names.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from builder import VERSION
from builder.errors import InvalidReference
from builder.insight.llb import Steps, image_identifier
from builder.oci import digests, purls, times
from builder.oci.descriptors import OCI_CONFIG
from builder.oci.references import Reference
from builder.pipeline.steps import AddStep, BaseStep, CopyStep, RunStep
from parser.redact import hidden
from runtime.values import dataclass

if TYPE_CHECKING:
    from builder.insight.llb import Json
    from builder.oci.descriptors import Descriptor
    from builder.oci.platforms import Platform
    from builder.pipeline.request import BuildRequest, Observed
    from builder.pipeline.steps import Base, FilesOf, StepSpec
    from builder.store.snapshots import LayerID

TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md"
BUILDER = f"pkg:generic/lamina@{VERSION}"
"""Who built, when nobody said under which address it is known."""

HIDDEN = "xxxxx"
SHORTEST = 6
"""Characters of a secret that is looked for: what is shorter stands in words that mean something else."""
_USER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)(?!git@)[^\s/@:\"']+@")
_QUERY = re.compile(
    r"([?&](?:[A-Za-z0-9_.-]*(?:token|secret|signature|password|passwd|credential|api[_-]?key|access[_-]?key)"
    r"[A-Za-z0-9_.-]*|sig|auth|key)=)[^&\s\"'#]+",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Invocation:
    """One build: its id, when it began and ended (ns since the epoch), what it ran on, and how the user named it.

    `source` is the URL of a context that was fetched, "" for one that is here; `builder_id` "" is ours; `secrets` are
    values that must not appear anywhere.
    """

    id: str
    started: int
    finished: int
    host: Platform
    source: str = ""
    builder_id: str = ""
    reproducible: bool = False
    secrets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Known:
    """What the store knows of a build's parts: the digest of the manifest that an image came with, or None; and the
    plain form of a layer."""

    manifest: Callable[[Base], digests.Digest | None]
    layer: Callable[[LayerID], Descriptor]


def predicate(request: BuildRequest, observed: Observed, how: Invocation, known: Known) -> Json:
    """The predicate of one build, as a JSON object with all that `max` has; `shortened` makes `min` of it."""
    reads = _Reads(observed.plan.steps)
    fetched = _fetched(request, observed)
    complete = not _locals(request, how, reads)
    external: Json = {"configSource": _config_source(request, how), "request": _request(request, how, reads)}
    steps, metadata = _steps(request, observed, how, known)
    internal: Json = {"builderPlatform": str(how.host), "buildConfig": {"llbDefinition": steps}}
    definition: Json = {
        "externalParameters": external,
        "internalParameters": internal,
        "resolvedDependencies": [*_images(observed, known), *map(_material, fetched)],
    }
    return {
        "buildDefinition": {"buildType": BUILD_TYPE, **_clean(definition, how.secrets)},
        "runDetails": {
            "builder": {"id": how.builder_id or BUILDER, "version": {"lamina": VERSION}},
            "metadata": {
                "invocationId": how.id,
                "startedOn": times.text(how.started),
                "finishedOn": times.text(how.finished),
                "buildkit_metadata": _clean(metadata, how.secrets),
                "buildkit_hermetic": complete and not reads.network,
                "buildkit_completeness": {"request": True, "resolvedDependencies": complete},
                "buildkit_reproducible": how.reproducible,
            },
        },
    }


def shortened(document: Json) -> Json:
    """*document* as far as `min` has it: without values of build arguments and labels, secrets, Dockerfile, steps."""
    definition, details = _part(document, "buildDefinition"), _part(document, "runDetails")
    external, metadata = _part(definition, "externalParameters"), _part(details, "metadata")
    request = _part(external, "request")
    args = {key: value for key, value in _part(request, "args").items() if not key.startswith(("build-arg:", "label:"))}
    request = {key: value for key, value in request.items() if key not in ("secrets", "ssh")} | {"args": args}
    internal = {key: value for key, value in _part(definition, "internalParameters").items() if key != "buildConfig"}
    complete = _part(metadata, "buildkit_completeness") | {"request": False}
    return {
        "buildDefinition": definition
        | {"externalParameters": external | {"request": request}, "internalParameters": internal},
        "runDetails": details | {"metadata": metadata | {"buildkit_metadata": {}, "buildkit_completeness": complete}},
    }


def _part(document: Json, key: str) -> Json:
    found = document[key]
    assert isinstance(found, dict)
    return found


class _Reads:
    """What the steps of a plan use: contexts by name, secrets and agents with whether they must be there, networks."""

    def __init__(self, steps: Sequence[StepSpec]) -> None:
        self.contexts: dict[str, None] = {}
        self.secrets: dict[str, bool] = {}
        self.agents: dict[str, bool] = {}
        self.network = False
        for step in steps:
            work = step.work
            if isinstance(work, CopyStep | AddStep):
                self._context(work.source)
            elif isinstance(work, RunStep):
                self.network = self.network or work.network != "none"
                for mount, source in zip(work.mounts, work.sources, strict=True):
                    if source is not None:
                        self._context(source)
                    if mount.type in ("secret", "ssh"):
                        found = self.secrets if mount.type == "secret" else self.agents
                        found[mount.id] = found.get(mount.id, False) or mount.required

    def _context(self, source: FilesOf) -> None:
        if source.step is None and source.context is not None:
            self.contexts[source.context] = None


# --- what it was asked for ------------------------------------------------------------------------------------------


def _config_source(request: BuildRequest, how: Invocation) -> Json:
    found: Json = {}
    origin = request.context.origin if request.context is not None else None
    if how.source:
        found["uri"] = origin.uri if origin is not None else how.source
        if origin is not None:
            found["digest"] = _digest(origin.digest)
    # a path of this machine says nothing elsewhere
    name = request.dockerfile_name
    return found | {"path": name.rpartition("/")[2] if name.startswith(("/", "..")) else name}


def _request(request: BuildRequest, how: Invocation, reads: _Reads) -> Json:
    found: Json = {"frontend": "dockerfile.v0", "args": _args(request)}
    for key, ids in (("secrets", reads.secrets), ("ssh", reads.agents)):
        if ids:
            found[key] = [{"id": name} | ({} if needed else {"optional": True}) for name, needed in ids.items()]
    return found | {"locals": [{"name": name} for name in _locals(request, how, reads)]}


def _args(request: BuildRequest) -> Json:
    """The options of the build as BuildKit's frontend is told them."""
    found = {f"build-arg:{name}": value for name, value in request.build_args.items()}
    found |= {f"label:{name}": value for name, value in request.labels}
    for name, value in request.contexts.items():
        if isinstance(value, str):
            found[f"context:{name}"] = value if value.startswith("docker-image://") else f"docker-image://{value}"
        else:
            found[f"context:{name}"] = value.origin.uri if value.origin is not None else f"local:{name}"
    if request.target:
        found["target"] = request.target
    if request.no_cache or request.no_cache_filter:
        found["no-cache"] = "" if request.no_cache else ",".join(request.no_cache_filter)
    if request.network != "default":
        found["force-network-mode"] = request.network
    if request.add_hosts:
        found["add-hosts"] = ",".join(request.add_hosts)
    if request.shm_size is not None:
        found["shm-size"] = str(request.shm_size)
    if request.ulimits:
        found["ulimit"] = ",".join(f"{limit.name}={limit.soft}:{limit.hard}" for limit in request.ulimits)
    return dict(sorted(found.items()))


def _locals(request: BuildRequest, how: Invocation, reads: _Reads) -> tuple[str, ...]:
    """What was read from this machine, which nobody else can look up."""
    found = dict[str, None]()
    for name in reads.contexts:
        value = request.contexts.get(name) if name else request.context
        if value is not None and not isinstance(value, str) and value.origin is None:
            found[name or "context"] = None
    if not how.source and request.dockerfile_origin is None:
        found["dockerfile"] = None
    return tuple(found)


# --- what it was made from ------------------------------------------------------------------------------------------


def _bases(observed: Observed) -> list[Base]:
    works = [step.work for step in observed.plan.steps]
    return list({work.base.image_id: work.base for work in works if isinstance(work, BaseStep)}.values())


def _images(observed: Observed, known: Known) -> list[Json]:
    found: list[Json] = []
    for base in _bases(observed):
        manifest = known.manifest(base)
        try:
            uri = purls.of_image(Reference.parse(base.reference), base.config.platform)
        except InvalidReference:  # named by its id, or a layout
            uri = f"pkg:oci/image?platform={str(base.config.platform).replace('/', '%2F')}"
        entry: Json = {"uri": uri, "digest": _digest(manifest or base.image_id)}
        # An image that never had a manifest is known by its config.
        found.append(entry if manifest is not None else entry | {"mediaType": OCI_CONFIG})
    return found


def _fetched(request: BuildRequest, observed: Observed) -> tuple[Json, ...]:
    """(uri, digest) of all that was fetched, each once."""
    trees = [tree for tree in (request.context, *request.contexts.values()) if tree is not None]
    origins = [tree.origin for tree in trees if not isinstance(tree, str)]
    found = (*origins, request.dockerfile_origin, *observed.fetched)
    return tuple({"uri": one.uri, "digest": one.digest} for one in dict.fromkeys(found) if one is not None)


def _material(one: Mapping[str, object]) -> Json:
    return {"uri": one["uri"], "digest": _digest(str(one["digest"]))}


def _digest(text: str) -> Json:
    algorithm, _, value = text.partition(":")
    return {algorithm: value}


# --- how it went ----------------------------------------------------------------------------------------------------


def _steps(request: BuildRequest, observed: Observed, how: Invocation, known: Known) -> tuple[list[Json], Json]:
    """The steps, and what BuildKit's metadata says of them: the Dockerfile, their places in it, their layers."""
    contexts = {"": "local://context"}
    for name, tree in (("", request.context), *request.contexts.items()):
        if tree is not None and not isinstance(tree, str):
            contexts[name] = tree.origin.uri if tree.origin is not None else f"local://{name or 'context'}"
    steps = Steps(
        observed.plan.images[0].template.platform,
        lambda base: image_identifier(base.reference, known.manifest(base) or base.image_id),
        contexts,
    )
    made = steps.add_all(observed.plan.steps)
    places: Json = {}
    layers: Json = {}
    for step, layer in zip(observed.plan.steps, observed.layers, strict=True):
        name = f"step{steps.numbers[step.number]}"
        if step.span is not None:
            first, last = step.span.start.line, step.span.end.line
            places[name] = {"locations": [{"ranges": [{"start": {"line": first}, "end": {"line": last}}]}]}
        if layer is not None:
            layers[f"{name}:0"] = [[known.layer(layer).to_json()]]
    text = _text(observed.plan.source.text, how.secrets).encode("utf-8", "surrogateescape")
    info = {"filename": request.dockerfile_name.rpartition("/")[2], "language": "Dockerfile"}
    source = {"locations": places, "infos": [info | {"data": b64encode(text).decode()}]}
    return made, {"source": source, "layers": layers}


# --- no secret ------------------------------------------------------------------------------------------------------


def _clean(document: Json, secrets: Sequence[str]) -> Json:
    """*document* without secrets in any of its texts."""

    def clean(value: object) -> object:
        match value:
            case str():
                return _text(value, secrets)
            case dict():
                return _clean(value, secrets)
            case list():
                return [clean(one) for one in value]
            case _:
                return value

    return {key: clean(value) for key, value in document.items()}


def _text(text: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        if len(secret) >= SHORTEST:
            text = text.replace(secret, HIDDEN)
    if "://" in text:
        text = _QUERY.sub(rf"\1{HIDDEN}", _USER.sub(rf"\1{HIDDEN}@", hidden(text)))
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
