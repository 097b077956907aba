"""The check: is everything in the store as promised? Finds, says, and with `repair` puts right.

Safe beside running builds: what living processes have is not garbage. Garbage and rows without their directory are what
a killed process or a lost machine may leave; everything else is damage. Repairing never invents anything: a layer that
has gone or changed is forgotten, its cache records with it; an image that cannot be whole any more is removed with its
names, since it could neither run nor be saved, unless the store has the same layer a second time.
"""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING

from builder.errors import EngineError, InvalidImage, StoreError
from builder.oci import digests
from builder.store.leases import boot_id
from builder.store.sweep import LOCK, find_garbage, forget_dead, move_away, remove_moved
from runtime.values import asdict, dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.store import Store
    from builder.store.snapshots import Layer
    from builder.store.sweep import Garbage

_NEW = 60_000_000_000
"""ns in which whoever made a file to lock it has locked it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is not as promised.

    `kind` is one of database, mode, garbage, layer, image, attestation, index, manifest, reference, cache, container,
    failed, flat, blob; `name` its id or path below the root, `detail` a sentence without the name, `repaired` whether
    it has been put right.
    """

    kind: str
    name: str
    detail: str
    repaired: bool = False

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.detail}" + (" (repaired)" if self.repaired else "")

    def to_json(self) -> dict[str, object]:
        """As a JSON object."""
        return asdict(self)


def fsck(store: Store, *, repair: bool = False, full: bool = False) -> tuple[Problem, ...]:
    """Check the store; `full` reads every layer and blob and compares digests. Raises StoreErrors.

    A damaged database is reported, but only the rest can be repaired.
    """
    damaged = tuple(Problem("database", store.layout.database.name, text) for text in store.database.check())
    if damaged:
        return damaged
    check = _Check(store, repair=repair, full=full)
    if not repair:
        return tuple(check.run())
    with store.locks.hold(LOCK):
        return tuple(check.run())


