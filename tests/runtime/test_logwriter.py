"""What is written to a log, and that the reading side gets it back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import logs, logwriter
from runtime.errors import ContainerError
from runtime.logs import Limits, Query

EVERYTHING = Query()


@pytest.mark.parametrize(
    ("data", "written"),
    [
        (b"plain\n", rb"plain\n"),
        (b'"quoted" \\ \t\r\x00\x1b', rb"\"quoted\" \\ \u0009\r\u0000\u001b"),
        (b"<a href='x'>&", rb"\u003ca href='x'\u003e\u0026"),
        ("ü€\u2028😀".encode(), "ü€\\u2028😀".encode()),
        (b"\xff\xc3(", rb"\ufffd\ufffd("),
    ],
)
def test_bytes_as_docker_writes_them(data: bytes, written: bytes) -> None:
    line = logwriter.encode(("stdout", data, 1_500_000_000))
    assert line == b'{"log":"' + written + b'","stream":"stdout","time":"1970-01-01T00:00:01.5Z"}\n'


@given(st.text(), st.sampled_from(["stdout", "stderr"]), st.integers(0, 4 * 10**18))
def test_what_is_written_is_read(text: str, stream: str, time_ns: int) -> None:
    data = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace").encode()
    line = logwriter.encode((stream, data, time_ns))
    assert json.loads(line)["log"] == data.decode()
    assert logs.decode(line) == logs.Record(stream, data, time_ns)


@given(st.lists(st.binary(max_size=40)))
def test_lines_are_cut_wherever_the_reads_end(parts: list[bytes]) -> None:
    splitter = logwriter.Splitter("stdout")
    records = [record for part in parts for record in splitter.feed(part, 1)] + splitter.finish(2)
    whole = b"".join(parts)
    assert [record[1] for record in records] == whole.splitlines(keepends=True) or (
        b"".join(record[1] for record in records) == whole
        and all(record[1].endswith(b"\n") and record[1].count(b"\n") == 1 for record in records[:-1])
    )


def test_long_lines_are_cut_at_16_kib() -> None:
    splitter = logwriter.Splitter("stdout")
    records = splitter.feed(b"x" * 40000 + b"\n", 1)
    assert [len(record[1]) for record in records] == [16384, 16384, 7233]


def records(path: Path, query: Query = EVERYTHING) -> list[str]:
    return [record.data.decode().strip() for record in logs.read(path, query)]


def test_rotation_keeps_so_many_files(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writer = logwriter.Writer(str(path), size=150, files=3)
    for number in range(20):
        writer.write([("stdout", b"line %d\n" % number, number)])
    writer.close()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["log", "log.1", "log.2"]
    kept = records(path)
    assert kept == [f"line {number}" for number in range(20 - len(kept), 20)]
    assert records(path, Query(tail=3)) == ["line 17", "line 18", "line 19"]
    assert records(path, Query(since=18)) == ["line 18", "line 19"]
    assert records(path, Query(until=18))[-1] == "line 18"
    assert records(path, Query(stdout=False)) == []


def test_limits() -> None:
    assert Limits.parse((("max-size", "10k"), ("max-file", "3"))) == Limits(10240, 3)
    for options in ((("max-size", "ten"),), (("max-file", "0"),), (("nosuch", "1"),)):
        with pytest.raises(ContainerError):
            Limits.parse(options)


def test_follow_goes_on_over_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writer = logwriter.Writer(str(path), size=150, files=3)
    writer.write([("stdout", b"first\n", 1)])
    steps = iter(range(1, 6))

    def running() -> bool:
        # Asked before each look: what is written here is new to the one that follows.
        number = next(steps, None)
        if number is not None:
            writer.write([("stdout", b"line %d\n" % number, number)])
        return number is not None

    found = [record.data for record in logs.follow(path, Query(), running=running)]
    writer.close()
    assert found == [b"first\n", *(b"line %d\n" % number for number in range(1, 6))]
