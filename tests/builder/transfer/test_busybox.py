"""What a busybox is asked, and what is read in one that cannot be."""

import struct
from pathlib import Path

import pytest

from builder.errors import DownloadFailed
from builder.transfer import busybox


def test_the_names_in_the_program_are_those_that_it_says() -> None:
    found = next((path for path in busybox.CANDIDATES if busybox.is_static(path)), None)
    if found is None:
        pytest.skip("this host has no static busybox")
    assert busybox.applets(found) == busybox.listed(found)


def test_a_program_without_the_list_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "busybox"
    for data in (b"", b"\0[\0[[\0ash\0cat\0\0", b"\0[\0[[\0sh\0cat\0\0"):
        path.write_bytes(b"\x7fELF" + data)
        with pytest.raises(DownloadFailed, match="list of applets"):
            busybox.applets(path)
    path.write_bytes(b"\x7fELF...\0[\0[[\0cat\0sh\0\0more")
    assert busybox.applets(path) == ["[", "[[", "cat", "sh"]


@pytest.mark.parametrize(
    ("bits", "order"),
    [(64, "<"), (64, ">"), (32, "<"), (32, ">")],
)
@pytest.mark.parametrize("kind", [1, 3])
def test_a_program_that_needs_a_loader_is_not_static(tmp_path: Path, bits: int, order: str, kind: int) -> None:
    head = bytearray(64)
    head[:6] = b"\x7fELF" + bytes((bits // 32, 1 if order == "<" else 2))
    start, places = (32, (54, 56)) if bits == 64 else (28, (42, 44))
    struct.pack_into(order + ("Q" if bits == 64 else "I"), head, start, 64)
    for place, number in zip(places, (56 if bits == 64 else 32, 2), strict=True):
        struct.pack_into(order + "H", head, place, number)
    size = 56 if bits == 64 else 32
    table = b"".join(struct.pack(order + "I", one).ljust(size, b"\0") for one in (1, kind))
    path = tmp_path / "program"
    path.write_bytes(bytes(head) + table)
    assert busybox.is_static(path) == (kind != 3)
    path.write_bytes(b"#!/bin/sh\n".ljust(64))
    assert not busybox.is_static(path)
