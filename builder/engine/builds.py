"""Builds: from what the user typed to a BuildRequest for the pipeline, and the scratch directories in between."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from builder.errors import ContextError, InvalidInput, InvalidReference, TransferError
from runtime.values import dataclass, field

if TYPE_CHECKING:
    from builder.engine.options.attestations import AttestationWish
    from builder.engine.options.caches import CacheSpec
    from builder.engine.options.limits import Ulimit
    from builder.engine.options.outputs import Output
    from builder.engine.outputs import Listener
    from builder.engine.session import Engine
    from builder.oci.descriptors import Descriptor
    from builder.oci.digests import Digest
    from builder.pipeline.context import Context, LayoutSource
    from builder.pipeline.progress import Emit
    from builder.pipeline.request import BuildRequest, BuildResult, Forecast, Travel
    from builder.pipeline.schedule import Together
    from builder.pipeline.trees import Tree
    from builder.store.attestations import Predicate
    from builder.transfer.registry.progress import Emit as PullEmit
    from runtime.spec import Resources


@dataclass(frozen=True, slots=True)
class BuildWish:
    """A build as it was asked for: contexts and Dockerfile are still names.

    `source` is a directory, "-" or a URL; `contexts` are (name, value) of `--build-context`; a secret is (id, file,
    value) with one of the two set; an ssh entry is (id, socket). No outputs are the one of `docker build`: the store.
    """

    source: str
    cwd: Path
    dockerfile: str | None = None
    build_args: Mapping[str, str] = field(default_factory=dict)
    contexts: tuple[tuple[str, str], ...] = ()
    target: str = ""
    tags: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    pull: bool = False
    no_cache: bool = False
    no_cache_filter: tuple[str, ...] = ()
    network: str = "default"
    add_hosts: tuple[str, ...] = ()
    shm_size: int | None = None
    ulimits: tuple[Ulimit, ...] = ()
    resources: Resources | None = None
    cgroup_parent: str = ""
    platforms: tuple[str, ...] = ()
    secrets: tuple[tuple[str, Path | None, bytes | None], ...] = ()
    ssh: tuple[tuple[str, Path], ...] = ()
    allow: frozenset[str] = frozenset()
    environment: Mapping[str, str] = field(default_factory=dict)
    proxies: Mapping[str, str] = field(default_factory=dict)
    outputs: tuple[Output, ...] = ()
    squash: bool = False
    max_layers: int = 0
    asked: str = ""
    """See BuildRequest."""
    cache_from: tuple[CacheSpec, ...] = ()
    cache_to: tuple[CacheSpec, ...] = ()
    attestations: AttestationWish | None = None


@dataclass(frozen=True, slots=True)
class Built:
    """A build that ended well: its result, the manifest that an output wrote last, all names that were given, and
    what was attested of each of its images (() for nothing)."""

    result: BuildResult
    descriptor: Descriptor | None = None
    names: tuple[str, ...] = ()
    predicates: tuple[tuple[Predicate, ...], ...] = ()


def problems() -> tuple[type[Exception], ...]:
    """What a build fails with for reasons of the world."""
    from builder.errors import EngineError
    from parser.errors import DockerfileError
    from runtime.errors import ContainerError

    return (EngineError, DockerfileError, ContainerError)


def build(
    engine: Engine,
    wish: BuildWish,
    *,
    stdin: BinaryIO | None,
    emit: Emit,
    stdout: Callable[[bytes], object] | None,
    pulling: PullEmit = str,
    together: Together | None = None,
    keep: bool = False,
) -> Built:
    """Build, tag, and write the outputs; images that are missing are pulled, which `pulling` hears of.

    `together` are the builds that it belongs to. `keep` an image that no output wants in the store: its caller forgets
    it. Raises what `problems` names, KeyboardInterrupt, OSError.
    """
    from builder.engine.registries import puller
    from builder.pipeline import build as pipeline

    with ExitStack() as undo:
        request = request_for(engine, wish, stdin, undo, emit, pulling)

        def clock() -> float:
            return engine.clock().timestamp()

        fetch = puller(engine, wish.environment, pulling)
        if not wish.outputs and wish.attestations is None and not wish.cache_to:
            result = pipeline.build(
                request, engine.store, engine.launcher, clock=clock, emit=emit, fetch=fetch, together=together
            )
            return Built(result, _described(engine, result), result.tags)
        from builder.engine import outputs
        from builder.engine.options.outputs import STORE, OutputType

        listener, started = outputs.Listener(emit), engine.store.clock()
        result = pipeline.build(
            request, engine.store, engine.launcher, clock=clock, emit=listener, fetch=fetch, together=together
        )
        _export_cache(engine, wish, result, listener)
        attested: tuple[tuple[Predicate, ...], ...] = ()
        if wish.attestations is not None:
            from builder.engine import attestations

            attested = attestations.attest(engine, wish, request, result, listener)
        where, asked = (wish.cwd, stdout), wish.outputs or (STORE,)
        beside: outputs.Beside = ()
        if any(attested) and any(output.type in (OutputType.LOCAL, OutputType.TAR) for output in asked):
            beside = attestations.beside(engine, wish, result, attested)
        descriptor = outputs.export(engine, asked, result, listener, where, wish.environment, beside)
        stored = any(output.stored for output in asked)
        if not stored and not keep:
            forget(engine, result, started)
        listener.finish(stored=stored)
        names = _names(wish) if wish.outputs else result.tags
        return Built(result, descriptor or _described(engine, result), names, attested)


def _described(engine: Engine, result: BuildResult) -> Descriptor | None:
    """The index in the store, if that is what was made."""
    found = engine.store.indexes.find(result.image_id) if result.indexed else None
    return None if found is None else found.describe()


def forget(engine: Engine, result: BuildResult, started: int) -> None:
    """Images that were made only for others, or for outputs, go, unless they were there before `started` (ns)."""
    if result.indexed:
        engine.store.indexes.forget_unnamed(result.image_id)
    for image in result.images:
        if engine.store.images.get(image.id).created >= started:
            engine.store.images.forget_unnamed(image.id)


def _export_cache(engine: Engine, wish: BuildWish, result: BuildResult, listener: Listener) -> None:
    if wish.cache_to:
        from builder.engine import caches
        from builder.pipeline.progress import BuildWarning

        for spec in wish.cache_to:
            if spec.kind not in caches.EXPORTING:
                continue
            try:
                with listener.step(caches.EXPORTING[spec.kind], engine.clock) as number:
                    told = listener.transfer(number, engine.clock)
                    caches.export(engine, spec, result.cache, result.own, wish.environment, wish.cwd, told)
            except TransferError as err:
                if spec.required:
                    raise
                listener(BuildWarning(err.message))


def plan(engine: Engine, wish: BuildWish, *, stdin: BinaryIO | None) -> tuple[Forecast, ...]:
    """What `build` would do, without doing it. Raises as `build`."""
    from builder.pipeline import build as pipeline

    with ExitStack() as undo:
        return pipeline.plan(request_for(engine, wish, stdin, undo), engine.store)


def request_for(
    engine: Engine,
    wish: BuildWish,
    stdin: BinaryIO | None,
    undo: ExitStack,
    emit: Emit | None = None,
    pulling: PullEmit = str,
) -> BuildRequest:
    """The request that `wish` is; without `emit` (nothing will run) no cache of another machine is looked at.

    `undo` closes what is opened for it. Raises as `build`."""
    from builder.oci import platforms
    from builder.oci.references import Reference
    from builder.pipeline import request as r
    from runtime.seccomp import single_id

    for tag in (*wish.tags, *(name for output in wish.outputs for name in output.names)):
        try:
            Reference.parse(tag)  # a name that is not valid must not be found out after the build
        except InvalidReference as err:
            raise InvalidReference(tag, message=f'invalid tag "{tag}": {err.message}') from err
    for tag in (name for output in wish.outputs if output.by_digest for name in output.names):
        if Reference.parse(tag).tag:
            raise InvalidInput(f"can't push tagged ref {tag} by digest", hint="name the repository without a tag")

    if wish.attestations is not None and wish.attestations.sbom is not None:
        from builder.insight import sbom

        sbom.require(wish.attestations.sbom.formats)
    host = platforms.host(os.uname().machine)
    wanted = platforms.parse_all(wish.platforms, host=host)
    main, named = open_contexts(engine, wish, stdin, undo)
    travel: Travel | None = None
    if emit is not None and (wish.cache_from or wish.cache_to):
        from builder.engine import caches

        travel = caches.travel(engine, wish, undo, emit, platforms=wanted or (host,), pulling=pulling)
    request = r.BuildRequest(
        dockerfile=main.dockerfile,
        dockerfile_name=main.dockerfile_name,
        context=main.tree,
        dockerfile_origin=main.dockerfile_origin,
        contexts=named,
        description=str(main.tree.path or wish.source),
        build_args=_build_args(wish, main.epoch),
        context_epoch=main.epoch,
        target=wish.target,
        tags=_tags(wish),
        labels=wish.labels,
        pull=wish.pull,
        no_cache=wish.no_cache,
        no_cache_filter=wish.no_cache_filter,
        network=wish.network,
        add_hosts=wish.add_hosts,
        shm_size=wish.shm_size,
        ulimits=tuple(r.Ulimit(each.name, each.soft, each.hard) for each in wish.ulimits),
        resources=wish.resources,
        cgroup_parent=wish.cgroup_parent,
        platforms=wanted,
        secrets=tuple(r.Secret(name, path, value) for name, path, value in wish.secrets),
        ssh=tuple(r.SshAgent(name, socket) for name, socket in wish.ssh),
        allow=wish.allow,
        environment=wish.environment,
        proxies=wish.proxies,
        rewrite_timestamps=all(output.rewrite is not False for output in wish.outputs),
        squash=wish.squash,
        max_layers=wish.max_layers,
        travel=travel,
        single_id=single_id(),
        observe=wish.attestations is not None and wish.attestations.provenance is not None,
        asked=wish.asked,
    )
    if wish.outputs:
        from builder.engine.options.outputs import check_indexed

        check_indexed(wish.outputs, indexed=request.indexed, attested=bool(wish.attestations))
    return request


def open_contexts(
    engine: Engine, wish: BuildWish, stdin: BinaryIO | None, undo: ExitStack
) -> tuple[Context, dict[str, Tree | str]]:
    """The build's own context and the named ones; *undo* closes them. Raises what opening them raises."""
    from builder.pipeline import context as contexts

    def scratch() -> Path:
        # In the store: what a killed build leaves there, the next command removes.
        return undo.enter_context(engine.store.scratch())

    main = contexts.open_context(
        wish.source,
        dockerfile=wish.dockerfile,
        stdin=stdin,
        scratch=scratch,
        cwd=wish.cwd,
        build_args=wish.build_args,
        environment=wish.environment,
    )
    undo.callback(main.close)
    named: dict[str, contexts.Tree | str] = {}
    for name, value in wish.contexts:
        source = contexts.open_named(name, value, scratch=scratch, cwd=wish.cwd, environment=wish.environment)
        if isinstance(source, contexts.Tree):
            undo.callback(source.close)
            named[name] = source
        elif isinstance(source, contexts.ImageSource):
            named[name] = source.reference
        elif isinstance(source, contexts.LayoutSource):
            named[name] = _layout_image(engine, source, wish.platforms, undo)
        else:
            raise ContextError(
                f"unsupported context source target for {name}", hint="bake builds targets that need each other"
            )
    return main, named


