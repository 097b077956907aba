"""What a build attests of its image: made when the image is there, kept beside it, sent along where it goes."""

from __future__ import annotations

import json
import os
from functools import cache
from typing import TYPE_CHECKING

from builder.engine.options.attestations import Kind
from builder.errors import InvalidReference, NotFound
from builder.oci.digests import parse
from builder.store.attestations import Predicate
from builder.transfer.attested import statement

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from builder.engine.builds import BuildWish
    from builder.engine.options.attestations import ProvenanceWish, SbomWish
    from builder.engine.outputs import Listener
    from builder.engine.session import Engine
    from builder.oci.descriptors import Descriptor
    from builder.oci.digests import Digest
    from builder.pipeline.request import BuildRequest, BuildResult, BuiltImage
    from builder.pipeline.steps import Base
    from builder.store.snapshots import LayerID

SBOM_TYPES: Mapping[str, str] = {"spdx": "https://spdx.dev/Document", "cyclonedx": "https://cyclonedx.org/bom"}
PROVENANCE_TYPES = ("https://slsa.dev/provenance/v1", "https://slsa.dev/provenance/v0.2")
TYPES: Mapping[Kind, tuple[str, ...]] = {Kind.SBOM: tuple(SBOM_TYPES.values()), Kind.PROVENANCE: PROVENANCE_TYPES}
"""Predicate types by what the user calls them."""


def attest(
    engine: Engine, wish: BuildWish, request: BuildRequest, result: BuildResult, listener: Listener
) -> tuple[tuple[Predicate, ...], ...]:
    """Make and keep what *wish* asks for of each image that was built; also what it must not have any more goes.

    Raises Unsupported (without the extra that writes bills of materials), MountFailed, StoreErrors.
    """
    assert wish.attestations is not None
    asked, found = wish.attestations, []
    for image in result.images:
        lead = f"[{image.platform}] " if result.indexed else ""
        made: list[Predicate] = []
        if asked.sbom is not None:
            with listener.step(f"{lead}generating sbom", engine.clock):
                made += _sboms(engine, asked.sbom, result, image)
        if asked.provenance is not None:
            with listener.step(f"{lead}generating provenance", engine.clock):
                made.append(_provenance(engine, wish, asked.provenance, request, result, image))
        dropped = [name for kind in asked.dropped for name in TYPES[kind]]
        if dropped:
            engine.store.attestations.remove(image.id, dropped)
        if made:
            engine.store.attestations.put(image.id, made)
        found.append(tuple(made))
    return tuple(found)


def beside(
    engine: Engine, wish: BuildWish, result: BuildResult, attested: Sequence[Sequence[Predicate]]
) -> tuple[tuple[tuple[str, bytes], ...], ...]:
    """For outputs that are files and no image: (name, statement about all files) of what is attested of each image.

    Raises MountFailed, OSError.
    """
    assert wish.attestations is not None
    asked = wish.attestations.provenance
    names = {SBOM_TYPES["spdx"]: "sbom.spdx.json", SBOM_TYPES["cyclonedx"]: "sbom.cdx.json"}
    if asked is not None and not asked.inline:
        names |= dict.fromkeys(PROVENANCE_TYPES, asked.filename)
    found = []
    for image, predicates in zip(result.images, attested, strict=True):
        wanted = [each for each in predicates if each.type in names]
        subjects = _files(engine, image.id) if wanted else ()
        found.append(tuple((names[each.type], statement(each, subjects)) for each in wanted))
    return tuple(found)


def _files(engine: Engine, image: Digest) -> tuple[tuple[str, str], ...]:
    """(path, digest) of the regular files of an image."""
    import hashlib

    from builder.engine.rootfs import image_files
    from builder.pipeline.trees import open_file

    found = []
    with image_files(engine, engine.store.images.get(image)) as files:
        for path, entry in sorted(files.entries.items()):
            if entry.kind == "file":
                with open(open_file(files.root, path[1:]), "rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                found.append((path[1:], f"sha256:{digest}"))
    return tuple(found)


def provenance(engine: Engine, environment: Mapping[str, str], name: str, *, platform: str = "") -> str:
    """The provenance of an image, as JSON. Raises NotFound (none is attached), and as `attached`."""
    found = attached(engine, environment, name, PROVENANCE_TYPES, platform=platform)
    if found is None:
        raise NotFound(f'image "{name}" has no provenance', hint="build it with --provenance to have it attached")
    return found.data.decode()


def attached(
    engine: Engine, environment: Mapping[str, str], name: str, types: Iterable[str], *, platform: str = ""
) -> Predicate | None:
    """The first of these predicate types that is attached to an image, by its build or in the index that it came in.

    Raises as `images.find`, RegistryErrors, InvalidDocument.
    """
    from contextlib import ExitStack

    from builder.engine.images import find

    image, types = find(engine, name, platform).id, tuple(types)
    for each in types:
        found = engine.store.attestations.get(image, each)
        if found is not None:
            return found
    if not engine.store.indexes.of(image):
        return None
    from builder.transfer.registry.carried import carried
    from builder.transfer.registry.session import Registries

    with ExitStack() as undo:
        opened = cache(lambda: undo.enter_context(Registries(environment)))
        return carried(engine.store, opened, image, types)


def _sboms(engine: Engine, asked: SbomWish, result: BuildResult, image: BuiltImage) -> list[Predicate]:
    from builder.engine.sbom import subject
    from builder.insight.sbom import FORMATS

    about = subject(engine, image.id, called=next(iter(result.tags), ""))
    return [Predicate(SBOM_TYPES[one], FORMATS[one](about).encode()) for one in asked.formats]


def _provenance(
    engine: Engine,
    wish: BuildWish,
    asked: ProvenanceWish,
    request: BuildRequest,
    result: BuildResult,
    image: BuiltImage,
) -> Predicate:
    from builder.insight import provenance as slsa
    from builder.oci import platforms
    from builder.pipeline import remote
    from builder.pipeline.sources import secret_bytes

    assert image.observed is not None, "the request wanted it"
    record = engine.store.records.get(result.build_id)
    values = (secret_bytes(one).decode("utf-8", "surrogateescape").strip() for one in request.secrets)
    elsewhere = (wish.source != "-" and remote.is_remote(wish.source)) or wish.source.startswith("github.com/")
    how = slsa.Invocation(
        id=result.build_id,
        started=record.started,
        finished=record.finished or engine.store.clock(),
        host=platforms.host(os.uname().machine),
        source=wish.source if elsewhere and request.context is not None and request.context.origin else "",
        builder_id=asked.builder,
        reproducible=asked.reproducible,
        secrets=tuple(value for value in values if value),
    )

    def manifest(base: Base) -> Digest | None:
        return _manifest(engine, base)

    def layer(layer_id: LayerID) -> Descriptor:
        return engine.store.snapshots.get(layer_id).describe()

    document = slsa.predicate(request, image.observed, how, slsa.Known(manifest, layer))
    if not asked.most:
        document = slsa.shortened(document)
    return Predicate(slsa.TYPE, json.dumps(document, separators=(",", ":")).encode())


def _manifest(engine: Engine, base: Base) -> Digest | None:
    """The digest by which a registry knows a base image: of what its name meant there, else of a manifest of it."""
    from builder.oci.references import Reference

    images, image = engine.store.images, parse(base.image_id)
    try:
        named = Reference.parse(base.reference)
    except InvalidReference:
        named = None
    if named is not None and named.digest is not None:
        return named.digest
    for each in images.references(image):
        if each.digest is not None and named is not None and each.name == named.name:
            return each.digest
    return next((digest for digest, _, _ in images.manifests(image)), None)
