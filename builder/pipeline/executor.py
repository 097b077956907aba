"""The one piece with effects: a plan's steps, found in the cache or made, one result for each.

First the whole plan is looked up (`lookup`). What the target needs and the cache has not is made: steps that do not
wait for each other side by side (`schedule`). A step whose parents were made again is first looked for by what they
contain (early cut-off). What the target does not need is neither looked at nor made: a COPY that hits needs nothing of
its source. Two builds that want the same step take its key's lock: the second finds the result of the first.

A step is made when its layer's directory is in its place; the next one starts on it at once. Hashing it and writing it
down (the rows of layer, cache and history) come behind (`behind`), and the key's lock is held until that is done.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from builder.errors import EngineError
from builder.pipeline import directories, lookup, progress
from builder.pipeline.contents import Contents
from builder.pipeline.steps import AddStep, CopyStep, RunStep, StepSpec, WorkdirStep
from builder.pipeline.written import cache_record, hash_layer
from builder.store.records import StepRecord
from builder.store.snapshots import LayerID
from runtime.errors import ContainerError
from runtime.values import dataclass

if TYPE_CHECKING:
    from pathlib import Path

    from builder.pipeline.behind import Behind
    from builder.pipeline.copy_step import Earlier
    from builder.pipeline.foreign import Emulation
    from builder.pipeline.lookup import StepState
    from builder.pipeline.plan import Plan
    from builder.pipeline.progress import Emit, Event
    from builder.pipeline.request import BuildRequest
    from builder.pipeline.schedule import Together
    from builder.pipeline.sources import Sources
    from builder.pipeline.travel import Offers
    from builder.pipeline.wiring import Wiring
    from builder.store import Store
    from builder.store.buildcache import CacheRecord
    from builder.store.snapshots import Active
    from runtime.container import Exit, Launcher


@dataclass(frozen=True, slots=True)
class _Made:
    """A step that has run: where its layer is, and what is to be written down of it. Times in seconds."""

    step: StepSpec
    active: Active
    path: Path
    why: str
    started: float
    finished: float


class Executor:
    """Executes one plan. Use as a context manager: its end waits until what was made is hashed and written down."""

    def __init__(
        self,
        plan: Plan,
        request: BuildRequest,
        store: Store,
        launcher: Callable[[], Launcher],
        *,
        sources: Sources,
        build: str,
        clock: Callable[[], float],
        emit: Emit,
        together: Together | None = None,
    ) -> None:
        """*together*: the builds that this one belongs to; the caller's."""
        self.plan = plan
        self.request = request
        self.store = store
        self.launcher = launcher
        self.sources = sources
        self.build = build
        self.clock = clock
        self._emit = emit
        self.cached = 0
        self.ran = 0
        self._guard = threading.RLock()
        self._states: list[StepState] = []
        self._behind: Behind | None = None
        self._runs = 0
        self._grounded: set[LayerID] = set()
        self._together = together
        self._cancel = together.cancel if together is not None else None
        self._wiring: Wiring | None = None
        self._offers: Offers | None = None
        self._emulation: Emulation | None = None

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._behind is not None:
            self._behind.close()
        if self._cancel is not None and self._together is None:
            self._cancel.close()

    def run(self) -> tuple[tuple[LayerID, ...], ...]:
        """Find or make every step that the target needs; returns the layers of each image, bottom first, all hashed.

        Raises StepFailed, BuildError, ContextError, StoreError, ContainerError."""
        self._states = lookup.describe(self.plan, self.request, self.sources)
        self._contents = Contents(self.plan, self._states, self.store, wait=self._wait, select=self._select)
        if self.request.travel is not None:
            from builder.pipeline.travel import Offers

            self._offers = Offers(self.request.travel.sources, self.store, self.emit, self.clock)
            self._offers.adopt(self.plan, self._states)
        lookup.find(self.plan, self._states, self.store, change=True)
        wanted = lookup.needed(self.plan, lookup.found(self._states))
        self._tell_cached([step for step in wanted if self._state(step).taken is not None])
        missing = [step for step in wanted if self._state(step).layers is None]
        if missing:
            self._make_all(missing)
        images = tuple(() if image.last is None else self._layers(image.last) for image in self.plan.images)
        if self._behind is not None and self._behind.busy():
            self.store.snapshots.flush()  # the disk writes while large layers are still hashed
        # Also what another build has just made and written down, but not hashed yet, is found in the cache.
        layers = tuple(dict.fromkeys(layer for image in images for layer in image))
        unhashed = layers if missing else [one.id for one in self.store.snapshots.get_all(layers) if not one.diff_id]
        for layer in unhashed:
            self._contents.of(layer)
        return images

    def states(self) -> Sequence[StepState]:
        """What is known of all steps after `run`."""
        return self._states

    def _make_all(self, missing: Sequence[StepSpec]) -> None:
        from builder.pipeline.behind import Behind
        from builder.pipeline.foreign import Emulation
        from builder.pipeline.schedule import Cancel, run_all
        from builder.pipeline.wiring import Wiring

        self._wiring = Wiring(self.store.networks_dir)
        if self._cancel is None:
            self._cancel = Cancel()
        self._behind = Behind(os.cpu_count() or 1)
        self._emulation = Emulation()
        self._emulation.check(missing, self._states, self.store, self.plan.source)
        self._runs = sum(isinstance(step.work, RunStep) for step in missing)
        if self._runs:
            from builder.pipeline.run_step import likely

            self.launcher().warm(likely(self.request))
        needs = {step.number: (*step.inputs, *((step.parent,) if step.parent else ())) for step in missing}
        run_all(
            needs,
            lambda number: self._settle(self.plan.steps[number - 1]),
            jobs=self.request.jobs,
            cancel=self._cancel,
        )

    def _state(self, step: StepSpec) -> StepState:
        return self._states[step.number - 1]

    def _layers(self, number: int) -> tuple[LayerID, ...]:
        layers = self._states[number - 1].layers
        assert layers is not None, "steps are settled after those that they need"
        return layers

    def emit(self, event: Event) -> None:
        """Tell one event; they never overlap."""
        with self._guard:
            self._emit(event)

    # one step

    def _settle(self, step: StepSpec) -> None:
        """Give *step* its layers: from the cache, by content, or by making it."""
        from builder.pipeline.schedule import exclusive

        state = self._state(step)
        below = lookup.layers_below(step, self._states)
        assert below is not None
        assert self._cancel is not None
        self._cancel.check()
        with ExitStack() as held:
            held.enter_context(exclusive(self.store, f"step {state.key}", self._cancel))
            record = self.store.buildcache.lookup(state.key) if not step.forced or self._together is not None else None
            if record is not None and self._may_take(step, record) and lookup.stands(record, step, self._states):
                assert record.layer is not None
                self._take(step, record.layer, record.duration_us, below)
                return
            if not step.forced and self._same(step, below):
                return
            self._make(step, below, lookup.reason(step, state, self.store), held)

    def _same(self, step: StepSpec, below: tuple[LayerID, ...]) -> bool:
        """Whether *step* was run on the same content, here or where a cache came from; it then has its layers."""
        state, cache = self._state(step), self.store.buildcache
        offers = self._offers if self._offers is not None and self._offers.has(state.step) else None
        if offers is None and cache.nearest(state.step) is None:
            return False
        content_key = self._contents.key(step)
        same = cache.lookup_content(content_key)
        if same is not None and same.layer is not None:
            layer, duration = same.layer, same.duration_us
        elif offers is not None and (brought := offers.bring(step, content_key)) is not None:
            layer, duration = brought
        else:
            return False
        self._put(step, layer, content_key, duration)
        self._take(step, layer, duration, below, by_content=True)
        return True

    def _may_take(self, step: StepSpec, record: CacheRecord) -> bool:
        """A step that must be seen to run counts as seen when a build that belongs to this one has run it."""
        return not step.forced or (self._together is not None and record.build in self._together.builds)

    def _take(
        self,
        step: StepSpec,
        layer: LayerID,
        duration_us: int,
        below: tuple[LayerID, ...],
        *,
        by_content: bool = False,
    ) -> None:
        self._state(step).layers = (*below, layer)
        with self._guard:
            self.cached += 1
        self.emit(progress.StepCached(step.number, step.name, self.clock(), by_content))
        facts = {"saved_us": duration_us, "by_content": by_content}
        self.store.records.add_step(self._record(step, "cached", facts=facts))

    def _tell_cached(self, steps: Sequence[StepSpec]) -> None:
        records = []
        for step in steps:
            taken = self._state(step).taken
            assert taken is not None
            self.emit(progress.StepCached(step.number, step.name, self.clock()))
            records.append(self._record(step, "cached", facts={"saved_us": taken.duration_us}))
        self.cached += len(steps)
        self.store.records.add_steps(records)

    def _make(self, step: StepSpec, below: tuple[LayerID, ...], why: str, lock: ExitStack) -> None:
        """Run *step*; *lock* is given to the job that writes it down."""
        assert self._behind is not None
        self._behind.check()
        state, started = self._state(step), self.clock()
        self.emit(progress.StepStarted(step.number, step.name, started, why))
        active = self.store.snapshots.prepare(below)
        try:
            self._work(step, active, below)
        except BaseException as err:
            self._failed(step, active, err, started, why)
            raise
        path = self.store.snapshots.seal(active)
        made = _Made(step, active, path, why, started, self.clock())
        state.layers = (*below, LayerID(active.key))
        with self._guard:
            self.ran += 1
        self.emit(progress.StepDone(step.number, step.name, made.finished))
        held = lock.pop_all()
        self._behind.add(active.key, lambda: self._write_down(made, held))

    def _write_down(self, made: _Made, lock: ExitStack) -> None:
        """Rows for what a step made, in one transaction, and then the digests of its layer."""
        step, layer = made.step, LayerID(made.active.key)
        state = self._state(step)
        with lock:
            content_key = self._contents.key(step)
            with self.store.database.write():
                self.store.snapshots.record(made.active)
                if state.selection is not None:
                    self.store.buildcache.put_manifest(layer, state.selection.manifest())
                self._put(step, layer, content_key, int((made.finished - made.started) * 1e6))
                facts = {"why": made.why, **state.facts}
                self.store.records.add_step(
                    self._record(step, "done", started=made.started, finished=made.finished, exit_code=0, facts=facts)
                )
        hash_layer(self.store, layer, made.path)

    def _failed(self, step: StepSpec, active: Active, err: BaseException, started: float, why: str) -> None:
        """Keep the directory of a step that failed by itself; say what happened, and where in the Dockerfile."""
        from builder.pipeline.schedule import StepCancelled

        cancelled = isinstance(err, KeyboardInterrupt | StepCancelled)
        facts: dict[str, object] = {"why": why, "error": str(err)}
        if cancelled:
            self.store.snapshots.discard(active)
        else:
            try:
                facts["directory"] = str(self.store.snapshots.keep_failed(active, self.build, step.number).path)
            except EngineError:
                # The step's own error counts; a disk that the step has filled has no room for looking back.
                self.store.snapshots.discard(active)
        if isinstance(err, EngineError | ContainerError) and step.span is not None and not err.excerpt:
            err.excerpt = self.plan.source.citation(step.span, column=True)
        self.emit(progress.StepFailed(step.number, step.name, self.clock(), str(err), cancelled))
        self.store.records.add_step(
            self._record(
                step,
                "cancelled" if cancelled else "failed",
                started=started,
                exit_code=getattr(err, "exit_code", None),
                facts=facts,
            )
        )

    def _wait(self, layer: LayerID) -> None:
        if self._behind is not None:
            self._behind.wait(layer)

    def _select(self, step: StepSpec, work: CopyStep | AddStep) -> None:
        state = self._state(step)
        if state.selection is not None:
            return
        number = work.source.step
        if number is None:
            tree = self.sources.context(work.source.context)
        else:
            tree = self.sources.stage(self._layers(number), f"stage {self.plan.steps[number - 1].stage}")
        state.selection = lookup.select(work, self.sources, tree)

    # making

    def _work(self, step: StepSpec, active: Active, below: tuple[LayerID, ...]) -> None:
        work = step.work
        if isinstance(work, RunStep):
            self._ground(active, below)
            self._run(step, work, active)
        elif isinstance(work, CopyStep | AddStep):
            self._copy(step, work, active, below)
        elif isinstance(work, WorkdirStep):
            directories.make_workdir(work, active)

    def _ground(self, active: Active, below: tuple[LayerID, ...]) -> None:
        if not below or below[-1] not in self._grounded:
            directories.ground(active)
        self._grounded.add(LayerID(active.key))

    def _run(self, step: StepSpec, work: RunStep, active: Active) -> None:
        from builder.pipeline.run_step import RunEnvironment, run

        assert self._wiring is not None
        assert self._cancel is not None
        assert self._emulation is not None
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
                return self.sources.lowers(self._layers(source.step))
            if source.context is None:
                return None
            return (str(self.sources.bound_directory(source.context, work.mounts[position].source)),)

        def fill(position: int, target: Path) -> None:
            from builder.pipeline.copy_step import CopySpec, materialise

            source = work.sources[position]
            assert source is not None
            tree = (
                self.sources.context(source.context)
                if source.step is None
                else self.sources.stage(self._layers(source.step), "the cache's stage")
            )
            spec = CopySpec((work.mounts[position].source or "/",), "/")
            materialise(self.sources.copy(spec, tree), upper=target, root=None)

        def origin(position: int) -> str:
            source = work.sources[position]
            return "" if source is None or source.step is None else self._contents.stack(source.step)

        try:
            around = RunEnvironment(
                self.request,
                self.store,
                self.launcher(),
                lowers,
                fill,
                origin,
                self._wiring,
                self.sources.scratch,
                self._cancel,
                another=self._runs_on(),
                emulators=self._emulation.interpreters(work.platform, active.lowers),
            )
            ended: Exit = run(work, active, around, output)
        finally:
            log.close()
        usage = ended.usage
        self._state(step).facts = {
            "cpu_user_us": usage.cpu_user_us,
            "cpu_system_us": usage.cpu_system_us,
            "peak_memory": usage.peak_memory,
            "read_bytes": usage.read_bytes,
            "write_bytes": usage.write_bytes,
        }

    def _runs_on(self) -> bool:
        """Whether there may be another RUN to make after the one that begins now."""
        with self._guard:
            self._runs -= 1
            return self._runs > 0

    def _copy(self, step: StepSpec, work: CopyStep | AddStep, active: Active, below: tuple[LayerID, ...]) -> None:
        from builder.pipeline.copy_step import materialise
        from runtime.rootfs import open_rootfs
        from runtime.spec import Rootfs

        spec = work.spec if isinstance(work, CopyStep) else work.spec.copy
        self._select(step, work)
        selection = self._state(step).selection
        assert selection is not None
        lowers = tuple(map(str, active.lowers))
        with ExitStack() as undo:
            parents: int | None = None
            if below:
                parents = open_rootfs(Rootfs(lowers, readonly=True))
                undo.callback(os.close, parents)
            facts = materialise(
                selection,
                upper=active.upper,
                root=None if spec.link else parents,
                earlier=self._earlier(step),
                writable=lambda: open_rootfs(Rootfs(lowers, str(active.upper), str(active.work))),
                users=parents,
            )
        self._state(step).facts = {"files": facts.files, "size": facts.size, "linked": facts.linked}

    def _earlier(self, step: StepSpec) -> Earlier | None:
        """The layer that this step made last, whose files need not be copied again where they are the same."""
        from builder.pipeline.copy_step import Earlier

        record = self.store.buildcache.nearest(self._state(step).step)
        if record is None or record.layer is None:
            return None
        manifest = self.store.buildcache.manifest(record.layer)
        return None if manifest is None else Earlier(self.store.snapshots.path(record.layer), manifest)

    # records

    def _put(self, step: StepSpec, layer: LayerID, content_key: str, duration_us: int) -> None:
        record = cache_record(
            step,
            self._states,
            layer,
            lookup.footings(self._states),
            content_key=content_key,
            build=self.build,
            duration_us=duration_us,
        )
        self.store.buildcache.put(record)

    def _record(
        self,
        step: StepSpec,
        status: str,
        *,
        started: float | None = None,
        finished: float | None = None,
        exit_code: int | None = None,
        facts: Mapping[str, object],
    ) -> StepRecord:
        state, now = self._state(step), self.clock() if finished is None else finished
        return StepRecord(
            build=self.build,
            number=step.number,
            name=step.name,
            status=status,
            key=state.key,
            step=state.step,
            layer=lookup.top(state.layers or ()),
            started=int((now if started is None else started) * 1e9),
            finished=int(now * 1e9),
            exit_code=exit_code,
            facts={"line": step.span.start.line if step.span is not None else 0, **facts},
        )
