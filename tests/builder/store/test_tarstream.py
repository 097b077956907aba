"""The reader of tars against GNU tar: the same listing, or a refusal (SECURITY.md 1, row 27)."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.errors import ArchiveInvalid, EngineError
from builder.store import tarheaders
from builder.store.tarstream import TarReader

END = tarheaders.END


def member(
    name: bytes, content: bytes = b"", *, size: int | None = None, kind: bytes = b"0", link: bytes = b""
) -> bytes:
    """Header and padded content; *size* is what the header says, should it lie."""
    stated = len(content) if size is None else size
    head = tarheaders.header(name, kind, 0o644, (0, 0), stated, 1, link)
    return head + content + tarheaders.padding(len(content))


def fixed(block: bytes) -> bytes:
    """The header block with its checksum made right again."""
    check = sum(block[:148]) + sum(block[156:]) + 256
    return block[:148] + b"%06o\0 " % check + block[156:]


def ours(data: bytes) -> list[bytes] | None:
    """Names without the slash that may end them, or None for a refusal."""
    try:
        found = list(TarReader(io.BytesIO(data)))
    except EngineError:
        return None
    return [one.path.rstrip(b"/") or b"." for one in found]


def theirs(data: bytes) -> list[bytes]:
    command = ["tar", "--absolute-names", "--quoting-style=literal", "--show-transformed-names", "-tf", "-"]
    listed = subprocess.run(command, input=data, capture_output=True, check=False, timeout=20).stdout
    return [name.rstrip(b"/") or b"." for name in listed.splitlines()]


NAMES = st.sampled_from(
    [b"a", b"b/c", b"d/", b"./e", b"f" * 100, b"g" * 101, b"h/" * 60 + b"i", b"\xff\xfe", b"/abs", b"../up"]
)
CONTENT = st.sampled_from([b"", b"x", b"y" * 512, b"z" * 700, member(b"smuggled", b"1"), member(b"smuggled") + END])
KINDS = st.sampled_from([b"0", b"\0", b"7", b"1", b"2", b"5", b"6", b"3"])
RECORDS = st.lists(
    st.sampled_from(
        [
            (b"path", b"renamed"),
            (b"path", b"long" * 60),
            (b"size", b"0"),
            (b"size", b"512"),
            (b"size", b"700"),
            (b"linkpath", b"elsewhere"),
            (b"mtime", b"1.5"),
            (b"uid", b"70000"),
            (b"SCHILY.xattr.user.a", b"1"),
            (b"comment", b"c"),
        ]
    ),
    max_size=3,
)


@st.composite
def entries(draw: st.DrawFn) -> bytes:
    """One entry with what may stand before it, sizes that need not agree, and bytes that somebody turned."""
    content, records = draw(CONTENT), draw(RECORDS)
    size = draw(st.sampled_from([len(content), len(content), len(content), 0, 512, 1024]))
    head = tarheaders.header(draw(NAMES), b"0", 0o644, (0, 0), size, 1, b"target")[-512:]
    head = fixed(head[:156] + draw(KINDS) + head[157:])
    if draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, 511))
        head = head[:at] + bytes([draw(st.integers(0, 255))]) + head[at + 1 :]
        head = head if draw(st.booleans()) else fixed(head)
    before = tarheaders.pax(records) if records else b""
    if draw(st.integers(0, 5)) == 0:
        text = draw(st.sampled_from([b"long" * 40, b"short", b"d/" * 80])) + b"\0"
        before += member(b"././@LongLink", text, kind=draw(st.sampled_from([b"L", b"K"])))
    return before + head + content + tarheaders.padding(len(content))


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(entries(), min_size=1, max_size=4), st.integers(0, 3))
def test_listing_is_gnu_tars_or_there_is_none(parts: list[bytes], cut: int) -> None:
    data = b"".join(parts) + END
    if cut == 0:
        data = data[: len(data) // 2]
    mine = ours(data)
    if mine is not None:
        assert mine == theirs(data)


@pytest.mark.parametrize("stated", [0, 512, 1536])
def test_smuggled_entries_are_nobodys(stated: int) -> None:
    """CVE-2025-62518: pax says 1536 bytes, the header something else; who takes the wrong one lists the nested one."""
    nested = member(b"nested", b"evil") + bytes(512)
    data = tarheaders.pax([(b"size", b"%d" % len(nested))])
    data += fixed(tarheaders.header(b"outer", b"0", 0o644, (0, 0), stated, 1)) + nested + member(b"after") + END
    assert ours(data) == theirs(data) == [b"outer", b"after"]


def test_forms_that_readers_take_differently_are_refused() -> None:
    nested = member(b"nested", b"evil")
    for data in (
        member(b"d/", nested, kind=b"5"),
        member(b"l", nested, kind=b"2", link=b"x"),
        member(b"f", nested, kind=b"6"),
        member(b"d/", nested),
        tarheaders.pax([(b"size", b"512")]) + member(b"d/", kind=b"5"),
        tarheaders.pax([(b"path", b"all")]).replace(b"\0000644", b"\0000644", 1) + END,
        fixed(tarheaders.header(b"x", b"0", 0o644, (0, 0), 0, 1)[:100] + b"000064x\0" + member(b"x")[108:512]),
        member(b"x")[:148] + bytes(8) + member(b"x")[156:],
    ):
        with pytest.raises(ArchiveInvalid):
            list(TarReader(io.BytesIO(data + END)))


def test_a_global_size_or_name_is_refused() -> None:
    for key in (b"path", b"size", b"linkpath", b"GNU.sparse.size"):
        records = tarheaders.pax([(key, b"1")])
        data = fixed(records[:156] + b"g" + records[157:512]) + records[512:] + member(b"x") + END
        with pytest.raises(ArchiveInvalid):
            list(TarReader(io.BytesIO(data)))


class Slow:
    """Gives a few bytes at a time, as a pipe may."""

    def __init__(self, data: bytes, step: int) -> None:
        self._file = io.BytesIO(data)
        self._step = step

    def read(self, size: int, /) -> bytes:
        return self._file.read(min(size, self._step))


@settings(max_examples=60, deadline=None)
@given(st.lists(entries(), min_size=1, max_size=4), st.integers(1, 700))
def test_how_the_bytes_arrive_makes_no_difference(parts: list[bytes], step: int) -> None:
    data = b"".join(parts) + END

    def read(stream: object) -> tuple[object, ...]:
        seen, literal = bytearray(), bytearray()
        reader = TarReader(stream, observe=seen.extend, literal=literal.extend)  # type: ignore[arg-type]
        found: list[object] = []
        try:
            while (one := reader.next()) is not None:
                found += [one, b"".join(reader.chunks())]
            reader.drain()
        except EngineError as err:
            return found, str(err)
        assert seen == data
        return found, bytes(literal), reader.size

    assert read(Slow(data, step)) == read(io.BytesIO(data))


@pytest.mark.parametrize(
    "form", ["gnu", "pax --sparse-version=0.0", "pax --sparse-version=0.1", "pax --sparse-version=1.0"]
)
def test_sparse_files_of_gnu_tar(form: str, tmp_path: Path) -> None:
    with open(tmp_path / "holes", "wb") as file:
        for at in range(40):
            file.seek(at * 100_000)
            file.write(b"%d" % at * 100)
        file.truncate(5_000_000)
    command = ["tar", "-S", "-C", str(tmp_path), *f"--format={form}".split(), "-cf", "-", "holes"]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    reader = TarReader(io.BytesIO(data))
    one = reader.next()
    assert one is not None
    assert one.path == b"holes"
    assert one.size == 5_000_000
    assert one.sparse is not None
    again = bytearray(one.size)
    stored = b"".join(reader.chunks())
    for offset, length in one.sparse:
        again[offset : offset + length], stored = stored[:length], stored[length:]
    assert again == (tmp_path / "holes").read_bytes()
    assert reader.next() is None


@settings(max_examples=60, deadline=None)
@given(st.lists(entries(), min_size=1, max_size=4), st.binary(max_size=100))
def test_skipping_contents_lists_the_same(parts: list[bytes], rest: bytes) -> None:
    data = b"".join(parts) + member(b"big", bytes(600_000)) + member(b"last") + END + rest
    stream = io.BytesIO(data)
    reader = TarReader(stream, skip=lambda count: stream.seek(count, 1))
    try:
        found = list(reader)
    except EngineError:
        assert ours(data) is None
        return
    assert [one.path.rstrip(b"/") or b"." for one in found] == ours(data)
    assert reader.size <= len(data)
