"""The history of builds, and the output of steps."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.errors import BuildNotFound, LogNotFound
from builder.store import Store
from builder.store.buildcache import CacheRecord
from builder.store.records import HISTORY, HISTORY_AGE, LogChunk, StepRecord


def test_a_build_is_recorded_from_start_to_end(store: Store) -> None:
    build = store.records.start_build(dockerfile=b"FROM x", facts={"target": "x"})
    assert store.records.get(build).status == "running"
    store.records.add_step(StepRecord(build, 2, "RUN b", "running"))
    steps = [
        StepRecord(build, 2, "RUN b", "failed", "key", "step", "layer", 1, 2, 7, {"why": "new", "n": [1]}),
        StepRecord(build, 1, "RUN a", "cached"),
    ]
    store.records.add_steps(steps)
    assert store.records.steps(build) == (steps[1], steps[0])
    store.records.finish_build(build, "failed", error="it broke", facts={"more": True})
    found = store.records.get(build[:20])
    assert (found.status, found.error, found.dockerfile) == ("failed", "it broke", b"FROM x")
    assert found.facts == {"target": "x", "more": True}
    assert found.finished is not None and found.finished >= found.started


def test_builds_are_listed_newest_first(root: object, tmp_path: object) -> None:
    ticks = itertools.count(10**18, 10**9)
    assert hasattr(tmp_path, "joinpath")
    with Store.open(tmp_path.joinpath("s"), clock=lambda: next(ticks)) as store:
        builds = [store.records.start_build() for _ in range(4)]
        assert [one.id for one in store.records.list()] == builds[::-1]
        assert [one.id for one in store.records.list(limit=2)] == builds[:1:-1]
        assert sorted(builds) == builds, "ids sort by time"


def test_a_build_whose_process_died_was_interrupted(store: Store, run: object) -> None:
    assert callable(run)
    run("store = Store.open(root); store.records.start_build(); os._exit(0)\n")
    assert [one.status for one in store.records.list()] == ["interrupted"]


def test_old_builds_are_forgotten_beyond_the_newest(tmp_path: Path) -> None:
    now = 10**18
    with Store.open(tmp_path / "s", clock=lambda: now) as store:
        builds = []
        for _ in range(HISTORY + 4):
            now += 1
            builds.append(store.records.start_build())
            log = store.records.open_log(builds[-1], 1)
            log.write(1, b"said", 0)
            log.close()
            store.records.finish_build(builds[-1], "done")
        running = store.records.start_build()
        layer = store.snapshots.commit(store.snapshots.prepare([])).id
        store.buildcache.put(CacheRecord("key", "step", "RUN a", (), layer=layer, result="{}", build=builds[1]))
        store.snapshots.keep_failed(store.snapshots.prepare([]), builds[2], 1, ttl=2 * HISTORY_AGE)
        assert store.records.outdated() == ()  # all of them are of the last two days
        now += HISTORY_AGE + 1
        assert store.collect(dry_run=True).of("build") != ()
        gone = store.collect().of("build")
        assert [item.name for item in gone] == [builds[0], builds[3], builds[4]]
        assert all(item.size > 0 for item in gone)
        assert {one.id for one in store.records.list(limit=1000)} == {running, *builds} - {item.name for item in gone}
        assert set(os.listdir(tmp_path / "s" / "logs")) == set(builds) - {item.name for item in gone}
        store.records.remove(running)
        assert store.collect().items == ()


def test_what_is_not_there_is_said_to_be_missing(store: Store) -> None:
    build = store.records.start_build()
    for wrong in ("", "f" * 24, build + "0"):
        with pytest.raises(BuildNotFound):
            store.records.get(wrong)
    with pytest.raises(BuildNotFound):
        store.records.add_step(StepRecord("none", 1, "x", "done"))
    with pytest.raises(LogNotFound):
        store.records.read_log(build, 1)
    with pytest.raises(BuildNotFound):
        store.records.read_log("../../etc", 1)


CHUNKS = st.lists(st.builds(LogChunk, st.integers(0, 1 << 40), st.sampled_from([1, 2]), st.binary(min_size=1)))


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(CHUNKS)
def test_output_is_read_as_it_was_written_before_and_after_its_end(store: Store, chunks: list[LogChunk]) -> None:
    build = store.records.start_build()
    log = store.records.open_log(build, 1)
    for chunk in chunks:
        log.write(chunk.stream, chunk.data, chunk.offset_us)
    for end in (log.flush, log.close, log.close):
        end()
        if chunks:
            assert list(store.records.read_log(build, 1)) == chunks
        else:
            with pytest.raises(LogNotFound):
                store.records.read_log(build, 1)
    store.records.remove(build)
    assert store.records.list() == ()


def test_output_beyond_the_limit_is_counted_and_dropped(store: Store) -> None:
    log = store.records.open_log(store.records.start_build(), 1, limit=5)
    log.write(1, b"123", 0)
    log.write(2, b"4567", 1)
    log.write(1, b"89", 2)
    log.close()
    assert log.dropped == 4
    build = store.records.list()[0].id
    assert [chunk.data for chunk in store.records.read_log(build, 1)] == [b"123", b"45"]


def test_the_torn_end_of_a_killed_builds_log_is_left_out(store: Store) -> None:
    build = store.records.start_build()
    log = store.records.open_log(build, 1)
    log.write(1, b"whole", 0)
    log.write(1, b"torn", 1)
    log.flush()
    path = store.root / "logs" / build / "1.log"
    path.write_bytes(path.read_bytes()[:-2])
    assert [chunk.data for chunk in store.records.read_log(build, 1)] == [b"whole"]
    log.close()
