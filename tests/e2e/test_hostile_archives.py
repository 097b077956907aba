"""Archives that want out (SECURITY.md 1, rows 23 to 28): every trick through every door.

The doors are load, import, pull, ADD, a context on standard input, and cp. Beside the store lies a *canary*: a tree
that no door may touch. A case passes when each door refuses the archive by name or keeps it inside, the canary is what
it was, in content and metadata (its change times too), and the store's own check finds nothing, whatever was refused
halfway.
"""

import hashlib
import io
import json
import os
import stat
import struct
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from registryserver import RegistryServer

from builder.errors import EngineError
from builder.oci import platforms
from builder.oci.references import Reference
from builder.store import Store, trees
from builder.transfer import docker_archive, importer
from builder.transfer.registry.pull import pull
from builder.transfer.registry.session import Registries

pytestmark = pytest.mark.root

SCRIPT = Path(sys.executable).parent / "lamina"
Case = Callable[[str], bytes]
"""Path of the canary (absolute) → the archive."""


# --- archives -------------------------------------------------------------------------------------------------------


def tar(*entries: tuple[str, bytes, str, bytes], **pax: dict[str, str]) -> bytes:
    """An archive of (name, kind, link, content); *pax* gives records to the entry with that position (`_0`, `_1` …)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, errors="surrogateescape") as archive:
        for at, (name, kind, link, content) in enumerate(entries):
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, link, len(content)
            info.mode, info.uid, info.gid, info.mtime = 0o4777, 4242, 4242, 1
            info.pax_headers = pax.get(f"_{at}", {})
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def file(name: str, content: bytes = b"evil") -> tuple[str, bytes, str, bytes]:
    return name, tarfile.REGTYPE, "", content


def folder(name: str) -> tuple[str, bytes, str, bytes]:
    return name, tarfile.DIRTYPE, "", b""


def link(name: str, target: str) -> tuple[str, bytes, str, bytes]:
    return name, tarfile.SYMTYPE, target, b""


def hard(name: str, target: str) -> tuple[str, bytes, str, bytes]:
    return name, tarfile.LNKTYPE, target, b""


def node(name: str, kind: bytes) -> tuple[str, bytes, str, bytes]:
    return name, kind, "", b""


def raw(name: bytes, *, kind: bytes = b"0", size: int = 0, link: bytes = b"", content: bytes = b"") -> bytes:
    """A bare ustar header with any bytes in its fields, and the padded content."""
    number = b"%011o\0" % size if size >= 0 else struct.pack(">b3xq", -1, size)
    head = name[:100].ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + number + b"%011o\0" % 1
    tail = kind + link[:100].ljust(100, b"\0") + b"ustar\x0000" + bytes(247)
    check = b"%06o\0 " % (sum(head) + 256 + sum(tail))
    return head + check + tail + content + bytes(-len(content) % 512)


END = bytes(1024)
OUT = "../" * 30


def deep_chain(canary: str) -> bytes:
    """CVE-2025-4517: directories and links so long that a resolved path is cut at PATH_MAX, then one step outside."""
    name, entries, path = "d" * 247, [], ""
    for letter in "abcdefghijklmnop":
        entries += [folder(f"{path}{name}"), link(f"{path}{letter}", name)]
        path += f"{name}/"
    short = "/".join("abcdefghijklmnop") + "/" + "l" * 254
    entries += [
        link(short, "../" * 16),
        link("escape", short + "/" + OUT[:-1] + canary),
        hard("flag", "escape/secret"),
        file("flag"),
        file("escape/new"),
    ]
    return tar(*entries)


ESCAPES: dict[str, Case] = {
    "dots": lambda canary: tar(file(OUT + canary[1:] + "/new")),
    "dots after a name": lambda canary: tar(folder("a"), file("a/" + OUT + canary[1:] + "/new")),
    "absolute": lambda canary: tar(file(canary + "/new"), file("//" + canary + "/secret")),
    "link, then write": lambda canary: tar(link("l", canary), file("l/secret"), file("l/new")),
    "link with dots, then write": lambda canary: tar(link("l", OUT + canary[1:]), file("l/secret"), file("l/new")),
    "link to a file, then write": lambda canary: tar(link("l", canary + "/secret"), file("l")),
    "link, then directory": lambda canary: tar(link("l", canary), folder("l"), folder("l/sub"), file("l/sub/x")),
    "link, then its attributes": lambda canary: tar(
        link("l", canary), folder("l/"), _1={"SCHILY.xattr.user.evil": "1", "mtime": "77.7"}
    ),
    "chain of links": lambda canary: tar(
        link("a", "b"), link("b", "c"), folder("c"), link("c/d", canary), file("a/d/secret"), file("b/d/new")
    ),
    "link, then hard link": lambda canary: tar(link("l", canary), hard("h", "l/secret"), file("h")),
    "hard link out": lambda canary: tar(hard("h", canary + "/secret"), file("h")),
    "hard link with dots": lambda canary: tar(hard("h", OUT + canary[1:] + "/secret"), file("h")),
    "hard link to a link": lambda canary: tar(link("l", canary + "/secret"), hard("h", "l"), file("h"), file("l")),
    "hard link to the root": lambda canary: tar(hard("h", "."), hard("i", "/")),
    "directory replaced by a link": lambda canary: tar(
        folder("d"), file("d/secret", b"1"), link("d", canary), file("d/secret"), file("d/new")
    ),
    "directory kept open is replaced": lambda canary: tar(
        folder("d"), folder("d/e"), file("d/e/x"), link("d/e", canary), file("d/e/new"), folder("d/e"), file("d/e/new")
    ),
    "root is a link": lambda canary: tar(link(".", canary), file("secret"), file("new")),
    "root with a slash is a link": lambda canary: raw(b"./", kind=b"2", link=canary.encode()) + tar(file("new")),
    "root of roots is a link": lambda canary: raw(b"/", kind=b"2", link=canary.encode()) + tar(file("new")),
    "root is a file": lambda canary: raw(b".", size=4, content=b"evil") + tar(file("new")),
    "root is a hard link": lambda canary: tar(hard(".", canary), file("new")),
    "no name": lambda canary: raw(b"", size=4, content=b"evil") + tar(file("new")),
    "devices": lambda canary: tar(node("sda", tarfile.BLKTYPE), node("mem", tarfile.CHRTYPE)),
    "fifo, then write": lambda canary: tar(node("f", tarfile.FIFOTYPE), file("f"), hard("g", "f")),
    "link in proc": lambda canary: tar(link("p", "/proc/self/root" + canary), file("p/secret"), file("p/new")),
    "link to a descriptor": lambda canary: tar(
        *(link(f"l{at}", f"/proc/self/fd/{at}") for at in range(20)), file("l9/x")
    ),
    "longest names": lambda canary: tar(
        file("n" * 255), file("n" * 256), file("/".join(["p" * 200] * 20) + "/x"), file("/".join(["q" * 250] * 40))
    ),
    "zero byte in a name": lambda canary: tar(file("x"), _0={"path": "a\0" + canary}),
    "zero byte in a link": lambda canary: tar(link("x", "y"), _0={"linkpath": "a\0" + canary}),
    "no UTF-8": lambda canary: tar(file("\udcff\udcfe"), link("l\udc80", canary + "/\udcff"), file("l\udc80")),
    "5,000 levels": lambda canary: tar(
        *(folder("d/" * (at + 1)) for at in range(0, 5000, 100)), file("d/" * 5000 + "x")
    ),
    "5,000 levels of dots": lambda canary: tar(
        file("d/" * 5000 + "../" * 5000 + "x"), file("e/" * 50 + "../" * 60 + "x")
    ),
    "circle of links": lambda canary: tar(link("a", "b"), link("b", "a"), file("a/x")),
    "unknown type": lambda canary: raw(b"x", kind=b"Z"),
}

WHITEOUTS: dict[str, Case] = {
    "of the parent": lambda canary: tar(file(".wh...", b""), file("d/.wh...", b"")),
    "of itself": lambda canary: tar(file(".wh..", b"")),
    "of nothing": lambda canary: tar(file(".wh.", b"")),
    "with a path": lambda canary: tar(file(".wh.x/" + OUT + canary[1:] + "/secret", b"")),
    "below a whiteout": lambda canary: tar(file(".wh.x/y")),
    "through a link": lambda canary: tar(link("l", canary), file("l/.wh.secret", b""), file("l/.wh.etc", b"")),
    "opaque through a link": lambda canary: tar(link("l", canary), file("l/.wh..wh..opq", b"")),
    "opaque root": lambda canary: tar(file(".wh..wh..opq", b""), file("x")),
    "and the file": lambda canary: tar(file("x"), file(".wh.x", b""), file(".wh.y", b""), file("y")),
    "and the directory": lambda canary: tar(
        folder("x"), file("x/f"), file(".wh.x", b""), file(".wh.y", b""), file("y/f")
    ),
    "left by aufs": lambda canary: tar(folder(".wh..wh.plnk"), file(".wh..wh.plnk/1.2"), hard("x", ".wh..wh.plnk/1.2")),
    "as a link": lambda canary: tar(link(".wh.x", canary), hard(".wh.y", canary + "/secret"), folder(".wh.z")),
    "as a device 0:0": lambda canary: tar(node("gone", tarfile.CHRTYPE)),
    "overlay's attributes": lambda canary: tar(
        folder("d"),
        file("m"),
        _0={"SCHILY.xattr.trusted.overlay.redirect": canary, "SCHILY.xattr.trusted.overlay.opaque": "y"},
        _1={"SCHILY.xattr.trusted.overlay.metacopy": "", "SCHILY.xattr.user.overlay.redirect": canary + "/secret"},
    ),
    "with a hard link to it": lambda canary: tar(file(".wh.x", b""), hard("h", "x")),
}

TARFILE: dict[str, Case] = {
    "CVE-2024-12718": lambda canary: tar(
        link("x", "."), link("x/y", OUT + canary[1:]), folder("x/y/"), file("x/y/secret")
    ),
    "CVE-2025-4138": lambda canary: tar(
        folder("a"), link("a/b", ".."), link("a/c", "b/" + OUT + canary[1:]), file("a/c/new")
    ),
    "CVE-2025-4330": lambda canary: tar(
        folder("a"), link("a/l", OUT + canary[1:] + "/secret"), hard("h", "a/../a/l"), file("h"), hard("a/l", "h")
    ),
    "CVE-2025-4435": lambda canary: tar(file(OUT + "new"), link("l", canary), file("l/new")),
    "CVE-2025-4517": deep_chain,
    "CVE-2025-8194": lambda canary: raw(b"x", size=-512) + tar(file("y")),
    "CVE-2025-8194, extended": lambda canary: raw(b"x", kind=b"x", size=-1024) + tar(file("y")),
    "CVE-2019-20907": lambda canary: raw(b"x", kind=b"x", size=10, content=b"0 path=xx\n") + tar(file("y")),
}

CASES: dict[str, Case] = {
    **ESCAPES,
    **{f"whiteout {name}": case for name, case in WHITEOUTS.items()},
    **TARFILE,
}


# --- canary and store -----------------------------------------------------------------------------------------------


def state(root: Path) -> dict[str, tuple[object, ...]]:
    """Content and metadata of everything below."""
    found: dict[str, tuple[object, ...]] = {}
    for path in (root, *sorted(root.rglob("*"))):
        status = path.lstat()
        facts = (status.st_ino, status.st_mode, status.st_uid, status.st_gid, status.st_nlink, status.st_size)
        times = (status.st_mtime_ns, status.st_ctime_ns)
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else os.listdir(path) if path.is_dir() else b""
        found[str(path)] = (*facts, *times, content, os.listxattr(path, follow_symlinks=False))
    return found


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[str]:
    root = tmp_path / "host"
    (root / "etc").mkdir(parents=True)
    (root / "dev").mkdir()
    (root / "secret").write_bytes(b"secret")
    (root / "etc/passwd").write_bytes(b"root:x:0:0::/root:/bin/sh\n")
    os.mknod(root / "dev/null", 0o20666, os.makedev(1, 3))
    before = state(root)
    yield str(root)
    assert state(root) == before
    # Others mount on this host too: nothing of ours is.
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store for all cases, with an image that has one file."""
    path = tmp_path_factory.mktemp("hostile") / "store"
    with Store.open(path) as store:
        importing(store, tar(file("base")), "base:1")
    yield path
    with Store.open(path) as store:
        assert store.fsck(full=True) == ()
    trees.remove(path)  # deeper than what pytest can remove


