"""Images for several platforms, as the commands are typed: against docker-registry, with skopeo, podman and docker on
the other side. Digests are equal everywhere.
"""

import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dockerregistry import docker_registry, dockerd, need

from builder.store import Store
from builder.store.validate import image as validate

Lamina = Any

pytestmark = pytest.mark.root

PLATFORMS = ("linux/amd64", "linux/arm64", "linux/s390x")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    with docker_registry(tmp_path / "registry") as host:
        yield host


@pytest.fixture
def project(tmp_path: Path) -> Path:
    context = tmp_path / "project"
    context.mkdir()
    (context / "Dockerfile").write_text(
        "FROM scratch\nCOPY shared /\nARG TARGETARCH\nCOPY for-${TARGETARCH} /own\nENV A=b\n"
    )
    (context / "shared").write_text("s" * 10_000)
    for each in PLATFORMS:
        architecture = each.partition("/")[2]
        (context / f"for-{architecture}").write_text(architecture)
    return context


def valid(lamina: Lamina) -> None:
    """Every image of the store is whole, and the store is clean."""
    with Store.open(lamina.root) as store:
        for one in store.images.list():
            validate(store, one.id, full=True)
    assert lamina("fsck", "--full").returncode == 0


def skopeo(*arguments: str | Path) -> bytes:
    return subprocess.run([need("skopeo"), *arguments], capture_output=True, check=True, timeout=120).stdout


def raw(name: str) -> bytes:
    """What a registry has by a name."""
    return skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{name}")


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def target(lamina: Lamina, name: str) -> str:
    with Store.open(lamina.root) as store:
        return str(store.images.target(name))


@pytest.fixture
def built(lamina: Lamina, project: Path, registry: str) -> str:
    """An index of three images, built here and pushed; its name."""
    name = f"{registry}/team/app:1"
    lamina("build", "-q", "--platform", ",".join(PLATFORMS), "-t", name, project)
    lamina("push", "-q", name)
    valid(lamina)
    return name


def test_an_index_goes_through_every_tool_and_keeps_its_digest(
    lamina: Lamina, built: str, registry: str, machines: Any, tmp_path: Path
) -> None:
    pushed = raw(built)
    digest = digest_of(pushed)
    # skopeo takes it to another name, to a layout and to an archive; all of it comes back byte for byte.
    copy = f"{registry}/skopeo/app:1"
    skopeo(
        "copy", "--all", "--src-tls-verify=false", "--dest-tls-verify=false", f"docker://{built}", f"docker://{copy}"
    )
    archive = tmp_path / "skopeo.tar"
    skopeo("copy", "--all", "--src-tls-verify=false", f"docker://{built}", f"oci-archive:{archive}:{copy}")
    second = machines()
    assert f"Digest: {digest}" in second.text("pull", copy)
    assert target(second, copy) == digest
    second("rmi", copy)
    assert second.text("load", "-i", archive) == f"Loaded image: {copy}"
    assert target(second, copy) == digest
    valid(second)
    # To a place that has nothing of it, from what was loaded.
    again = f"{registry}/again/app:1"
    second("tag", copy, again)
    assert f"1: digest: {digest}" in second.text("push", again)
    assert raw(again) == pushed
    for entry in json.loads(pushed)["manifests"]:
        assert digest_of(raw(f"{registry}/again/app@{entry['digest']}")) == entry["digest"]
    # Saved and read by skopeo, which checks every digest.
    saved = tmp_path / "saved.tar"
    second("save", "-o", saved, again)
    unpacked = tmp_path / "layout"
    skopeo("copy", "--all", "--preserve-digests", f"oci-archive:{saved}", f"oci:{unpacked}:x")
    assert json.loads((unpacked / "index.json").read_text())["manifests"][0]["digest"] == digest


def test_docker_loads_and_pulls_its_own_image_of_an_index(lamina: Lamina, built: str, tmp_path: Path) -> None:
    archive = tmp_path / "saved.tar"
    lamina("save", "-o", archive, built)
    image = json.loads(lamina.text("image", "inspect", "--platform", "linux/amd64", built))[0]["Id"]
    with dockerd() as docker:
        for command in (["load", "-i", str(archive)], ["pull", "--quiet", built]):
            subprocess.run([*docker, *command], check=True, capture_output=True, timeout=120)
            asked = [*docker, "image", "inspect", "--format", "{{.Id}}", built]
            found = subprocess.run(asked, check=True, capture_output=True, text=True, timeout=120).stdout
            assert found.strip() == image
            subprocess.run([*docker, "rmi", built], check=True, capture_output=True, timeout=120)


def test_what_was_pulled_for_one_platform_is_pushed_whole(
    lamina: Lamina, built: str, registry: str, machines: Any
) -> None:
    second = machines()
    second("pull", "--platform", "linux/arm64", built)
    other = f"{registry}/other/app:1"
    second("tag", built, other)
    second("push", "-q", other)
    assert raw(other) == raw(built)
    alone = f"{registry}/alone/app:1"
    second("tag", built, alone)
    done = second("push", "--platform", "linux/s390x", alone, code=1).stderr.decode()
    assert "was found but does not provide the specified platform (linux/s390x)" in done
    second("push", "-q", "--platform", "linux/arm64", alone)
    (arm,) = [each for each in json.loads(raw(built))["manifests"] if each["platform"]["architecture"] == "arm64"]
    assert digest_of(raw(alone)) == arm["digest"]
    valid(second)


