"""Push of an index: all the manifests that it lists with all their blobs, then the index, so that nothing dangles.

One that was pulled goes out byte for byte. What is not here of it (other platforms, attestations) is taken over from
where it was seen: mounted when that is the same registry, else fetched and sent. One that was made here gets manifests
with packed layers, and so is written anew. What cannot be had is known before anything is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from builder.errors import DigestMismatch, ImageNotFound, NotFound, RegistryError, Unsupported
from builder.oci import descriptors as d
from builder.oci import digests
from builder.oci.manifests import Index, Manifest
from builder.oci.references import Reference
from builder.transfer import workers
from builder.transfer.attested import Form
from builder.transfer.registry import copying
from builder.transfer.registry.referrers import attest
from runtime.values import dataclass, replace

if TYPE_CHECKING:
    from builder.oci.descriptors import Descriptor
    from builder.oci.digests import Digest
    from builder.store import Store
    from builder.store.indexes import ImageIndex, Member
    from builder.transfer.registry.progress import Teller
    from builder.transfer.registry.repository import Repository
    from builder.transfer.registry.session import Registries

Document = tuple[bytes, str]
"""A manifest or index, and its media type."""
SendImage = Callable[["Digest", Document | None], Document]
"""Bring the blobs of an image to the target; returns its manifest: the given one, else one of its own."""


@dataclass(frozen=True, slots=True)
class _Foreign:
    """A member whose image is not here: its manifest, and where its blobs may be."""

    member: Member
    document: bytes
    places: tuple[Repository, ...]


class IndexPush:
    """One index on its way to one repository."""

    def __init__(
        self,
        store: Store,
        registries: Registries,
        target: Repository,
        reference: Reference,
        index: ImageIndex,
        teller: Teller,
        jobs: int,
    ) -> None:
        self._store = store
        self._registries = registries
        self._target = target
        self._reference = reference
        self._index = index
        self._teller = teller
        self._jobs = jobs
        self._places: dict[str, tuple[Repository, ...]] = {}

    def send(self, image: SendImage, *, anew: bool = False, form: Form = Form.INDEX) -> Document:
        """Bring all members there; returns the index to put, and its media type. `anew`: images get new manifests.
        What is attested of images whose manifests were made here goes along in this `form`.

        Raises NotFound (something is neither here nor anywhere else), and what `push` raises.
        """
        here = {member.descriptor.digest: member for member in self._index.members if member.image is not None}
        foreign = self._foreign([each for each in self._index.members if each.descriptor.digest not in here])
        described: dict[str, Descriptor] = {}
        more: list[Descriptor] = []
        for digest, member in here.items():
            assert member.image is not None
            known = None if anew or member.made else self._store.indexes.kept(member)
            listed = None if known is None else (known, member.descriptor.media_type)
            document, media_type = image(member.image, listed)
            self._put(document, media_type)
            described[digest] = d.Descriptor(media_type, digests.of(document), len(document))
            with suppress(ImageNotFound):  # removed meanwhile
                self._store.images.put_manifest(member.image, document, media_type)
            if member.made:
                subject = replace(described[digest], platform=member.descriptor.platform)
                more += attest(self._store, self._target, member.image, subject, self._reference, form)
        blobs = {blob.digest: (blob, each) for each in foreign for blob in _blobs(each)}

        def bring(pair: tuple[Descriptor, _Foreign]) -> None:
            copying.blob(self._store, self._target, pair[0], pair[1].places, self._teller)

        workers.each(blobs.values(), bring, threads=self._jobs, abort=self._registries.client.abort)
        for each in foreign:
            self._put(each.document, each.member.descriptor.media_type)
        return self._document(described, more)

    def _document(self, described: Mapping[str, Descriptor], more: Sequence[Descriptor]) -> Document:
        """The index as it is to be put, with the manifests that images really have got, and `more` after them."""
        if not more and all(digest == found.digest for digest, found in described.items()):
            return self._index.raw, self._index.media_type
        listed = Index.from_json(self._index.raw, media_type=self._index.media_type).relisted(described, more)
        return listed.to_json(), listed.media_type

    # --- what is not here ---

    def _foreign(self, members: list[Member]) -> list[_Foreign]:
        """The members that the target has not got, with their manifests. Raises NotFound."""
        found, missing = [], []
        for member in {each.descriptor.digest: each for each in members}.values():
            if member.descriptor.media_type not in d.MANIFEST_TYPES:
                raise Unsupported(
                    f"{self._reference.familiar()} lists what is no image: {member.descriptor.digest} has media type "
                    f"{member.descriptor.media_type[:100]!r}",
                    hint="an index in an index cannot be pushed; push what it lists by its own name",
                )
            if copying.has_manifest(self._target, member.descriptor):
                continue
            places = self._origins(member)
            document = self._store.indexes.kept(member) or self._fetched(member.descriptor, places)
            if document is None:
                missing.append(member)
            else:
                found.append(_Foreign(member, document, places))
        if missing:
            raise self._missing(missing)
        return found

    def _origins(self, member: Member) -> tuple[Repository, ...]:
        """Where a member was seen, or the index that lists it."""
        names = self._store.indexes.origins(member.descriptor.digest, self._index.digest)
        for name in names:
            if name not in self._places:
                self._places[name] = self._registries.repositories(Reference.parse(name))
        return tuple(place for name in names for place in self._places[name])

    def _fetched(self, described: Descriptor, places: tuple[Repository, ...]) -> bytes | None:
        for place in places:
            try:
                return place.manifest(described.digest, described).data
            except (RegistryError, DigestMismatch):
                continue
        return None

    def _missing(self, members: list[Member]) -> NotFound:
        names = [str(each.platform or each.descriptor.digest) for each in members]
        platforms = [str(each.platform) for each in self._index.members if each.image is not None and each.platform]
        name = self._reference.familiar()
        alone = f"lamina push --platform {platforms[0]} {name} pushes that one alone" if platforms else ""
        return NotFound(
            f"{name} lists manifests that are neither here nor where they were seen: {', '.join(names)}",
            hint="; ".join(filter(None, [f"lamina pull --platform {names[0]} brings one", alone])),
        )

    # --- to the target ---

    def _put(self, document: bytes, media_type: str) -> None:
        digest = self._target.put_manifest(digests.of(document), document, media_type)
        self._store.indexes.add_origin(digest, self._target.endpoint.name)


def _blobs(each: _Foreign) -> tuple[Descriptor, ...]:
    manifest = Manifest.from_json(each.document, media_type=each.member.descriptor.media_type)
    return (manifest.config, *manifest.layers)