def _layout_image(engine: Engine, source: LayoutSource, wanted: tuple[str, ...], undo: ExitStack) -> Digest:
    """The id of the image of an OCI layout, in the store for as long as the build; an index for several."""
    from builder.oci import platforms
    from builder.transfer import layout_in

    started = engine.store.clock()
    host = platforms.host(os.uname().machine)
    images = []
    for platform in platforms.parse_all(wanted, host=host) or (host,):
        image = layout_in.read_image(engine.store, source.path, tag=source.tag, digest=source.digest, platform=platform)
        engine.store.images.use(image)
        if engine.store.images.get(image).created >= started:
            undo.callback(engine.store.images.forget_unnamed, image)
        images.append(image)
    return images[0] if len(images) == 1 else engine.store.indexes.make(images)


def _names(wish: BuildWish) -> tuple[str, ...]:
    from builder.oci.references import Reference

    whole = {name for output in wish.outputs if output.by_digest for name in output.names}
    named = dict.fromkeys(name for output in wish.outputs for name in output.names or (wish.tags * output.stored))
    parsed = {name: Reference.parse(name) for name in named}
    return tuple((each if name in whole else each.tagged()).familiar() for name, each in parsed.items())


def _tags(wish: BuildWish) -> tuple[str, ...]:
    """The names that the image gets in the store: those of its outputs, or else `-t`; none if it does not go there."""
    if not wish.outputs:
        return wish.tags
    stored = [output for output in wish.outputs if output.stored and not output.by_digest]
    return tuple(dict.fromkeys(name for output in stored for name in output.names or wish.tags))


def _build_args(wish: BuildWish, made: int | None) -> Mapping[str, str]:
    """The build arguments, with the time that an output asks for where the user has said no other.

    SOURCE_DATE_EPOCH=context is when the context was `made`; a local one leaves it unset, as BuildKit does."""
    epochs = [output.epoch for output in wish.outputs if output.epoch]
    arguments = {"SOURCE_DATE_EPOCH": epochs[0], **wish.build_args} if epochs else dict(wish.build_args)
    if arguments.get("SOURCE_DATE_EPOCH") == "context":
        del arguments["SOURCE_DATE_EPOCH"]
        if made is not None:
            arguments["SOURCE_DATE_EPOCH"] = str(made)
    return arguments
