"""Manifest lists: indexes that the user makes of images here and at registries, annotates and pushes.

docker keeps such lists in files of its own; here they are what every index is: something in the store that a name
means, which can be saved, run, inspected and pushed as well. The name by which a member was added is kept with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from builder.errors import Conflict, ImageNotFound, InvalidInput, ManifestNotFound, RegistryNotFound
from builder.oci import descriptors as d
from builder.oci.manifests import Index, Manifest
from builder.oci.references import Reference
from runtime.values import dataclass, replace

if TYPE_CHECKING:
    from builder.engine.session import Engine
    from builder.oci.descriptors import Descriptor
    from builder.oci.platforms import Platform
    from builder.store.indexes import ImageIndex, Member
    from builder.transfer.registry.push import Pushed
    from builder.transfer.registry.repository import Fetched, Repository
    from builder.transfer.registry.session import Registries

_CONFIG_MAX = 8 << 20
_HINT = "lamina manifest create makes one, lamina images --tree shows them"
_COMMON = ("386", "amd64", "arm")
_KNOWN = {
    "darwin": (*_COMMON, "arm64"),
    "dragonfly": ("amd64",),
    "freebsd": (*_COMMON, "arm64"),
    "linux": (*_COMMON, "arm64", "loong64", "mips64", "mips64le", "ppc64le", "riscv64", "s390x"),
    "netbsd": _COMMON,
    "openbsd": _COMMON,
    "plan9": ("386", "amd64"),
    "solaris": ("amd64",),
    "windows": (*_COMMON, "arm64"),
}
"""Architectures that docker takes for an operating system."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A manifest to show: the name that it goes by, what points at it, and its bytes."""

    name: str
    descriptor: Descriptor
    document: bytes


