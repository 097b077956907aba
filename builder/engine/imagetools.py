"""Images at registries, without pulling them: what a name means there, and new indexes made of what others list.

The words and rules are those of buildx's imagetools. What an index lists is copied beside it when it comes from another
repository; nothing becomes an image of the store.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from builder.engine.options.outputs import Annotation, Place
from builder.errors import InvalidDigest, InvalidInput, InvalidReference
from builder.oci import descriptors as d
from builder.oci import digests, documents
from builder.oci.manifests import Index, Manifest
from builder.oci.references import Reference
from builder.store.indexes import REFERENCE_DIGEST, REFERENCE_TYPE
from builder.transfer.attested import ATTESTATION_MANIFEST, IN_TOTO, PREDICATE_TYPE
from builder.transfer.registry import copying
from builder.transfer.registry.carried import LIMIT, predicate
from builder.transfer.registry.progress import Emit, Teller
from builder.transfer.registry.session import Registries, first, leading
from runtime.values import dataclass, replace

if TYPE_CHECKING:
    from builder.engine.session import Engine
    from builder.oci.descriptors import Descriptor
    from builder.oci.digests import Digest
    from builder.oci.platforms import Platform
    from builder.transfer.registry.repository import Fetched, Repository

_CONFIG_MAX = 8 << 20


@dataclass(frozen=True, slots=True)
class Source:
    """What a name means at its registry."""

    reference: Reference
    found: Fetched
    places: tuple[Repository, ...]

    @property
    def index(self) -> Index | None:
        """The document, if it is an index."""
        media_type = self.found.descriptor.media_type
        return Index.from_json(self.found.data, media_type=media_type) if media_type in d.INDEX_TYPES else None

    def listed(self) -> tuple[Descriptor, ...]:
        """What an index made of it lists: what it lists itself, or its manifest with the platform of its config."""
        index = self.index
        if index is not None:
            return index.manifests
        config = self.config()
        return (replace(self.found.descriptor, platform=None if config is None else _platform(config)),)

    def config(self, of: Descriptor | None = None) -> bytes | None:
        """The config of its manifest, or of the one that it lists so; None when that is no image's."""
        found = self.found if of is None else self.manifest(of)
        manifest = Manifest.from_json(found.data, media_type=found.descriptor.media_type)
        if manifest.config.media_type not in d.CONFIG_TYPES:
            return None
        return self.blob(manifest.config, _CONFIG_MAX)

    def manifest(self, of: Descriptor) -> Fetched:
        """A manifest that it lists."""
        return first(self.places, lambda place: place.manifest(of.digest, of))[1]

    def blob(self, of: Descriptor, limit: int) -> bytes:
        """A small blob."""
        return first(self.places, lambda place: place.blob(of, limit))[1]


# --- create -----------------------------------------------------------------------------------------------------------


def create(
    engine: Engine,
    environment: Mapping[str, str],
    texts: Sequence[str],
    tags: Sequence[str],
    emit: Emit,
    *,
    append: bool = False,
    annotations: Sequence[Annotation] = (),
    prefer_index: bool = True,
    push: bool = True,
) -> bytes:
    """Make an index of what `texts` mean (names and digests), of a single one a copy if that is an index already, and
    push it under all `tags`; the document. With `append` the first tag is a source too.

    Raises InvalidInput, InvalidReference, RegistryErrors, InvalidDocument, DigestMismatch, StoreErrors.
    """
    if not texts:
        raise InvalidInput("no sources specified", hint="name one or more images in registries")
    if push and not tags:
        raise InvalidInput("can't push with no tags specified, please set --tag or --dry-run")
    targets = [Reference.parse(tag) for tag in tags]
    if any(each.digest is not None for each in targets):
        raise InvalidInput("a tag cannot have a digest", hint="the digest is that of the index which is made")
    wanted = [*(targets[:1] if append else ()), *_parsed(texts, targets)]
    with Registries(environment) as registries:
        sources = [_resolved(registries, reference.tagged()) for reference in wanted]
        data, media_type = _combined(sources, annotations, prefer_index=prefer_index)
        teller = Teller(emit)
        registries.client.told = teller.line
        for reference in (each.tagged() for each in targets if push):
            target = registries.target(reference)
            for source in sources:
                if source.reference.name != reference.name:
                    teller.line(f"copying {source.found.descriptor.digest} from {source.reference} to {reference}")
                    copying.copy(engine.store, registries, target, source.found, source.places, teller)
            teller.line(f"pushing {digests.of(data)} to {reference}")
            target.put_manifest(str(reference.tag), data, media_type)
    return data


