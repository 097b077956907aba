import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import InvalidDocument
from builder.oci import cacheconfigs
from builder.oci.cacheconfigs import CacheEntry
from builder.oci.digests import DiffID, Digest

DIFF_IDS = st.integers(0, 3).map(lambda number: DiffID(Digest(f"sha256:{number:064x}")))
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
ENTRIES = st.builds(
    CacheEntry,
    key=st.text("abc", min_size=1, max_size=5),
    step=TEXT,
    content_key=TEXT,
    layer=DIFF_IDS,
    below=st.none() | DIFF_IDS,
    sources=st.lists(st.none() | DIFF_IDS, max_size=3).map(tuple),
    duration_us=st.integers(0, 10**9),
    created=st.integers(0, 2**63 - 1),
)


@given(st.lists(ENTRIES, max_size=5).map(tuple))
def test_what_is_written_is_read_again(entries: tuple[CacheEntry, ...]) -> None:
    assert cacheconfigs.load(cacheconfigs.dump(entries)) == entries
    assert len(set(cacheconfigs.layers(entries))) == len(cacheconfigs.layers(entries))


@pytest.mark.parametrize(
    "document",
    [
        b"[]",
        b'{"entries": []}',
        b'{"version": 2, "entries": []}',
        b'{"version": 1, "entries": [{"key": "k", "step": "s", "layer": "sha256:../../x"}]}',
        b'{"version": 1, "entries": [{"key": "", "step": "s", "layer": "sha256:' + b"0" * 64 + b'"}]}',
    ],
)
def test_anything_else_is_refused(document: bytes) -> None:
    with pytest.raises(InvalidDocument):
        cacheconfigs.load(document)
