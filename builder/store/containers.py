"""Containers: a row each, with a name that nobody else has. What a container does is in its directory, kept by runtime.

The store knows no states: `config` is the engine's text. Names are unique because the table says so, whatever two
commands do at once.
"""

from __future__ import annotations

import os
import re
import sqlite3
from typing import TYPE_CHECKING

from builder.errors import ContainerNotFound, DiskFull, InvalidName, NameInUse
from builder.store import names, trees
from builder.store.crash import crashpoint
from builder.store.diskfaults import disk_errors
from runtime.values import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from builder.store.database import Database, Row
    from builder.store.layout import Layout
    from builder.store.leases import Lease

_NAME = r"[a-zA-Z0-9][a-zA-Z0-9_.-]+"
_ADJECTIVES = """
    airy amber ample apt avid bold brave breezy bright brisk calm candid cheerful clear clever cosy crisp curious
    daring deft dapper eager earnest easy fair fancy fine fleet fond frank fresh gentle glad golden grand happy
    hardy honest jolly keen kind lively lucid lucky mellow merry mild modest neat nimble noble patient plucky
    polite proud quick quiet ready robust rosy sage sharp silent sleek smart snug sober spry steady sunny swift
    tidy tough trusty upbeat vivid warm wise witty zesty
"""
_SURNAMES = """
    abbe abel ampere banach bernoulli bessel bohr boole born bose cantor carnot cauchy chandra church coulomb
    dedekind dirac dijkstra doppler euler erdos faraday fermat fermi feynman fourier franklin galileo galois gauss
    germain godel hamilton hilbert hooke hopper huygens jacobi joule kepler kirchhoff knuth kolmogorov lagrange
    lamarr laplace leibniz lovelace mach maxwell meitner mendel minsky moebius napier newton noether ohm pascal
    pauli perlman planck poincare ramanujan riemann ritchie rutherford shannon sommerfeld tesla turing volta watt
    weyl wiener wilson wozniak wu yalow
"""


@dataclass(frozen=True, slots=True)
class Container:
    """One container: `id` 64 hex digits, `image` an image id, `layer` the key of its snapshot, `created` in ns."""

    id: str
    name: str
    image: str
    layer: str | None
    created: int
    config: str


