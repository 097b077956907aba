"""The caches behind --cache-from and --cache-to.

A source that cannot be read, and an export that fails, are warnings: a cache costs time, never a build. What was asked
for in a way that cannot be meant, or needs what is not installed, is an error before the build.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import EngineError, InvalidInput, TransferError
from builder.oci import cacheconfigs
from parser.redact import hidden

if TYPE_CHECKING:
    from builder.engine.builds import BuildWish
    from builder.engine.options.caches import CacheSpec
    from builder.engine.session import Engine
    from builder.oci.cacheconfigs import CacheEntry
    from builder.oci.digests import DiffID
    from builder.oci.platforms import Platform
    from builder.pipeline.progress import Emit
    from builder.pipeline.request import CacheSource, Travel
    from builder.store.snapshots import LayerID
    from builder.transfer.caches import Place
    from builder.transfer.caches.bucket import Bucket
    from builder.transfer.registry.progress import Emit as TransferEmit


def travel(
    engine: Engine,
    wish: BuildWish,
    undo: ExitStack,
    emit: Emit,
    *,
    platforms: Sequence[Platform],
    pulling: TransferEmit,
) -> Travel | None:
    """What the pipeline is given for a build for `platforms`; connections are closed by `undo`. None when there is
    nothing to do. `pulling` hears what is read.

    Raises InvalidInput and Unsupported for what could never be read or written.
    """
    sources, targets = wish.cache_from, wish.cache_to
    if not sources and not targets:
        return None
    from builder.pipeline.progress import BuildWarning
    from builder.pipeline.request import Travel
    from builder.transfer.caches import open_caches
    from builder.transfer.registry.progress import Message

    for spec in (*sources, *targets):
        if spec.kind == "s3":
            _bucket(engine, spec, wish.environment)
    opened: list[CacheSource] = []
    for spec in sources:
        pulling(Message(f"importing cache manifest from {spec.place}"))
        try:
            place = undo.enter_context(_source(engine, spec, wish.environment, wish.cwd, platforms))
            opened += open_caches(place)
        except EngineError as err:
            emit(BuildWarning(f"importing cache from {spec.place} failed: {err.message}"))
    return Travel(tuple(opened), bool(targets), any(spec.kind == "inline" for spec in targets))


@contextmanager
def _source(
    engine: Engine, spec: CacheSpec, environment: Mapping[str, str], cwd: Path, platforms: Sequence[Platform]
) -> Iterator[Place]:
    if spec.kind == "local":
        from builder.transfer.caches import directory

        tag, digest = spec.options.get("tag", directory.TAG), spec.options.get("digest", "")
        yield directory.Directory(engine.store, cwd / spec.options["src"], tag=tag, digest=digest)
        return
    with _elsewhere(engine, spec, environment, platforms, brief=True) as place:
        yield place


@contextmanager
def _target(engine: Engine, spec: CacheSpec, environment: Mapping[str, str], cwd: Path) -> Iterator[Place]:
    if spec.kind == "local":
        from builder.transfer.caches import directory

        tag = spec.options.get("tag", directory.TAG)
        with directory.written(engine.store, cwd / spec.options["dest"], tag=tag, how=spec.packing) as written:
            yield written
        return
    with _elsewhere(engine, spec, environment) as place:
        yield place


@contextmanager
def _elsewhere(
    engine: Engine,
    spec: CacheSpec,
    environment: Mapping[str, str],
    platforms: Sequence[Platform] = (),
    *,
    brief: bool = False,
) -> Iterator[Place]:
    if spec.kind == "s3":
        yield _bucket(engine, spec, environment)
        return
    from builder.oci.references import Reference
    from builder.transfer.caches.registry import Registry
    from builder.transfer.registry.session import Registries

    reference = Reference.parse(spec.options["ref"])
    insecure = [reference.registry] if spec.truth("registry.insecure") else []
    with Registries(environment, brief=brief, insecure=insecure) as registries:
        yield Registry(engine.store, registries, reference, platforms, how=spec.packing)


def _bucket(engine: Engine, spec: CacheSpec, environment: Mapping[str, str]) -> Bucket:
    """The bucket that is meant. Raises InvalidInput, Unsupported (the extra is not installed)."""
    from builder.engine.options.units import parse_duration
    from builder.transfer.caches import bucket

    options = spec.options
    said = {key: options.get(key) or environment.get(f"AWS_{key.upper()}", "") for key in ("bucket", "region")}
    for key, value in said.items():
        if not value:
            raise InvalidInput(f"{key} ($AWS_{key.upper()}) not set for s3 cache", hint=f"add {key}=")
    jobs = options.get("upload_parallelism", "4")
    if not (jobs.isascii() and jobs.isdigit() and 0 < int(jobs) <= _MOST_UPLOADS):
        raise InvalidInput("upload_parallelism must be a positive integer", hint=f"at most {_MOST_UPLOADS}")
    endpoint = options.get("endpoint_url", "")
    if endpoint and not endpoint.startswith(("http://", "https://")):
        raise InvalidInput(f"invalid endpoint_url {hidden(endpoint)!r}", hint="it begins with https:// or http://")
    place = bucket.Place(
        bucket=said["bucket"],
        region=said["region"],
        names=tuple(filter(None, options.get("name", "").split(";"))) or ("buildkit",),
        prefix=options.get("prefix", ""),
        blobs=options.get("blobs_prefix", "blobs/"),
        manifests=options.get("manifests_prefix", "manifests/"),
        endpoint=endpoint,
        path_style=spec.truth("use_path_style"),
        touch_refresh=parse_duration(options.get("touch_refresh", "24h")) / 1e9,
        jobs=int(jobs),
    )
    keys = (options.get(key, "") for key in ("access_key_id", "secret_access_key", "session_token"))
    return bucket.Bucket(engine.store, place, bucket.Account(*keys), now=engine.clock().timestamp())


_MOST_UPLOADS = 64
EXPORTING = {
    "registry": "exporting cache to registry",
    "local": "exporting cache to client directory",
    "s3": "exporting cache to Amazon S3",
}
"""BuildKit's names of these steps; what is inline goes out with the image."""


def export(
    engine: Engine,
    spec: CacheSpec,
    entries: tuple[CacheEntry, ...],
    own: Container[DiffID],
    environment: Mapping[str, str],
    cwd: Path,
    told: TransferEmit,
) -> None:
    """Write what a build gave to one target; `own` are the layers of the image's own steps, which mode=min keeps to;
    `told` hears of what is sent.

    Raises TransferError, which for most targets is only a warning (`CacheSpec.required`).
    """
    from builder.transfer import caches
    from builder.transfer.registry.progress import Teller

    kept = entries if spec.everything else tuple(each for each in entries if each.layer in own)
    try:
        layers = [_here(engine, each) for each in cacheconfigs.layers(kept)]
        with _target(engine, spec, environment, cwd) as place:
            caches.export(place, kept, layers, Teller(told))
    except (EngineError, OSError) as err:
        text = err.message if isinstance(err, EngineError) else _said(err)
        failed = f"exporting cache to {spec.place} failed: {text}"
        raise TransferError(failed, hint="without ignore-error=false this is a warning") from err


def _said(err: OSError) -> str:
    return f"{err.filename}: {err.strerror}" if err.filename else str(err.strerror or err)


def _here(engine: Engine, diff_id: DiffID) -> LayerID:
    layer = engine.store.snapshots.find(diff_id)
    if layer is None:
        raise EngineError(f"layer {diff_id} has been collected meanwhile")
    return layer.id
