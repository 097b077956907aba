"""Canonical changesets: one form for one tree, and back again."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import ArchiveInvalid, EngineError, StoreError
from builder.store import apply, changesets, layerwalk, recipes, tarheaders
from builder.store.layerwalk import Found
from builder.store.tarstream import TarReader

NAMES = st.binary(min_size=1, max_size=60).filter(lambda name: not set(name) & {0, 47} and name not in (b".", b".."))


def _tar(*entries: tuple[bytes, bytes, bytes, bytes]) -> bytes:
    """A tar of (path, kind, content, link) entries."""
    out = b""
    for path, kind, content, link in entries:
        out += tarheaders.header(path, kind, 0o755, (0, 0), len(content), 1, link)
        out += content + tarheaders.padding(len(content))
    return out + tarheaders.END


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(NAMES.filter(lambda name: not name.startswith(b".wh.")), st.binary(max_size=2000), max_size=8))
def test_written_and_unpacked_gives_the_same(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[bytes, bytes]
) -> None:
    root = tmp_path_factory.mktemp("tree")
    for name, content in tree.items():
        (Path(os.fsdecode(os.fsencode(root) + b"/" + name))).write_bytes(content)
    tar, out = io.BytesIO(), tmp_path_factory.mktemp("out")
    root.chmod(0o755)
    out.chmod(0o755)
    change = changesets.write(root, tar.write)
    assert "sha256:" + hashlib.sha256(tar.getvalue()).hexdigest() == change.diff_id
    tar.seek(0)
    applied = apply.extract(tar, out)
    assert applied.changeset == change
    assert applied.exact
    assert changesets.write(out) == change


@pytest.mark.root
def test_a_layer_has_no_attribute_but_capabilities(tmp_path: Path) -> None:
    """The user's own are in no layer of docker's, and an equal digest must not depend on them."""
    path, tar = tmp_path / "t" / "f", io.BytesIO()
    path.parent.mkdir(mode=0o755)
    path.touch()
    os.utime(path, (1, 1))
    plain = changesets.write(path.parent)
    os.setxattr(path, "user.note", b"x")
    noted = changesets.write(path.parent)
    assert (noted.diff_id, noted.content_digest != plain.content_digest) == (plain.diff_id, True)
    os.setxattr(path, "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    changesets.write(path.parent, tar.write)
    assert b"SCHILY.xattr.security.capability" in tar.getvalue()
    assert b"user.note" not in tar.getvalue()


def test_gnu_tar_lists_what_we_list(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    deep = tmp_path / "t" / ("d" * 90) / ("e" * 90)
    deep.mkdir(parents=True)
    (deep / ("f" * 120)).write_text("x")
    (tmp_path / "t" / "é").symlink_to("somewhere")
    tar = tmp_path / "t.tar"
    for form in ("gnu", "pax", "ustar", "oldgnu"):
        command = ["tar", f"--format={form}", "-cf", tar, "-C", tmp_path, "t"]
        subprocess.run(command, check=form != "ustar", capture_output=True)
        listed = subprocess.run(["tar", "--quoting-style=literal", "-tf", tar], capture_output=True, check=True).stdout
        with open(tar, "rb") as file:
            ours = [member.path for member in TarReader(file)]
        assert ours == [name.rstrip(b"/") for name in listed.splitlines()]


def test_a_foreign_tar_comes_back_byte_for_byte(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_bytes(os.urandom(3000))
    (tmp_path / "in" / "b").write_bytes(b"")
    os.link(tmp_path / "in" / "a", tmp_path / "in" / "c")
    tar = subprocess.run(["tar", "-c", "-C", tmp_path / "in", "."], capture_output=True, check=True).stdout
    out = tmp_path / "out"
    out.mkdir()
    recipe, again = io.BytesIO(), io.BytesIO()
    applied = apply.extract(io.BytesIO(tar), out, recipe=recipe.write)
    assert applied.reproducible
    assert not applied.exact
    recipe.seek(0)
    assert recipes.replay(recipe, out, again.write) == len(tar)
    assert again.getvalue() == tar


HOSTILE = {
    "dots": _tar((b"../x", b"0", b"x", b"")),
    "hard link out": _tar((b"x", b"1", b"", b"../../etc/passwd")),
    "root is a link": _tar((b"./", b"2", b"", b"/etc")),
    "root is a file": _tar((b"", b"0", b"x", b"")),
    "whiteout of dots": _tar((b".wh...", b"0", b"", b"")),
    "whiteout of dot": _tar((b".wh..", b"0", b"", b"")),
    "whiteout of nothing": _tar((b"a/.wh.", b"0", b"", b"")),
    "below a whiteout": _tar((b".wh.x/y", b"0", b"", b"")),
    "device 0:0": _tar((b"x", b"3", b"", b"")),
    "long name": _tar((b"n" * 256, b"0", b"", b"")),
    "data in a directory": _tar((b"d/", b"5", b"x", b"")),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ArchiveInvalid):
        apply.extract(io.BytesIO(HOSTILE[name]), tmp_path)


@pytest.mark.parametrize("target", [b"/", b"../../../../../..", b"/host"])
def test_links_lead_nowhere_outside(target: bytes, tmp_path: Path) -> None:
    """Symlink, then write through it: the write stays inside or is refused (CVE-2025-47290 and its kind)."""
    host, root = tmp_path / "host", tmp_path / "root"
    host.mkdir()
    root.mkdir()
    (host / "secret").write_text("s")
    before = os.stat(host / "secret")
    link = target + os.fsencode(host) if target != b"/host" else os.fsencode(host)
    tar = _tar((b"l", b"2", b"", link), (b"l/secret", b"0", b"evil", b""), (b"h", b"1", b"", b"l/secret"))
    try:
        apply.extract(io.BytesIO(tar), root)
    except EngineError:
        pass
    assert (host / "secret").read_text() == "s"
    assert os.stat(host / "secret") == before or os.stat(host / "secret").st_nlink == 1
    assert os.listdir(host) == ["secret"]


def test_every_cut_and_flip_is_an_error_of_ours(tmp_path: Path) -> None:
    tar = bytearray(
        _tar((b"a", b"0", b"hello", b""), (b"d/", b"5", b"", b""), (b"d/\xc3\xa9" + b"x" * 200, b"0", b"y", b""))
    )
    for at in range(0, len(tar), 37):
        damaged = bytearray(tar)
        damaged[at] ^= 0x41
        for data in (bytes(damaged), bytes(tar[:at])):
            out = tmp_path / f"{at}{len(data)}"
            out.mkdir()
            try:
                apply.extract(io.BytesIO(data), out)
            except EngineError:
                pass


@pytest.mark.parametrize("size", [1, 1000, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_a_file_that_changes_its_size_while_it_is_read_is_refused(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, tar = tmp_path / "f", io.BytesIO()
    path.write_bytes(b"x" * size)
    change = changesets.write(tmp_path, tar.write)
    assert "sha256:" + hashlib.sha256(tar.getvalue()).hexdigest() == change.diff_id
    tar.seek(0)
    with tarfile.open(fileobj=tar) as archive:
        read = archive.extractfile("f")
        assert read is not None and read.read() == b"x" * size
    for other, word in ((size + 1, "longer"), (size - 1, "shorter")):
        path.write_bytes(b"x" * size)

        def resizing(root: Path, *, overlay: bool, to: int = other) -> Generator[Found, None, None]:
            """The file has been looked at and is about to be read."""
            for found in layerwalk.walk(root, overlay=overlay):
                if found.fd >= 0:
                    os.truncate(path, to)
                yield found

        with monkeypatch.context() as patch, pytest.raises(StoreError, match=f"'f' became {word}"):
            patch.setattr(changesets, "walk", resizing)
            changesets.write(tmp_path)


@pytest.mark.root
def test_a_layer_of_many_entries_is_the_same_read_by_two_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Links across the cut, files too large to come over, deletions, attributes, names that are no text."""
    tree = tmp_path / "t"
    tree.mkdir(mode=0o755)
    for name in (b"a", b"\xff\xfe", b"d/e/f", b"empty", b"s" * 150):
        path = Path(os.fsdecode(os.fsencode(tree) + b"/" + name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name * (0 if name == b"empty" else 7))
    for size in (65536, 65537, 3 << 20):
        (tree / "d" / str(size)).write_bytes(os.urandom(size))
    os.link(tree / "a", tree / "d" / "link")
    os.link(tree / "d" / "65537", tree / "z")
    os.symlink("a", tree / "symlink")
    os.mkfifo(tree / "d" / "pipe")
    os.mknod(tree / "gone", stat.S_IFCHR | 0o600, 0)
    os.setxattr(tree / "d", "trusted.overlay.opaque", b"y")
    os.setxattr(tree / "a", "user.note", b"x")

    def written(many: int) -> tuple[bytes, changesets.Changeset, list[changesets.Entry]]:
        monkeypatch.setattr(changesets, "_MANY", many)
        tar, entries = io.BytesIO(), list[changesets.Entry]()
        change = changesets.write(tree, tar.write, on_entry=entries.append)
        return tar.getvalue(), change, entries

    whole = written(1000)
    assert len(whole[2]) == 16
    monkeypatch.setattr(changesets, "cores", lambda: 2)
    assert [many for many in (0, 1, 5, 15, 16) if written(many) != whole] == []
