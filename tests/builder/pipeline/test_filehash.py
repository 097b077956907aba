"""When a remembered digest may be believed."""

import os
from pathlib import Path

import pytest

from builder.pipeline.filecopy import COARSE_GRAIN, GRAIN, Changed, Goal, is_racy, transfer
from builder.pipeline.filehash import MemoryCache

NOW = 1_700_000_000_000_000_001


@pytest.mark.parametrize(
    ("age", "racy"), [(0, True), (GRAIN - 1, True), (GRAIN + 1, False), (-1, True), (-(10**12), True), (10**12, False)]
)
def test_young_files_are_not_believed(age: int, racy: bool) -> None:
    assert is_racy(NOW - age, NOW) is racy


def test_whole_seconds_have_a_wider_grain() -> None:
    coarse = NOW - NOW % 1_000_000_000
    assert is_racy(coarse, coarse + COARSE_GRAIN - 1)
    assert not is_racy(coarse, coarse + COARSE_GRAIN + 1)


def test_memory() -> None:
    cache = MemoryCache()
    keys = [(1, number, 2, 3, 4) for number in range(3)]
    cache.put_files({keys[0]: b"a", keys[1]: b"b"})
    assert cache.get_files(keys) == {keys[0]: b"a", keys[1]: b"b"}
    cache.put_selection(b"f", b"d")
    assert (cache.get_selection(b"f"), cache.get_selection(b"g")) == (b"d", None)


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1, (8 << 20) + 1])
def test_a_copy_and_its_digest_are_the_same_bytes(tmp_path: Path, size: int) -> None:
    import hashlib

    data = os.urandom(size)
    (tmp_path / "a").write_bytes(data)
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        facts = transfer(fd, "a", Goal(fd, "b", 0o640, -1, -1), digest=True)
        alone = transfer(fd, "a", None, digest=True)
        with pytest.raises(FileExistsError):
            transfer(fd, "a", Goal(fd, "b", 0o640, -1, -1), digest=False)
        with pytest.raises(Changed):
            transfer(fd, "a", Goal(fd, "c", 0o640, -1, -1), expected=(0, 0, 0, 0, 0), digest=True)
    finally:
        os.close(fd)
    assert facts.digest == alone.digest == hashlib.sha256(data).digest()
    assert (tmp_path / "b").read_bytes() == data
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o640
    assert not (tmp_path / "c").exists()
