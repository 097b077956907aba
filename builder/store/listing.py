"""What `images` lists: every image of the store with its names and sizes, several of one index as one.

Read by `Images.list` and `Images.shown` only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.oci.references import Reference
from builder.store.indexes import names_of_indexes
from runtime.values import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

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


def shown(
    database: Database, images: Sequence[Listed], images_of: Callable[[Digest], tuple[Digest, ...]]
) -> tuple[Listed, ...]:
    """`images`, with one row for each named index of which several images are here, or none: its id is the index's.

    Its size is that of all distinct layers; when it was created the image for this machine says.
    """
    known = {image.id: image for image in images}
    named = {index: list(map(Reference.parse, names)) for index, names in names_of_indexes(database).items()}
    several = {index: here for index in named if len(here := images_of(index)) != 1}
    _join_pushed(named, several, known)
    rows = []
    for index in several.keys() & named.keys():
        here = several[index]
        first = known[here[0]] if here else None
        rows.append(
            Listed(
                id=index,
                references=tuple(named[index]),
                created=None if first is None else first.created,
                size=_size(database, here),
                platform="" if first is None else first.platform,
                parent=None,
                origin="index",
            )
        )
    inside = {reference for row in rows for reference in row.references}
    for image in images:
        left = tuple(each for each in image.references if each not in inside)
        if left or not image.references:
            rows.append(replace(image, references=left))
    return tuple(sorted(rows, key=lambda row: (-(row.created or 0), row.references, row.id)))


def _join_pushed(
    named: dict[Digest, list[Reference]], several: Mapping[Digest, tuple[Digest, ...]], known: Mapping[Digest, Listed]
) -> None:
    """An index that only goes by digests is no row of its own where its images have better names: it is what a registry
    was sent of a list of the same images, whose row says its digest, or of images that have rows."""
    for index in [index for index in several if not any(each.tag for each in named[index])]:
        here = set(several[index])
        repositories = {each.name for each in named[index]}
        for other, images in several.items():
            if (
                other != index
                and set(images) == here
                and any(each.tag and each.name in repositories for each in named.get(other, ()))
            ):
                named[other] += named.pop(index)
                break
        else:
            if here and not any(known[image].dangling for image in here):
                del named[index]


def _size(database: Database, images: Sequence[Digest]) -> int | None:
    """Bytes of all distinct layers of some images; None while one has not been hashed."""
    marks = ", ".join("?" * len(images))
    row = database.row(
        "SELECT CASE WHEN count(*) = count(size) THEN total(size) END FROM layers WHERE id IN"
        f" (SELECT layer FROM image_layers WHERE image IN ({marks}))",
        images,
    )
    return None if row is None or row[0] is None else int(row[0])