def test_flags_that_name_a_platform_choose_it(lamina: Lamina, built: str, tmp_path: Path) -> None:
    one = json.loads(lamina.text("image", "inspect", "--platform", "linux/arm64", built))[0]
    assert one["Architecture"] == "arm64" and built in one["RepoTags"]
    mine = json.loads(lamina.text("image", "inspect", built))[0]
    assert mine["Architecture"] == "amd64"
    quiet = ("history", "-q", "--no-trunc")
    lines = {each: lamina.text(*quiet, "--platform", each, built).splitlines()[0] for each in PLATFORMS}
    assert len(set(lines.values())) == 3 and lines["linux/arm64"] == one["Id"]
    for command in (
        ("image", "inspect", "--platform", "linux/riscv64", built),
        ("history", "--platform", "linux/riscv64", built),
        ("save", "-o", tmp_path / "x.tar", "--platform", "linux/riscv64", built),
        ("save", "--platform", "linux/riscv64", built),
        ("rmi", "--platform", "linux/riscv64", built),
        ("create", "--pull", "never", "--platform", "linux/riscv64", built, "x"),
        ("push", "--platform", "linux/riscv64", built),
        ("sbom", "--platform", "linux/riscv64", built),
        ("provenance", "--platform", "linux/riscv64", built),
        ("diff", "--platform", "linux/riscv64", built, built),
    ):
        refused = lamina(*command, code=None)
        assert refused.returncode == 1 and (command[0] != "save" or refused.stdout == b"")
        told = "was found but does not provide the specified platform (linux/riscv64)"
        assert told in refused.stderr.decode()
    container = lamina.text("create", "--platform", "linux/s390x", built, "x").strip()
    assert json.loads(lamina.text("inspect", container))[0]["Image"] == lines["linux/s390x"]
    busy = lamina("rmi", "--platform", "linux/s390x", built, code=1).stderr.decode()
    assert "is being used by stopped container" in busy
    lamina("rm", container)
    assert lamina.text("rmi", "--platform", "linux/s390x,linux/arm64", built).count("Deleted: ") == 2
    lamina("save", "-o", tmp_path / "saved.tar", "--platform", "linux/amd64", built)
    before = target(lamina, built)
    lamina("rmi", built)
    assert (
        "specified platform"
        in lamina("load", "-i", tmp_path / "saved.tar", "--platform", "linux/arm64", code=1).stderr.decode()
    )
    lamina("load", "-q", "-i", tmp_path / "saved.tar", "--platform", "linux/amd64")
    assert target(lamina, built) == before
    valid(lamina)


def test_images_show_what_is_here_of_an_index(lamina: Lamina, built: str, registry: str, machines: Any) -> None:
    second = machines()
    second("pull", "-q", built)
    lines = second.text("images", "--tree", built).splitlines()
    branches = [line.split() for line in lines[3:]]
    assert [branch[:2] for branch in branches] == [["├─", "linux/amd64"], ["├─", "linux/arm64"], ["└─", "linux/s390x"]]
    assert branches[0][3] != "0B" and [branch[3:5] for branch in branches[1:]] == [["0B", "0B"]] * 2
    asked = ("images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}", built)
    image = json.loads(second.text("image", "inspect", built))[0]["Id"]
    assert second.text(*asked).split() == [built, image]
    second("pull", "-q", "--platform", "linux/arm64", built)
    assert second.text(*asked).split() == [built, target(second, built)], "several go by the digest of their index"
    assert "not yet supported with --tree" in second("images", "--tree", "-q", code=125).stderr.decode()
    gone = second.text("rmi", second.text("images", "-q", built)).splitlines()
    assert len([line for line in gone if line.startswith("Deleted: ")]) == 2
    assert second.text("images", "-q", built) == ""
    valid(second)


def test_a_container_for_a_platform_that_is_not_here_has_it_pulled(built: str, machines: Any) -> None:
    second = machines()
    second("pull", "-q", built)
    made = second("create", "--platform", "linux/s390x", built, "x")
    assert f"Unable to find image '{built}' locally" in made.stderr.decode()
    image = json.loads(second.text("image", "inspect", "--platform", "linux/s390x", built))[0]["Id"]
    assert json.loads(second.text("inspect", made.stdout.decode().strip()))[0]["Image"] == image
    told = second("create", "--platform", "linux/arm64", image[7:19], "x", code=1).stderr.decode()
    assert "does not provide the specified platform" in told and "Unable to find" not in told
    valid(second)


def test_a_run_warns_of_another_machine_only_when_nobody_asked_for_it(lamina: Lamina, project: Path) -> None:
    lamina("build", "-q", "--platform", "linux/s390x", "-t", "other", project)
    warning = "does not match the detected host platform"
    assert warning in lamina("create", "other", "x").stderr.decode()
    assert warning not in lamina("create", "--platform", "linux/s390x", "other", "x").stderr.decode()


