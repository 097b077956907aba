"""The one loop with effects: a plan's steps, found in the cache or made, one result for each.

First every step is looked up under its definition key. A hit counts only when it was made on the layers that the
steps below give now; otherwise the step may still be found by what its parent contains (early cut-off). What the target
does not need is neither looked at nor made: a COPY that hits needs nothing of its source. Layers are hashed
in threads beside the next steps. Two builds that want the same step take its key's lock: the second finds the result.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import BuildError, LayerNotFound
from builder.pipeline import cachekeys, progress
from builder.pipeline.steps import AddStep, BaseStep, CopyStep, FilesOf, RunStep, StepSpec, WorkdirStep
from builder.store.buildcache import CacheRecord
from builder.store.records import StepRecord
from builder.store.snapshots import LayerID

if TYPE_CHECKING:
    from builder.pipeline.copy_step import CopySpec, Selection
    from builder.pipeline.plan import Plan
    from builder.pipeline.progress import Emit
    from builder.pipeline.request import BuildRequest
    from builder.pipeline.trees import Tree
    from builder.store import Store
    from builder.store.snapshots import Active
    from runtime.container import Exit, Launcher
    from runtime.spec import Rootfs


@dataclass(slots=True)
class _State:
    """What is known of one step while the plan is executed. `layers` is the whole stack, bottom first."""

    key: str = ""
    leaves: tuple[cachekeys.Leaf, ...] = ()
    step: str = ""
    hit: CacheRecord | None = None
    layers: tuple[LayerID, ...] | None = None
    ran: bool = False
    selection: Selection | None = None
    facts: dict[str, object] = field(default_factory=dict)


class Executor:
    """Executes one plan. Use as a context manager: its end closes and removes what the steps left beside layers."""

    def __init__(
        self,
        plan: Plan,
        request: BuildRequest,
        store: Store,
        launcher: Callable[[], Launcher],
        *,
        build: str,
        clock: Callable[[], float],
        emit: Emit,
    ) -> None:
        self.plan = plan
        self.request = request
        self.store = store
        self.launcher = launcher
        self.build = build
        self.clock = clock
        self.emit = emit
        self.states = [_State() for _ in plan.steps]
        self.undo = ExitStack()
        self.hashing: dict[LayerID, threading.Thread] = {}
        self.failures: list[BaseException] = []
        self.cached = 0
        self.ran = 0

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *exc: object) -> None:
        for thread in self.hashing.values():
            thread.join()
        self.undo.close()

    def run(self) -> tuple[LayerID, ...]:
        """Find or make every step that the target needs; returns the target's layers, bottom first, all hashed.

        Raises StepFailed, BuildError, ContextError, StoreError, ContainerError."""
        for step in self.plan.steps:
            self._look_up(step)
        needed = self._needed()
        runs = [step for step in self.plan.steps if step.number in needed and isinstance(step.work, RunStep)]
        if any(self.states[step.number - 1].hit is None for step in runs):
            from builder.pipeline.run_step import get_ready

            get_ready(self.launcher(), self.request)
        for step in self.plan.steps:
            if step.number in needed:
                self._settle(step)
        layers = self._layers(self.plan.last)
        for layer in layers:
            self._content(layer)
        return layers

    # keys

    def _look_up(self, step: StepSpec) -> None:
        state, work = self.states[step.number - 1], step.work
        if isinstance(work, BaseStep):
            state.layers = tuple(map(LayerID, work.base.layers))
            state.key = cachekeys.base_key(work.base.contents, work.base.config.diff_ids)
            return
        own = cachekeys.leaves(step, str(self.plan.template.architecture), self.request)
        state.step = cachekeys.identity(step, own)
        state.leaves = (*own, *self._source_leaves(step))
        parent = cachekeys.EMPTY if step.parent is None else self.states[step.parent - 1].key
        state.key = cachekeys.key(state.leaves, parent)
        if not step.forced:
            state.hit = self.store.buildcache.lookup(state.key)

    def _source_leaves(self, step: StepSpec) -> Sequence[cachekeys.Leaf]:
        work = step.work
        if isinstance(work, AddStep | CopyStep):
            if work.source.step is None:
                state = self.states[step.number - 1]
                state.selection = self._select(work, self._context(work.source))
                return (("files", state.selection.digest),)
            spec = work.spec if isinstance(work, CopyStep) else work.spec.copy
            paths = cachekeys.digest(*spec.sources, *(one.content.hex() for one in spec.inline))
            return (("source", self.states[work.source.step - 1].key), ("paths", paths))
        found: list[cachekeys.Leaf] = []
        if isinstance(work, RunStep):
            for position, source in enumerate(work.sources):
                if source is None:
                    continue
                name = f"mount {position + 1} files"
                if source.step is not None:
                    found.append((name, self.states[source.step - 1].key))
                elif source.context is not None:
                    found.append((name, self._mounted(source, work.mounts[position].source).digest))
        return found

    def _mounted(self, source: FilesOf, path: str) -> Selection:
        from builder.pipeline.copy_step import CopySpec, select

        spec = CopySpec((path or "/",), "/")
        selection = select(spec, self._context(source), cache=self.store.files, scratch=self._scratch)
        self.undo.callback(selection.close)
        return selection

    def _select(self, work: CopyStep | AddStep, tree: Tree | None) -> Selection:
        if isinstance(work, CopyStep):
            from builder.pipeline import copy_step

            selection = copy_step.select(work.spec, tree, cache=self.store.files, scratch=self._scratch)
        else:
            from builder.pipeline import add_step

            secrets = {one.id: one.value or b"" for one in self.request.secrets if one.value is not None}
            selection = add_step.select(work.spec, tree, scratch=self._scratch, cache=self.store.files, secrets=secrets)
        self.undo.callback(selection.close)
        return selection

    def _context(self, source: FilesOf) -> Tree | None:
        if not source.context:
            return self.request.context
        tree = self.request.contexts.get(source.context) or self.request.contexts.get(
            source.context.removesuffix(":latest")
        )
        if tree is None or isinstance(tree, str):
            raise BuildError(f"named context {source.context} is not a directory")
        return tree

    def _scratch(self) -> Path:
        return self.undo.enter_context(self.store.scratch())

    # what must be there

    def _needed(self) -> set[int]:
        """Steps that must have layers: from the target down; the sources of a step only when it must run."""
        needed: set[int] = set()
        pending = [] if self.plan.last is None else [self.plan.last]
        while pending:
            number = pending.pop()
            if number in needed:
                continue
            needed.add(number)
            step = self.plan.steps[number - 1]
            if step.parent is not None:
                pending.append(step.parent)
            if self.states[number - 1].hit is None:
                pending.extend(step.inputs)
        return needed

    def _layers(self, number: int | None) -> tuple[LayerID, ...]:
        if number is None:
            return ()
        state = self.states[number - 1]
        if state.layers is None:
            # A source that nobody needed so far: its user hit by definition and does not stand any more.
            self._settle(self.plan.steps[number - 1])
        assert state.layers is not None
        return state.layers

    def _settle(self, step: StepSpec) -> None:
        """Give *step* its layers: from the cache, by content, or by making it."""
        state = self.states[step.number - 1]
        if state.layers is not None:
            return
        below = self._layers(step.parent)
        why = ""
        if state.hit is not None and not self._stands(state.hit, below, step):
            state.hit, why = None, "an earlier step changed"
        if state.hit is not None and state.hit.layer is not None:
            self._take(step, state.hit, below)
            return
        for number in step.inputs:
            self._layers(number)
        with self.store.locks.hold(f"step {state.key}"):
            found = None if step.forced else self.store.buildcache.lookup(state.key)
            if found is not None and found.layer is not None and self._stands(found, below, step):
                self._take(step, found, below)
                return
            nearest = self.store.buildcache.nearest(state.step)
            content_key = None
            if nearest is not None and not step.forced:
                why = why or cachekeys.why(dict(nearest.leaves), dict(state.leaves)) or "an earlier step changed"
                content_key = self._content_key(step, below)
                same = None if content_key is None else self.store.buildcache.lookup_content(content_key)
                if same is not None and same.layer is not None:
                    self._put(step, same.layer, below, content_key, same.duration_us)
                    self._take(step, same, below, by_content=True)
                    return
            self._make(step, below, why or ("--no-cache" if step.forced else "never built"))

    def _stands(self, record: CacheRecord, below: tuple[LayerID, ...], step: StepSpec) -> bool:
        """Whether *record* was made on the layers and from the sources that hold now."""
        facts = json.loads(record.result or "{}")
        if facts.get("below") != (below[-1] if below else None):
            return False
        sources = [self.states[number - 1] for number in step.inputs]
        return all(
            state.layers is None or (state.layers[-1] if state.layers else None) == layer
            for state, layer in zip(sources, facts.get("sources", ()), strict=False)
        )

    def _take(
        self, step: StepSpec, record: CacheRecord, below: tuple[LayerID, ...], *, by_content: bool = False
    ) -> None:
        assert record.layer is not None
        self.states[step.number - 1].layers = (*below, record.layer)
        self.cached += 1
        self.emit(progress.StepCached(step.number, step.name, self.clock(), by_content))
        self._record(step, "cached", layer=record.layer)

    # content

    def _content(self, layer: LayerID) -> str:
        """The content digest of *layer*; waits for the thread that hashes it, or hashes it here."""
        thread = self.hashing.get(layer)
        if thread is not None:
            thread.join()
        if self.failures:
            raise self.failures[0]
        found = self.store.snapshots.get(layer)
        if found.content_digest is None or found.diff_id is None:
            self._hash(layer, found.path)
            found = self.store.snapshots.get(layer)
        assert found.content_digest is not None
        return found.content_digest

    def _chain(self, layers: Sequence[LayerID]) -> str:
        chain = cachekeys.EMPTY
        for layer in layers:
            chain = cachekeys.digest("chain", chain, self._content(layer))
        return chain

    def _content_key(self, step: StepSpec, below: tuple[LayerID, ...]) -> str | None:
        """The key by content; None while the sources of a COPY from a stage have not been looked at."""
        state, work = self.states[step.number - 1], step.work
        own = [leaf for leaf in state.leaves if leaf[0] not in ("source", "paths")]
        if isinstance(work, CopyStep) and work.source.step is not None:
            if state.selection is None:
                state.selection = self._select(work, self._stage_tree(work.source.step))
            own.append(("files", state.selection.digest))
        if isinstance(work, RunStep):
            by_step = {
                f"mount {position + 1} files": self._chain(self._layers(source.step))
                for position, source in enumerate(work.sources)
                if source is not None and source.step is not None
            }
            own = [(name, by_step.get(name, value)) for name, value in own]
        return cachekeys.key(own, self._chain(below))

    def _hash(self, layer: LayerID, path: Path) -> None:
        from builder.store import changesets

        made = changesets.write(path)
        self.store.snapshots.set_digests(
            layer,
            diff_id=made.diff_id,
            content_digest=made.content_digest,
            size=made.content_size,
            tar_size=made.size,
            files=made.files,
        )

    def _hash_beside(self, layer: LayerID, path: Path) -> None:
        def work() -> None:
            try:
                self._hash(layer, path)
            except (OSError, BuildError, LayerNotFound) as err:
                self.failures.append(err)

        thread = threading.Thread(target=work, name=f"hash {layer}")
        self.hashing[layer] = thread
        thread.start()

    # making

    def _stage_tree(self, number: int) -> Tree:
        from builder.pipeline.trees import Tree
        from runtime.rootfs import open_rootfs

        tree = Tree(open_rootfs(self._rootfs(number)), f"stage {number}", keeps_owner=True, overlay=True)
        self.undo.callback(tree.close)
        return tree

    def _rootfs(self, number: int) -> Rootfs:
        from runtime.spec import Rootfs

        return Rootfs(tuple(map(str, self.store.snapshots.lowers(self._layers(number)))), readonly=True)

    def _make(self, step: StepSpec, below: tuple[LayerID, ...], why: str) -> None:
        state, started = self.states[step.number - 1], self.clock()
        self.emit(progress.StepStarted(step.number, step.name, started, why))
        active = self.store.snapshots.prepare(below)
        try:
            self._work(step, active, below)
        except BaseException as err:
            self.store.snapshots.keep_failed(active, self.build, step.number)
            cancelled = isinstance(err, KeyboardInterrupt)
            self.emit(progress.StepFailed(step.number, step.name, self.clock(), str(err), cancelled))
            code = getattr(err, "exit_code", None)
            self._record(step, "failed", started=started, exit_code=code, why=why)
            raise
        layer = self.store.snapshots.commit(active)
        state.layers, state.ran = (*below, layer.id), True
        self._hash_beside(layer.id, layer.path)
        finished = self.clock()
        self._put(step, layer.id, below, self._content_key(step, below), int((finished - started) * 1e6))
        self.ran += 1
        self.emit(progress.StepDone(step.number, step.name, finished))
        self._record(step, "done", layer=layer.id, started=started, exit_code=0, why=why)

    def _work(self, step: StepSpec, active: Active, below: tuple[LayerID, ...]) -> None:
        work = step.work
        if isinstance(work, RunStep):
            self._run(step, work, active)
        elif isinstance(work, CopyStep | AddStep):
            self._copy(step, work, active, below)
        elif isinstance(work, WorkdirStep):
            from builder.pipeline.copy_step import CopySpec

            spec = CopySpec((), work.path + "/", chown=work.user or None)
            self._make_directory(spec, active, below)

    def _run(self, step: StepSpec, work: RunStep, active: Active) -> None:
        from builder.pipeline.run_step import RunEnvironment, run

        log = self.store.records.open_log(self.build, step.number)
        started = self.clock()

        def output(stream: int, data: bytes) -> None:
            now = self.clock()
            log.write(stream, data, int((now - started) * 1e6))
            self.emit(progress.StepOutput(step.number, stream, data, now))

        def lowers(position: int) -> tuple[str, ...] | None:
            source = work.sources[position]
            if source is None:
                return None
            if source.step is not None:
                return self._rootfs(source.step).lowers
            return None if source.context is None else (str(self._mount_copy(source, work.mounts[position].source)),)

        try:
            around = RunEnvironment(self.request, self.store, self.launcher(), lowers)
            ended: Exit = run(work, active, around, output)
        finally:
            log.close()
        usage = ended.usage
        self.states[step.number - 1].facts = {
            "cpu_user_us": usage.cpu_user_us,
            "cpu_system_us": usage.cpu_system_us,
            "peak_memory": usage.peak_memory,
            "read_bytes": usage.read_bytes,
            "write_bytes": usage.write_bytes,
        }

    def _mount_copy(self, source: FilesOf, path: str) -> Path:
        """The files of a context for a bind mount, without what .dockerignore hides and owned by root."""
        from builder.pipeline.copy_step import CopySpec, materialise, select

        parent = path.strip("/").rpartition("/")[0]
        spec = CopySpec((path or "/",), f"/{parent}/" if parent else "/")
        target = self._scratch()
        target.chmod(0o755)
        with select(spec, self._context(source), cache=self.store.files, scratch=self._scratch) as selection:
            if selection.spec.sources != ("/",) and os.path.isdir(f"{self._path(source)}/{path.strip('/')}"):
                spec = CopySpec((path,), f"/{path.strip('/')}")
                with select(spec, self._context(source), cache=self.store.files, scratch=self._scratch) as whole:
                    materialise(whole, upper=target, root=None)
            else:
                materialise(selection, upper=target, root=None)
        return target

    def _path(self, source: FilesOf) -> str:
        tree = self._context(source)
        return f"/proc/self/fd/{tree.fd}" if tree is not None else "/nonexistent"

    def _copy(self, step: StepSpec, work: CopyStep | AddStep, active: Active, below: tuple[LayerID, ...]) -> None:
        from builder.pipeline.copy_step import materialise
        from runtime.rootfs import open_rootfs
        from runtime.spec import Rootfs

        state = self.states[step.number - 1]
        spec = work.spec if isinstance(work, CopyStep) else work.spec.copy
        if state.selection is None:
            tree = self._context(work.source) if work.source.step is None else self._stage_tree(work.source.step)
            state.selection = self._select(work, tree)
        lowers = tuple(map(str, active.lowers))
        with ExitStack() as undo:
            parents: int | None = None
            if below:
                parents = open_rootfs(Rootfs(lowers, readonly=True))
                undo.callback(os.close, parents)
            materialise(
                state.selection,
                upper=active.upper,
                root=None if spec.link else parents,
                writable=lambda: open_rootfs(Rootfs(lowers, str(active.upper), str(active.work))),
                users=parents,
            )

    def _make_directory(self, spec: CopySpec, active: Active, below: tuple[LayerID, ...]) -> None:
        """WORKDIR: what is missing of the path, through the parents' symlinks and never out of them."""
        from builder.pipeline.permissions import owner
        from builder.pipeline.trees import resolve
        from runtime.rootfs import open_rootfs
        from runtime.spec import Rootfs

        lowers = tuple(map(str, active.lowers))
        root = open_rootfs(Rootfs(lowers, str(active.upper), str(active.work)))
        try:
            found = resolve(root, spec.dest)
            who = owner(spec.chown, root) if spec.chown else None
            for count in range(found.found + 1, len(found.parts) + 1):
                path = "/".join(found.parts[:count])
                os.mkdir(path, 0o755, dir_fd=root)
                os.chmod(path, 0o755, dir_fd=root)
                if who is not None:
                    os.chown(path, who[0], who[1], dir_fd=root, follow_symlinks=False)
        except NotADirectoryError as err:
            raise BuildError(f"cannot make directory {spec.dest}: a file stands in its way") from err
        finally:
            os.close(root)

    # records

    def _put(
        self, step: StepSpec, layer: LayerID, below: tuple[LayerID, ...], content_key: str | None, duration_us: int
    ) -> None:
        state = self.states[step.number - 1]
        tops = [(self._layers(number) or (None,))[-1] for number in step.inputs]
        self.store.buildcache.put(
            CacheRecord(
                key=state.key,
                step=state.step,
                text=step.text,
                leaves=state.leaves,
                parent=cachekeys.EMPTY if step.parent is None else self.states[step.parent - 1].key,
                layer=layer,
                content_key=content_key,
                result=json.dumps({"below": below[-1] if below else None, "sources": tops}),
                build=self.build,
                duration_us=duration_us,
            )
        )

    def _record(
        self,
        step: StepSpec,
        status: str,
        *,
        layer: LayerID | None = None,
        started: float | None = None,
        exit_code: int | None = None,
        why: str = "",
    ) -> None:
        state, now = self.states[step.number - 1], self.clock()
        line = step.span.start.line if step.span is not None else 0
        self.store.records.add_step(
            StepRecord(
                build=self.build,
                number=step.number,
                name=step.name,
                status=status,
                key=state.key,
                step=state.step,
                layer=layer,
                started=int((now if started is None else started) * 1e9),
                finished=int(now * 1e9),
                exit_code=exit_code,
                facts={"why": why, "line": line, **state.facts},
            )
        )