def command(root: Path, *arguments: str, stdin: bytes, cwd: Path | None = None, code: int | None = None) -> None:
    """Run lamina; it ends by itself, with an error of its own or none (*code*: with that)."""
    environment = {"LAMINA_ROOT": str(root), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [SCRIPT, *arguments], input=stdin, capture_output=True, env=environment, cwd=cwd, timeout=60, check=False
    )
    text = (done.stdout + done.stderr).decode(errors="replace")
    assert "Traceback" not in text, text
    assert "internal error" not in text, text
    assert done.returncode >= 0 if code is None else done.returncode == code, text


def importing(store: Store, data: bytes, name: str | None = None) -> None:
    platform, when = platforms.host(os.uname().machine), datetime(2024, 1, 1, tzinfo=UTC)
    importer.import_image(store, io.BytesIO(data), created=when, platform=platform, reference=name)


def image(data: bytes, **fields: object) -> bytes:
    """A docker archive with one image whose layer is *data*."""
    diff_id = "sha256:" + hashlib.sha256(data).hexdigest()
    rootfs = {"type": "layers", "diff_ids": [diff_id]}
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": rootfs}).encode()
    name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = [{"Config": name, "RepoTags": ["evil:1"], "Layers": ["layer.tar"], **fields}]
    return tar(file(name, config), file("layer.tar", data), file("manifest.json", json.dumps(manifest).encode()))


