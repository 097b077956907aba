"""Predicates beside images: they stay as long as their image does, and no longer."""

from __future__ import annotations

from typing import Any

import pytest

from builder.errors import ImageNotFound
from builder.oci import digests
from builder.store import Store
from builder.store.attestations import Predicate
from builder.store.validate import image as validate

SBOM, OTHER = Predicate("https://spdx.dev/Document", b'{"a":1}'), Predicate("https://example.com/x", b'{"b":2}')


def _reopened(store: Store) -> Store:
    """The same store without what we leased."""
    store.close()
    return Store.open(store.root)


def test_an_image_has_one_predicate_of_a_type(store: Store, make: Any) -> None:
    image = make.image("a")
    store.attestations.put(image, [SBOM, OTHER])
    newer = Predicate(SBOM.type, b'{"a":3}')
    store.attestations.put(image, [newer])
    assert store.attestations.of(image) == (OTHER, newer)
    assert store.attestations.get(image, SBOM.type) == newer
    store.attestations.remove(image, [OTHER.type, "never"])
    assert store.attestations.of(image) == (newer,)
    assert store.attestations.get(image, OTHER.type) is None
    validate(store, image)


def test_an_image_that_has_gone_gets_none(store: Store, make: Any) -> None:
    image = make.image("a")
    store.images.remove("a")
    with pytest.raises(ImageNotFound):
        store.attestations.put(image, [SBOM])
    assert store.attestations.of(image) == ()


def test_collection_keeps_them_with_their_image_and_takes_them_with_it(store: Store, make: Any) -> None:
    image = make.image("a")
    store.attestations.put(image, [SBOM])
    with _reopened(store) as again:
        again.collect(cache_budget=0)
        assert again.attestations.of(image) == (SBOM,)
        assert again.fsck() == ()
        again.images.remove("a")
        assert again.attestations.of(image) == ()
        taken = again.collect()
        assert [item.name for item in taken.of("blob")] == [digests.of(SBOM.data)]
        assert again.fsck() == ()


def test_a_document_that_has_gone_is_found_and_forgotten(store: Store, make: Any) -> None:
    image = make.image("a")
    store.attestations.put(image, [SBOM, OTHER])
    store.content.path(digests.of(SBOM.data)).unlink()
    assert store.attestations.of(image) == (OTHER,)
    found = {problem.kind for problem in store.fsck(repair=True)}
    assert found == {"blob", "attestation"}
    assert store.fsck() == ()
