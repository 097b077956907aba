"""Cache records, and what is remembered of files outside."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.store import Store
from builder.store.buildcache import CacheRecord

UNSIGNED = st.integers(0, (1 << 64) - 1)
TIMES = st.integers(-(1 << 62), (1 << 62))
KEYS = st.tuples(st.integers(0, 3) | UNSIGNED, st.integers(0, 3) | UNSIGNED, st.integers(0, 9), TIMES, TIMES)


def test_a_record_comes_back_as_it_was_put(store: Store, make: Any) -> None:
    layer = make.layer({"a": "1"})
    record = CacheRecord(
        key="k",
        step="s",
        text="RUN x",
        leaves=(("text", "x"), ("file ü", "sha256:1")),
        parent="p",
        layer=layer.id,
        content_key="c",
        content_digest=layer.content_digest,
        result='{"a": 1}',
        build="b",
        duration_us=5,
        created=7,
    )
    store.buildcache.put(record)
    assert store.buildcache.lookup("k") == store.buildcache.peek("k") == store.buildcache.lookup_content("c") == record
    assert store.buildcache.list() == (record,)
    store.buildcache.put(replace(record, text="RUN y"))
    assert [one.text for one in store.buildcache.list()] == ["RUN y"]
    store.buildcache.set_content("k", "sha256:2", None)
    found = store.buildcache.peek("k")
    assert found is not None and (found.content_digest, found.content_key) == ("sha256:2", "c")
    store.buildcache.remove("k")
    assert store.buildcache.lookup("k") is None


def test_a_whole_plan_is_looked_up_at_once(store: Store, make: Any) -> None:
    layers = [make.layer({"a": str(number)}) for number in range(3)]
    for number, layer in enumerate(layers):
        make.record(f"k{number}", layer.id)
    make.record("empty", None)
    keys = ["k0", "k1", "k2", "empty", "missing"]
    assert set(store.buildcache.lookup_all(keys)) == {"k0", "k1", "k2", "empty"}
    assert store.buildcache.lookup_all([]) == {}
    store.close()
    with Store.open(store.root) as other:
        other.snapshots.forget(layers[1].id)
        assert set(other.buildcache.lookup_all(keys)) == {"k0", "k2", "empty"}
        with Store.open(store.root) as third:
            assert {item.kind for item in third.collect(cache_budget=0).items} == {"garbage", "cache record"}
        assert set(other.buildcache.peek_all(keys)) == {"k0", "k2"}


def test_the_last_record_of_a_place(store: Store) -> None:
    for number in (1, 2):
        store.buildcache.put(CacheRecord(f"k{number}", f"s{number}", "RUN", (), created=number, place="stage 1"))
    found = store.buildcache.at_place("stage 1")
    assert found is not None and found.key == "k2"
    assert store.buildcache.at_place("stage 2") is None


def test_the_nearest_record_is_the_newest_of_the_same_step(store: Store) -> None:
    for number in (2, 3, 1):
        store.buildcache.put(CacheRecord(f"k{number}", "same", "RUN", (), created=number))
    store.buildcache.put(CacheRecord("other", "another", "RUN", (), created=9))
    nearest = store.buildcache.nearest("same")
    assert nearest is not None and nearest.key == "k3"
    assert [one.key for one in store.buildcache.of_step("same", limit=2)] == ["k3", "k2"]
    assert store.buildcache.nearest("unknown") is None


def test_a_content_key_finds_the_newest_whose_layer_is_there(store: Store, make: Any) -> None:
    kept, lost = make.layer({"a": "1"}), make.layer({"a": "2"})
    store.buildcache.put(CacheRecord("old", "s", "RUN", (), layer=kept.id, content_key="c", created=1))
    store.buildcache.put(CacheRecord("new", "s", "RUN", (), layer=lost.id, content_key="c", created=2))
    store.snapshots.forget(lost.id)
    found = store.buildcache.lookup_content("c")
    assert found is not None and found.key == "old"


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(KEYS, st.binary(min_size=32, max_size=32), max_size=8), st.lists(KEYS, max_size=4))
def test_digests_of_files_are_found_under_exactly_their_stat(
    store: Store, known: dict[tuple[int, int, int, int, int], bytes], others: list[tuple[int, int, int, int, int]]
) -> None:
    store.files.put_files(known)
    # One entry per device and inode: a file has one content at a time.
    newest = {(key[0], key[1]): key for key in sorted(known, key=_stored)}
    found = store.files.get_files([*known, *others])
    assert found == {key: known[key] for key in newest.values()}
    with store.database.write():
        store.database.run("DELETE FROM file_digests")


def _stored(key: tuple[int, int, int, int, int]) -> tuple[int, ...]:
    signed = [part if part < 1 << 63 else part - (1 << 64) for part in key[:2]]
    return (*signed, *key[2:])


def test_many_files_are_found_at_once(store: Store) -> None:
    known = {(1, inode, 1, 2, 3): inode.to_bytes(32, "big") for inode in range(3000)}
    store.files.put_files(known)
    assert store.files.get_files(known) == known
    assert store.files.get_files([(1, 5, 1, 2, 4), (2, 5, 1, 2, 3), (1, 3000, 1, 2, 3)]) == {}


def test_selections_and_parsed_dockerfiles(store: Store) -> None:
    assert store.files.get_selection(b"f" * 32) is None
    store.files.put_selection(b"f" * 32, b"d" * 32)
    store.files.put_selection(b"f" * 32, b"e" * 32)
    assert store.files.get_selection(b"f" * 32) == b"e" * 32
    assert store.files.get_parsed("k") is None
    store.files.put_parsed("k", b"data")
    assert store.files.get_parsed("k") == b"data"
