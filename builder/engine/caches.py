"""--cache-from and --cache-to: what they say, and the caches behind them.

A source that cannot be read, and an export that fails, are warnings: a cache costs time, never a build.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import EngineError, InvalidInput
from builder.oci import cacheconfigs
from runtime.values import dataclass

if TYPE_CHECKING:
    from builder.engine.session import Engine
    from builder.oci.cacheconfigs import CacheEntry
    from builder.oci.digests import DiffID
    from builder.pipeline.progress import Emit
    from builder.pipeline.travel import CacheSource, Travel
    from builder.store.snapshots import LayerID

_FROM = {"registry": {"ref"}, "local": {"src", "tag", "digest"}}
_TO = {
    "registry": {"ref", "mode", "ignore-error", "image-manifest", "oci-mediatypes", "compression"},
    "local": {"dest", "tag", "mode", "ignore-error", "image-manifest", "oci-mediatypes", "compression"},
    "inline": set[str](),
}


@dataclass(frozen=True, slots=True)
class CacheSpec:
    """One --cache-from or --cache-to as it was read."""

    kind: str
    options: Mapping[str, str]

    @property
    def everything(self) -> bool:
        """mode=max: all steps, not only those of the image."""
        return self.options.get("mode", "min") == "max"


def parse_from(text: str) -> CacheSpec:
    """Read `type=registry,ref=…`, `type=local,src=…`, or a bare reference. Raises InvalidInput."""
    return _parse(text, _FROM, {"registry": "ref", "local": "src"}, "--cache-from")


def parse_to(text: str) -> CacheSpec:
    """Read `type=registry,ref=…`, `type=local,dest=…`, `type=inline`, or a bare reference. Raises InvalidInput."""
    spec = _parse(text, _TO, {"registry": "ref", "local": "dest"}, "--cache-to")
    if spec.options.get("mode", "min") not in ("min", "max"):
        raise InvalidInput(f"--cache-to: invalid mode {spec.options['mode']!r}", hint="min or max")
    if spec.options.get("compression", "gzip") != "gzip":
        raise InvalidInput("--cache-to: the layers of a cache are packed with gzip, as those of images are")
    return spec


def _parse(text: str, known: Mapping[str, set[str]], needed: Mapping[str, str], flag: str) -> CacheSpec:
    (fields,) = list(csv.reader([text])) or [[]]
    if fields and all("=" not in field for field in fields):
        return CacheSpec("registry", {"ref": text})
    options: dict[str, str] = {}
    for field in fields:
        key, equals, value = field.partition("=")
        if not equals:
            raise InvalidInput(f"{flag}: invalid value {field}", hint="expected key=value, separated by commas")
        options[key.strip().lower()] = value
    kind = options.pop("type", "")
    if not kind:
        raise InvalidInput(f"{flag}: type required form> {text!r}", hint=f"one of {', '.join(known)}")
    if kind not in known:
        raise InvalidInput(f"{flag}: unknown cache type {kind!r}", hint=f"there are {', '.join(known)}")
    unknown = sorted(set(options) - known[kind])
    if unknown:
        raise InvalidInput(
            f"{flag}: type={kind} has no option {unknown[0]!r}",
            hint=f"it has {', '.join(sorted(known[kind])) or 'none'}",
        )
    if kind in needed and not options.get(needed[kind]):
        raise InvalidInput(f"{flag}: type={kind} needs {needed[kind]}=")
    return CacheSpec(kind, options)


def travel(
    engine: Engine,
    sources: Sequence[CacheSpec],
    targets: Sequence[CacheSpec],
    environment: Mapping[str, str],
    cwd: Path,
    undo: ExitStack,
    emit: Emit,
) -> Travel | None:
    """What the pipeline is given; connections are closed by `undo`. None when there is nothing to do."""
    if not sources and not targets:
        return None
    from builder.pipeline.progress import BuildWarning
    from builder.pipeline.travel import Travel

    opened: list[CacheSource] = []
    for spec in sources:
        try:
            opened.append(_open(engine, spec, environment, cwd, undo))
        except EngineError as err:
            where = spec.options.get("ref") or spec.options.get("src", "")
            emit(BuildWarning(f"importing cache from {where} failed: {err.message}"))
    return Travel(tuple(opened), bool(targets), any(spec.kind == "inline" for spec in targets))


def _open(engine: Engine, spec: CacheSpec, environment: Mapping[str, str], cwd: Path, undo: ExitStack) -> CacheSource:
    if spec.kind == "local":
        from builder.transfer import cache_layout

        directory = cwd / spec.options["src"]
        tag, digest = spec.options.get("tag", cache_layout.TAG), spec.options.get("digest", "")
        return cache_layout.open_cache(engine.store, directory, tag=tag, digest=digest)
    from builder.oci.references import Reference
    from builder.transfer.registry.cache import open_cache
    from builder.transfer.registry.session import Registries

    registries = undo.enter_context(Registries(environment))
    return open_cache(engine.store, registries, Reference.parse(spec.options["ref"]))


def export(
    engine: Engine,
    targets: Sequence[CacheSpec],
    entries: tuple[CacheEntry, ...],
    diff_ids: Sequence[DiffID],
    environment: Mapping[str, str],
    cwd: Path,
    emit: Emit,
) -> None:
    """Write what a build gave to every target; `diff_ids` are the image's, which mode=min keeps to."""
    from builder.pipeline.progress import BuildWarning

    own = set(diff_ids)
    for spec in targets:
        if spec.kind == "inline":
            continue
        kept = entries if spec.everything else tuple(each for each in entries if each.layer in own)
        try:
            _export(engine, spec, kept, environment, cwd)
        except (EngineError, OSError) as err:
            where = spec.options.get("ref") or spec.options.get("dest", "")
            text = err.message if isinstance(err, EngineError) else f"{err.filename}: {err.strerror}"
            emit(BuildWarning(f"exporting cache to {where} failed: {text}"))


def _export(
    engine: Engine, spec: CacheSpec, entries: tuple[CacheEntry, ...], environment: Mapping[str, str], cwd: Path
) -> None:
    layers = [_here(engine, each) for each in cacheconfigs.layers(entries)]
    if spec.kind == "local":
        from builder.transfer import cache_layout

        directory = cwd / spec.options["dest"]
        cache_layout.export(engine.store, directory, entries, layers, tag=spec.options.get("tag", cache_layout.TAG))
        return
    from builder.oci.references import Reference
    from builder.transfer.registry.cache import push_cache
    from builder.transfer.registry.session import Registries

    with Registries(environment) as registries:
        push_cache(engine.store, registries, Reference.parse(spec.options["ref"]), entries, layers)


def _here(engine: Engine, diff_id: DiffID) -> LayerID:
    layer = engine.store.snapshots.find(diff_id)
    if layer is None:
        raise EngineError(f"layer {diff_id} has been collected meanwhile")
    return layer.id