def _parsed(texts: Sequence[str], targets: Sequence[Reference]) -> list[Reference]:
    """Names; what is a digest alone is in the only repository that is named otherwise."""
    found: list[Reference | Digest] = []
    for text in texts:
        try:
            found.append(digests.parse(text) if text.startswith("sha256:") else Reference.parse(text))
        except (InvalidDigest, InvalidReference) as err:
            err.message = f'failed to parse source "{text[:300]}": {err.message}'
            err.hint = "valid sources are references and digests"
            raise
    names = {each.name: each for each in (*targets, *(one for one in found if isinstance(one, Reference)))}
    result = []
    for one in found:
        if not isinstance(one, Reference):
            if len(names) != 1:
                many = "multiple" if names else "no"
                raise InvalidInput(f'{many} repositories specified, cannot infer repository for "{one}"')
            one = replace(next(iter(names.values())), tag=None, digest=one)
        result.append(one)
    return result


def _resolved(registries: Registries, reference: Reference) -> Source:
    name = str(reference.digest or reference.tag)
    places, found = leading(registries.repositories(reference), lambda each: each.manifest(name))
    return Source(reference, found, places)


def _combined(sources: Sequence[Source], annotations: Sequence[Annotation], *, prefer_index: bool) -> tuple[bytes, str]:
    """The document of all that the sources list, each manifest once, and its media type."""
    top = sources[0].found
    if len(sources) == 1 and not annotations and (not prefer_index or sources[0].index is not None):
        return top.data, top.descriptor.media_type
    entries: dict[str, Descriptor] = {}
    for each in (one for source in sources for one in source.listed()):
        old = entries.get(each.digest, each)
        notes = {**old.annotations, **each.annotations}
        entries[each.digest] = replace(old, platform=each.platform or old.platform, annotations=notes)
    notes = {}
    for one in annotations:
        if one.place is Place.INDEX:
            notes[one.key] = one.value
        elif one.place is Place.MANIFEST_DESCRIPTOR:
            for digest, each in entries.items():
                if one.platform in ("", str(each.platform)):
                    entries[digest] = replace(each, annotations={**each.annotations, one.key: one.value})
        else:
            known = "supported yet" if one.place is Place.MANIFEST else "valid while creating an image"
            raise InvalidInput(f'"{one.place}" annotations are not {known}', hint=f"write index:{one.key}={one.value}")
    # docker's kind of index knows no annotations
    docker = not annotations and all(each.media_type == d.DOCKER_MANIFEST for each in entries.values())
    media_type = d.DOCKER_INDEX if docker else d.OCI_INDEX
    index = Index(tuple(entries.values()), media_type, annotations=notes)
    return json.dumps(json.loads(index.to_json()), indent=2, ensure_ascii=False).encode(), media_type


# --- inspect ----------------------------------------------------------------------------------------------------------


def inspect(environment: Mapping[str, str], name: str, *, whole: bool = False) -> tuple[Source, dict[str, Any]]:
    """What a name means at its registry. For templates (`whole`): `Image` has the config, `SBOM` and `Provenance` what
    is attested; of several platforms each.

    Raises InvalidReference, RegistryErrors, InvalidDocument, DigestMismatch, LimitExceeded.
    """
    with Registries(environment) as registries:
        source = _resolved(registries, Reference.parse(name).tagged())
        return source, _details(source) if whole else {}


def _details(source: Source) -> dict[str, Any]:
    index = source.index
    listed = (source.found.descriptor,) if index is None else index.manifests
    configs, subjects = dict[str, Any](), dict[str, str]()
    found: dict[str, dict[str, Any]] = {"SBOM": {}, "Provenance": {}}
    for each in listed:
        if each.annotations.get(REFERENCE_TYPE) == ATTESTATION_MANIFEST or each.media_type not in d.MANIFEST_TYPES:
            continue
        config = source.config(None if index is None else each)
        if config is not None:
            platform = str(each.platform or _platform(config) or "")
            configs[platform], subjects[each.digest] = documents.load(config, "image config").rest(), platform
    for each in listed:
        subject = digests.Digest(each.annotations.get(REFERENCE_DIGEST, ""))
        if each.annotations.get(REFERENCE_TYPE) != ATTESTATION_MANIFEST or subject not in subjects:
            continue
        manifest = Manifest.from_json(source.manifest(each).data, media_type=each.media_type)
        for layer in manifest.layers:
            kind = layer.annotations.get(PREDICATE_TYPE, "")
            key, word = _KINDS.get(kind.partition("/v")[0], ("", ""))
            if layer.media_type == IN_TOTO and key:
                said = json.loads(predicate(source.blob(layer, LIMIT), kind, subject).data)
                found[key].setdefault(subjects[subject], {})[word] = said
    if len(configs) > 1:
        return {"Image": configs, **found}
    return {"Image": next(iter(configs.values()), None)} | {
        key: next(iter(each.values()), None) for key, each in found.items()
    }


def _platform(config: bytes) -> Platform | None:
    """The platform that a config names; a signature's names none. Raises InvalidDocument."""
    document = documents.load(config, "image config")
    return d.platform_of(document) if document.string("os") and document.string("architecture") else None


_KINDS = {
    "https://spdx.dev/Document": ("SBOM", "SPDX"),
    "https://slsa.dev/provenance": ("Provenance", "SLSA"),
}
"""How buildx calls what a predicate of a type says."""
