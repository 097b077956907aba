"""`Store`: one store, open in this process, with its parts."""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import DiskFull
from builder.store.database import Database
from builder.store.diskfaults import disk_errors
from builder.store.layout import Layout
from builder.store.leases import Lease, Leases
from builder.store.locks import Locks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from builder.store.attestations import Attestations
    from builder.store.buildcache import BuildCache
    from builder.store.cacheitems import Rule
    from builder.store.cachemounts import CacheMounts
    from builder.store.collect import Collected
    from builder.store.containers import Containers
    from builder.store.content import Content
    from builder.store.files import Files
    from builder.store.fsck import Problem
    from builder.store.images import Images
    from builder.store.indexes import Indexes
    from builder.store.outcomes import Outcomes
    from builder.store.packed import Packed
    from builder.store.records import Records
    from builder.store.snapshots import Snapshots


class Store:
    """One store, open in this process. Close it (or use `with`), then what it leased may be collected.

    Its parts are loaded when they are first used, so that a command pays for what it needs.
    """

    def __init__(self, layout: Layout, database: Database, *, note: str, clock: Callable[[], int]) -> None:
        self.layout = layout
        self.database = database
        self.clock = clock
        self._note = note
        self._leased: Lease | None = None
        self._guard = threading.Lock()

    @staticmethod
    def open(root: Path, *, note: str = "", clock: Callable[[], int] = time.time_ns) -> Store:
        """Open the store at `root`, making it if need be. `note` tells others who we are; `clock` gives ns.

        Raises StoreTooNew, StoreUnreadable, StoreCorrupt, StoreReadOnly, DiskFull.
        """
        layout = Layout(Path(root).absolute())
        new = layout.create()
        database = Database(layout.database)
        if new:
            database.reserve()
        return Store(layout, database, note=note, clock=clock)

    def close(self) -> None:
        """Give back what was leased and close the database. Idempotent."""
        try:
            if self._leased is not None:
                self._give_back(self._leased)
                self._leased = None
        finally:
            self.database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def root(self) -> Path:
        """The directory of the store."""
        return self.layout.root

    @property
    def volumes_dir(self) -> Path:
        """For runtime.volumes."""
        return self.layout.directory("volumes")

    @property
    def networks_dir(self) -> Path:
        """For runtime.networks."""
        return self.layout.directory("networks")

    @property
    def caches_dir(self) -> Path:
        """For cache mounts of RUN."""
        return self.layout.directory("caches")

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """An empty directory on the store's disk, removed with the block. What a killed process left, collection
        takes.
        """
        from builder.store import trees

        path = self.layout.directory("tmp") / f"{self.lease().id}.{os.urandom(4).hex()}"
        with disk_errors("make a directory"):
            path.mkdir(0o700)
        try:
            yield path
        finally:
            trees.remove(path)

    def container_dir(self, container_id: str) -> Path:
        """Where runtime keeps what belongs to a container."""
        return self.containers.directory(container_id)

    def lease(self) -> Lease:
        """The lease of this open store, taken with its first use: what the parts below use is protected by it."""
        with self._guard:
            if self._leased is not None:
                return self._leased
            lease = self._leased = self.leases.acquire(self._note)
            dead = self.leases.any_dead()
        if dead:
            from builder.store.sweep import sweep

            try:
                sweep(self)
            except DiskFull:
                pass  # what we are about to do may be to make room
        return lease

    def _give_back(self, lease: Lease) -> None:
        """Remove what an error left of our own, then end the lease."""
        from builder.store import trees

        tmp = self.layout.directory("tmp")
        mine = self.database.rows("SELECT key FROM actives WHERE lease = ?", (lease.id,))
        for (key,) in mine:
            try:
                self.snapshots.discard_key(key)
            except DiskFull:
                pass  # its row is left, and goes with the next sweep
        for name in os.listdir(tmp):
            if name.startswith(f"{lease.id}."):
                trees.remove(tmp / name)
        lease.release()

    @cached_property
    def locks(self) -> Locks:
        """Named locks between processes: `with store.locks.hold("step " + key): ...`."""
        return Locks(self.layout.directory("locks"))

    @cached_property
    def leases(self) -> Leases:
        """The leases of all processes."""
        return Leases(self.database, self.layout.directory("leases"), self.clock)

    @cached_property
    def content(self) -> Content:
        """Blobs by digest."""
        from builder.store.content import Content

        directory = self.layout.directory
        return Content(self.database, directory("content"), directory("tmp"), self.lease, self.clock)

    @cached_property
    def packed(self) -> Packed:
        """Compressed forms of layers."""
        from builder.store.packed import Packed

        return Packed(self.database, self.clock)

    @cached_property
    def snapshots(self) -> Snapshots:
        """Layers."""
        from builder.store.snapshots import Snapshots

        return Snapshots(self.database, self.layout, self.lease, self.clock)

    @cached_property
    def images(self) -> Images:
        """Images and references."""
        from builder.store.images import Images

        return Images(self.database, self.snapshots, self.lease, self.clock)

    @cached_property
    def attestations(self) -> Attestations:
        """What is attested of images."""
        from builder.store.attestations import Attestations

        return Attestations(self.database, lambda: self.content, self.clock)

    @cached_property
    def indexes(self) -> Indexes:
        """Indexes of images for several platforms."""
        from builder.store.indexes import Indexes

        return Indexes(self.database, self.images, self.snapshots, self.content, self.lease, self.clock)

    @cached_property
    def buildcache(self) -> BuildCache:
        """Records of steps."""
        from builder.store.buildcache import BuildCache

        return BuildCache(self.database, self.snapshots, self.clock)

    @cached_property
    def cache_mounts(self) -> CacheMounts:
        """Directories of `RUN --mount=type=cache`."""
        from builder.store.cachemounts import CacheMounts

        return CacheMounts(self.database, self.layout.directory("caches"), self.clock)

    @cached_property
    def files(self) -> Files:
        """What is known about files outside: digests, parsed Dockerfiles."""
        from builder.store.files import Files

        return Files(self.database, self.clock)

    @cached_property
    def outcomes(self) -> Outcomes:
        """Outcomes of builds."""
        from builder.store.outcomes import Outcomes

        return Outcomes(self.database, str(self.root), self.clock)

    @cached_property
    def records(self) -> Records:
        """History of builds."""
        from builder.store.records import Records

        return Records(self.database, self.layout.directory("logs"), self.lease, lambda: self.leases, self.clock)

    @cached_property
    def containers(self) -> Containers:
        """Containers by id and name."""
        from builder.store.containers import Containers

        return Containers(self.database, self.layout, self.lease, self.clock)

    def collect(
        self,
        *,
        cache_budget: int | None = None,
        rules: Sequence[Rule] = (),
        dangling: bool = False,
        dry_run: bool = False,
    ) -> Collected:
        """Remove what nothing needs (see `collect`; `cache_budget` is a rule for everything); safe beside builds."""
        from builder.store.collect import collect

        rules = rules if cache_budget is None else (*rules, (cache_budget, None))
        return collect(self, rules=rules, dangling=dangling, dry_run=dry_run)

    def fsck(self, *, repair: bool = False, full: bool = False) -> tuple[Problem, ...]:
        """What is not as promised (see `fsck`); with `repair` it is put right."""
        from builder.store.fsck import fsck

        return fsck(self, repair=repair, full=full)
