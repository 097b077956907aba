"""What builds attest of their images: kept beside them, sent along, and never with a secret in it."""

import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from dockerregistry import docker_registry, dockerd, need
from registryserver import RegistryServer
from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from builder.store import Store
from builder.store.validate import image as validate

Lamina = Any  # the fixture's type lives in conftest, which tests do not import

pytestmark = pytest.mark.root

SLSA, SPDX, CYCLONEDX = "https://slsa.dev/provenance/v1", "https://spdx.dev/Document", "https://cyclonedx.org/bom"
DOCKERFILE = """\
FROM busybox
ARG WHO=nobody
RUN --mount=type=secret,id=key --mount=type=secret,id=variable,env=V test -s /run/secrets/key && echo $WHO > /who
COPY lib /lib
"""


def project(directory: Path) -> Path:
    """A build of an image with a Debian package, a Python distribution, and secrets on the way."""
    (directory / "lib/dpkg/status.d").mkdir(parents=True)
    (directory / "lib/python3/dist-packages/thing-1.0.dist-info").mkdir(parents=True)
    (directory / "lib/python3/dist-packages/thing-1.0.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n"
    )
    (directory / "Dockerfile").write_text(DOCKERFILE)
    (directory / "key").write_text("the-secret-key\n")
    return directory


def layout(archive: Path) -> dict[str, bytes]:
    """The files of an OCI layout that is a tar, by name."""
    with tarfile.open(archive) as tar:
        files = {each.name: tar.extractfile(each) for each in tar if each.isfile()}
        return {name: file.read() for name, file in files.items() if file is not None}