class TestManifestLists:
    """manifest create, annotate, inspect, push, rm."""

    @pytest.fixture
    def parts(self, lamina: Lamina, project: Path, registry: str) -> dict[str, str]:
        """Three images with a tag each, at the registry and here."""
        names = {}
        for each in PLATFORMS:
            names[each] = f"{registry}/app:{each.partition('/')[2]}"
            lamina("build", "-q", "--platform", each, "-t", names[each], project)
            lamina("push", "-q", names[each])
        return names

    def test_as_docker_does_it(
        self, lamina: Lamina, parts: dict[str, str], registry: str, machines: Any, tmp_path: Path
    ) -> None:
        """The same commands to docker's client and to us, here and on a machine that has none of the images."""
        client = [need("docker"), "manifest"]
        mine = {**os.environ, "DOCKER_CONFIG": str(tmp_path / "docker"), "DOCKER_CLI_EXPERIMENTAL": "enabled"}

        def docker(*arguments: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run([*client, *arguments], env=mine, capture_output=True, text=True, check=False)

        name = f"{registry}/app:multi"
        second = machines()
        commands = (
            (("create", "--insecure", name, *list(parts.values())[:2]), 0),
            (("create", "--insecure", name, parts["linux/s390x"]), 1),
            (("create", "--insecure", "--amend", name, parts["linux/s390x"]), 0),
            (("annotate", name, parts["linux/arm64"], "--variant", "v8", "--os-features", "a,b"), 0),
            (("annotate", name, parts["linux/arm64"], "--arch", "vax"), 1),
            (("annotate", name, f"{registry}/app:none", "--arch", "arm"), 1),
            (("inspect", name), 0),
            (("inspect", "-v", name), 0),
            (("inspect", name, parts["linux/arm64"]), 0),
            (("inspect", name, f"{registry}/app:none"), 1),
            (("inspect", "--insecure", "-v", parts["linux/amd64"]), 0),
            (("inspect", "--insecure", f"{registry}/app:none"), 1),
            (("push", f"{registry}/app:none"), 1),
            (("rm", name, f"{registry}/app:none"), 1),
        )
        for command, code in commands:
            theirs = docker(*command)
            assert theirs.returncode == code
            for machine in (lamina, second):
                ours = machine("manifest", *command, code=code)
                out, err = ours.stdout.decode(), ours.stderr.decode()
                if command[0] == "inspect" and not code:
                    assert json.loads(out) == json.loads(theirs.stdout)
                else:
                    assert out == theirs.stdout
                if code and "vax" not in command:
                    assert theirs.stderr.strip() in err
        valid(lamina)
        valid(second)

    def test_made_here_pushed_and_pulled_by_podman(self, lamina: Lamina, parts: dict[str, str], registry: str) -> None:
        name = f"{registry}/app:multi"
        lamina("manifest", "create", name, *parts.values())
        lamina("manifest", "annotate", name, parts["linux/arm64"], "--variant", "v8")
        digest = lamina.text("manifest", "push", "--purge", name).strip()
        pushed = raw(name)
        assert digest_of(pushed) == digest
        described = {each["platform"]["architecture"]: each for each in json.loads(pushed)["manifests"]}
        assert described["arm64"]["platform"]["variant"] == "v8"
        for each, part in parts.items():
            assert described[each.partition("/")[2]]["digest"] == digest_of(raw(part))
        assert "No such manifest" in lamina("manifest", "rm", name, code=1).stderr.decode()
        assert target(lamina, parts["linux/arm64"]), "the images stay"
        with tempfile.TemporaryDirectory(prefix="podman-") as place:  # its paths must be short
            podman = [
                need("podman"),
                "--root",
                f"{place}/root",
                "--runroot",
                f"{place}/run",
                "--tmpdir",
                f"{place}/tmp",
            ]
            podman += ["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"]
            asked = ["pull", "--quiet", "--tls-verify=false", "--platform", "linux/s390x", name]
            pulled = subprocess.run([*podman, *asked], capture_output=True, check=True, timeout=120, text=True)
        image = json.loads(lamina.text("image", "inspect", parts["linux/s390x"]))[0]["Id"]
        assert f"sha256:{pulled.stdout.strip()}" == image

    def test_of_images_that_no_registry_has(self, lamina: Lamina, project: Path, registry: str) -> None:
        for each in PLATFORMS:
            lamina("build", "-q", "--platform", each, "-t", f"local:{each.partition('/')[2]}", project)
        name = f"{registry}/new/app:1"
        lamina("manifest", "create", name, *(f"local:{each.partition('/')[2]}" for each in PLATFORMS))
        refused = lamina("manifest", "create", "local:amd64", "local:arm64", code=1).stderr.decode()
        assert "names an image here" in refused
        listed = lamina("manifest", "create", "--amend", f"{registry}/new/app:2", name, code=1).stderr.decode()
        assert f"{name} is a manifest list" in listed
        digest = lamina.text("manifest", "push", name).strip()
        assert digest_of(raw(name)) == digest
        assert lamina.text("manifest", "push", name).strip() == digest
        valid(lamina)