class Containers:
    """The containers of one store."""

    def __init__(
        self, database: Database, layout: Layout, lease: Callable[[], Lease], clock: Callable[[], int]
    ) -> None:
        self._database = database
        self._layout = layout
        self._directory = layout.directory("containers")
        self._lease = lease
        self._clock = clock

    def create(
        self,
        *,
        image: str,
        layer: str | None,
        config: str,
        name: str | None = None,
        container_id: str | None = None,
        mounted: Collection[str] = (),
    ) -> Container:
        """A new container with its directory; without `name` one is made up. `layer` now belongs to the container.

        Neither `image` nor the images `mounted` into it go while it is there.

        Raises InvalidName, NameInUse.
        """
        if name is not None:
            name = _valid(name)
        container = Container(
            id=container_id or os.urandom(32).hex(),
            name=name or "",
            image=image,
            layer=layer,
            created=self._clock(),
            config=config,
        )
        try:
            with self._database.write(durable=True):
                # Inside of the transaction, so that nobody meets the directory before its row.
                with disk_errors("make the container's directory"):
                    self.directory(container.id).mkdir(mode=0o700)
                if name is None:
                    container = replace(container, name=self._new_name())
                try:
                    self._database.run(
                        "INSERT INTO containers (id, name, image, layer, created, config) VALUES (?, ?, ?, ?, ?, ?)",
                        (container.id, container.name, image, layer, container.created, config),
                    )
                except sqlite3.IntegrityError as err:
                    raise self._name_in_use(container.name) from err
                self._database.run_many(
                    "INSERT INTO mounted_images (container, image) VALUES (?, ?)",
                    [(container.id, each) for each in mounted],
                )
                if layer is not None:
                    self._database.run(
                        "UPDATE actives SET container = ?, lease = NULL WHERE key = ?", (container.id, layer)
                    )
        except BaseException:
            trees.remove(self.directory(container.id))
            raise
        crashpoint("container-row")
        return container

    def get(self, text: str) -> Container:
        """By full id, name, or start of an id, looked up in this order. Raises ContainerNotFound, AmbiguousId."""
        return _container(names.container(self._database, text))

    def list(self) -> tuple[Container, ...]:
        """All containers, newest first."""
        rows = self._database.rows(f"SELECT {names.COLUMNS} FROM containers ORDER BY created DESC, id")
        return tuple(_container(row) for row in rows)

    def rename(self, container_id: str, name: str) -> None:
        """Give it another name. Raises InvalidName, NameInUse, ContainerNotFound."""
        name = _valid(name)
        try:
            with self._database.write(durable=True):
                changed = self._database.run("UPDATE containers SET name = ? WHERE id = ?", (name, container_id))
        except sqlite3.IntegrityError as err:
            raise self._name_in_use(name) from err
        if not changed:
            raise ContainerNotFound(container_id)

    def set_config(self, container_id: str, config: str) -> None:
        """Replace the engine's text (update --restart). Raises ContainerNotFound."""
        with self._database.write(durable=True):
            changed = self._database.run("UPDATE containers SET config = ? WHERE id = ?", (config, container_id))
        if not changed:
            raise ContainerNotFound(container_id)

    def remove(self, container_id: str) -> None:
        """Forget it, and remove its directory and its active snapshot, which must not be mounted. Idempotent."""
        # The lease lets the next command know, if we are killed, that something was left.
        try:
            self._lease()
        except DiskFull:
            pass  # then it must work without
        row = self._database.row("SELECT layer FROM containers WHERE id = ?", (container_id,))
        active = self._layout.directory("active") / row[0] if row is not None and row[0] is not None else None
        try:
            self._forget(container_id)
        except DiskFull:
            if active is None:
                raise
            # Nothing was reserved: what it wrote, with which it may have filled the disk, goes first.
            trees.remove(active / "upper")
            (active / "upper").mkdir()
            self._forget(container_id)
        crashpoint("container-removed")
        if active is not None:
            trees.remove(active)
        trees.remove(self.directory(container_id))

    def _forget(self, container_id: str) -> None:
        with self._database.write(durable=True, removing=True):
            self._database.run("DELETE FROM containers WHERE id = ?", (container_id,))
            self._database.run("DELETE FROM actives WHERE container = ?", (container_id,))

    def directory(self, container_id: str) -> Path:
        """Where runtime keeps what belongs to the container."""
        if not re.fullmatch(r"[0-9a-f]{64}", container_id):
            raise ContainerNotFound(container_id[:100])
        return self._directory / container_id

    def _new_name(self) -> str:
        """adjective_surname that is free; with a number after some tries. Inside of the transaction that uses it."""
        adjectives, surnames = _ADJECTIVES.split(), _SURNAMES.split()
        for attempt in range(1000):
            first, second, digit = os.urandom(3)
            name = f"{adjectives[first % len(adjectives)]}_{surnames[second % len(surnames)]}"
            if attempt > 5:
                name += str(digit)
            if self._database.row("SELECT 1 FROM containers WHERE name = ?", (name,)) is None:
                return name
        return os.urandom(12).hex()

    def _name_in_use(self, name: str) -> NameInUse:
        row = self._database.row("SELECT id FROM containers WHERE name = ?", (name,))
        return NameInUse(name, row[0] if row else "")


def _container(row: Row) -> Container:
    return Container(*row)


def _valid(name: str) -> str:
    bare = name.removeprefix("/")
    if not re.fullmatch(_NAME, bare):
        raise InvalidName("container", name)
    return bare
