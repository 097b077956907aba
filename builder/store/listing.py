"""What `images` lists: every image of the store with its names and sizes. Read by `Images.list` only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.oci.references import Reference
from runtime.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.oci.digests import Digest
    from builder.store.database import Database


@dataclass(frozen=True, slots=True)
class Listed:
    """A row of `images`: `references` sorted, with those by digest, `created` from the config in ns (None: not stated).

    `size` is the bytes of all its layers' files, None while a layer has not been hashed.
    """

    id: Digest
    references: tuple[Reference, ...]
    created: int | None
    size: int | None
    platform: str
    parent: Digest | None
    origin: str

    @property
    def dangling(self) -> bool:
        """Whether no tag names it: <none>. That it came under a digest is no name that a user gave."""
        return not any(each.tag for each in self.references)


def listed(database: Database, images_of: Callable[[Digest], tuple[Digest, ...]]) -> tuple[Listed, ...]:
    """All images, newest first as docker sorts them. `images_of` an image or index gives the images that are here."""
    names: dict[str, list[Reference]] = {}
    for name, target in database.rows("SELECT name, target FROM refs ORDER BY name"):
        for image in images_of(target):
            names.setdefault(image, []).append(Reference.parse(name))
    rows = database.rows(
        "SELECT i.id, i.config_created, i.platform, i.parent, i.origin, i.created,"
        " (SELECT CASE WHEN count(*) = count(l.size) THEN total(l.size) END FROM image_layers p"
        " LEFT JOIN layers l ON l.id = p.layer WHERE p.image = i.id)"
        " FROM images i ORDER BY coalesce(i.config_created, 0) DESC, i.created DESC, i.id"
    )
    return tuple(
        Listed(
            id=image_id,
            references=tuple(names.get(image_id, ())),
            created=created,
            size=None if size is None else int(size),
            platform=platform,
            parent=parent,
            origin=origin,
        )
        for image_id, created, platform, parent, origin, _, size in rows
    )
