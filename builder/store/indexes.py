"""Indexes: documents that list the manifests of one image for several platforms, and which of them are here.

An index is kept byte for byte. A member is here when the store has an image that came with its manifest, so nothing has
to be noted when an image comes or goes. What is no image (BuildKit's attestation manifests) is kept as blobs in
`content`, manifest and all; `collect` follows them from the index.

An index that is made here lists manifests with plain layers, whose digests are the diff_ids: it is the same whenever
and wherever it is made of the same images, and nothing is packed for it. Such manifests are `made`: nobody outside has
seen them, and what goes to a registry gets manifests of its own.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from builder.errors import ImageNotFound
from builder.oci import digests
from builder.store.crash import crashpoint
from builder.store.leases import INDEX
from runtime.values import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from builder.oci.descriptors import Descriptor
    from builder.oci.digests import Digest
    from builder.oci.platforms import Platform
    from builder.store.content import Content
    from builder.store.database import Database
    from builder.store.images import Images
    from builder.store.leases import Lease
    from builder.store.snapshots import Snapshots

REFERENCE_TYPE = "vnd.docker.reference.type"
"""BuildKit's annotation of a member that is no image: what it is, for example "attestation-manifest"."""
REFERENCE_DIGEST = "vnd.docker.reference.digest"
"""BuildKit's annotation of such a member: the manifest that it is about."""
MAX_ORIGINS = 20
"""Repositories remembered for one manifest; the oldest go."""


@dataclass(frozen=True, slots=True)
class Member:
    """One manifest of an index. `image` is the id of its image, None when that is not here; `made`: its manifest was
    made here, for nobody outside; `name`: what the user called it who added it to a list.
    """

    descriptor: Descriptor
    image: Digest | None = None
    made: bool = False
    name: str = ""

    @property
    def is_image(self) -> bool:
        """Whether it is an image for a platform, and not something about one (an attestation)."""
        platform = self.descriptor.platform
        return REFERENCE_TYPE not in self.descriptor.annotations and (platform is None or platform.os != "unknown")

    @property
    def about(self) -> str | None:
        """The digest of the manifest that it says something of, when it is no image."""
        return None if self.is_image else self.descriptor.annotations.get(REFERENCE_DIGEST)

    @property
    def platform(self) -> Platform | None:
        """The platform that the index states for it, in normal form."""
        stated = self.descriptor.platform
        if stated is None or not self.is_image:
            return None
        from builder.oci.platforms import normal

        version, features = stated.os_version, stated.os_features
        return normal(stated.os, stated.architecture, stated.variant, os_version=version, os_features=features)


@dataclass(frozen=True, slots=True)
class ImageIndex:
    """An index of the store: `raw` are its bytes, `created` is when it came, in ns."""

    digest: Digest
    media_type: str
    raw: bytes
    created: int
    members: tuple[Member, ...]

    @property
    def made(self) -> bool:
        """Whether a manifest of it was made here, so that it cannot go out byte for byte."""
        return any(member.made for member in self.members)

    def describe(self) -> Descriptor:
        """What points at it."""
        from builder.oci.descriptors import Descriptor

        return Descriptor(self.media_type, self.digest, len(self.raw))


@dataclass(frozen=True, slots=True)
class Entry:
    """A manifest for an index that is made here: an image of the store, or what is to be said of one elsewhere.

    `platform` None is the image's own; `manifest` None asks for a plain one.
    """

    image: Digest | None = None
    manifest: Descriptor | None = None
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)