@dataclass(frozen=True, slots=True)
class Lists:
    """The verbs of one command. `insecure`: the registries of all names may be asked without TLS that can be trusted.

    `environment` is the user's (see `registry.settings`).
    """

    engine: Engine
    environment: Mapping[str, str]
    insecure: bool = False

    def create(self, name: str, members: Sequence[str], *, amend: bool = False) -> Reference:
        """Make a list of images, each here or at its registry; with `amend` more in a list that is there.

        Raises InvalidReference, Conflict (the name has another meaning), ManifestNotFound, RegistryErrors.
        """
        reference = _reference(name, "error parsing name for manifest list")
        store = self.engine.store
        target = store.images.named(reference)
        before = None if target is None else store.indexes.find(target)
        if before is not None and not amend:
            raise Conflict("refusing to amend an existing manifest list with no --amend flag")
        if target is not None and before is None:
            raise Conflict(
                f"{reference.familiar()} names an image here, so it cannot name a manifest list",
                hint=f"give the list another name, or take this one from the image: lamina rmi {reference.familiar()}",
            )
        known = {} if before is None else {member.descriptor.digest: member for member in before.members}
        entries = {digest: (member.descriptor, member.name) for digest, member in known.items()}
        for text in members:
            added = _reference(text, "error parsing name for manifest")
            described = self._described(added)
            for digest in [digest for digest, (_, given) in entries.items() if given == str(added)]:
                del entries[digest]  # the name means another image now
            entries[described.digest] = (described, str(added))
        self._keep(reference, list(entries.values()), before)
        return reference

    def annotate(
        self,
        name: str,
        member: str,
        *,
        os: str = "",
        architecture: str = "",
        variant: str = "",
        version: str = "",
        features: Sequence[str] = (),
    ) -> None:
        """Say for which platform a member of a list is. Raises ManifestNotFound, InvalidInput."""
        from builder.oci.platforms import Platform

        reference = _reference(name, "annotate: error parsing name for manifest list")
        wanted = _reference(member, "annotate: error parsing name for manifest")
        index = self._list(reference)
        found = None if index is None else self._member(index, wanted)
        if index is None or found is None:
            raise ManifestNotFound(f"manifest for image {member} does not exist in {name}")
        old = found.descriptor.platform or Platform("", "")
        platform = Platform(
            os or old.os,
            architecture or old.architecture,
            variant or old.variant,
            version or old.os_version,
            tuple(dict.fromkeys((*old.os_features, *features))),
        )
        if platform.architecture not in _KNOWN.get(platform.os, ()):
            raise InvalidInput(
                f"manifest entry for image has unsupported os/arch combination: {platform.os}/{platform.architecture}",
                hint=f"for {platform.os} there are {', '.join(_KNOWN[platform.os])}" if platform.os in _KNOWN else None,
            )
        entries = [
            (replace(each.descriptor, platform=platform) if each is found else each.descriptor, each.name)
            for each in index.members
        ]
        self._keep(reference, entries, index)

    def inspect(self, name: str) -> Shown | tuple[Shown, tuple[Shown, ...]]:
        """A list of the store, else what a registry has by this name: a manifest, or an index with its manifests.

        Raises ManifestNotFound, InvalidReference, RegistryErrors.
        """
        reference = _reference(name)
        index = self._list(reference)
        if index is None:
            return self._remote(reference)
        below = tuple(self._shown(reference, index, member) for member in index.members)
        return Shown(str(reference), index.describe(), index.raw), below

    def inspect_member(self, name: str, member: str) -> Shown:
        """One manifest of a list of the store. Raises ManifestNotFound, InvalidReference, RegistryErrors."""
        reference, wanted = _reference(name), _reference(member)
        index = self._list(reference)
        found = None if index is None else self._member(index, wanted)
        if index is None or found is None:
            raise ManifestNotFound(f"No such manifest: {wanted}", hint=_HINT)
        return self._shown(reference, index, found)

    def push(self, name: str, *, purge: bool = False) -> Pushed:
        """Push a list with all that it lists; with `purge` it is removed here then.

        Raises ManifestNotFound, InvalidInput (a member without a platform), and what `registry.push` raises.
        """
        from builder.transfer.registry.push import push

        reference = _reference(name)
        index = self._list(reference)
        if index is None:
            raise ManifestNotFound(f"No such manifest: {reference}", hint=_HINT)
        for member in index.members:
            platform = member.descriptor.platform
            if platform is None or not platform.os or not platform.architecture:
                named = member.name or member.descriptor.digest
                raise InvalidInput(f"manifest {named} must have an OS and Architecture to be pushed to a registry")
        with self._registries(reference) as registries:
            pushed = push(self.engine.store, registries, reference)
        if purge:
            self.remove(name)
            self.engine.store.images.untag(replace(reference, tag=None, digest=pushed.manifest.digest))
        return pushed

    def remove(self, name: str) -> None:
        """Remove a list; the images in it stay. Raises ManifestNotFound, InvalidReference."""
        reference = _reference(name)
        index = self._list(reference)
        if index is None:
            raise ManifestNotFound(f"No such manifest: {reference}", hint=_HINT)
        self.engine.store.images.untag(reference)

    # --- what is here ---

    def _list(self, reference: Reference) -> ImageIndex | None:
        target = self.engine.store.images.named(reference)
        return None if target is None else self.engine.store.indexes.find(target)

    def _member(self, index: ImageIndex, wanted: Reference) -> Member | None:
        """The member that goes by a name: the one it was added by, the digest, or what the name means here."""
        for member in index.members:
            if str(wanted) == member.name or wanted.digest == member.descriptor.digest:
                return member
        image = self.engine.store.images.lookup(wanted)
        return next((member for member in index.members if member.image is not None and member.image == image), None)

    def _keep(self, reference: Reference, entries: Sequence[tuple[Descriptor, str]], before: ImageIndex | None) -> None:
        manifests = tuple(described for described, _ in entries)
        old = Index(()) if before is None else Index.from_json(before.raw, media_type=before.media_type)
        docker = all(each.media_type == d.DOCKER_MANIFEST for each in manifests)
        index = replace(old, manifests=manifests, media_type=d.DOCKER_INDEX if docker else d.OCI_INDEX)
        store = self.engine.store
        digest = store.indexes.put(index.to_json(), index.media_type, names=[name for _, name in entries])
        if before is not None:
            for origin in store.indexes.origins(before.digest):
                store.indexes.add_origin(digest, origin)
        store.images.tag(reference, digest)

    # --- what a name means ---

    def _described(self, reference: Reference) -> Descriptor:
        """The manifest of an image that is here, as others know it if they do; else that at its registry."""
        store = self.engine.store
        target = store.images.named(reference)
        if target is None:
            return self._fetched(reference)
        if store.indexes.find(target) is not None:
            raise _is_list(reference)
        store.images.use(target)
        platform = store.images.get(target).config.platform
        seen = {name.digest for name in store.images.references(target) if name.name == reference.name}
        for digest, media_type, document in store.images.manifests(target):
            if digest in seen:
                return d.Descriptor(media_type, digest, len(document), platform=platform)
        return store.indexes.plain_manifest(target)

    def _fetched(self, reference: Reference) -> Descriptor:
        """What a registry has by a name: its manifest is kept, the rest is fetched when somebody needs it."""
        from builder.oci import validate

        with self._registries(reference) as registries:
            place, found = _found(registries, reference)
            if found.descriptor.media_type in d.INDEX_TYPES:
                raise _is_list(reference)
            platform = validate.manifest(_manifest(found), _config(place, found)).platform
        store = self.engine.store
        store.indexes.keep(found.data)
        store.indexes.add_origin(found.descriptor.digest, reference.name)
        return replace(found.descriptor, platform=platform)

    def _remote(self, reference: Reference) -> Shown | tuple[Shown, tuple[Shown, ...]]:
        with self._registries(reference) as registries:
            place, found = _found(registries, reference)
            if found.descriptor.media_type not in d.INDEX_TYPES:
                return Shown(str(reference), _with_platform(place, found), found.data)
            below = []
            for each in Index.from_json(found.data, media_type=found.descriptor.media_type).manifests:
                document = place.manifest(each.digest, each).data
                below.append(Shown(f"{reference}@{each.digest}", each, document))
            return Shown(str(reference), found.descriptor, found.data), tuple(below)

    def _shown(self, reference: Reference, index: ImageIndex, member: Member) -> Shown:
        """A member of a list, its manifest fetched when it is not here."""
        name = member.name or f"{reference}@{member.descriptor.digest}"
        document = self.engine.store.indexes.kept(member)
        if document is None:
            from builder.transfer.registry.session import first

            with self._registries(reference) as registries:
                origins = self.engine.store.indexes.origins(member.descriptor.digest, index.digest)
                places = [
                    place for origin in origins for place in registries.repositories(Reference.parse(origin))
                ] or registries.repositories(reference)
                digest, described = member.descriptor.digest, member.descriptor
                document = first(places, lambda place: place.manifest(digest, described))[1].data
        return Shown(name, member.descriptor, document)

    def _registries(self, reference: Reference) -> Registries:
        from builder.transfer.registry.session import Registries

        return Registries(self.environment, insecure=[reference.registry] if self.insecure else [])


