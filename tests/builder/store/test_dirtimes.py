"""What is noted of directories comes back as it was, however much there is."""

from hypothesis import given
from hypothesis import strategies as st

from builder.store.dirtimes import DirectoryTimes

NOTED = st.tuples(
    st.binary(max_size=1 << 14), st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1), st.integers(0, 9)
)


@given(st.lists(NOTED, max_size=20), st.integers(1, 20))
def test_all_comes_back_in_order(noted: list[tuple[bytes, int, int, int]], times: int) -> None:
    kept = DirectoryTimes()
    for each in noted * times:
        kept.add(*each)
    assert list(kept) == noted * times
