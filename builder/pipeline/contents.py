"""What steps stand on, by content: the content of stacks of layers, and the content keys that are made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.pipeline import cachekeys
from builder.pipeline.steps import AddStep, BaseStep, CopyStep, RunStep, StepSpec
from builder.pipeline.written import hash_layer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from builder.pipeline.lookup import StepState
    from builder.pipeline.plan import Plan
    from builder.store import Store
    from builder.store.snapshots import LayerID


class Contents:
    """The contents of one plan's steps, of those that have their layers."""

    def __init__(
        self,
        plan: Plan,
        states: Sequence[StepState],
        store: Store,
        *,
        wait: Callable[[LayerID], None],
        select: Callable[[StepSpec, CopyStep | AddStep], None],
    ) -> None:
        """*wait* for who hashes a layer now; *select* finds the files of a step that copies."""
        self._plan = plan
        self._states = states
        self._store = store
        self._wait = wait
        self._select = select

    def of(self, layer: LayerID) -> str:
        """The content digest of *layer*; waits for who hashes it, or hashes it here."""
        self._wait(layer)
        found = self._store.snapshots.get(layer)
        if found.content_digest is None or found.diff_id is None:
            hash_layer(self._store, layer, found.path)
            found = self._store.snapshots.get(layer)
        assert found.content_digest is not None
        return found.content_digest

    def stack(self, number: int | None) -> str:
        """What the files of step *number* and of all below it are, as a digest; of nothing for None."""
        missing = []
        while number is not None and self._states[number - 1].content is None:
            missing.append(number)
            number = self._plan.steps[number - 1].parent
        content = cachekeys.EMPTY if number is None else self._states[number - 1].content
        assert content is not None
        for one in reversed(missing):
            layers = self._states[one - 1].layers
            assert layers is not None
            own = layers if isinstance(self._plan.steps[one - 1].work, BaseStep) else layers[-1:]
            for layer in own:
                content = cachekeys.digest("chain", content, self.of(layer))
            self._states[one - 1].content = content
        return content

    def key(self, step: StepSpec) -> str:
        """The key of *step* by what its parent and its sources contain."""
        state, work = self._states[step.number - 1], step.work
        own = [leaf for leaf in state.leaves if leaf[0] not in ("source", "paths")]
        if isinstance(work, CopyStep) and work.source.step is not None:
            self._select(step, work)
            assert state.selection is not None
            own.append(("files", state.selection.digest))
        if isinstance(work, RunStep):
            by_step = {
                f"mount {position + 1} files": self.stack(source.step)
                for position, source in enumerate(work.sources)
                if source is not None and source.step is not None
            }
            own = [(name, by_step.get(name, value)) for name, value in own]
        alone = cachekeys.stands_alone(step)
        return cachekeys.key(own, cachekeys.EMPTY if alone else self.stack(step.parent))