@pytest.mark.parametrize("name", CASES)
def test_nothing_leaves_through_load_and_import(name: str, canary: str, root: Path) -> None:
    data = CASES[name](canary)
    with Store.open(root) as store:
        for door in (lambda: docker_archive.load(store, io.BytesIO(image(data))), lambda: importing(store, data)):
            try:
                door()
            except EngineError:
                pass
        assert store.fsck() == ()


@pytest.fixture(scope="module")
def pulls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store that has nothing but what is pulled: a layer that came by another door would not be unpacked."""
    path = tmp_path_factory.mktemp("pulls") / "store"
    yield path
    with Store.open(path) as store:
        assert store.fsck(full=True) == ()
    trees.remove(path)  # deeper than what pytest can remove


def pulling(store: Store, registry: RegistryServer) -> None:
    reference = Reference.parse(f"{registry.host}/evil:1")
    with Registries({"HOME": "/nonexistent"}) as registries:
        pull(store, registries, reference, platform=platforms.host(os.uname().machine))


@pytest.mark.parametrize("name", CASES)
def test_nothing_leaves_through_pull(name: str, canary: str, pulls: Path) -> None:
    with RegistryServer() as registry, Store.open(pulls) as store:
        registry.put_image("evil", "1", [CASES[name](canary)])
        try:
            pulling(store, registry)
        except EngineError:
            pass
        assert registry.seen("/blobs/")
        assert store.fsck() == ()


@pytest.mark.parametrize("name", CASES)
def test_nothing_leaves_through_add_context_and_cp(name: str, canary: str, root: Path, tmp_path: Path) -> None:
    data = CASES[name](canary)
    (tmp_path / "context").mkdir()
    (tmp_path / "context/evil.tar").write_bytes(data)
    dockerfile = b"FROM base:1\nADD evil.tar /in/\n"
    (tmp_path / "context/Dockerfile").write_bytes(dockerfile)
    command(root, "build", "-q", ".", stdin=b"", cwd=tmp_path / "context")
    context = tar(file("Dockerfile", b"FROM base:1\nCOPY . /in/\n"))
    # Without its end: the entries of both are one archive.
    command(root, "build", "-q", "-", stdin=context[:1024] + data)
    container = hashlib.sha256(name.encode()).hexdigest()[:12]
    command(root, "create", "--name", container, "base:1", "/x", stdin=b"", code=0)
    command(root, "cp", "-", f"{container}:/", stdin=data)
    with Store.open(root) as store:
        assert store.fsck() == ()


def test_the_doors_are_open(canary: str, root: Path, tmp_path: Path) -> None:
    """What is refused above is refused for what it is: an honest archive goes through every door."""
    data = tar(folder("d"), file("d/honest", b"yes"), link("l", "d"), hard("h", "d/honest"))
    (tmp_path / "context").mkdir()
    (tmp_path / "context/good.tar").write_bytes(data)
    (tmp_path / "context/Dockerfile").write_bytes(b"FROM base:1\nADD good.tar /in/\n")
    context = tar(file("Dockerfile", b"FROM base:1\nCOPY . /in/\n"))[:1024] + data
    command(root, "build", "-q", "-t", "added:1", ".", stdin=b"", cwd=tmp_path / "context", code=0)
    command(root, "build", "-q", "-t", "copied:1", "-", stdin=context, code=0)
    command(root, "create", "--name", "honest", "base:1", "/x", stdin=b"", code=0)
    command(root, "cp", "-", "honest:/", stdin=data, code=0)
    command(root, "cp", "honest:/l/honest", "-", stdin=b"", code=0)
    with Store.open(root) as store:
        assert len(docker_archive.load(store, io.BytesIO(image(data)))) == 1
        importing(store, data, "imported:1")
        with RegistryServer() as registry:
            registry.put_image("evil", "1", [data])
            pulling(store, registry)
        for name in ("added:1", "copied:1", "imported:1", "evil:1"):
            layer = store.snapshots.get(store.images.get(store.images.resolve(name)).layers[-1])
            found = [path.read_bytes() for path in layer.path.rglob("honest")]
            assert found == [b"yes"]
