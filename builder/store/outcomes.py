"""Outcomes of whole builds: remembered with what they stand on, and recorded once more when that still stands.

For a command that finds nothing changed, and is over before most of this package would be loaded. It takes no lease and
needs none: whether the image and its layers are there is asked inside of the transaction that records the build, and
collecting is a transaction, too. Whatever is not as it was is None, and the caller goes the ordinary way, which tells
errors, sweeps and heals.
"""

from __future__ import annotations

import marshal
import os

from builder.store.leases import Leases

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from builder.store.database import Database
    from builder.store.snapshots import LayerID

DONE = "done"
INSERT_BUILD = (
    "INSERT INTO builds (id, started, finished, status, image, lease, facts, dockerfile)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
INSERT_STEP = (
    "INSERT OR REPLACE INTO steps (build, number, name, status, key, step, layer, started, finished, exit_code, facts)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


class Outcome:
    """What a build came to. Plain values, so that they are read without loading anything.

    `image` is the only one of `images`, or their index. `names` are (reference as it is in `refs`, image, platform that
    was asked for or "") of base images, `references` those that name `image` as well; `steps` are rows of `steps`
    without build and times: (number, name, key, step, layer, facts as JSON); `facts` those of the build as JSON;
    `looks` and `shown` are the pipeline's.
    """

    __slots__ = ("facts", "image", "images", "looks", "names", "references", "shown", "steps")

    def __init__(
        self,
        image: str,
        images: Sequence[str],
        facts: str,
        names: Sequence[tuple[str, str, str]],
        references: Sequence[str],
        steps: Sequence[tuple[int, str, str | None, str | None, str | None, str]],
        looks: Sequence[Any],
        shown: Sequence[Any],
    ) -> None:
        self.image = image
        self.images = images
        self.facts = facts
        self.names = names
        self.references = references
        self.steps = steps
        self.looks = looks
        self.shown = shown


class Outcomes:
    """The remembered outcomes of one store. *clock* gives ns."""

    def __init__(self, database: Database, root: str, clock: Callable[[], int]) -> None:
        self._database = database
        self._root = root
        self._clock = clock

    def get(self, key: str) -> Outcome | None:
        """The outcome that is remembered under *key*; None, too, when somebody died here and is to be swept after."""
        row = self._database.row("SELECT data FROM parsed WHERE key = ?", (key,))
        if row is None or Leases(self._database, os.path.join(self._root, "leases"), self._clock).any_dead():
            return None
        try:
            return Outcome(*marshal.loads(row[0]))
        except (ValueError, EOFError, TypeError):
            return None

    def put(self, key: str, outcome: Outcome) -> None:
        """Remember, unless it does not stand even now (a base that is named by the start of its id)."""
        with self._database.write():
            if self._stands(outcome):
                data = marshal.dumps(tuple(getattr(outcome, name) for name in _FIELDS))
                self._database.run(
                    "INSERT OR REPLACE INTO parsed (key, data, created) VALUES (?, ?, ?)", (key, data, self._clock())
                )

    def record(self, outcome: Outcome, dockerfile: bytes) -> str | None:
        """Record a build that came to *outcome*, all its steps cached: the build's id; None when it does not stand.

        Raises StoreError.
        """
        now = self._clock()
        build = new_build(now)
        with self._database.write():
            if not self._stands(outcome):
                return None
            self._database.run(INSERT_BUILD, (build, now, now, DONE, outcome.image, None, outcome.facts, dockerfile))
            self._database.run_many(
                INSERT_STEP,
                [
                    (build, number, name, "cached", key, step, layer, now, now, None, facts)
                    for number, name, key, step, layer, facts in outcome.steps
                ],
            )
        return build

    def _stands(self, outcome: Outcome) -> bool:
        """Whether the names mean what they meant, and the images are there with all their layers."""
        row = self._database.row
        for name, image, platform in outcome.names:
            target = row("SELECT target FROM refs WHERE name = ?", (name,))
            if target is None or (target[0] != image and not self._chosen(target[0], image, platform)):
                return False
        for name in outcome.references:
            if row("SELECT target FROM refs WHERE name = ?", (name,)) != (outcome.image,):
                return False
        index = outcome.image not in outcome.images
        if index and row("SELECT 1 FROM indexes WHERE digest = ?", (outcome.image,)) is None:
            return False
        return all(is_whole(self._database, image, self._layer) for image in outcome.images)

    def _layer(self, layer: str) -> str:
        return os.path.join(self._root, "layers", layer)

    def _chosen(self, target: str, image: str, platform: str) -> bool:
        """Whether `Images.choose` finds *image* in the index *target*; of a platform only the very variant."""
        if platform:
            found = self._database.row(
                "SELECT image FROM index_images WHERE digest = ? AND platform = ? ORDER BY position LIMIT 1",
                (target, platform),
            )
            return found == (image,)
        from builder.store.indexes import images_here

        return next(iter(images_here(self._database, target)), ("",))[0] == image


def is_whole(database: Database, image: str, place: Callable[[LayerID], str | os.PathLike[str]]) -> bool:
    """Whether an image is here with all its layers, each in its *place* on the disk and not only in the rows."""
    if database.row("SELECT 1 FROM images WHERE id = ?", (image,)) is None:
        return False
    layers = database.rows(
        "SELECT p.layer, l.id IS NOT NULL AND l.boot IS NULL FROM image_layers p"
        " LEFT JOIN layers l ON l.id = p.layer WHERE p.image = ?",
        (image,),
    )
    return all(synced and os.path.isdir(place(layer)) for layer, synced in layers)


def new_build(now: int) -> str:
    """The id of a build that begins at *now* (ns): 24 hex digits that sort by time."""
    return f"{now // 1_000_000:012x}{os.urandom(6).hex()}"


_FIELDS = ("image", "images", "facts", "names", "references", "steps", "looks", "shown")
