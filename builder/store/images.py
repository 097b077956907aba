"""Images and references: what the user names.

An image is the bytes of its config (its id is their digest) and the layers below. References are rows that point at an
image or at an index of images for several platforms; moving one is a single durable transaction. How often a layer is
shared is computed by query, never counted. Nothing here removes directories: `collect` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.errors import AmbiguousId, ImageInUse, ImageNotFound, InvalidReference, PlatformNotFound
from builder.oci import digests
from builder.oci.references import Reference, is_id
from builder.store.crash import crashpoint
from builder.store.indexes import images_here, is_index
from builder.store.leases import IMAGE, LAYER
from runtime.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from builder.oci.configs import ImageConfig
    from builder.oci.digests import Digest
    from builder.oci.platforms import Platform
    from builder.store.database import Database
    from builder.store.leases import Lease
    from builder.store.listing import Listed
    from builder.store.snapshots import LayerID, Snapshots


BASE_ID = 12
"""The fewest hex digits that FROM, COPY --from and their like take for the start of an id (`resolve`): a builder reads
a name there, and "FROM a" must not build on whichever image has an id that begins with a."""


@dataclass(frozen=True, slots=True)
class Image:
    """A whole image: `raw` are the bytes of its config, `layers` bottom first, `created` when it came into the store.

    `origin` is build, commit, load, import, pull or bootstrap; `parent` the image that a commit was made from.
    """

    id: Digest
    config: ImageConfig
    raw: bytes
    layers: tuple[LayerID, ...]
    created: int
    origin: str
    parent: Digest | None = None


@dataclass(frozen=True, slots=True)
class Untagged:
    """A reference went away."""

    reference: Reference


@dataclass(frozen=True, slots=True)
class Deleted:
    """An image went away."""

    id: Digest


Removal = Untagged | Deleted


class Images:
    """Images and references of one store."""

    def __init__(
        self, database: Database, snapshots: Snapshots, lease: Callable[[], Lease], clock: Callable[[], int]
    ) -> None:
        self._database = database
        self._snapshots = snapshots
        self._lease = lease
        self._clock = clock

    # --- images ---

    def put(
        self,
        config: ImageConfig,
        layers: Sequence[LayerID],
        *,
        raw: bytes | None = None,
        origin: str = "build",
        parent: Digest | None = None,
    ) -> Digest:
        """Keep an image and return its id; the same image again changes nothing (but heals layers that had gone).

        `raw` are the bytes that `config` was read from, made by another tool; without them the config's own form is
        kept. All layers must be hashed. Durable when it returns. Raises InvalidImage (config and layers contradict each
        other), LayerNotFound.
        """
        from builder.store.outcomes import is_whole

        data = config.to_json() if raw is None else raw
        image_id = digests.of(data)
        self._snapshots.use(layers)
        if is_whole(self._database, image_id, self._snapshots.path):
            self._lease().protect(IMAGE, [image_id])
            if is_whole(self._database, image_id, self._snapshots.path):
                return image_id
        self._check(image_id, config, layers, foreign=raw is not None)
        self._snapshots.sync()
        now = self._clock()
        from builder.oci.times import parse

        created = None if config.created is None else parse(config.created)
        with self._database.write(durable=True):
            self._database.run(
                "INSERT INTO images (id, parent, origin, platform, config_created, created, config)"
                " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
                (image_id, parent, origin, str(config.platform), created, now, data),
            )
            self._database.run("DELETE FROM image_layers WHERE image = ?", (image_id,))
            self._database.run_many(
                "INSERT INTO image_layers (image, position, layer) VALUES (?, ?, ?)",
                [(image_id, position, layer) for position, layer in enumerate(layers)],
            )
            self._lease().protect(IMAGE, [image_id])
        crashpoint("image-row")
        return image_id

    def get(self, image_id: Digest) -> Image:
        """The image with this id. Raises ImageNotFound, InvalidDocument (its config is damaged)."""
        from builder.oci.configs import ImageConfig

        row = self._database.row("SELECT config, created, origin, parent FROM images WHERE id = ?", (image_id,))
        if row is None:
            raise ImageNotFound(image_id)
        raw, created, origin, parent = row
        return Image(image_id, ImageConfig.from_json(raw), bytes(raw), self.layers(image_id), created, origin, parent)

    def use(self, image_id: Digest) -> None:
        """Keep the image and its layers from collection while this process lives. Raises ImageNotFound."""
        lease = self._lease()
        with self._database.write():
            if self._database.row("SELECT 1 FROM images WHERE id = ?", (image_id,)) is None:
                raise ImageNotFound(image_id)
            lease.protect(IMAGE, [image_id])
            lease.protect(LAYER, self.layers(image_id))

    def layers(self, image_id: Digest) -> tuple[LayerID, ...]:
        """The layers of an image, bottom first; () for an unknown one."""
        rows = self._database.rows("SELECT layer FROM image_layers WHERE image = ? ORDER BY position", (image_id,))
        return tuple(row[0] for row in rows)

    def list(self) -> tuple[Listed, ...]:
        """All images, newest first as docker sorts them."""
        from builder.store.listing import listed

        return listed(self._database, self.of)

    def shown(self) -> tuple[Listed, ...]:
        """As `list`, with one row for an index of which several images are here, or none: so users see them."""
        from builder.store.listing import shown

        return shown(self._database, self.list(), self.of)

    def children(self, image_id: Digest) -> tuple[Digest, ...]:
        """Images that were committed from this one."""
        return tuple(row[0] for row in self._database.rows("SELECT id FROM images WHERE parent = ?", (image_id,)))

    def users(self) -> dict[Digest, int]:
        """How many containers were made from an image or mount it, for each that any does."""
        rows = self._database.rows("SELECT image, count(DISTINCT container) FROM image_users GROUP BY image")
        return dict(rows)

    def sharers(self, layer: LayerID) -> tuple[Digest, ...]:
        """The images that this layer is part of."""
        rows = self._database.rows("SELECT DISTINCT image FROM image_layers WHERE layer = ? ORDER BY image", (layer,))
        return tuple(row[0] for row in rows)

    # --- documents of other registries and platforms ---

    def put_manifest(self, image_id: Digest, document: bytes, media_type: str, *, made: bool = False) -> Digest:
        """Keep the manifest that an image came with, byte for byte; returns its digest.

        `made`: it was made for an index of this store, and nobody outside has it. Raises ImageNotFound.
        """
        digest = digests.of(document)
        with self._database.write(durable=True):
            if self._database.row("SELECT 1 FROM images WHERE id = ?", (image_id,)) is None:
                raise ImageNotFound(image_id)
            self._database.run(
                "INSERT INTO manifests (digest, image, media_type, document, made) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (digest) DO UPDATE SET image = excluded.image, made = min(made, excluded.made)",
                (digest, image_id, media_type, document, made),
            )
        return digest

    def manifests(self, image_id: Digest) -> tuple[tuple[Digest, str, bytes], ...]:
        """(digest, media type, bytes) of the manifests that an image came with."""
        rows = self._database.rows(
            "SELECT digest, media_type, document FROM manifests WHERE image = ? AND NOT made ORDER BY digest",
            (image_id,),
        )
        return tuple((digest, media_type, bytes(document)) for digest, media_type, document in rows)

    def of_manifest(self, digest: Digest) -> tuple[Digest, ...]:
        """The images that are here of a manifest or index."""
        rows = self._database.rows("SELECT image FROM manifests WHERE digest = ?", (digest,))
        return tuple(row[0] for row in rows) or tuple(image for image, _ in images_here(self._database, digest))

    # --- references ---

    def tag(self, reference: Reference, target: Digest) -> Digest | None:
        """Let `reference` (":latest" is added if need be) name the image or index `target`; returns what it named
        before.

        Atomic and durable: a reader sees the old image or the new one. Raises ImageNotFound.
        """
        return self.tag_all([reference], target)[0]

    def tag_all(self, references: Sequence[Reference], target: Digest) -> tuple[Digest | None, ...]:
        """As `tag` for several references, all or none of them. Raises InvalidReference too (it reads as an id)."""
        for reference in references:
            if reference.reads_as_id:
                text = "refusing to create an ambiguous tag using digest algorithm as name"
                raise InvalidReference(str(reference), message=text)
        names = [str(reference.tagged()) for reference in references]
        if names and all(self._target(name) == target for name in names):
            return (target,) * len(names)
        with self._database.write(durable=True):
            if not self._exists(target):
                raise ImageNotFound(target)
            before = tuple(self._target(name) for name in names)
            self._database.run_many(
                "INSERT INTO refs (name, target, created) VALUES (?, ?, ?)"
                " ON CONFLICT (name) DO UPDATE SET target = excluded.target, created = excluded.created",
                [(name, target, self._clock()) for name in names],
            )
        crashpoint("reference-row")
        return before

    def untag(self, reference: Reference) -> Digest | None:
        """Remove one reference and nothing else; returns what it named, None if it did not exist."""
        name = str(reference.tagged())
        with self._database.write(durable=True):
            before = self._target(name)
            self._database.run("DELETE FROM refs WHERE name = ?", (name,))
        return before

    def references(self, image_id: Digest) -> tuple[Reference, ...]:
        """The references that name an image or index, an image also through an index, sorted."""
        rows = self._database.rows(
            "SELECT name FROM refs WHERE target = ?1 OR target IN (SELECT digest FROM index_images WHERE image = ?1)"
            " ORDER BY name",
            (image_id,),
        )
        return tuple(Reference.parse(row[0]) for row in rows)

    def tags_of(self, repository: str) -> tuple[Reference, ...]:
        """All references of the repository `registry/path`, sorted."""
        rows = self._database.rows(
            "SELECT name FROM refs WHERE name >= ?1 || ':' AND name < ?1 || ';'"
            " OR name >= ?1 || '@' AND name < ?1 || 'A' ORDER BY name",
            (repository,),
        )
        return tuple(Reference.parse(row[0]) for row in rows)

    def resolve(self, text: str, *, platform: Platform | None = None, shortest: int = 1) -> Digest:
        """The id of the image that `text` means: a full id, a reference, or the start of an id with at least `shortest`
        hex digits, looked up in this order.

        `platform` chooses from an index (without it: the image for this machine, else the first that is here), and must
        be that of an image. Raises ImageNotFound, PlatformNotFound, AmbiguousId, InvalidReference.
        """
        target = self.target(text, shortest=shortest)
        found = self.choose(target, platform)
        if found is None and not self._exists(target):
            raise ImageNotFound(text)
        if found is None:
            raise PlatformNotFound(text, platform, here=[each for _, each in self._platforms(target)])
        return found

    def target(self, text: str, *, shortest: int = 1) -> Digest:
        """What `text` means, as `resolve`: the id of an image, or the digest of an index.

        Raises ImageNotFound, AmbiguousId, InvalidReference.
        """
        if is_id(text) and len(text.removeprefix("sha256:")) == 64:
            full = digests.from_hex(text.removeprefix("sha256:"))
            if not self._exists(full):
                raise ImageNotFound(text)
            return full
        try:
            found = self.named(Reference.parse(text))
        except InvalidReference:
            # "sha256:ab12" is the start of an id and no reference; anything else is the user's mistake.
            if not is_id(text):
                raise
            found = None
        if found is None and is_id(text) and len(text.removeprefix("sha256:")) >= shortest:
            found = self._by_prefix(text)
        if found is None:
            raise ImageNotFound(text)
        return found

    def named(self, reference: Reference) -> Digest | None:
        """The image or index that a reference names, or None. A digest is a manifest's, an index's or an image's."""
        target = self._target(str(reference.tagged()))
        if target is None and reference.digest is not None:
            target = self._by_digest(reference)
        return target

    def lookup(self, reference: Reference, *, platform: Platform | None = None) -> Digest | None:
        """The id of the image that a reference names, chosen as by `resolve`, or None."""
        target = self.named(reference)
        return None if target is None else self.choose(target, platform)

    def of(self, target: Digest) -> tuple[Digest, ...]:
        """The images that are here of an index, those for this machine first; an image is its own."""
        return tuple(dict.fromkeys(image for image, _ in self._platforms(target)))

    def choose(self, target: Digest, platform: Platform | None) -> Digest | None:
        """The image of `target` (an image or index) for a platform, with its very variant if there is one."""
        candidates = self._platforms(target)
        if platform is None:
            return candidates[0][0] if candidates else None
        from builder.oci.platforms import normal

        stated = ((image, normal(*(*text.split("/"), "", "")[:3])) for image, text in candidates)
        fitting = [(found.variant != platform.variant, image) for image, found in stated if platform.matches(found)]
        return min(fitting, key=lambda pair: pair[0])[1] if fitting else None

    def _platforms(self, target: Digest) -> tuple[tuple[Digest, str], ...]:
        """The images of an image or index, each with its platform."""
        if is_index(self._database, target):
            return images_here(self._database, target)
        row = self._database.row("SELECT platform FROM images WHERE id = ?", (target,))
        return () if row is None else ((target, row[0]),)

    def remove(
        self,
        text: str,
        *,
        force: bool = False,
        prune_parents: bool = True,
        running: Container[str] = (),
        platforms: Sequence[Platform] = (),
    ) -> tuple[Removal, ...]:
        """Remove by reference or id with docker's rules; says what went. `running` are ids of running containers.

        With `platforms` only the images for these go, and their names stay. Raises ImageNotFound, PlatformNotFound,
        ImageInUse, AmbiguousId, InvalidReference. Directories go with the next `collect`.
        """
        from builder.store.removal import Removing

        with self._database.write(durable=True, removing=True):
            work = Removing(self, self._database, running=running, force=force, prune_parents=prune_parents)
            removed = work.platforms(text, platforms) if platforms else work.remove(text)
        crashpoint("remove-rows")
        return removed

    def prune(self, image_id: Digest, *, tagged: bool) -> tuple[Removal, ...]:
        """Remove an image and its names, unless a container has it, another process is at work with it or, without
        `tagged`, a tag names it by now. () also when it has gone, or is to stay for another reason.
        """
        from builder.store.removal import is_taken

        try:
            with self._database.write(durable=True, removing=True):
                taken = is_taken(self._database, image_id, lease=self._lease().id, tagged=tagged)
                return () if taken else self.remove(image_id, force=True)
        except (ImageNotFound, ImageInUse):
            return ()

    def forget_unnamed(self, image_id: Digest) -> bool:
        """Forget an image that was made only for its files to go elsewhere; whether it went. Its layers stay cached.

        One that has a name, a container or a child stays, and one that another process has just made.
        """
        from builder.store.removal import forget_unnamed

        with self._database.write(removing=True):
            return forget_unnamed(self._database, image_id, lease=self._lease().id)

    # --- helpers ---

    def _check(self, image_id: Digest, config: ImageConfig, layers: Sequence[LayerID], *, foreign: bool) -> None:
        from builder.oci import validate

        found = tuple(self._snapshots.get(layer_id).diff_id for layer_id in layers)
        validate.layers(image_id, config, found, foreign=foreign)

    def _exists(self, target: str) -> bool:
        sql = "SELECT 1 FROM images WHERE id = ?1 UNION ALL SELECT 1 FROM indexes WHERE digest = ?1"
        return self._database.row(sql, (target,)) is not None

    def _target(self, name: str) -> Digest | None:
        row = self._database.row("SELECT target FROM refs WHERE name = ?", (name,))
        return None if row is None else row[0]

    def _by_digest(self, reference: Reference) -> Digest | None:
        """name@digest without a row of that name: the repository must have the image, by id or by a manifest of it."""
        row = self._database.row("SELECT image FROM manifests WHERE digest = ?", (reference.digest,))
        image = digests.Digest(str(row[0] if row is not None else reference.digest))
        return image if any(known.name == reference.name for known in self.references(image)) else None

    def _by_prefix(self, text: str) -> Digest | None:
        start = "sha256:" + text.removeprefix("sha256:")
        rows = self._database.rows(
            "SELECT id FROM images WHERE id >= ?1 AND id < ?2"
            " UNION SELECT digest FROM indexes WHERE digest >= ?1 AND digest < ?2",
            (start, start + "g"),
        )
        if len(rows) > 1:
            raise AmbiguousId(text, tuple(row[0] for row in rows))
        return rows[0][0] if rows else None
