"""Snapshots: layers as overlay upper directories, from `prepare` to `commit`.

An *active* snapshot is a writable upper directory on top of parent layers; it has a key and belongs to the lease of its
process or to a container. Committed, its directory is renamed into place and becomes a *layer* under the same name,
random hex, so that a collection which meets the directory before its row still finds whose it is. A layer's digests
come later (`set_digests`): they are computed beside the next step. Nothing here mounts anything.

Durability: a layer's row carries the boot in which it was written until `sync` has run, which the first image that
needs the layer does. After a crash of the machine, layers that were not synced are treated as missing; the death of a
process loses none.
"""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NewType

from builder.errors import DiskFull, InvalidInput, LayerNotFound
from builder.store import trees
from builder.store.crash import crashpoint
from builder.store.diskfaults import disk_errors
from builder.store.leases import LAYER, boot_id
from runtime.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from builder.oci.descriptors import Descriptor
    from builder.oci.digests import ContentDigest, DiffID, Digest
    from builder.store.changesets import Changeset
    from builder.store.database import Database, Row
    from builder.store.layout import Layout
    from builder.store.leases import Lease

LayerID = NewType("LayerID", str)

FAILED_TTL = 7 * 24 * 3600 * 1_000_000_000
"""How long the directory of a failed step is kept, in ns."""
MAX_FAILED = 10
"""How many are kept; the oldest go."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A committed layer. Digests and sizes are None until somebody computed them (`set_digests`).

    `size` is the bytes of its regular files, `tar_size` of its tar, `files` the entries of that tar. `recipe` is the
    blob that gives back the tar of a foreign layer (see `recipes`); None: the canonical tar is the one.
    """

    id: LayerID
    path: Path
    created: int
    diff_id: DiffID | None = None
    content_digest: ContentDigest | None = None
    size: int | None = None
    tar_size: int | None = None
    files: int | None = None
    recipe: Digest | None = None

    @property
    def change(self) -> Changeset | None:
        """What it is as a change, once that is known."""
        from builder.store.changesets import Changeset

        if self.diff_id is None or self.content_digest is None:
            return None
        return Changeset(self.diff_id, self.content_digest, self.tar_size or 0, self.size or 0, self.files or 0)

    def describe(self) -> Descriptor:
        """What points at it as a plain tar; it must be hashed."""
        from builder.oci.descriptors import OCI_LAYER, Descriptor
        from builder.oci.digests import Digest

        assert self.diff_id is not None and self.tar_size is not None
        return Descriptor(OCI_LAYER, Digest(self.diff_id), self.tar_size)


@dataclass(frozen=True, slots=True)
class Active:
    """A writable snapshot: mount `upper` and `work` on top of `lowers` (topmost first, at most about 400)."""

    key: str
    parents: tuple[LayerID, ...]
    upper: Path
    work: Path
    lowers: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """What a failed step left; `path` is its upper directory, `expires` in ns since the epoch."""

    key: str
    path: Path
    build: str
    step: int
    parents: tuple[LayerID, ...]
    created: int
    expires: int


