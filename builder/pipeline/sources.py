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
from builder.pipeline.steps import AddStep, CopyStep, FilesOf

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from builder.pipeline.copy_step import Selection
    from builder.pipeline.request import BuildRequest
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

    def context(self, source: FilesOf) -> Tree | None:
        """The tree of a context; an empty one when *source* is nothing at all; None when the build has no context."""
        if source.context is None:
            return self.stage((), "scratch")
        if not source.context:
            return self.request.context
        contexts = self.request.contexts
        tree = contexts.get(source.context) or contexts.get(source.context.removesuffix(":latest"))
        if tree is None or isinstance(tree, str):
            raise BuildError(f"named context {source.context} is not a directory")
        return tree

    def select(self, work: CopyStep | AddStep, tree: Tree | None) -> Selection:
        """What COPY or ADD takes from *tree*. Raises as `copy_step.select` and `add_step.select`."""
        if isinstance(work, CopyStep):
            from builder.pipeline import copy_step

            selection = copy_step.select(work.spec, tree, cache=self.store.files, scratch=self.scratch)
        else:
            from builder.pipeline import add_step

            secrets = {one.id: one.value or b"" for one in self.request.secrets if one.value is not None}
            selection = add_step.select(
                work.spec,
                tree,
                scratch=self.scratch,
                cache=self.store.files,
                secrets=secrets,
                environment=self.request.environment,
            )
        return self._kept(selection)

    def bound(self, source: FilesOf, path: str) -> Selection:
        """What a bind mount shows of *path* of a context: without what .dockerignore hides, and owned by root."""
        from builder.pipeline.copy_step import CopySpec, select
        from builder.pipeline.trees import clean, resolve

        tree, path = self.context(source), clean(path)
        dest = path
        if tree is not None and path != "/":
            found = resolve(tree.fd, path).status
            if found is None or not stat.S_ISDIR(found.st_mode):
                dest = path.rpartition("/")[0] + "/"
        spec = CopySpec((path,), dest)
        return self._kept(select(spec, tree, cache=self.store.files, scratch=self.scratch))

    def bound_directory(self, source: FilesOf, path: str) -> Path:
        """A directory that has the files of `bound` where they are in the context."""
        from builder.pipeline.copy_step import materialise

        target = self.scratch()
        os.chmod(target, 0o755)
        with self.bound(source, path) as selection:
            materialise(selection, upper=target, root=None)
        return target

    def _kept(self, thing: Closable) -> Closable:
        with self._guard:
            self._undo.callback(thing.close)
        return thing
