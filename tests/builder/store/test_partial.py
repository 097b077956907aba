"""Blobs that are still coming: what has arrived stays, nothing counts before it is whole."""

import os
import threading
from pathlib import Path

import pytest

from builder.errors import DigestMismatch
from builder.oci import digests
from builder.store import Store
from builder.store.partial import TTL

DATA = b"0123456789" * 1000
DIGEST = digests.of(DATA)


def begin(store: Store, count: int) -> Path:
    with store.content.partial(DIGEST) as partial:
        partial.write(DATA[:count])
    (path,) = store.layout.directory("content").iterdir()
    return path


def test_what_has_come_is_there_for_the_next_and_a_blob_at_the_end(store: Store) -> None:
    begin(store, 4000)
    assert not store.content.exists(DIGEST)
    with store.content.partial(DIGEST) as partial:
        assert partial.size == 4000
        partial.write(DATA[4000:])
        partial.commit()
    assert store.content.read(DIGEST) == DATA
    assert store.fsck(full=True) == ()


def test_other_bytes_are_forgotten(store: Store) -> None:
    with store.content.partial(DIGEST) as partial:
        partial.write(b"something else")
        with pytest.raises(DigestMismatch):
            partial.commit()
        assert partial.size == 0
    assert list(store.layout.directory("content").iterdir()) == []


def test_only_one_brings_a_blob_at_a_time(store: Store) -> None:
    found: list[bool] = []

    def second() -> None:
        with store.content.partial(DIGEST):
            found.append(store.content.exists(DIGEST))

    with store.content.partial(DIGEST) as partial:
        other = threading.Thread(target=second)
        other.start()
        partial.write(DATA)
        partial.commit()
    other.join()
    assert found == [True]


def test_it_is_no_garbage_until_it_is_old_or_nothing_is_to_be_kept(store: Store) -> None:
    path = begin(store, 10)
    store.collect()
    assert path.exists() and store.fsck() == ()
    old = path.stat().st_mtime - TTL - 10
    os.utime(path, (old, old))
    assert [each.kind for each in store.fsck()] == ["garbage"]
    store.collect()
    assert not path.exists()
    path = begin(store, 10)
    store.collect(cache_budget=0)
    assert not path.exists()


def test_one_that_is_being_written_is_left_alone(store: Store) -> None:
    with store.content.partial(DIGEST) as partial:
        partial.write(DATA)
        store.collect(cache_budget=0)
        partial.commit()
    assert store.content.exists(DIGEST)