def statements(files: dict[str, bytes]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(the image's descriptor, predicate type → statement about it) of a layout with one attested image."""

    def blob(described: dict[str, Any]) -> Any:
        return json.loads(files[f"blobs/sha256/{described['digest'][7:]}"])

    (top,) = json.loads(files["index.json"])["manifests"]
    image, attached = blob(top)["manifests"]
    assert attached["platform"] == {"architecture": "unknown", "os": "unknown"}
    assert attached["annotations"]["vnd.docker.reference.digest"] == image["digest"]
    found = {}
    for layer in blob(attached)["layers"]:
        statement = blob(layer)
        assert statement["_type"] == "https://in-toto.io/Statement/v1"
        assert statement["predicateType"] == layer["annotations"]["in-toto.io/predicate-type"]
        (subject,) = statement["subject"]
        assert subject["digest"] == {"sha256": image["digest"][7:]}
        found[statement["predicateType"]] = statement
    return image, found


@contextmanager
def podman() -> Iterator[list[str]]:
    """The beginning of podman's commands on a store of its own."""
    with tempfile.TemporaryDirectory(prefix="podman-") as place:
        command = ["podman", "--root", f"{place}/root", "--runroot", f"{place}/run", "--tmpdir", f"{place}/tmp"]
        yield [*command, "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"]


def whole(lamina: Lamina, name: str) -> None:
    with Store.open(lamina.root) as store:
        validate(store, store.images.resolve(name), full=True)
    assert lamina("fsck", "--full").returncode == 0


def test_what_is_attested_is_valid_and_goes_with_the_image_into_a_layout(busybox: Lamina, tmp_path: Path) -> None:
    directory = project(tmp_path / "p")
    busybox(
        *("build", "-t", "app:1", "-o", "type=oci,dest=app.tar", "-o", "type=image", "--metadata-file", "meta"),
        *("--sbom=format=spdx+cyclonedx", "--provenance=mode=max,builder-id=https://ci.test/7"),
        *("--secret", "id=key,src=p/key", "--secret", "id=variable,env=V", "--build-arg", "WHO=me", directory),
        cwd=tmp_path,
        environment={"V": "secret-of-the-environment"},
    )
    files = layout(tmp_path / "app.tar")
    image, found = statements(files)
    assert set(found) == {SLSA, SPDX, CYCLONEDX}
    assert found[SLSA]["subject"][0]["name"] == "pkg:docker/app@1?platform=linux%2Famd64"
    provenance, spdx, cyclonedx = (found[one]["predicate"] for one in (SLSA, SPDX, CYCLONEDX))
    assert not validate_full_spdx_document(JsonLikeDictParser().parse(spdx))
    assert "thing" in {package["name"] for package in spdx["packages"]}
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(cyclonedx)) is None
    request = provenance["buildDefinition"]["externalParameters"]["request"]
    assert request["args"] == {"build-arg:WHO": "me"}
    assert {one["id"] for one in request["secrets"]} == {"key", "variable"}
    assert provenance["runDetails"]["builder"]["id"] == "https://ci.test/7"
    # no value of a secret is in anything that came out
    for data in files.values():
        assert b"the-secret-key" not in data and b"secret-of-the-environment" not in data
    metadata = json.loads((tmp_path / "meta").read_text())
    assert metadata["containerimage.descriptor"]["mediaType"].endswith("image.index.v1+json")
    assert "build-arg:WHO" not in json.dumps(metadata["buildx.build.provenance"])
    assert json.loads(busybox.text("provenance", "app:1")) == provenance
    shown = busybox("sbom", "--format", "spdx", "app:1")
    assert b"attached to app:1" in shown.stderr and json.loads(shown.stdout) == spdx
    assert b"attached" not in busybox("sbom", "--scan", "app:1").stderr
    whole(busybox, "app:1")
    # it comes in again as the image that it is, with what was attested
    busybox("rmi", "app:1")
    assert "app:1" in busybox.text("load", "-i", tmp_path / "app.tar")
    assert metadata["containerimage.config.digest"] == busybox.text("inspect", "--format", "{{.Id}}", "app:1")
    assert json.loads(busybox.text("provenance", "app:1")) == provenance
    whole(busybox, "app:1")
    if shutil.which("skopeo"):
        copy = ["skopeo", "--insecure-policy", "copy", f"oci-archive:{tmp_path}/app.tar", f"oci:{tmp_path}/copy:1"]
        subprocess.run(copy, check=True, capture_output=True)
        index = json.loads((tmp_path / "copy/index.json").read_text())
        assert index["manifests"][0]["digest"] == image["digest"]


def test_attestations_stay_until_a_build_says_otherwise(busybox: Lamina, tmp_path: Path) -> None:
    directory = tmp_path / "p"
    directory.mkdir()
    (directory / "Dockerfile").write_text("FROM busybox\nLABEL a=b\n")
    assert b"has no provenance" in busybox("provenance", "busybox", code=1).stderr
    done = busybox("build", "-t", "app", "--provenance=mode=min", directory)
    assert b"generating provenance" in done.stderr
    predicate = json.loads(busybox.text("provenance", "app"))
    assert predicate["runDetails"]["metadata"]["buildkit_completeness"]["request"] is False
    busybox("build", "-q", "-t", "app", directory, environment={"BUILDX_NO_DEFAULT_ATTESTATIONS": "1"})
    assert json.loads(busybox.text("provenance", "app")) == predicate
    # another build of the same image, another invocation
    busybox("build", "-q", "-t", "app", "--attest", "type=provenance,mode=min", directory)
    later = json.loads(busybox.text("provenance", "app"))
    assert later["runDetails"]["metadata"]["invocationId"] != predicate["runDetails"]["metadata"]["invocationId"]
    assert later["buildDefinition"] == predicate["buildDefinition"]
    busybox("build", "-q", "-t", "app", "--provenance=false", directory)
    busybox("provenance", "app", code=1)
    refused = busybox("build", "--sbom=generator=docker/scanner", directory, code=None)
    assert refused.returncode and b"generator docker/scanner is not run" in refused.stderr
    # what docker loads is a plain image
    busybox("build", "-q", "-t", "app", "--sbom", "-o", "type=docker,dest=app.tar", directory, cwd=tmp_path)
    (top,) = json.loads(layout(tmp_path / "app.tar")["index.json"])["manifests"]
    assert "index" not in top["mediaType"]
    whole(busybox, "app")


def test_a_saved_image_has_what_is_attested_for_who_reads_it(busybox: Lamina, tmp_path: Path) -> None:
    directory = tmp_path / "p"
    directory.mkdir()
    (directory / "Dockerfile").write_text("FROM busybox\nCOPY Dockerfile /\n")
    busybox("build", "-q", "-t", "app:1", "--sbom", "--provenance=mode=min", directory)
    identity = busybox.text("inspect", "--format", "{{.Id}}", "app:1")
    archive = tmp_path / "saved.tar"
    busybox("save", "-o", archive, "app:1")
    _, found = statements(layout(archive))
    assert set(found) == {SLSA, SPDX}
    assert found[SLSA]["subject"][0]["name"] == "pkg:docker/app@1?platform=linux%2Famd64"
    second = replace(busybox, root=tmp_path / "second")
    assert second.text("load", "-i", archive) == "Loaded image: app:1"
    assert second.text("inspect", "--format", "{{.Id}}", "app:1") == identity
    assert json.loads(second.text("provenance", "app:1")) == json.loads(busybox.text("provenance", "app:1"))
    whole(second, "app:1")
    # what it saves of it is the same
    second("save", "-o", tmp_path / "again.tar", "app:1")
    assert layout(tmp_path / "again.tar") == layout(archive)
    if shutil.which("skopeo"):
        copy = ["skopeo", "--insecure-policy", "copy", "-q", f"docker-archive:{archive}", f"dir:{tmp_path}/copy"]
        subprocess.run(copy, check=True)
        manifest = json.loads((tmp_path / "copy/manifest.json").read_text())
        assert manifest["config"]["digest"] == identity
    if shutil.which("podman"):
        with podman() as command:
            subprocess.run([*command, "load", "-q", "-i", archive], check=True, capture_output=True)
            inspected = subprocess.run([*command, "image", "inspect", "app:1"], check=True, capture_output=True).stdout
            assert "sha256:" + json.loads(inspected)[0]["Id"] == identity
    with dockerd() as docker:
        subprocess.run([*docker, "load", "-q", "-i", archive], check=True, capture_output=True)
        inspected = subprocess.run([*docker, "image", "inspect", "app:1"], check=True, capture_output=True).stdout
        assert json.loads(inspected)[0]["Id"] == identity


def test_each_platform_has_its_own(busybox: Lamina, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nARG TARGETARCH\nCOPY Dockerfile /$TARGETARCH\n")
    command = ("build", "-q", "-t", "multi", "--platform", "linux/amd64,linux/arm64", "--provenance=mode=min", tmp_path)
    busybox(*command, "-o", "type=image", "-o", f"type=oci,dest={tmp_path / 'built.tar'}")
    busybox("save", "-o", tmp_path / "saved.tar", "multi")
    for name in ("built", "saved"):
        files = layout(tmp_path / f"{name}.tar")
        (top,) = json.loads(files["index.json"])["manifests"]
        members = json.loads(files[f"blobs/sha256/{top['digest'][7:]}"])["manifests"]
        platforms = [member["platform"]["architecture"] for member in members]
        assert platforms == ["amd64", "arm64", "unknown", "unknown"]
        about = [member["annotations"]["vnd.docker.reference.digest"] for member in members[2:]]
        assert about == [member["digest"] for member in members[:2]]
        assert all(f"blobs/sha256/{member['digest'][7:]}" in files for member in members)
    for each in ("linux/amd64", "linux/arm64"):
        (image,) = json.loads(busybox.text("image", "inspect", "--platform", each, "multi"))
        component = json.loads(busybox.text("sbom", "--platform", each, "multi"))["metadata"]["component"]
        assert component["version"] == image["Id"]
    whole(busybox, "multi")


def test_files_get_what_is_attested_beside_them(busybox: Lamina, tmp_path: Path) -> None:
    directory = tmp_path / "p"
    directory.mkdir()
    (directory / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /a/\nCOPY Dockerfile /\n")
    outputs = ("-o", "type=local,dest=out,attestation-prefix=my-", "-o", "type=tar,dest=out.tar")
    busybox("build", "-q", "--sbom", "--provenance", *outputs, directory, cwd=tmp_path)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("Dockerfile", "a", "my-provenance.json", "my-sbom.spdx.json")
    }
    digest = {"sha256": hashlib.sha256((directory / "Dockerfile").read_bytes()).hexdigest()}
    with tarfile.open(tmp_path / "out.tar") as archive:
        for name, kind in (("provenance.json", SLSA), ("sbom.spdx.json", SPDX)):
            statement = json.loads((tmp_path / f"out/my-{name}").read_text())
            assert statement["predicateType"] == kind
            assert statement["subject"] == [{"name": path, "digest": digest} for path in ("Dockerfile", "a/Dockerfile")]
            inside = archive.extractfile(name)
            assert inside is not None and json.load(inside) == statement
    own = "--provenance=mode=min,filename=made.json"
    busybox("build", "-q", own, "-o", "second", directory, cwd=tmp_path)
    assert (tmp_path / "second/made.json").is_file() and not (tmp_path / "second/sbom.spdx.json").exists()
    busybox("build", "-q", "--provenance=inline-only=true", "-o", "third", directory, cwd=tmp_path)
    assert not (tmp_path / "third/provenance.json").exists()


# --- through a registry ----------------------------------------------------------------------------------------------


@pytest.fixture
def attested(busybox: Lamina, tmp_path: Path) -> Iterator[str]:
    """An attested image that was pushed to docker-registry by its build."""
    with docker_registry(tmp_path / "registry") as host:
        directory = tmp_path / "small"
        directory.mkdir()
        (directory / "Dockerfile").write_text("FROM busybox\nCOPY Dockerfile /\n")
        name = f"{host}/team/app:1"
        busybox(
            *("build", "--push", "-t", name, "--sbom", "--provenance", "--metadata-file", "meta", directory),
            cwd=tmp_path,
        )
        yield name


def test_without_its_registry_packages_are_read(busybox: Lamina, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\n")
    second = replace(busybox, root=tmp_path / "second")
    with RegistryServer() as registry:
        name = f"{registry.host}/app:1"
        busybox("build", "-q", "-t", name, "--push", "--sbom", tmp_path)
        second("pull", "-q", name)
        registry.manifests = {key: value for key, value in registry.manifests.items() if key[1] == "1"}
        done = second("sbom", "--format", "spdx", name)
        assert b"cannot be read, so its packages are" in done.stderr
        assert json.loads(done.stdout)["spdxVersion"] == "SPDX-2.3"
        second("provenance", name, code=1)


def test_an_attested_image_goes_to_a_registry_and_back(busybox: Lamina, attested: str, tmp_path: Path) -> None:
    pushed = json.loads((tmp_path / "meta").read_text())["containerimage.digest"]
    image = busybox.text("inspect", "--format", "{{.Id}}", attested)
    assert f"@{pushed}" in busybox.text("inspect", "--format", "{{.RepoDigests}}", attested)
    second = replace(busybox, root=tmp_path / "second")
    second("pull", "-q", attested)
    assert second.text("inspect", "--format", "{{.Id}}", attested) == image
    whole(second, attested)
    for command in ("provenance", "sbom"):
        assert json.loads(second.text(command, attested)) == json.loads(busybox.text(command, attested))
    # what it pushes of it is what it pulled
    copy = attested.replace("app:1", "copy:1")
    second("tag", attested, copy)
    assert f"digest: {pushed} " in second.text("push", copy)
    # pushed once more it is the same
    assert f"digest: {pushed} " in busybox.text("push", attested)
    # as referrers, the image is itself
    alone = attested.replace("app:1", "alone:1")
    busybox("tag", attested, alone)
    busybox("push", "-q", "--referrers", alone)
    listed = busybox.text("referrers", "--format", "{{.Type}} {{.Annotations}}", alone).splitlines()
    kind = "application/vnd.in-toto+json in-toto.io/predicate-type="
    assert sorted(listed) == [kind + SLSA, kind + SPDX]
    assert busybox.text("referrers", attested).splitlines()[1:] == []
    assert busybox("fsck", "--full").returncode == 0


def test_the_index_of_an_attested_image_can_be_annotated(busybox: Lamina, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    notes = ("--annotation", "index:a=1", "--annotation", "manifest-descriptor:b=2", "--annotation", "manifest:c=3")
    refused = busybox("build", *notes, "-o", "type=oci,dest=x.tar", tmp_path, cwd=tmp_path, code=None)
    assert b"index annotations not supported for single platform export" in refused.stderr
    with RegistryServer() as registry:
        name = f"{registry.host}/app:1"
        outputs = ("-t", name, "--push", "-o", "type=oci,dest=app.tar", "-o", f"type=registry,name={name}")
        busybox("build", "-q", *notes, "--provenance=mode=min", *outputs, tmp_path, cwd=tmp_path)
        pushed = json.loads(registry.manifests["app", "1"][1])
        image = json.loads(registry.manifests["app", pushed["manifests"][0]["digest"]][1])
    files = layout(tmp_path / "app.tar")
    (top,) = json.loads(files["index.json"])["manifests"]
    written = json.loads(files[f"blobs/sha256/{top['digest'][7:]}"])
    for index in (pushed, written):
        assert index["annotations"] == {"a": "1"}
        assert index["manifests"][0]["annotations"] == {"b": "2"} and len(index["manifests"]) == 2
    assert image["annotations"] == {"c": "3"}


def test_other_tools_take_the_image_and_see_what_is_attested(busybox: Lamina, attested: str, tmp_path: Path) -> None:
    image = busybox.text("inspect", "--format", "{{.Id}}", attested)
    skopeo = [need("skopeo"), "--insecure-policy"]
    raw = subprocess.run(
        [*skopeo, "inspect", "--tls-verify=false", "--raw", f"docker://{attested}"], check=True, capture_output=True
    ).stdout
    first, second = json.loads(raw)["manifests"]
    assert second["annotations"]["vnd.docker.reference.digest"] == first["digest"]
    # all of it, byte for byte, through a layout
    copied = attested.replace("app:1", "copied:1")
    for source, target in ((f"docker://{attested}", f"oci:{tmp_path}/all:1"), (f"oci:{tmp_path}/all:1", copied)):
        place = target if target.startswith("oci:") else f"docker://{target}"
        tls = ["--src-tls-verify=false"] if source.startswith("docker") else ["--dest-tls-verify=false"]
        subprocess.run([*skopeo, "copy", "--all", *tls, source, place], check=True, capture_output=True)
    third = replace(busybox, root=tmp_path / "third")
    third("pull", "-q", copied)
    assert third.text("inspect", "--format", "{{.Id}}", copied) == image
    assert json.loads(third.text("provenance", copied)) == json.loads(busybox.text("provenance", attested))
    if shutil.which("podman"):
        with podman() as command:
            subprocess.run([*command, "pull", "-q", "--tls-verify=false", attested], check=True, capture_output=True)
            inspected = subprocess.run([*command, "image", "inspect", attested], check=True, capture_output=True).stdout
            assert "sha256:" + json.loads(inspected)[0]["Id"] == image
    with dockerd() as docker:
        subprocess.run([*docker, "pull", "-q", attested], check=True, capture_output=True)
        inspected = subprocess.run([*docker, "image", "inspect", attested], check=True, capture_output=True).stdout
        assert json.loads(inspected)[0]["Id"] == image