class Indexes:
    """The indexes of one store."""

    def __init__(
        self,
        database: Database,
        images: Images,
        snapshots: Snapshots,
        content: Content,
        lease: Callable[[], Lease],
        clock: Callable[[], int],
    ) -> None:
        self._database = database
        self._images = images
        self._snapshots = snapshots
        self._content = content
        self._lease = lease
        self._clock = clock

    def put(self, document: bytes, media_type: str, *, origin: str = "", names: Sequence[str] = ()) -> Digest:
        """Keep an index, byte for byte; returns its digest, which `Images.tag` takes. Durable when it returns.

        `origin` is the repository (registry/path) that has it, `names` what its members are called. Until a name points
        at it this process keeps it.

        Raises InvalidDocument.
        """
        from builder.oci.manifests import Index

        members = map(Member, Index.from_json(document, media_type=media_type).manifests)
        digest = digests.of(document)
        with self._database.write(durable=True):
            self._lease().protect(INDEX, [digest])
            new = self._database.run(
                "INSERT INTO indexes (digest, media_type, created, document) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (digest) DO NOTHING",
                (digest, media_type, self._clock(), document),
            )
            if new:
                self._database.run_many(
                    "INSERT INTO index_members (digest, position, manifest, platform) VALUES (?, ?, ?, ?)",
                    [
                        (digest, position, member.descriptor.digest, str(member.platform or ""))
                        for position, member in enumerate(members)
                    ],
                )
            self._database.run_many(
                "UPDATE index_members SET name = ? WHERE digest = ? AND position = ?",
                [(name, digest, position) for position, name in enumerate(names)],
            )
            if origin:
                self.add_origin(digest, origin)
        crashpoint("index-row")
        return digest

    def get(self, digest: Digest) -> ImageIndex:
        """The index with this digest, with its members in its own order. Raises ImageNotFound."""
        from builder.oci.manifests import Index

        row = self._database.row("SELECT media_type, document, created FROM indexes WHERE digest = ?", (digest,))
        if row is None:
            raise ImageNotFound(digest)
        media_type, document, created = row[0], bytes(row[1]), row[2]
        here = {
            position: (image, bool(made), name)
            for position, image, made, name in self._database.rows(
                "SELECT x.position, m.image, m.made, x.name FROM index_members x"
                " LEFT JOIN manifests m ON m.digest = x.manifest WHERE x.digest = ?",
                (digest,),
            )
        }
        members = tuple(
            Member(descriptor, *here.get(position, ()))
            for position, descriptor in enumerate(Index.from_json(document, media_type=media_type).manifests)
        )
        return ImageIndex(digest, media_type, document, created, members)

    def find(self, digest: str) -> ImageIndex | None:
        """As `get`, None when there is none."""
        return self.get(digests.Digest(digest)) if is_index(self._database, digest) else None

    def use(self, digest: Digest) -> None:
        """Keep an index while this process lives. Raises ImageNotFound."""
        with self._database.write():
            if not is_index(self._database, digest):
                raise ImageNotFound(digest)
            self._lease().protect(INDEX, [digest])

    def of(self, image_id: Digest) -> tuple[Digest, ...]:
        """The indexes that an image is in."""
        rows = self._database.rows("SELECT DISTINCT digest FROM index_images WHERE image = ? ORDER BY 1", (image_id,))
        return tuple(row[0] for row in rows)

    def plain_manifest(self, image_id: Digest) -> Descriptor:
        """The manifest with plain layers of an image, kept as one of its own. Raises ImageNotFound, InvalidImage."""
        from builder.oci import descriptors as d
        from builder.oci.manifests import Manifest

        image = self._images.get(image_id)
        layers = tuple(layer.describe() for layer in self._snapshots.get_all(image.layers))
        config = d.Descriptor(d.OCI_CONFIG, image_id, len(image.raw))
        document = Manifest(config=config, layers=layers).to_json()
        digest = self._images.put_manifest(image_id, document, d.OCI_MANIFEST, made=True)
        return d.Descriptor(d.OCI_MANIFEST, digest, len(document), platform=image.config.platform)

    def make(self, entries: Sequence[Digest | Entry], *, annotations: Mapping[str, str] | None = None) -> Digest:
        """Make an index of images that are here, in this order, and keep it; the same entries give the same digest.

        Raises ImageNotFound.
        """
        from builder.oci.manifests import Index
        from runtime.values import replace

        manifests = []
        for given in entries:
            entry = given if isinstance(given, Entry) else Entry(given)
            if entry.manifest is not None:
                described = entry.manifest
            else:
                assert entry.image is not None
                self._images.use(entry.image)
                described = self.plain_manifest(entry.image)
            if entry.platform is not None:
                described = replace(described, platform=entry.platform)
            if entry.annotations:
                described = replace(described, annotations={**described.annotations, **entry.annotations})
            manifests.append(described)
        index = Index(tuple(manifests), annotations=annotations or {})
        return self.put(index.to_json(), index.media_type)

    def forget_unnamed(self, digest: Digest) -> bool:
        """Forget an index that was made only for its images to go elsewhere; whether it went.

        One that has a name stays, and one that another process has just made."""
        with self._database.write(removing=True):
            kept = self._database.row(
                "SELECT 1 FROM refs WHERE target = ?1 UNION ALL"
                " SELECT 1 FROM lease_items WHERE kind = ?2 AND name = ?1 AND lease <> ?3",
                (digest, INDEX, self._lease().id),
            )
            return kept is None and bool(self._database.run("DELETE FROM indexes WHERE digest = ?", (digest,)))

    # --- where manifests are ---

    def add_origin(self, manifest: Digest, repository: str) -> None:
        """The repository (registry/path) has this index or manifest."""
        with self._database.write():
            self._database.run(
                "INSERT INTO manifest_origins (digest, repository, seen) VALUES (?, ?, ?)"
                " ON CONFLICT (digest, repository) DO UPDATE SET seen = excluded.seen",
                (manifest, repository, self._clock()),
            )
            self._database.run(
                "DELETE FROM manifest_origins WHERE digest = ?1 AND repository NOT IN"
                " (SELECT repository FROM manifest_origins WHERE digest = ?1 ORDER BY seen DESC LIMIT ?2)",
                (manifest, MAX_ORIGINS),
            )

    def origins(self, *manifests: Digest) -> tuple[str, ...]:
        """The repositories that had one of these, those of the first before those of the next, newest first."""
        found = [
            row[0]
            for digest in manifests
            for row in self._database.rows(
                "SELECT repository FROM manifest_origins WHERE digest = ? ORDER BY seen DESC, repository", (digest,)
            )
        ]
        return tuple(dict.fromkeys(found))

    # --- blobs that belong to an index ---

    def keep(self, document: bytes) -> Digest:
        """Keep the manifest of a member that is no image; it, and the blobs that it names, stay while the index does.

        The blobs are put into `content` by the caller. Returns its digest.
        """
        return self._content.put(document)

    def kept(self, member: Member) -> bytes | None:
        """The manifest of a member: of an image that is here, or as `keep` was given it; None when it is not here."""
        row = self._database.row("SELECT document FROM manifests WHERE digest = ?", (member.descriptor.digest,))
        if row is not None:
            return bytes(row[0])
        digest = member.descriptor.digest
        return self._content.read(digest) if _is_small(self._database, digest) and self._content.use(digest) else None


