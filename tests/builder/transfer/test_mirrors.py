"""Mirrors of Debian: what apt's configuration says, and what is believed of a mirror. One on the loopback stands in."""

from __future__ import annotations

import hashlib
import lzma
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from builder.errors import DigestMismatch, DownloadFailed, LimitExceeded
from builder.store import tarheaders
from builder.transfer import debian, mirrors
from builder.transfer.mirrors import Source


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """(directory, address) of an HTTP server."""
    root = tmp_path / "mirror"
    root.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *args: Quiet(*args, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield root, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def deb(content: bytes) -> bytes:
    """A .deb with one file."""
    tar = tarheaders.header(b"./file", b"0", 0o644, (0, 0), len(content), 1) + content
    tar += tarheaders.padding(len(content)) + tarheaders.END
    out = b"!<arch>\n"
    for name, data in ((b"debian-binary", b"2.0\n"), (b"control.tar", b"odd"), (b"data.tar.xz", lzma.compress(tar))):
        out += b"%-16b%-12d%-6d%-6d%-8o%-10d`\n" % (name, 0, 0, 0, 0o100644, len(data)) + data + b"\n" * (len(data) % 2)
    return out


def publish(root: Path, packages: str) -> None:
    index = lzma.compress(packages.encode())
    place = root / "dists/stable/main/binary-amd64"
    place.mkdir(parents=True, exist_ok=True)
    (place / "Packages.xz").write_bytes(index)
    line = f" {hashlib.sha256(index).hexdigest()} {len(index)} main/binary-amd64/Packages.xz\n"
    (root / "dists/stable/InRelease").write_text(f"Suite: stable\nSHA256:\n{line}")


def paragraph(name: str, data: bytes, **fields: str) -> str:
    facts = {"Package": name, "Filename": f"pool/{name}.deb", "Size": str(len(data)), **fields}
    facts.setdefault("SHA256", hashlib.sha256(data).hexdigest())
    return "".join(f"{key}: {value}\n" for key, value in facts.items()) + "\n"


def opened(address: str, tmp_path: Path) -> mirrors.Mirror:
    cache = mirrors.Cache(tmp_path / "packages")
    return mirrors.Mirror(Source(address, "stable"), "amd64", (), (), tmp_path, cache)


def test_a_package_comes_whole_and_the_second_time_from_the_cache(mirror: tuple[Path, str], tmp_path: Path) -> None:
    root, address = mirror
    data = deb(b"content" * 50_000)
    (root / "pool").mkdir()
    (root / "pool/tool.deb").write_bytes(data)
    publish(root, paragraph("tool", data))
    heard: list[tuple[int, int]] = []
    found = opened(address, tmp_path)
    assert not found.verified
    assert found.download(found.packages["tool"], lambda done, total: heard.append((done, total))) == data
    assert heard[-1] == (len(data), len(data))
    (root / "pool/tool.deb").unlink()
    (root / "dists/stable/main/binary-amd64/Packages.xz").unlink()
    again = opened(address, tmp_path)
    assert again.download(again.packages["tool"]) == data
    name, packed = mirrors.data_member(data)
    assert name == "data.tar.xz"
    assert lzma.decompress(packed).startswith(b"./file")
    (tmp_path / "packages" / hashlib.sha256(data).hexdigest()).write_bytes(b"spoiled")
    with pytest.raises(DownloadFailed):
        again.download(again.packages["tool"])


def test_what_the_index_does_not_say_is_not_believed(mirror: tuple[Path, str], tmp_path: Path) -> None:
    root, address = mirror
    (root / "pool").mkdir()
    for name in ("other", "longer"):
        (root / f"pool/{name}.deb").write_bytes(b"0123456789")
    publish(
        root,
        paragraph("other", b"9876543210") + paragraph("longer", b"012345") + paragraph("none", b"", SHA256="../../x"),
    )
    found = opened(address, tmp_path)
    with pytest.raises(DigestMismatch):
        found.download(found.packages["other"])
    with pytest.raises(LimitExceeded):
        found.download(found.packages["longer"])
    with pytest.raises(DownloadFailed):
        found.download(found.packages["none"])
    (root / "dists/stable/main/binary-amd64/Packages.xz").write_bytes(b"another index")
    with pytest.raises(DigestMismatch):
        opened(address, tmp_path / "elsewhere")
    (root / "dists/stable/InRelease").write_text("Suite: stable\n")
    with pytest.raises(DownloadFailed, match="no packages for amd64"):
        opened(address, tmp_path)


def test_suites_that_are_there_are_told_from_others(mirror: tuple[Path, str]) -> None:
    root, address = mirror
    publish(root, "")
    assert mirrors.exists(Source(address, "stable"), ())
    assert not mirrors.exists(Source(address, "stable-security"), ())


def test_both_forms_of_apts_configuration_are_read(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text(
        "# comment\ndeb http://one/debian/ bookworm main contrib # more\ndeb-src http://one/debian bookworm main\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://two/debian trixie main\nnonsense\n"
    )
    directory = tmp_path / "sources.list.d"
    directory.mkdir()
    (directory / "x.sources").write_text(
        "Types: deb deb-src\nURIs: http://three/debian\nSuites: sid sid-updates\nComponents: main\n"
        "Signed-By: /three.gpg\n\nTypes: deb\nURIs: http://four\nSuites: sid\nEnabled: no\n"
    )
    assert mirrors.sources(tmp_path) == (
        Source("http://one/debian", "bookworm"),
        Source("http://two/debian", "trixie", "/k.gpg"),
        Source("http://three/debian", "sid", "/three.gpg"),
        Source("http://three/debian", "sid-updates", "/three.gpg"),
    )


def test_what_is_chosen_is_closed_under_what_it_needs() -> None:
    def package(name: str, *depends: tuple[str, ...], provides: tuple[str, ...] = (), **facts: str) -> mirrors.Package:
        essential = facts.get("essential") == "yes"
        priority = facts.get("priority", "optional")
        return mirrors.Package(name, f"{name}.deb", 1, "0" * 64, essential, priority, depends, provides)

    all_of_them = (
        package("base", ("awk",), essential="yes"),
        package("mawk", provides=("awk",)),
        package("apt", ("missing", "lib"), priority="important"),
        package("lib", ("apt",)),
        package("tool", ("lib",), ("extra", "mawk")),
        package("unrelated"),
        package("must", priority="required"),
    )
    packages = {one.name: one for one in all_of_them}
    assert [one.name for one in debian.chosen(packages, ())] == ["apt", "base", "lib", "mawk", "must"]
    assert [one.name for one in debian.chosen(packages, ["tool"])] == ["apt", "base", "lib", "mawk", "must", "tool"]
    with pytest.raises(DownloadFailed):
        debian.chosen(packages, ["nobody"])


def test_what_is_no_package_is_refused() -> None:
    for data in (b"", b"!<arch>\n", b"!<arch>\n" + b"x" * 60, deb(b"x")[:100]):
        with pytest.raises(DownloadFailed):
            mirrors.data_member(data)
