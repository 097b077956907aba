"""Archives between lamina and the tools that people have: docker, podman, skopeo. Skipped where one is not installed.

Every image goes both ways, and both sides must name the same diff_ids: then the bytes of every layer are the same.
"""

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

Lamina = Any  # the fixture's type lives in conftest, which tests do not import

pytestmark = pytest.mark.root

NAME = "interop.test/app:1"


def layer(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """A layer as docker writes it: pax headers where ustar does not do, two blocks of zeros at the end."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, errors="surrogateescape") as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def entry(name: str, data: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = len(data), 1_700_000_000, 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def directory(name: str, **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, b"", **{"type": tarfile.DIRTYPE, "mode": 0o755, **fields})


CAPABILITY = b"\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
LONG = "long/" + "/".join(letter * 60 for letter in "abcde")

LAYERS = (
    layer(
        directory("bin/"),
        entry("bin/tool", b"#!/bin/sh\n" * 500, mode=0o4755, pax_headers={"mtime": "1700000000.123456789"}),
        entry("bin/twice", type=tarfile.LNKTYPE, linkname="bin/tool", mode=0o4755),
        entry("bin/link", type=tarfile.SYMTYPE, linkname="/bin/tool", mode=0o777),
        entry(
            "bin/ping",
            b"ping",
            uid=1000,
            gid=3_000_000,
            pax_headers={"SCHILY.xattr.security.capability": CAPABILITY.decode("latin-1")},
        ),
        directory("old/", mode=0o1777),
        entry("old/a", b"a"),
        entry("old/b", b"b"),
        entry("gone", b"gone"),
        entry("turns", b"a file first"),
        directory("é ü/", uid=7),
        entry("é ü/ñ", "ñ".encode(), mode=0),
        *(directory(f"{LONG[:at]}/") for at, letter in enumerate(LONG) if letter == "/"),
        directory(f"{LONG}/"),
        entry(f"{LONG}/file", b"deep"),
        entry("pipe", type=tarfile.FIFOTYPE),
        entry("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
    ),
    layer(
        entry(".wh.gone", mode=0),
        directory("old/", mode=0o755, mtime=1_700_000_100),
        entry("old/.wh..wh..opq", mode=0),
        entry("old/new", b"new"),
        directory("turns/"),
        entry("turns/into", b"a directory"),
    ),
    bytes(1024),
)


def config(diff_ids: Sequence[str]) -> bytes:
    return json.dumps(
        {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, "amd64"),
            "os": "linux",
            "config": {"Cmd": ["/bin/tool"], "Env": ["A=1"], "Labels": {"k": "v"}},
            "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
            "history": [{"created_by": f"layer {at}"} for at in range(len(diff_ids))],
        }
    ).encode()


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


DIFF_IDS = [digest(data) for data in LAYERS]


def archive(members: dict[str, bytes]) -> bytes:
    return layer(*(entry(name, data) for name, data in members.items()))


def older_form() -> bytes:
    """What docker wrote before version 25: a directory per layer."""
    members: dict[str, bytes] = {}
    paths = []
    for data in LAYERS:
        name = hashlib.sha256(b"v1" + data).hexdigest()
        members |= {f"{name}/VERSION": b"1.0", f"{name}/json": b"{}", f"{name}/layer.tar": data}
        paths.append(f"{name}/layer.tar")
    raw = config(DIFF_IDS)
    members[f"{digest(raw)[7:]}.json"] = raw
    manifest = [{"Config": f"{digest(raw)[7:]}.json", "RepoTags": [NAME], "Layers": paths}]
    return archive({**members, "manifest.json": json.dumps(manifest).encode()})


def layout_form() -> bytes:
    """A pure OCI layout, its layers packed with gzip, one of them not."""
    import gzip

    blobs: dict[str, bytes] = {}

    def blob(media_type: str, data: bytes) -> dict[str, object]:
        blobs["blobs/" + digest(data).replace(":", "/")] = data
        return {"mediaType": media_type, "digest": digest(data), "size": len(data)}

    kind = "application/vnd.oci.image."
    layers = [blob(f"{kind}layer.v1.tar+gzip", gzip.compress(data, mtime=0)) for data in LAYERS[:2]]
    layers.append(blob(f"{kind}layer.v1.tar", LAYERS[2]))
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{kind}manifest.v1+json",
        "config": blob(f"{kind}config.v1+json", config(DIFF_IDS)),
        "layers": layers,
    }
    described = blob(f"{kind}manifest.v1+json", json.dumps(manifest).encode())
    index = {
        "schemaVersion": 2,
        "manifests": [{**described, "annotations": {"org.opencontainers.image.ref.name": NAME}}],
    }
    return archive({"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": json.dumps(index).encode(), **blobs})


FORMS = {"older docker": older_form, "pure layout": layout_form}


# --- peers ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Peer:
    """Another tool with a store of its own: how to load into it, to save from it, and what it says of an image."""

    command: tuple[str, ...]

    def __call__(self, *arguments: str | Path, stdin: bytes | None = None) -> bytes:
        done = subprocess.run(
            [*self.command, *map(str, arguments)], capture_output=True, check=False, timeout=120, input=stdin
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout

    def layers(self, name: str) -> list[str]:
        found: list[str] = json.loads(self("image", "inspect", "--format", "{{json .RootFS.Layers}}", name))
        return found


def need(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path


@contextmanager
def short_directory() -> Iterator[Path]:
    """A temporary directory with a path that a socket's address has room for."""
    import tempfile

    path = Path(tempfile.mkdtemp(prefix="interop-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def docker() -> Iterator[Peer]:
    """A daemon of its own, in a network and mount namespace of its own."""
    client = need("docker")
    arguments = "--bridge none --iptables=false --ip-masq=false --storage-driver vfs"
    with short_directory() as path:
        places = f"--data-root {path}/data --exec-root {path}/exec --pidfile {path}/pid --host unix://{path}/sock"
        script = f"ip link set lo up; exec {need('dockerd')} {arguments} {places}"
        with open(path / "log", "wb") as log:
            daemon = subprocess.Popen([need("unshare"), "-n", "-m", "sh", "-c", script], stdout=log, stderr=log)
        try:
            peer = Peer((client, "-H", f"unix://{path}/sock"))
            until = time.monotonic() + 30
            # The daemon tells nobody that it is ready but by answering.
            while subprocess.run([*peer.command, "version"], capture_output=True, check=False).returncode:
                if daemon.poll() is not None or time.monotonic() > until:
                    pytest.skip(f"dockerd does not start here: {(path / 'log').read_text()[-300:]}")
                time.sleep(0.1)
            yield peer
        finally:
            daemon.terminate()
            daemon.wait(60)


@pytest.fixture
def podman() -> Iterator[Peer]:
    program = need("podman")
    with short_directory() as path:
        places = ("--root", f"{path}/root", "--runroot", f"{path}/run", "--tmpdir", f"{path}/tmp")
        yield Peer((program, *places, "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"))


@pytest.fixture
def skopeo() -> Peer:
    return Peer((need("skopeo"), "--insecure-policy"))


@pytest.fixture
def filled(lamina: Lamina) -> Lamina:
    """A store that has the image."""
    lamina("load", stdin=older_form())
    return lamina


def layers_of(lamina: Lamina, name: str = NAME) -> list[str]:
    found: list[str] = json.loads(lamina.text("image", "inspect", "--format", "{{json .RootFS.Layers}}", name))
    return found


@pytest.fixture
def second(lamina: Lamina, tmp_path: Path) -> Lamina:
    """The command on another store, which has nothing."""
    return type(lamina)(tmp_path / "second")


# --- tests ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_an_archive_gives_the_same_image(form: str, lamina: Lamina) -> None:
    assert lamina.text("load", stdin=FORMS[form]()) == f"Loaded image: {NAME}"
    assert layers_of(lamina) == DIFF_IDS
    assert lamina.text("image", "inspect", "--format", "{{.Id}}", NAME) == digest(config(DIFF_IDS))


def test_a_layout_without_its_leading_names_loads_as_well(lamina: Lamina, tmp_path: Path) -> None:
    """`tar -c .` in the directory of a layout: names start with ./, in no order."""
    with tarfile.open(fileobj=io.BytesIO(layout_form())) as members:
        for member in members:
            path = tmp_path / "layout" / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(members.extractfile(member).read())  # type: ignore[union-attr]
    packed = subprocess.run(["tar", "-cz", "-C", tmp_path / "layout", "."], capture_output=True, check=True).stdout
    assert lamina.text("load", stdin=packed) == f"Loaded image: {NAME}"
    assert layers_of(lamina) == DIFF_IDS
    # And as the directory that it is.
    lamina("rmi", NAME)
    assert lamina.text("load", "-i", tmp_path / "layout") == f"Loaded image: {NAME}"
    assert layers_of(lamina) == DIFF_IDS
    assert b"not an OCI layout" in lamina("load", "-i", tmp_path, code=1).stderr


def test_docker_reads_what_we_save_and_we_read_what_it_saves(
    filled: Lamina, docker: Peer, second: Lamina, tmp_path: Path
) -> None:
    docker("load", stdin=filled("save", NAME).stdout)
    assert docker.layers(NAME) == DIFF_IDS
    # Loading what is known already is told apart from loading what is not.
    docker("save", "-o", tmp_path / "docker.tar", NAME)
    second("load", "-i", tmp_path / "docker.tar")
    assert layers_of(second) == DIFF_IDS
    assert second.text("image", "inspect", "--format", "{{.Id}}", NAME) == digest(config(DIFF_IDS))


def test_docker_sees_the_same_file_system(filled: Lamina, docker: Peer) -> None:
    docker("load", stdin=older_form())
    theirs = docker("export", docker("create", NAME).decode().strip())
    ours = filled("export", filled.text("create", NAME)).stdout
    assert listing(ours) == listing(theirs)


def listing(data: bytes) -> dict[str, tuple[object, ...]]:
    """What our layers put into a file system, without what tools add for a container (/dev, /etc …)."""
    found: dict[str, tuple[object, ...]] = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        links: dict[str, frozenset[str]] = {}
        for one in tar:
            name = one.name.removeprefix("./").rstrip("/")
            if name.split("/", 1)[0] in ("", ".", "dev", "etc", "proc", "sys", ".dockerenv"):
                continue
            content = b""
            if one.isreg():
                content = tar.extractfile(one).read()  # type: ignore[union-attr]
            if one.islnk():
                # Which of two names is the file is a matter of order.
                links[name] = links[one.linkname] = frozenset({name, one.linkname})
            capability = one.pax_headers.get("SCHILY.xattr.security.capability")
            kind = tarfile.REGTYPE if one.islnk() else one.type
            link = one.linkname if one.issym() else ""
            facts = (
                kind,
                one.mode & 0o7777,
                one.uid,
                one.gid,
                int(one.mtime),
                link,
                one.devmajor,
                one.devminor,
                capability,
            )
            found[name] = (*facts, content)
    contents = {names: b"".join(found[name][-1] for name in names) for names in links.values()}  # type: ignore[misc]
    for name, names in links.items():
        found[name] = (*found[name][:-1], contents[names], names)
    return found


def test_podman_reads_what_we_save_and_we_read_what_it_saves(
    filled: Lamina, podman: Peer, second: Lamina, tmp_path: Path
) -> None:
    filled("save", "-o", tmp_path / "ours.tar", NAME)
    podman("load", "-i", tmp_path / "ours.tar")
    assert podman.layers(NAME) == DIFF_IDS
    for form in ("docker-archive", "oci-archive"):
        podman("save", "--format", form, "-o", tmp_path / f"{form}.tar", NAME)
    podman("save", "--format", "oci-dir", "-o", tmp_path / "layout", NAME)
    subprocess.run(["tar", "-cf", tmp_path / "oci-dir.tar", "-C", tmp_path / "layout", "."], check=True)
    for form in ("docker-archive", "oci-archive", "oci-dir"):
        assert second.text("load", "-i", tmp_path / f"{form}.tar") == f"Loaded image: {NAME}"
        assert layers_of(second) == DIFF_IDS
        second("rmi", NAME)


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_skopeo_reads_what_we_save_and_we_read_what_it_writes(
    kind: str, filled: Lamina, skopeo: Peer, second: Lamina, tmp_path: Path
) -> None:
    filled("save", "-o", tmp_path / "ours.tar", NAME)
    skopeo("copy", f"{kind}:{tmp_path}/ours.tar", f"dir:{tmp_path}/dir")
    manifest = json.loads((tmp_path / "dir/manifest.json").read_bytes())
    raw = (tmp_path / "dir" / manifest["config"]["digest"][7:]).read_bytes()
    assert json.loads(raw)["rootfs"]["diff_ids"] == DIFF_IDS
    assert [digest((tmp_path / "dir" / one["digest"][7:]).read_bytes()) for one in manifest["layers"]] == DIFF_IDS
    skopeo("copy", f"dir:{tmp_path}/dir", f"{kind}:{tmp_path}/theirs.tar:{NAME}")
    assert second.text("load", "-i", tmp_path / "theirs.tar") == f"Loaded image: {NAME}"
    assert layers_of(second) == DIFF_IDS
    assert second("save", NAME).stdout == filled("save", NAME).stdout


@pytest.mark.parametrize("way", ["gzip", "zstd"])
def test_what_peers_pack_has_the_same_layers(
    way: str, filled: Lamina, skopeo: Peer, second: Lamina, tmp_path: Path
) -> None:
    filled("save", "-o", tmp_path / "ours.tar", NAME)
    places = (f"docker-archive:{tmp_path}/ours.tar", f"oci-archive:{tmp_path}/packed.tar:{NAME}")
    skopeo("copy", "--dest-compress", "--dest-compress-format", way, *places)
    second("load", "-i", tmp_path / "packed.tar")
    assert layers_of(second) == DIFF_IDS


STAGES = """\
FROM scratch AS one
COPY f /app/f
FROM one
COPY f /app/g
LABEL made=here
"""


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "context").mkdir()
    (tmp_path / "context" / "Dockerfile").write_text(STAGES)
    (tmp_path / "context" / "f").write_text("f" * 100_000)
    return tmp_path / "context"


@pytest.mark.parametrize("way", ["gzip", "zstd", "uncompressed"])
def test_skopeo_and_podman_read_what_a_build_writes(
    way: str, lamina: Lamina, skopeo: Peer, podman: Peer, context: Path, tmp_path: Path
) -> None:
    places = {
        f"oci-archive:{tmp_path}/oci.tar": f"type=oci,dest={tmp_path}/oci.tar",
        f"oci:{tmp_path}/layout:1": f"type=oci,tar=false,dest={tmp_path}/layout",
        f"docker-archive:{tmp_path}/docker.tar": f"type=docker,dest={tmp_path}/docker.tar",
    }
    outputs = [part for output in places.values() for part in ("-o", f"{output},compression={way}")]
    identity = lamina.text("build", "-q", "-t", NAME, "-o", "type=docker", *outputs, context)
    for number, place in enumerate(places):
        skopeo("copy", place, f"dir:{tmp_path}/{number}")
        manifest = json.loads((tmp_path / str(number) / "manifest.json").read_bytes())
        assert manifest["config"]["digest"] == identity
        podman("pull", place)
        assert podman.layers(identity[7:]) == layers_of(lamina)
        podman("rmi", "-f", identity[7:])


def test_skopeo_takes_an_index_of_a_build_and_each_of_its_images(lamina: Lamina, skopeo: Peer, tmp_path: Path) -> None:
    """All of it byte for byte, and one platform as the image that it is here."""
    (tmp_path / "Dockerfile").write_text("FROM scratch\nARG TARGETARCH\nCOPY Dockerfile /$TARGETARCH\n")
    build = ("build", "--platform", "linux/amd64,linux/arm64", "-t", "multi:1", "-o", "type=oci,dest=m.tar", "-o")
    lamina(*build, "type=image", "--metadata-file", "m.json", tmp_path, cwd=tmp_path)
    skopeo("copy", "--all", f"oci-archive:{tmp_path}/m.tar:1", f"oci:{tmp_path}/all:1")
    (top,) = json.loads((tmp_path / "all/index.json").read_bytes())["manifests"]
    assert top["digest"] == json.loads((tmp_path / "m.json").read_text())["containerimage.digest"]
    for architecture in ("amd64", "arm64"):
        skopeo("--override-arch", architecture, "copy", f"oci:{tmp_path}/all:1", f"dir:{tmp_path}/{architecture}")
        manifest = json.loads((tmp_path / architecture / "manifest.json").read_bytes())
        image = lamina.text("image", "inspect", "--platform", f"linux/{architecture}", "-f", "{{.Id}}", "multi:1")
        assert manifest["config"]["digest"] == image


def test_docker_loads_what_a_build_writes_and_images_of_any_depth(
    lamina: Lamina, docker: Peer, context: Path, tmp_path: Path
) -> None:
    for way in ("gzip", "uncompressed"):
        built = lamina("build", "-t", NAME, "-o", f"type=docker,compression={way}", "-o", "type=docker,dest=-", context)
        docker("load", stdin=built.stdout)
        assert docker.layers(NAME) == layers_of(lamina)
    lines = "".join(f"COPY f /{number}\n" for number in range(200))
    (context / "Dockerfile").write_text(f"FROM scratch\n{lines}")
    (context / "f").write_text("f")
    lamina("build", "-q", "-t", "deep.test/app", context)
    assert len(layers_of(lamina, "deep.test/app")) == 200
    docker("load", stdin=lamina("save", "deep.test/app").stdout)
    # 125 is what docker takes: one more and it says "max depth exceeded"
    assert len(docker.layers("deep.test/app")) == 125
    exported = docker("export", docker("create", "deep.test/app", "/0").decode().strip())
    with tarfile.open(fileobj=io.BytesIO(exported)) as archive:
        assert {str(number) for number in range(200)} <= set(archive.getnames())
