"""File calls that have no other test of their own."""

import os
from pathlib import Path

import pytest

from runtime.linux.files import start_writing_back


def test_writing_back_is_for_files(tmp_path: Path) -> None:
    with open(tmp_path / "file", "wb") as file:
        file.write(b"x" * 10_000)
        file.flush()
        start_writing_back(file.fileno())
    ends = os.pipe()
    try:
        with pytest.raises(OSError, match="sync_file_range"):
            start_writing_back(ends[1])
    finally:
        os.close(ends[0])
        os.close(ends[1])
