"""Which references and images `rmi` takes, and when it refuses: docker's rules as one decision inside a transaction.

By reference: only the reference goes while others name the image; with the last one the image goes, unless a container
uses it. By id: all references of one repository go with the image; several repositories need force. A running container
and an image committed from it forbid removal even with force. Called by `Images.remove` only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.errors import ImageInUse, ImageNotFound
from builder.oci import digests
from builder.oci.references import Reference, is_id
from builder.store.images import Deleted, Images, Removal, Untagged

if TYPE_CHECKING:
    from collections.abc import Container

    from builder.oci.digests import Digest
    from builder.store.database import Database


def remove(
    images: Images, database: Database, text: str, *, force: bool, prune_parents: bool, running: Container[str]
) -> tuple[Removal, ...]:
    """Remove `text` (see Images.remove); must run inside of a write transaction."""
    image_id = images.resolve(text)
    by_id = is_id(text) and image_id.removeprefix("sha256:").startswith(text.removeprefix("sha256:"))
    reference = None if by_id and _named(images, text) != image_id else Reference.parse(text).tagged()
    users = tuple(row[0] for row in database.rows("SELECT id FROM containers WHERE image = ?", (image_id,)))
    removed: list[Removal] = []
    if reference is not None:
        known = images.references(image_id)
        going = _going(reference, known)
        if users and not force and not set(known) - set(going):
            raise ImageInUse(
                f'conflict: unable to remove repository reference "{text}" (must force) - '
                f"container {users[0][:12]} is using its referenced image {digests.short(image_id)}",
                forceable=True,
            )
        for each in going:
            removed += _untag(images, each)
        if images.references(image_id):
            return tuple(removed)
    elif force or len({name.name for name in images.references(image_id)}) <= 1:
        _refuse(images, image_id, users, running, force=force)
    else:
        raise ImageInUse(
            f"conflict: unable to delete {digests.short(image_id)} (must be forced) - "
            "image is referenced in multiple repositories",
            forceable=True,
        )
    _refuse(images, image_id, users, running, force=force)
    removed += _delete(images, database, image_id)
    if prune_parents:
        removed += _prune(images, database, removed[-1], images_parent=_parent(database, image_id))
    _forget(database, image_id)
    return tuple(removed)


def forget_unnamed(database: Database, image_id: str, *, lease: str) -> bool:
    """Forget an image that nobody names, uses, was derived from, or has just made (another process than `lease`'s).

    Whether it went; must run inside of a write transaction.
    """
    mine = (
        "SELECT 1 FROM refs WHERE target = ?1 UNION ALL SELECT 1 FROM index_images WHERE image = ?1"
        " UNION ALL SELECT 1 FROM containers WHERE image = ?1 UNION ALL SELECT 1 FROM images WHERE parent = ?1"
        " UNION ALL SELECT 1 FROM lease_items WHERE kind = 'image' AND name = ?1 AND lease <> ?2"
    )
    if database.row(mine, (image_id, lease)) is not None:
        return False
    _forget(database, image_id)
    return True


def _going(reference: Reference, known: tuple[Reference, ...]) -> tuple[Reference, ...]:
    """What goes when `reference` does: with the last tag of a repository its digests too."""
    mine = [each for each in known if each.name == reference.name and each != reference]
    return (reference,) if any(each.tag for each in mine) or not reference.tag else (reference, *mine)


def _named(images: Images, text: str) -> Digest | None:
    """What `text` names when it is read as a reference: "abc" may be both a name and the start of an id."""
    if text.startswith("sha256:") or len(text) == 64:
        return None
    return images.lookup(Reference.parse(text))


def _untag(images: Images, reference: Reference) -> list[Removal]:
    if images.untag(reference) is None:
        raise ImageNotFound(reference.familiar())
    return [Untagged(reference)]


def _refuse(images: Images, image_id: Digest, users: tuple[str, ...], running: Container[str], *, force: bool) -> None:
    """Raise ImageInUse if something needs the image."""
    short = digests.short(image_id)
    if images.children(image_id):
        raise ImageInUse(
            f"conflict: unable to delete {short} (cannot be forced) - image has dependent child images",
            forceable=False,
        )
    for user in users:
        if user in running:
            raise ImageInUse(
                f"conflict: unable to delete {short} (cannot be forced) - "
                f"image is being used by running container {user[:12]}",
                forceable=False,
            )
    if users and not force:
        raise ImageInUse(
            f"conflict: unable to delete {short} (must be forced) - "
            f"image is being used by stopped container {users[0][:12]}",
            forceable=True,
        )


def _delete(images: Images, database: Database, image_id: Digest) -> list[Removal]:
    removed: list[Removal] = []
    for reference in images.references(image_id):
        removed += _untag(images, reference)
    return [*removed, Deleted(image_id)]


def _parent(database: Database, image_id: str) -> Digest | None:
    row = database.row("SELECT parent FROM images WHERE id = ?", (image_id,))
    return None if row is None else row[0]


def _forget(database: Database, image_id: str) -> None:
    database.run("DELETE FROM index_images WHERE image = ?", (image_id,))
    database.run("DELETE FROM images WHERE id = ?", (image_id,))


def _prune(images: Images, database: Database, last: Removal, *, images_parent: Digest | None) -> list[Removal]:
    """Ancestors that nothing names or uses go too, until one is needed."""
    removed: list[Removal] = []
    child = last.id if isinstance(last, Deleted) else None
    parent = images_parent
    while parent is not None and child is not None:
        used = database.row("SELECT 1 FROM containers WHERE image = ?", (parent,)) is not None
        others = [image for image in images.children(parent) if image != child]
        missing = database.row("SELECT 1 FROM images WHERE id = ?", (parent,)) is None
        if used or others or missing or images.references(parent):
            break
        removed.append(Deleted(parent))
        grandparent = _parent(database, parent)
        _forget(database, child)
        child, parent = parent, grandparent
    if child is not None:
        _forget(database, child)
    return removed