class _Check:
    def __init__(self, store: Store, *, repair: bool, full: bool) -> None:
        self._store = store
        self._database = store.database
        self._repair = repair
        self._full = full

    def run(self) -> Iterator[Problem]:
        """All checks, in an order in which repairing one finds what it leaves to the next."""
        yield from self._modes()
        yield from self._blobs()
        yield from self._layers()
        yield from self._images()
        yield from self._attestations()
        yield from self._indexes()
        yield from self._references()
        yield from self._cache()
        yield from self._containers()
        yield from self._failed()
        yield from self._flats()
        yield from self._garbage()

    def _problem(self, kind: str, name: str, detail: str) -> Problem:
        return Problem(kind, name, detail, repaired=self._repair)

    def _run(self, sql: str, *parameters: object) -> None:
        if self._repair:
            with self._database.write(durable=True):
                self._database.run(sql, parameters)

    def _modes(self) -> Iterator[Problem]:
        """Who can pass through a directory of the store could start what is setuid in a layer."""
        for path in (self._store.root, *(self._store.layout.directory(name) for name in ("layers", "active", "flat"))):
            mode = stat.S_IMODE(os.stat(path).st_mode)
            if mode & 0o077 and (path == self._store.root or self._root_is_open()):
                if self._repair:
                    path.chmod(0o700)
                yield self._problem("mode", path.name, f"mode {mode:04o} lets other users in, must be 0700")

    def _root_is_open(self) -> bool:
        return bool(stat.S_IMODE(os.stat(self._store.root).st_mode) & 0o077)

    def _blobs(self) -> Iterator[Problem]:
        content = self._store.content
        for digest, size in self._database.rows("SELECT digest, size FROM blobs ORDER BY digest"):
            path = content.path(digest)
            detail = None
            try:
                if path.stat().st_size != size:
                    detail = f"has {path.stat().st_size} bytes, not {size}"
                elif self._full and _digest_of(path) != digest:
                    detail = "its content has changed"
            except FileNotFoundError:
                if self._database.row("SELECT 1 FROM blobs WHERE digest = ?", (digest,)) is None:
                    continue  # collected meanwhile
                detail = "its file is missing"
            if detail is not None:
                self._run("DELETE FROM blobs WHERE digest = ?", digest)
                yield self._problem("blob", digest, detail)

    def _layers(self) -> Iterator[Problem]:
        for layer in self._store.snapshots.list():
            detail = self._damage(layer)
            if detail is None or not self._has_row(layer.id):
                continue
            if self._repair:
                self._store.snapshots.forget(layer.id)
            yield self._problem("layer", layer.id, detail)

    def _has_row(self, layer: str) -> bool:
        return self._database.row("SELECT 1 FROM layers WHERE id = ?", (layer,)) is not None

    def _damage(self, layer: Layer) -> str | None:
        """What is wrong with a layer, or None."""
        boot = self._database.row("SELECT boot FROM layers WHERE id = ?", (layer.id,))
        if boot is not None and boot[0] not in (None, boot_id()):
            return "the machine stopped before it was on the disk"
        if not layer.path.is_dir():
            return "its directory is missing"
        if layer.recipe is not None and not self._blob_is_there(layer.recipe):
            return "the recipe of its tar is missing"
        if not self._full or layer.diff_id is None:
            return None
        from builder.store.validate import layer_damage

        try:
            return layer_damage(self._store, layer)
        except (OSError, EngineError) as err:
            return f"it cannot be read: {err}"

    def _blob_is_there(self, digest: str) -> bool:
        return self._store.content.peek(digests.Digest(digest))

    def _images(self) -> Iterator[Problem]:
        from builder.store import validate

        for image_id, config in self._database.rows("SELECT id, config FROM images ORDER BY id"):
            if digests.of(bytes(config)) != image_id:
                detail = "its config has changed"
            else:
                self._heal(image_id)
                try:
                    validate.image(self._store, image_id)
                    continue
                except StoreError:
                    raise
                except InvalidImage as err:
                    detail = err.reason
                except EngineError as err:
                    detail = err.message
            if self._database.row("SELECT 1 FROM images WHERE id = ?", (image_id,)) is None:
                continue  # removed meanwhile
            self._run("DELETE FROM refs WHERE target = ?", image_id)
            self._run("DELETE FROM images WHERE id = ?", image_id)
            yield self._problem("image", image_id, detail)

    def _heal(self, image_id: digests.Digest) -> None:
        """Give an image another layer with the same tar in place of one that has gone."""
        if not self._repair:
            return
        from builder.oci.configs import ImageConfig

        row = self._database.row("SELECT config FROM images WHERE id = ?", (image_id,))
        if row is None:
            return
        try:
            wanted = ImageConfig.from_json(bytes(row[0])).diff_ids
        except EngineError:
            return
        for position, layer in enumerate(self._store.images.layers(image_id)):
            if self._has_row(layer) or position >= len(wanted):
                continue
            other = self._store.snapshots.find(wanted[position])
            if other is not None:
                self._run(
                    "UPDATE image_layers SET layer = ? WHERE image = ? AND position = ?", other.id, image_id, position
                )

    def _attestations(self) -> Iterator[Problem]:
        for image, name, digest in self._database.rows("SELECT image, type, digest FROM attestations ORDER BY 1, 2"):
            if not self._blob_is_there(digest):
                self._run("DELETE FROM attestations WHERE image = ? AND type = ?", image, name)
                yield self._problem("attestation", f"{name} of {image}", "its document is missing")

    def _indexes(self) -> Iterator[Problem]:
        for digest, document in self._database.rows("SELECT digest, document FROM indexes ORDER BY digest"):
            if digests.of(bytes(document)) != digest:
                self._run("DELETE FROM indexes WHERE digest = ?", digest)
                yield self._problem("index", digest, "its document has changed")
        for digest, document in self._database.rows("SELECT digest, document FROM manifests ORDER BY digest"):
            if digests.of(bytes(document)) != digest:
                self._run("DELETE FROM manifests WHERE digest = ?", digest)
                yield self._problem("manifest", digest, "its document has changed")

    def _references(self) -> Iterator[Problem]:
        for name, target in self._database.rows(
            "SELECT name, target FROM refs WHERE target NOT IN"
            " (SELECT id FROM images UNION ALL SELECT digest FROM indexes) ORDER BY name"
        ):
            self._run("DELETE FROM refs WHERE name = ?", name)
            yield self._problem("reference", name, f"it names {target}, which is not here")

    def _cache(self) -> Iterator[Problem]:
        for key, layer in self._database.rows(
            "SELECT key, layer FROM cache_records WHERE layer NOT IN (SELECT id FROM layers) ORDER BY key"
        ):
            self._run("DELETE FROM cache_records WHERE key = ?", key)
            yield self._problem("cache", key, f"its layer {layer} has gone")

    def _containers(self) -> Iterator[Problem]:
        for container, layer in self._database.rows("SELECT id, layer FROM containers ORDER BY id"):
            directory = self._store.containers.directory(container)
            upper = None if layer is None else self._store.layout.directory("active") / layer / "upper"
            for path, what in ((directory, "its directory"), (upper, "the directory of its files")):
                if path is None or path.is_dir() or not self._has_container(container):
                    continue
                if self._repair:
                    path.mkdir(mode=0o755 if path == upper else 0o700, parents=True, exist_ok=True)
                yield self._problem("container", container, f"{what} is missing")
            if upper is not None and self._repair:
                (upper.parent / "work").mkdir(mode=0o700, exist_ok=True)
                upper.parent.chmod(0o700)

    def _has_container(self, container: str) -> bool:
        return self._database.row("SELECT 1 FROM containers WHERE id = ?", (container,)) is not None

    def _failed(self) -> Iterator[Problem]:
        for (key,) in self._database.rows("SELECT key FROM failed ORDER BY key"):
            if not (self._store.layout.directory("failed") / key).is_dir():
                self._run("DELETE FROM failed WHERE key = ?", key)
                yield self._problem("failed", key, "its directory is missing")

    def _flats(self) -> Iterator[Problem]:
        for (key,) in self._database.rows("SELECT key FROM flats WHERE boot = ? ORDER BY key", (boot_id(),)):
            if not (self._store.layout.directory("flat") / key).is_dir():
                self._run("DELETE FROM flats WHERE key = ?", key)
                yield self._problem("flat", key, "its directory is missing")

    def _garbage(self) -> Iterator[Problem]:
        if self._repair:
            with self._database.write():
                forget_dead(self._store)
                found = find_garbage(self._store)
                moved = move_away(self._store, found)
            remove_moved(moved)
        elif os.access(self._store.root, os.W_OK):
            # Inside of a write transaction nobody is between making a directory and its row.
            with self._store.locks.hold(LOCK), self._database.write():
                found = find_garbage(self._store)
        else:
            found = find_garbage(self._store)
        for each in found:
            if not self._repair and self._is_new_lock(each):
                continue
            yield self._problem("garbage", f"{each.area}/{each.path.name}", each.reason)

    def _is_new_lock(self, each: Garbage) -> bool:
        """Whether it is a file of leases/ or locks/ that a living process may be about to lock, or has just removed."""
        if each.area not in ("leases", "locks"):
            return False
        try:
            return self._store.clock() - each.path.stat().st_mtime_ns < _NEW
        except FileNotFoundError:
            return True


def _digest_of(path: os.PathLike[str]) -> str:
    with open(path, "rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
