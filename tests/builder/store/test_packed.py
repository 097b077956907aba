"""Packed forms of layers: found by either digest, kept as long as the layer is."""

from typing import Any

from builder.oci import digests
from builder.store import Store
from builder.store.packed import MAX_ORIGINS, PackedLayer


def form(diff_id: Any, data: bytes, method: str = "") -> PackedLayer:
    return PackedLayer(digests.of(data), diff_id, len(data), "application/x", method)


def test_forms_are_known_by_both_digests_foreign_ones_first(store: Store, make: Any) -> None:
    layer = store.snapshots.get(store.images.get(make.image("a", files={"a": "1"})).layers[0])
    ours, theirs = form(layer.diff_id, b"ours", "gzip"), form(layer.diff_id, b"theirs")
    for each in (ours, theirs, ours):
        store.packed.put(each, origin="r.test/a")
    assert store.packed.of(layer.diff_id) == (theirs, ours)
    assert store.packed.get(theirs.digest) == theirs and store.packed.get(digests.of(b"x")) is None


def test_origins_are_bounded_and_newest_first(store: Store, make: Any) -> None:
    layer = store.snapshots.get(store.images.get(make.image("a", files={"a": "1"})).layers[0])
    packed = form(layer.diff_id, b"x")
    store.packed.put(packed)
    for number in range(MAX_ORIGINS + 10):
        store.packed.add_origin(packed.digest, f"r.test/{number}")
    assert len(store.packed.origins(packed.digest)) == MAX_ORIGINS
    store.packed.add_origin(digests.of(b"unknown"), "r.test/a")
    assert store.packed.origins(digests.of(b"unknown")) == ()
    store.packed.forget_origin(packed.digest, "r.test/30")
    assert "r.test/30" not in store.packed.origins(packed.digest)


def test_a_kept_blob_goes_with_its_layer(store: Store, make: Any) -> None:
    image = make.image("a", files={"a": "1"})
    layer = store.snapshots.get(store.images.get(image).layers[0])
    with Store.open(store.root) as other:
        other.packed.put(form(layer.diff_id, b"blob"), origin="r.test/a")
        assert other.content.put(b"blob")
        assert other.packed.kept() == {layer.diff_id: 4}
    store.collect(cache_budget=0)
    assert store.content.exists(digests.of(b"blob"))
    with Store.open(store.root) as other:
        other.images.remove("a")
    store.close()
    with Store.open(store.root) as other:
        other.collect(cache_budget=0)
        assert not other.content.exists(digests.of(b"blob")) and other.packed.get(digests.of(b"blob")) is None


def test_an_upload_is_remembered_until_it_is_over(store: Store) -> None:
    digest = digests.of(b"x")
    store.packed.set_upload(digest, "r.test/a", "/v2/a/blobs/uploads/1")
    assert store.packed.upload(digest, "r.test/a") == "/v2/a/blobs/uploads/1"
    assert store.packed.upload(digest, "r.test/b") == ""
    store.packed.set_upload(digest, "r.test/a", "")
    assert store.packed.upload(digest, "r.test/a") == ""