class Snapshots:
    """The snapshots of one store. All methods may be called from several threads."""

    def __init__(
        self, database: Database, layout: Layout, lease: Callable[[], Lease], clock: Callable[[], int]
    ) -> None:
        self._database = database
        self._lease = lease
        self._clock = clock
        self._boot = boot_id()
        self._layout = layout
        self._layers = layout.directory("layers")
        self._actives = layout.directory("active")
        self._failed = layout.directory("failed")
        self._sealed: set[str] = set()
        self._paths: dict[LayerID, Path] = {}  # a deep build asks for each of its layers at each step

    # --- from prepare to commit ---

    def prepare(self, parents: Sequence[LayerID], *, base: Path | None = None) -> Active:
        """A new active snapshot on top of `parents` (bottom first); it ends with this process unless it is given away.

        The root directory gets the owner and mode of the topmost parent's (0755 root without one). Raises LayerNotFound
        when a parent has gone, DiskFull and other StoreErrors.
        """
        self.use(parents)
        lowers = self.lowers(parents)
        key = os.urandom(8).hex()
        with self._database.write():
            self._database.run(
                "INSERT INTO actives (key, lease, parents, created) VALUES (?, ?, ?, ?)",
                (key, self._lease().id, json.dumps(list(parents)), self._clock()),
            )
        crashpoint("active-row")
        active = self._active(key, tuple(parents), lowers)
        try:
            with disk_errors("make a layer"):
                os.mkdir(active.upper.parent, 0o700)
                os.mkdir(active.upper, 0o755)
                os.mkdir(active.work, 0o700)
                _root_like(active.upper, base or (lowers[0] if parents else None))
        except BaseException:
            self.discard(active)
            raise
        crashpoint("active-directory")
        return active

    def active(self, key: str) -> Active:
        """The active snapshot `key` (a container's), with lowers that are there now. Raises LayerNotFound."""
        row = self._database.row("SELECT parents FROM actives WHERE key = ?", (key,))
        if row is None:
            raise LayerNotFound(key)
        parents = tuple(LayerID(parent) for parent in json.loads(row[0]))
        with suppress(DiskFull):  # the row keeps them as well, as long as nobody removes it
            self.use(parents)
        return self._active(key, parents, self.lowers(parents))

    def commit(self, active: Active, change: Changeset | None = None, *, recipe: Digest | None = None) -> Layer:
        """Make the active snapshot a layer; nobody may write to it any more. What it is as a change may follow by
        `set_digests`.

        Raises LayerNotFound if it is not active, DiskFull and other StoreErrors.
        """
        self.seal(active)
        return self.record(active, change, recipe=recipe)

    def seal(self, active: Active) -> Path:
        """The first half of `commit`, for who builds on at once: the directory is in its place, and this process may
        `prepare` on it. Until `record` its row among the actives keeps it; without that it ends with the process.

        Raises LayerNotFound if it is not active, DiskFull and other StoreErrors.
        """
        target = self._layers / active.key
        if self._database.row("SELECT 1 FROM actives WHERE key = ?", (active.key,)) is None:
            raise LayerNotFound(active.key)
        with disk_errors("commit a layer"):
            os.rename(active.upper, target)
        self._sealed.add(active.key)
        crashpoint("layer-renamed")
        return target

    def record(self, active: Active, change: Changeset | None = None, *, recipe: Digest | None = None) -> Layer:
        """The second half of `commit`: the layer gets its row, for everybody. Raises DiskFull, other StoreErrors."""
        layer_id = LayerID(active.key)
        target = self._layers / layer_id
        lease = self._lease()
        now = self._clock()

        def recorded() -> None:
            self._sealed.discard(layer_id)
            crashpoint("layer-row")
            trees.remove(rest)

        try:
            rest = self._aside(active.upper.parent)
            with self._database.write():
                self._database.run(
                    "INSERT INTO layers"
                    " (id, diff_id, content_digest, size, tar_size, files, recipe, boot, created, last_used)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (layer_id, *_facts(change), recipe, self._boot, now, now),
                )
                self._database.run("DELETE FROM actives WHERE key = ?", (active.key,))
                lease.protect(LAYER, [layer_id])
                self._database.after_commit(recorded)
        except BaseException:
            active.upper.parent.mkdir(0o700, exist_ok=True)
            os.rename(target, active.upper)
            self._sealed.discard(layer_id)
            raise
        return Layer(layer_id, target, now, *_facts(change), recipe)

    def commit_copy(self, active: Active) -> Layer:
        """A layer with a copy of what the active snapshot holds now; the snapshot stays (commit of a container)."""
        mine = self.prepare(active.parents)
        try:
            with disk_errors("copy a layer"):
                trees.copy(active.upper, mine.upper)
        except BaseException:
            self.discard(mine)
            raise
        return self.commit(mine)

    def discard(self, active: Active) -> None:
        """Forget an active snapshot and remove its directory. Idempotent."""
        self.discard_key(active.key)

    def discard_key(self, key: str) -> None:
        """As `discard`, by the key alone."""
        # Out of sight first: what is in tmp/ is ours until we end, and garbage after that.
        trees.remove(self._aside(self._actives / _checked(key)))
        if key in self._sealed:
            trees.remove(self._aside(self._layers / key))
            self._sealed.discard(key)
        crashpoint("discard-removed")
        # Last, since on a full disk there is room for it only now.
        with self._database.write():
            self._database.run("DELETE FROM actives WHERE key = ?", (key,))

    def set_digests(self, layer_id: LayerID, change: Changeset) -> None:
        """Record what hashing a layer gave; unknown layers (collected meanwhile) are ignored."""
        with self._database.write():
            self._database.run(
                "UPDATE layers SET diff_id = ?, content_digest = ?, size = ?, tar_size = ?, files = ? WHERE id = ?",
                (*_facts(change), layer_id),
            )
        crashpoint("digests-row")

    def set_created(self, layer_id: LayerID, created: int) -> None:
        """Say when a layer was made that came from elsewhere, in ns since the epoch."""
        with self._database.write():
            self._database.run("UPDATE layers SET created = ? WHERE id = ?", (created, layer_id))

    def sync(self) -> None:
        """Bring all layers of this boot to the disk with one syncfs; putting an image does it."""
        rows = self._database.rows("SELECT id FROM layers WHERE boot = ?", (self._boot,))
        if not rows:
            return
        self.flush()
        crashpoint("layers-synced")
        with self._database.write():
            self._database.run_many("UPDATE layers SET boot = NULL WHERE id = ?", rows)

    def flush(self) -> None:
        """Let the disk write what layers hold by now, so that less is left to do for the `sync` that follows."""
        with disk_errors("write layers to the disk"):
            _sync_file_system(self._layers)

    # --- layers ---

    def get(self, layer_id: LayerID) -> Layer:
        """The layer `layer_id`. Raises LayerNotFound; a row whose directory has gone (or never reached the disk) goes
        too.
        """
        row = self._database.row(f"SELECT {_COLUMNS} FROM layers WHERE id = ?", (layer_id,))
        if row is None:
            raise LayerNotFound(layer_id)
        if not self._is_there(row):
            self.forget(layer_id)
            raise LayerNotFound(layer_id)
        return self._layer(row)

    def get_all(self, layer_ids: Sequence[LayerID]) -> tuple[Layer, ...]:
        """As `get` for many layers with few queries, in their order. Raises LayerNotFound."""
        rows: dict[str, Row] = {}
        for start in range(0, len(layer_ids), _BATCH):
            batch = layer_ids[start : start + _BATCH]
            marks = ",".join("?" * len(batch))
            found = self._database.rows(f"SELECT {_COLUMNS} FROM layers WHERE id IN ({marks})", batch)
            rows.update((row[0], row) for row in found)
        return tuple(
            self._layer(rows[one]) if one in rows and self._is_there(rows[one]) else self.get(one) for one in layer_ids
        )

    def peek(self, layer_id: LayerID) -> Layer | None:
        """As `get`, but changes nothing: None for a layer that is not there."""
        row = self._database.row(f"SELECT {_COLUMNS} FROM layers WHERE id = ?", (layer_id,))
        return None if row is None or not self._is_there(row) else self._layer(row)

    def use(self, layer_ids: Sequence[LayerID]) -> None:
        """Keep these layers from collection while this process lives. Raises LayerNotFound."""
        lease = self._lease()
        new = [one for one in layer_ids if one not in self._sealed and not lease.protects(LAYER, one)]
        if not new:
            return
        with self._database.write():
            for layer_id in new:
                if self._database.row("SELECT 1 FROM layers WHERE id = ?", (layer_id,)) is None:
                    raise LayerNotFound(layer_id)
            lease.protect(LAYER, new)
            self._database.run_many(
                "UPDATE layers SET last_used = ? WHERE id = ?", [(self._clock(), layer_id) for layer_id in new]
            )
        for layer_id in new:
            self.get(layer_id)

    def find(self, diff_id: DiffID) -> Layer | None:
        """Some layer whose tar has this digest, leased; None when there is none."""
        for row in self._database.rows(f"SELECT {_COLUMNS} FROM layers WHERE diff_id = ? ORDER BY created", (diff_id,)):
            try:
                self.use([LayerID(row[0])])
                return self.get(LayerID(row[0]))
            except LayerNotFound:
                continue
        return None

    def list(self) -> tuple[Layer, ...]:
        """All layers with their rows, oldest first; directories are not looked at."""
        rows = self._database.rows(f"SELECT {_COLUMNS} FROM layers ORDER BY created, id")
        return tuple(self._layer(row) for row in rows)

    def path(self, layer_id: LayerID) -> Path:
        """Where the directory of a layer is."""
        found = self._paths.get(layer_id)
        if found is None:
            found = self._paths[layer_id] = self._layers / _checked(layer_id)
        return found

    def forget(self, layer_id: LayerID) -> None:
        """Drop the row of a layer that has gone, and the cache records that gave it: rebuilt when next needed."""
        with self._database.write():
            self._database.run("DELETE FROM cache_records WHERE layer = ?", (layer_id,))
            self._database.run("DELETE FROM layers WHERE id = ?", (layer_id,))

    def lowers(self, layer_ids: Sequence[LayerID]) -> tuple[Path, ...]:
        """Directories to mount for these layers (given bottom first), topmost first, never none and never too many.

        The oldest layers of a deep stack come as one merged directory (`flats`). Raises LayerNotFound, DiskFull.
        """
        if not layer_ids:
            return (self._layout.directory("empty"),)
        from builder.store import flats

        if len(layer_ids) <= flats.MAX_LOWERS:
            return tuple(self.path(layer_id) for layer_id in reversed(layer_ids))
        bottom, rest = flats.Flats(self._database, self._layout, self._lease, self._clock).split(tuple(layer_ids))
        return (*(self.path(layer_id) for layer_id in reversed(rest)), bottom)

    # --- failed steps ---

    def keep_failed(self, active: Active, build: str, step: int, *, ttl: int = FAILED_TTL) -> Failed:
        """Keep the directory of a failed step for `ttl` ns, so that one can look inside."""
        target = self._failed / active.key
        now = self._clock()
        failed = Failed(active.key, target, build, step, active.parents, now, now + ttl)
        with disk_errors("keep the failed step"):
            os.rename(active.upper, target)
        crashpoint("failed-renamed")
        try:
            with self._database.write():
                self._database.run(
                    "INSERT INTO failed (key, build, step, parents, created, expires) VALUES (?, ?, ?, ?, ?, ?)",
                    (active.key, build, step, json.dumps(list(active.parents)), now, now + ttl),
                )
                self._database.run("DELETE FROM actives WHERE key = ?", (active.key,))
        except BaseException:
            trees.remove(target)
            raise
        crashpoint("failed-row")
        trees.remove(active.upper.parent)
        for old in self.list_failed()[MAX_FAILED:]:
            self.drop_failed(old.key)
        return failed

    def list_failed(self) -> tuple[Failed, ...]:
        """Kept directories of failed steps, newest first; those that have gone are left out."""
        rows = self._database.rows(
            "SELECT key, build, step, parents, created, expires FROM failed ORDER BY created DESC"
        )
        found = (
            Failed(key, self._failed / key, build, step, tuple(json.loads(parents)), created, expires)
            for key, build, step, parents, created, expires in rows
        )
        return tuple(failed for failed in found if failed.path.is_dir())

    def drop_failed(self, key: str) -> None:
        """Remove the directory of a failed step. Idempotent."""
        with self._database.write():
            self._database.run("DELETE FROM failed WHERE key = ?", (key,))
        trees.remove(self._failed / _checked(key))

    # --- helpers ---

    def _aside(self, path: Path) -> Path:
        """Rename a directory into tmp/, as ours; missing is fine."""
        target = self._layout.directory("tmp") / f"{self._lease().id}.{os.urandom(4).hex()}"
        with disk_errors("remove a layer"):
            try:
                os.rename(path, target)
            except FileNotFoundError:
                pass
        return target

    def _active(self, key: str, parents: tuple[LayerID, ...], lowers: tuple[Path, ...]) -> Active:
        directory = self._actives / _checked(key)
        return Active(key, parents, directory / "upper", directory / "work", lowers)

    def _is_there(self, row: Row) -> bool:
        boot = row[8]
        return (boot is None or boot == self._boot) and self.path(row[0]).is_dir()

    def _layer(self, row: Row) -> Layer:
        layer_id, diff_id, content_digest, size, tar_size, files, recipe, created, _ = row
        return Layer(
            id=LayerID(layer_id),
            path=self.path(layer_id),
            created=created,
            diff_id=diff_id,
            content_digest=content_digest,
            size=size,
            tar_size=tar_size,
            files=files,
            recipe=recipe,
        )


_COLUMNS = "id, diff_id, content_digest, size, tar_size, files, recipe, created, boot"
_BATCH = 500
"""Layers in one SELECT."""


def _checked(key: str) -> str:
    """A key as a file name: only what we made ourselves (hex), never a path."""
    if not key.isalnum() or not key.isascii() or len(key) > 64:
        raise InvalidInput(f"{key[:80]!r} is not the id of a layer")
    return key


def _facts(
    change: Changeset | None,
) -> tuple[DiffID | None, ContentDigest | None, int | None, int | None, int | None]:
    """What a row says of it: diff_id, content_digest, size, tar_size, files."""
    if change is None:
        return None, None, None, None, None
    return change.diff_id, change.content_digest, change.content_size, change.size, change.files


def _root_like(upper: Path, model: Path | None) -> None:
    """The root of a new layer is the / that its container sees: it must look like the parent's."""
    if model is None:
        os.chmod(upper, 0o755)
        return
    status = os.stat(model)
    os.chown(upper, status.st_uid, status.st_gid)
    os.chmod(upper, stat.S_IMODE(status.st_mode))


def _sync_file_system(path: Path) -> None:
    from runtime.linux.files import syncfs

    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syncfs(descriptor)
    finally:
        os.close(descriptor)
