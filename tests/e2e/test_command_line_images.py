"""Images from the command line: listed, tagged, inspected, saved, loaded, removed; bootstrap, version, info, fsck."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root

Lamina = Any  # the fixture's type lives in conftest, which tests do not import


def test_bootstrap_makes_a_base_image_that_runs(lamina: Lamina, base_archives: Any) -> None:
    # the archive is what `bootstrap busybox` made in a store of its own
    lamina("load", "-i", base_archives.get("busybox"))
    assert lamina.text("run", "--rm", "--network", "none", "busybox", "echo", "hello") == "hello"
    assert "no-such-base" in lamina("bootstrap", "no-such-base", code=1).stderr.decode()


def test_images_tag_inspect_history_and_rmi(busybox: Lamina) -> None:
    identity = busybox.text("images", "-q", "--no-trunc")
    busybox("tag", "busybox", "other:1")
    busybox("image", "tag", "busybox", "localhost:5000/group/name:v2")
    rows = [line.split() for line in busybox.text("images").splitlines()]
    assert rows[0] == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    assert {(row[0], row[1], row[2]) for row in rows[1:]} == {
        (name, tag, identity[7:19])
        for name, tag in (("busybox", "latest"), ("other", "1"), ("localhost:5000/group/name", "v2"))
    }
    assert busybox.text("images", "--filter", "reference=oth*", "--format", "{{.Repository}}:{{.Tag}}") == "other:1"
    (line,) = busybox.text("images", "--format", "json", "other").splitlines()
    assert json.loads(line)["Tag"] == "1"
    (document,) = json.loads(busybox.text("inspect", "other:1"))
    assert document["Id"] == identity and len(document["RepoTags"]) == 3
    assert busybox.text("inspect", "-f", "{{.Os}} {{len .RootFS.Layers}}", identity[7:19]) == "linux 1"
    header, *steps = busybox.text("history", "busybox").splitlines()
    assert header.split() == ["IMAGE", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"] and steps
    assert busybox.text("history", "-q", "--no-trunc", "busybox").splitlines()[0] == identity
    assert busybox.text("rmi", "other:1") == "Untagged: other:1"
    assert "conflict" in busybox("rmi", identity[7:19], code=1).stderr.decode()
    removed = busybox.text("rmi", "-f", identity[7:19]).splitlines()
    assert f"Deleted: {identity}" in removed and busybox.text("images", "-q") == ""


def test_an_image_that_a_container_has_is_not_removed(busybox: Lamina) -> None:
    busybox("create", "--name", "user-of-it", "busybox", "true")
    told = busybox("rmi", "busybox", code=1).stderr.decode()
    assert "conflict" in told and "container" in told
    assert busybox.text("images", "-q")


def test_save_and_load_give_the_same_image(busybox: Lamina, tmp_path: Path) -> None:
    busybox("tag", "busybox", "second:1")
    identity = busybox.text("images", "-q", "--no-trunc", "busybox")
    busybox("save", "-o", tmp_path / "x.tar", "busybox", "second:1")
    stdout = busybox("save", "busybox").stdout
    busybox("rmi", "-f", identity)
    assert busybox("load", "-i", tmp_path / "x.tar").stdout.decode().splitlines() == [
        "Loaded image: busybox:latest",
        "Loaded image: second:1",
    ]
    assert busybox.text("images", "-q", "--no-trunc", "second") == identity
    busybox("rmi", "-f", identity)
    assert busybox.text("load", stdin=stdout) == "Loaded image: busybox:latest"
    assert busybox.text("images", "-q", "--no-trunc") == identity


def root_file_system() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        member = tarfile.TarInfo("motd")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"hi\n"))
    return stream.getvalue()


def test_import_with_changes(lamina: Lamina, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(root_file_system())
    changes = ("-c", 'CMD ["sh"]', "-c", "ENV A=b", "-m", "from a tar")
    identity = lamina.text("import", *changes, tmp_path / "x.tar", "img")
    (document,) = json.loads(lamina.text("inspect", "img"))
    assert document["Id"] == identity and document["Config"]["Cmd"] == ["sh"]
    assert document["Config"]["Env"] == ["A=b"] and document["Comment"] == "from a tar"
    assert lamina.text("import", "-", "two:2", stdin=root_file_system()).startswith("sha256:")


def test_version_and_info(lamina: Lamina) -> None:
    assert lamina.text("--version").startswith("lamina version ")
    version = lamina.text("version", "--format", "{{.Client.Version}}")
    assert version and version in lamina.text("version")
    info = json.loads(lamina.text("info", "--format", "json"))
    assert info["DockerRootDir"] == str(lamina.root) and info["NCPU"] >= 1
    assert str(lamina.root) in lamina.text("system", "info")


def test_system_df_prune_and_fsck(busybox: Lamina, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN echo x > /x\n")
    busybox("build", "-q", "-t", "gone", tmp_path)
    busybox("run", "busybox", "true")
    kinds = busybox.text("system", "df", "--format", "{{.Type}}").splitlines()
    assert kinds == ["Images", "Containers", "Local Volumes", "Build Cache"]
    busybox("rmi", "gone")
    told = busybox.text("system", "prune", "-f")
    assert "Deleted Containers:" in told and "Total reclaimed space:" in told
    assert busybox.text("ps", "-aq") == "" and busybox.text("images", "--format", "{{.Repository}}") == "busybox"
    assert "clean" in busybox("fsck").stderr.decode()
    (entry,) = [path for path in busybox.root.rglob("busybox") if path.is_file()][:1]
    entry.unlink()
    assert busybox("fsck", "--full", code=1).stdout


def test_system_prune_gives_the_host_its_network_back(busybox: Lamina) -> None:
    def bridges() -> set[str]:
        return {path.parent.name for path in Path("/sys/class/net").glob("*/bridge")}

    before = bridges()
    busybox("run", "-d", "--name", "keeper", "busybox", "sleep", "1000")
    address = busybox.text("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "keeper")
    (mine,) = {name for name in bridges() - before if address_of(name) == address.rpartition(".")[0] + ".1"}
    busybox("system", "prune", "-f")
    assert mine in bridges()
    busybox("rm", "-f", "keeper")
    busybox("system", "prune", "-f")
    assert mine not in bridges()


def address_of(interface: str) -> str:
    """The IPv4 address of an interface of this host."""
    import fcntl
    import socket
    import struct

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            found = fcntl.ioctl(probe, 0x8915, struct.pack("256s", interface.encode()[:15]))  # SIOCGIFADDR
        except OSError:
            return ""
    return socket.inet_ntoa(found[20:24])


@pytest.mark.parametrize(
    ("arguments", "stdin", "text"),
    [
        (["load"], b"no tar at all" * 100, "standard input: not a tar archive\nhint: load takes"),
        (["load", "-i", "/no/such/file"], b"", "/no/such/file"),
        (["load"], b"", "standard input: archive is empty"),
        (["import", "-", "x:1"], b"\x1f\x8b broken", "hint: import takes"),
        (["import", "-", "UPPER"], b"", "UPPER"),
        (["import", "/no/such/file", "x:1"], b"", "/no/such/file"),
        (["save", "nothing-here"], b"", "nothing-here"),
        (["tag", "nothing-here", "x"], b"", "nothing-here"),
        (["tag", "busybox", "UPPER"], b"", "UPPER"),
        (["history", "nothing-here"], b"", "nothing-here"),
        (["rmi", "nothing-here"], b"", "nothing-here"),
        (["image", "inspect", "nothing-here"], b"", "nothing-here"),
        (["commit", "nothing-here", "x"], b"", "nothing-here"),
        (["export", "nothing-here"], b"", "nothing-here"),
        (["inspect", "-f", "{{.Nope", "busybox"], b"", "template"),
        (["images", "--filter", "colour=red"], b"", "colour"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_is_told_and_changes_nothing(
    busybox_store: Lamina, arguments: list[str], stdin: bytes, text: str
) -> None:
    shown = ("images", "--no-trunc", "--format", "{{.ID}} {{.Repository}}:{{.Tag}}")
    before = busybox_store.text(*shown)
    done = busybox_store(*arguments, stdin=stdin, code=None)
    told = done.stderr.decode()
    assert done.returncode in (1, 64) and text in told and told.strip()
    assert "internal error" not in told and "Traceback" not in told
    assert busybox_store.text(*shown) == before
    busybox_store("fsck")


def test_a_store_that_cannot_be_read_is_told(lamina: Lamina, tmp_path: Path) -> None:
    file = tmp_path / "a-file"
    file.write_text("not a directory")
    told = lamina("--root", file, "images", code=1).stderr.decode()
    assert str(file) in told and "internal error" not in told
    lamina("images")
    (database,) = lamina.root.glob("*.db") or lamina.root.glob("*.sqlite*")
    database.write_bytes(b"garbage" * 1000)
    told = lamina("images", code=1).stderr.decode()
    assert "internal error" not in told and "fsck" in told
    # so that the fixture's last commands do not fail on it
    for path in lamina.root.glob(database.name + "*"):
        path.unlink()


def test_a_template_finds_what_an_image_does_not_set(busybox_store: Lamina) -> None:
    form = '[{{.Config.User}}{{.Config.WorkingDir}}{{index .Config.Labels "x"}}{{json .Config.OnBuild}}]'
    assert busybox_store.text("inspect", "-f", form, "busybox") == "[null]"
    assert "OnBuild" not in busybox_store.text("inspect", "busybox")