def names_of_indexes(database: Database) -> dict[Digest, list[str]]:
    """The indexes that have names, each with its names, sorted."""
    found: dict[Digest, list[str]] = {}
    for target, name in database.rows(
        "SELECT r.target, r.name FROM refs r JOIN indexes i ON i.digest = r.target ORDER BY r.name"
    ):
        found.setdefault(target, []).append(name)
    return found


def is_index(database: Database, target: str) -> bool:
    """Whether there is an index with this digest."""
    return database.row("SELECT 1 FROM indexes WHERE digest = ?", (target,)) is not None


def images_here(database: Database, target: str) -> tuple[tuple[Digest, str], ...]:
    """The images of an index that are here, and the platform that the index states for each (its own, when it states
    none): those for this machine first, then in the order of the index.
    """
    from builder.oci.platforms import host

    here = host(os.uname().machine)
    system = f"{here.os}/{here.architecture}"
    rows = database.rows(
        "SELECT image, platform FROM index_images WHERE digest = ?"
        " ORDER BY platform <> ?, platform <> ? AND substr(platform, 1, ?) <> ?, position",
        (target, str(here), system, len(system) + 1, system + "/"),
    )
    return tuple(dict.fromkeys((image, platform) for image, platform in rows))


def untag_empty(database: Database) -> None:
    """Take the names by digest, which no user gave, from indexes that have no other and no image here.

    Must run inside of a write transaction.
    """
    database.run(
        "DELETE FROM refs WHERE name LIKE '%@sha256:%' AND target IN (SELECT digest FROM indexes)"
        " AND target NOT IN (SELECT digest FROM index_images)"
        " AND target NOT IN (SELECT target FROM refs WHERE name NOT LIKE '%@%')"
    )


def forget_unnamed(database: Database, leased: Iterable[str], *, dangling: bool) -> tuple[str, ...]:
    """Forget indexes that no name and none of `leased` keeps, and origins of what is not here; returns the former.

    Like an image, one that an image of is here stays without a name unless `dangling` ones are to go. Must run inside
    of a write transaction.
    """
    kept = set(leased)
    unnamed = "SELECT digest FROM indexes WHERE digest NOT IN (SELECT target FROM refs)"
    if not dangling:
        unnamed += " AND digest NOT IN (SELECT digest FROM index_images)"
    gone = tuple(row[0] for row in database.rows(unnamed) if row[0] not in kept)
    database.run_many("DELETE FROM indexes WHERE digest = ?", [(digest,) for digest in gone])
    database.run(
        "DELETE FROM manifest_origins WHERE digest NOT IN (SELECT digest FROM indexes"
        " UNION ALL SELECT manifest FROM index_members UNION ALL SELECT digest FROM manifests)"
    )
    return gone


def _is_small(database: Database, digest: str) -> bool:
    """Whether a blob is here that can be a manifest: an index may list a layer as one."""
    from builder.oci.documents import LIMIT

    return database.row("SELECT 1 FROM blobs WHERE digest = ? AND size <= ?", (digest, LIMIT)) is not None


def blobs(database: Database, content: Content) -> set[str]:
    """The digests of the blobs that indexes keep: manifests of what is no image here, and what those name."""
    import re

    from builder.oci.documents import LIMIT

    found: set[str] = set()
    # Larger is no manifest, as for _is_small.
    for (manifest,) in database.rows(
        "SELECT DISTINCT x.manifest FROM index_members x JOIN blobs b ON b.digest = x.manifest WHERE b.size <= ?",
        (LIMIT,),
    ):
        found.add(manifest)
        if content.peek(manifest):
            found.update(re.findall(r"sha256:[0-9a-f]{64}", content.path(manifest).read_text("utf-8", "replace")))
    return found
