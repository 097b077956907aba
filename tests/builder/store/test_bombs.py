"""What an archive may cost (SECURITY.md 1, row 26): bytes, ratio, entries, window, time; memory stays small."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from builder.errors import ArchiveInvalid, EngineError, LimitExceeded
from builder.store import apply, tarheaders
from builder.store.tarstream import TarReader

MEMORY = 200 << 10
"""KiB that any of them may take."""


def entry(name: bytes, size: int = 0, kind: bytes = b"0") -> bytes:
    return tarheaders.header(name, kind, 0o644, (0, 0), size, 1)


def test_a_ratio_that_only_a_bomb_has_is_refused(tmp_path: Path) -> None:
    size = 64 << 20
    bomb = gzip.compress(entry(b"zeros", size) + bytes(size) + tarheaders.END)
    limits = apply.Limits(ratio=200, ratio_after=8 << 20)
    with pytest.raises(LimitExceeded):
        apply.extract(io.BytesIO(bomb), tmp_path, limits=limits)
    assert (tmp_path / "zeros").stat().st_size < 16 << 20


def test_bytes_count_unpacked(tmp_path: Path) -> None:
    packed = gzip.compress(entry(b"x", 1 << 20) + bytes(1 << 20) + tarheaders.END)
    with pytest.raises(LimitExceeded):
        apply.extract(io.BytesIO(packed), tmp_path, limits=apply.Limits(bytes=1 << 20))


def test_a_window_of_gigabytes_is_refused(tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    parameters = zstandard.ZstdCompressionParameters(window_log=30, write_content_size=False)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    packed = packer.compress(entry(b"x") + tarheaders.END) + packer.flush()
    with pytest.raises(ArchiveInvalid):
        apply.extract(io.BytesIO(packed), tmp_path)
    assert not apply.is_archive(packed)


def test_holes_count_as_what_is_packed(tmp_path: Path) -> None:
    def holes(size: int) -> io.BytesIO:
        records = [(b"GNU.sparse.size", b"%d" % size), (b"GNU.sparse.map", b"0,0")]
        return io.BytesIO(tarheaders.pax(records) + entry(b"x") + tarheaders.END)

    limits = apply.Limits(ratio=200, ratio_after=8 << 20)
    with pytest.raises(LimitExceeded, match="holes almost everywhere"):
        apply.extract(holes(9 << 20), tmp_path, limits=limits)
    assert not (tmp_path / "x").exists()
    apply.extract(holes(8 << 20), tmp_path, limits=limits)
    assert (tmp_path / "x").stat().st_size == 8 << 20


@pytest.mark.parametrize("size", [1 << 62, 1 << 63, (1 << 64) + 512, 10**19])
def test_sizes_beyond_any_disk_are_refused(size: int, tmp_path: Path) -> None:
    records = (
        [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", b"%d" % size)],
        [(b"GNU.sparse.size", b"%d" % size), (b"GNU.sparse.map", b"0,0")],
        [(b"size", b"%d" % size)],
    )
    for one in records:
        data = tarheaders.pax(one) + entry(b"x", 512) + b"0\n".ljust(512, b"\0") + tarheaders.END
        with pytest.raises((LimitExceeded, ArchiveInvalid)):
            apply.extract(io.BytesIO(data), tmp_path)


def test_extended_headers_are_bounded(tmp_path: Path) -> None:
    for data in (
        entry(b"x", 1 << 30, b"x"),
        entry(b"x", 1 << 30, b"L"),
        (entry(b"x", 12, b"x") + b"12 comment=\n".ljust(512, b"\0")) * 100,
        tarheaders.pax([(b"path", b"d/" * 100_000)]) + entry(b"x"),
    ):
        with pytest.raises((LimitExceeded, ArchiveInvalid)):
            apply.extract(io.BytesIO(data + tarheaders.END), tmp_path)


@pytest.mark.parametrize("kind", ["zeros", "entries", "directories", "names"])
def test_memory_stays_small(kind: str, tmp_path: Path) -> None:
    """A process of its own unpacks it; what the kernel says about its memory is the most that it ever had."""
    packer = zlib.compressobj(1, wbits=31)
    with open(tmp_path / "bomb.gz", "wb") as out:
        if kind == "zeros":
            out.write(packer.compress(entry(b"zeros", 256 << 20)))
            for _ in range(256):
                out.write(packer.compress(bytes(1 << 20)))
        else:
            shape = {"entries": (b"%d", b"0"), "directories": (b"%d/", b"5"), "names": (b"n" * 240 + b"%d", b"0")}
            pattern, type_flag = shape[kind]
            for at in range(20_000):
                out.write(packer.compress(entry(pattern % at, kind=type_flag)))
        out.write(packer.compress(tarheaders.END) + packer.flush())
    (tmp_path / "out").mkdir()
    script = (
        "import resource, sys; from pathlib import Path; from builder.store import apply\n"
        "apply.extract(open(sys.argv[1], 'rb'), Path(sys.argv[2]), recipe=len)\n"
        "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "bomb.gz"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, check=True, cwd=Path(__file__).parents[3])
    # 20,000 entries may take what is there at the start and 2 KiB each, were it a million: 200 MiB.
    assert int(done.stdout) < MEMORY // 3


def test_a_path_of_thousands_of_levels_costs_linear_time(tmp_path: Path) -> None:
    """One name that implies 5,000 directories; searching them one by one from the root took minutes."""
    tmp_path.chmod(0o755)
    data = entry(b"d/" * 5000 + b"x") + tarheaders.END
    applied = apply.extract(io.BytesIO(data), tmp_path)
    assert applied.changeset.files == 5001
    subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)
    with pytest.raises(ArchiveInvalid, match="path of"):
        apply.extract(io.BytesIO(entry(b"d/" * 9000 + b"x") + tarheaders.END), tmp_path)


def test_a_pipe_that_never_ends_is_read_only_to_the_limit() -> None:
    class Endless:
        def read(self, size: int, /) -> bytes:
            return entry(os.urandom(8).hex().encode())

    with pytest.raises(EngineError):
        for _ in TarReader(Endless(), max_entries=1000):
            pass
