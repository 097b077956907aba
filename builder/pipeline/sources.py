"""Where the steps of one build read files from: contexts, stages, images, and the selections made of them.

Everything that is opened or unpacked on the way belongs to `Sources` and goes with it. May be used by several threads.
"""

from __future__ import annotations

import os
import stat
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, TypeVar

from builder.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from builder.pipeline.add_step import AddSpec
    from builder.pipeline.copy_step import CopySpec, Selection
    from builder.pipeline.remote import Fetched
    from builder.pipeline.request import BuildRequest, Secret
    from builder.pipeline.trees import Tree
    from builder.store import Store
    from builder.store.snapshots import LayerID

Closable = TypeVar("Closable", "Tree", "Selection")


class Sources:
    """The files of one build. A context manager."""

    def __init__(self, request: BuildRequest, store: Store) -> None:
        self.request = request
        self.store = store
        self._undo = ExitStack()
        self._guard = threading.Lock()
        self.fetched: list[Fetched] = []
        """What ADD brought from elsewhere."""
        self._copies: dict[tuple[CopySpec, int], Selection] = {}

    def __enter__(self) -> Sources:
        return self

    def __exit__(self, *exc: object) -> None:
        self._undo.close()

    def scratch(self) -> Path:
        """A new empty directory on the store's disk, which lives as long as the build."""
        with self._guard:
            return self._undo.enter_context(self.store.scratch())

    def lowers(self, layers: Sequence[LayerID]) -> tuple[str, ...]:
        """The directories of a stack of layers (bottom first), topmost first; an empty one for none."""
        return tuple(map(str, self.store.snapshots.lowers(layers)))

    def stage(self, layers: Sequence[LayerID], label: str) -> Tree:
        """The files of a stage or image. Raises MountFailed."""
        from builder.pipeline.trees import Tree
        from runtime.rootfs import open_rootfs
        from runtime.spec import Rootfs

        root = open_rootfs(Rootfs(self.lowers(layers), readonly=True))
        return self._kept(Tree(root, label, keeps_owner=True, overlay=True))

    def context(self, name: str | None) -> Tree | None:
        """The tree of the named context ("": the build's own, None when it has none); an empty one for no name."""
        if name is None:
            return self.stage((), "scratch")
        if not name:
            return self.request.context
        tree = self.request.contexts.get(name)
        if tree is None or isinstance(tree, str):
            raise BuildError(f"named context {name} is not a directory")
        return tree

    def copy(self, spec: CopySpec, tree: Tree | None) -> Selection:
        """What COPY takes from *tree*; asked again, the same. Raises as `copy_step.select`."""
        from builder.pipeline import copy_step

        known = self._copies.get((spec, id(tree)))
        if known is None:
            known = copy_step.select(spec, tree, cache=self.store.files, scratch=self.scratch)
            self._copies[spec, id(tree)] = self._kept(known)
        return known

    def add(self, spec: AddSpec, tree: Tree | None) -> Selection:
        """What ADD takes from *tree* and elsewhere. Raises as `add_step.select`."""
        from builder.pipeline import add_step

        secrets = {one.id: secret_bytes(one) for one in self.request.secrets}
        return self._kept(
            add_step.select(
                spec,
                tree,
                scratch=self.scratch,
                cache=self.store.files,
                secrets=secrets,
                environment=self.request.environment,
                note=self.fetched.append,
            )
        )

    def bound(self, name: str | None, path: str) -> Selection:
        """What a bind mount shows of *path* of a context: without what .dockerignore hides, and owned by root."""
        from builder.pipeline.copy_step import CopySpec, select
        from builder.pipeline.trees import clean, resolve

        tree, path = self.context(name), clean(path)
        dest = path
        if tree is not None and path != "/":
            found = resolve(tree.fd, path).status
            if found is None or not stat.S_ISDIR(found.st_mode):
                dest = path.rpartition("/")[0] + "/"
        spec = CopySpec((path,), dest)
        return self._kept(select(spec, tree, cache=self.store.files, scratch=self.scratch))

    def bound_directory(self, name: str | None, path: str) -> Path:
        """A directory that has the files of `bound` where they are in the context."""
        from builder.pipeline.copy_step import materialise

        target = self.scratch()
        os.chmod(target, 0o755)
        with self.bound(name, path) as selection:
            materialise(selection, upper=target, root=None)
        return target

    def _kept(self, thing: Closable) -> Closable:
        with self._guard:
            self._undo.callback(thing.close)
        return thing


def secret_bytes(secret: Secret) -> bytes:
    """What a secret holds. Raises BuildError when its file cannot be read."""
    if secret.value is not None:
        return secret.value
    assert secret.path is not None
    try:
        return secret.path.read_bytes()
    except OSError as err:
        raise BuildError(f"secret {secret.id}: cannot read {secret.path}: {err.strerror}") from err
