"""Unpacking of layers and archives: whiteouts, limits, formats, links."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
from pathlib import Path

import pytest

from builder.errors import ArchiveInvalid, DigestMismatch, LimitExceeded
from builder.oci.digests import DiffID, Digest
from builder.store import apply, changesets, tarheaders


def _tar(*entries: tuple[bytes, bytes, bytes]) -> bytes:
    """A tar of (path, kind, content or link target) entries."""
    out = b""
    for path, kind, data in entries:
        content, link = (data, b"") if kind == b"0" else (b"", data)
        out += tarheaders.header(path, kind, 0o755, (0, 0), len(content), 1, link)
        out += content + tarheaders.padding(len(content))
    return out + tarheaders.END


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_packed_layers_have_the_digest_of_the_plain_one(pack: type, tmp_path: Path) -> None:
    tar = _tar((b"a", b"0", b"hello"))
    applied = apply.extract(io.BytesIO(pack(tar)), tmp_path)
    assert (tmp_path / "a").read_text() == "hello"
    assert applied.changeset.size == len(tar)
    assert apply.is_archive(pack(tar))
    assert not apply.is_archive(pack(b"no tar at all" * 100))


@pytest.mark.root
def test_whiteouts_become_overlays_and_come_back(tmp_path: Path) -> None:
    tar = _tar((b"d/", b"5", b""), (b"d/.wh..wh..opq", b"0", b""), (b".wh.gone", b"0", b""), (b"gone/x", b"0", b"new"))
    applied = apply.extract(io.BytesIO(tar), tmp_path)
    assert os.getxattr(tmp_path / "d", "trusted.overlay.opaque") == b"y"
    assert os.getxattr(tmp_path / "gone", "trusted.overlay.opaque") == b"y"
    assert changesets.write(tmp_path).content_digest == applied.changeset.content_digest
    (tmp_path / "second").mkdir()
    apply.extract(io.BytesIO(_tar((b".wh.old", b"0", b""))), tmp_path / "second")
    status = os.lstat(tmp_path / "second/old")
    assert stat.S_ISCHR(status.st_mode)
    assert status.st_rdev == 0


def test_limits_hold(tmp_path: Path) -> None:
    many = _tar(*((b"%d" % at, b"0", b"") for at in range(100)))
    with pytest.raises(LimitExceeded):
        apply.extract(io.BytesIO(many), tmp_path, limits=apply.Limits(entries=50))
    huge = tarheaders.header(b"x", b"0", 0o644, (0, 0), 1 << 60, 0)
    with pytest.raises((LimitExceeded, ArchiveInvalid)):
        apply.extract(io.BytesIO(huge), tmp_path)


def test_another_digest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DigestMismatch):
        apply.extract(io.BytesIO(_tar()), tmp_path, expected=DiffID(Digest("sha256:" + "0" * 64)))


def test_archives_go_below_their_destination(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("/real")
    root = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert apply.extract_archive(io.BytesIO(_tar((b".wh.x", b"0", b"kept"))), root, "/link/sub") == 1
        assert apply.extract_archive(io.BytesIO(_tar((b"../../x/../y", b"0", b"inside"))), root, "/link/sub") == 1
    finally:
        os.close(root)
    assert (tmp_path / "real/sub/.wh.x").read_text() == "kept"
    assert (tmp_path / "real/sub/y").read_text() == "inside" and len(list(tmp_path.iterdir())) == 2


def test_a_file_without_a_name_is_passed_over(tmp_path: Path) -> None:
    root = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        tar = _tar((b"", b"0", b"content"), (b"./", b"0", b""), (b"a", b"0", b"A"))
        assert apply.extract_archive(io.BytesIO(tar), root, "/d") == 3
        assert os.listdir(tmp_path / "d") == ["a"]
        with pytest.raises(ArchiveInvalid, match="replace the root"):
            apply.extract_archive(io.BytesIO(_tar((b".", b"2", b"/etc"))), root, "/d")
    finally:
        os.close(root)