def _reference(text: str, what: str = "") -> Reference:
    from builder.errors import InvalidReference

    try:
        return Reference.parse(text).tagged()
    except InvalidReference as err:
        if what:
            err.message = f"{what} {text}: {err.message}"
        raise


def _is_list(reference: Reference) -> InvalidInput:
    return InvalidInput(f"{reference} is a manifest list", hint="name one of its manifests, as NAME@DIGEST")


def _found(registries: Registries, reference: Reference) -> tuple[Repository, Fetched]:
    from builder.transfer.registry.session import first

    name = str(reference.digest or reference.tag)
    try:
        return first(registries.repositories(reference), lambda place: place.manifest(name))
    except (RegistryNotFound, ImageNotFound) as err:
        raise ManifestNotFound(f"no such manifest: {reference}", hint=err.hint) from err


def _manifest(found: Fetched) -> Manifest:
    return Manifest.from_json(found.data, media_type=found.descriptor.media_type)


def _config(place: Repository, found: Fetched) -> bytes:
    return place.blob(_manifest(found).config, _CONFIG_MAX)


def _with_platform(place: Repository, found: Fetched) -> Descriptor:
    """What points at a manifest, with the platform that its config states, if that is an image's."""
    if _manifest(found).config.media_type not in d.CONFIG_TYPES:
        return found.descriptor
    from builder.oci import validate

    platform: Platform = validate.manifest(_manifest(found), _config(place, found)).platform
    return replace(found.descriptor, platform=platform)
