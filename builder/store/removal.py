"""Which references and images `rmi` takes, and when it refuses: docker's rules as one decision inside a transaction.

By reference: only the reference goes while others name the image; with the last one the image goes, unless a container
uses it. By id: all references of one repository go with the image; several repositories need force. A running container
and an image committed from it forbid removal even with force. An index goes as its images do: with its last name those
go that nothing else names. Called by `Images.remove` only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.errors import ImageInUse, ImageNotFound, PlatformNotFound
from builder.oci import digests
from builder.oci.references import Reference, is_id
from builder.store.images import Deleted, Images, Removal, Untagged

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from builder.oci.digests import Digest
    from builder.oci.platforms import Platform
    from builder.store.database import Database


class Removing:
    """One removal; must be used inside of a write transaction."""

    def __init__(
        self, images: Images, database: Database, *, running: Container[str], force: bool, prune_parents: bool
    ) -> None:
        self._images = images
        self._database = database
        self._running = running
        self._force = force
        self._prune_parents = prune_parents

    def remove(self, text: str) -> tuple[Removal, ...]:
        """Remove `text` (see Images.remove)."""
        target = self._images.target(text)
        by_id = is_id(text) and target.removeprefix("sha256:").startswith(text.removeprefix("sha256:"))
        if by_id and self._named(text) != target:
            return self._by_id(target)
        here = self._images.of(target)
        known = tuple(dict.fromkeys(name for each in (target, *here) for name in self._images.references(each)))
        going = _going(Reference.parse(text).tagged(), known)
        for image_id in here:
            users = self._users(image_id)
            if users and not self._force and not set(self._images.references(image_id)) - set(going):
                raise ImageInUse(
                    f'conflict: unable to remove repository reference "{text}" (must force) - '
                    f"container {users[0][:12]} is using its referenced image {digests.short(image_id)}",
                    forceable=True,
                )
        removed = [removal for each in going for removal in self._untag(each)]
        if not here and not self._images.references(target):
            return (*removed, Deleted(target))
        for image_id in here:
            if not self._images.references(image_id):
                removed += self._delete(image_id)
        return tuple(removed)

    def platforms(self, text: str, platforms: Sequence[Platform]) -> tuple[Removal, ...]:
        """Remove the images of `text` for these platforms; an index keeps its names, and no others may name them."""
        target = self._images.target(text)
        removed: list[Removal] = []
        for platform in platforms:
            image_id = self._images.choose(target, platform)
            if image_id is None:
                raise PlatformNotFound(text, platform)
            if image_id == target:
                return self.remove(text)
            for name in self._images.references(image_id):
                if name.tag and self._images.named(name) != target:
                    raise ImageInUse(
                        f"conflict: unable to delete {digests.short(image_id)} (cannot be forced) - "
                        f"it is also what {name.familiar()} names",
                        forceable=False,
                    )
                if self._images.named(name) == image_id:
                    removed += self._untag(name)
            removed += self._delete(image_id)
        return tuple(removed)

    def _by_id(self, target: Digest) -> tuple[Removal, ...]:
        """An image goes, or an index with those images that only it names."""
        here = self._images.of(target)
        names = [name for name in self._images.references(target) if set(self._of(name)) <= set(here)]
        if not self._force and len({name.name for name in names}) > 1:
            raise ImageInUse(
                f"conflict: unable to delete {digests.short(target)} (must be forced) - "
                "image is referenced in multiple repositories",
                forceable=True,
            )
        removed = [removal for name in names for removal in self._untag(name)]
        for image_id in here:
            if image_id == target or not self._images.references(image_id):
                removed += self._delete(image_id)
        return tuple(removed) if here else (*removed, Deleted(target))

    def _of(self, name: Reference) -> tuple[Digest, ...]:
        target = self._images.named(name)
        return () if target is None else self._images.of(target)

    def _users(self, image_id: Digest) -> tuple[str, ...]:
        """The containers that were made from the image or mount it."""
        rows = self._database.rows("SELECT container FROM image_users WHERE image = ?", (image_id,))
        return tuple(row[0] for row in rows)

    def _delete(self, image_id: Digest) -> list[Removal]:
        """The image goes, with ancestors that nothing needs any more. Raises ImageInUse."""
        self._refuse(image_id)
        removed: list[Removal] = [Deleted(image_id)]
        parent = self._forget(image_id)
        while self._prune_parents and parent is not None and self._is_idle(parent):
            removed.append(Deleted(parent))
            parent = self._forget(parent)
        return removed

    def _is_idle(self, image_id: Digest) -> bool:
        """Whether the image is here, and nothing names or uses it or was committed from it."""
        here = self._database.row("SELECT 1 FROM images WHERE id = ?", (image_id,)) is not None
        needed = self._users(image_id) or self._images.children(image_id) or self._images.references(image_id)
        return here and not needed

    def _forget(self, image_id: Digest) -> Digest | None:
        """Take its row; returns its parent."""
        row = self._database.row("SELECT parent FROM images WHERE id = ?", (image_id,))
        _forget(self._database, image_id)
        return None if row is None else row[0]

    def _named(self, text: str) -> Digest | None:
        """What `text` names when it is read as a reference: "abc" may be both a name and the start of an id."""
        if text.startswith("sha256:") or len(text) == 64:
            return None
        return self._images.named(Reference.parse(text))

    def _untag(self, reference: Reference) -> list[Removal]:
        if self._images.untag(reference) is None:
            raise ImageNotFound(reference.familiar())
        return [Untagged(reference)]

    def _refuse(self, image_id: Digest) -> None:
        """Raise ImageInUse if something needs the image."""
        short = digests.short(image_id)
        if self._images.children(image_id):
            raise ImageInUse(
                f"conflict: unable to delete {short} (cannot be forced) - image has dependent child images",
                forceable=False,
            )
        users = self._users(image_id)
        for user in users:
            if user in self._running:
                raise ImageInUse(
                    f"conflict: unable to delete {short} (cannot be forced) - "
                    f"image is being used by running container {user[:12]}",
                    forceable=False,
                )
        if users and not self._force:
            raise ImageInUse(
                f"conflict: unable to delete {short} (must be forced) - "
                f"image is being used by stopped container {users[0][:12]}",
                forceable=True,
            )


def forget_unnamed(database: Database, image_id: str, *, lease: str) -> bool:
    """Forget an image that nobody names, uses, was derived from, or has just made (another process than `lease`'s).

    Whether it went; must run inside of a write transaction.
    """
    mine = (
        "SELECT 1 FROM refs WHERE target = ?1 UNION ALL SELECT 1 FROM index_images WHERE image = ?1"
        " UNION ALL SELECT 1 FROM image_users WHERE image = ?1 UNION ALL SELECT 1 FROM images WHERE parent = ?1"
        " UNION ALL SELECT 1 FROM lease_items WHERE kind = 'image' AND name = ?1 AND lease <> ?2"
    )
    if database.row(mine, (image_id, lease)) is not None:
        return False
    _forget(database, image_id)
    return True


def is_taken(database: Database, image_id: str, *, lease: str, tagged: bool) -> bool:
    """Whether a container uses the image, another process than `lease`'s is at work with it or, unless it may be
    `tagged`, a tag names it, also through an index.
    """
    taken = (
        "SELECT 1 FROM image_users WHERE image = ?1"
        " UNION ALL SELECT 1 FROM lease_items WHERE kind = 'image' AND name = ?1 AND lease <> ?2"
        " UNION ALL SELECT 1 FROM refs WHERE NOT ?3 AND instr(name, '@') = 0"
        " AND (target = ?1 OR target IN (SELECT digest FROM index_images WHERE image = ?1))"
    )
    return database.row(taken, (image_id, lease, tagged)) is not None


def _going(reference: Reference, known: tuple[Reference, ...]) -> tuple[Reference, ...]:
    """What goes when `reference` does: with the last tag of a repository its digests too."""
    mine = [each for each in known if each.name == reference.name and each != reference]
    return (reference,) if any(each.tag for each in mine) or not reference.tag else (reference, *mine)


def _forget(database: Database, image_id: str) -> None:
    database.run("DELETE FROM images WHERE id = ?", (image_id,))
