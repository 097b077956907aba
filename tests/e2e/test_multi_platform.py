"""Builds for several platforms: one graph, an image for each, and an index of them in the store and elsewhere."""

import fcntl
import json
import os
import struct
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from registryserver import RegistryServer, digest

from builder.oci.manifests import Index, Manifest
from builder.store import Store
from builder.store.validate import image as validate
from runtime import binfmt

pytestmark = pytest.mark.root

Lamina = Any  # the fixture's type lives in conftest, which tests do not import
ALL = ("linux/amd64", "linux/arm64", "linux/arm/v7")
CROSS = """\
FROM --platform=$BUILDPLATFORM busybox AS tools
RUN echo prepared > /prepared
FROM tools AS build
ARG TARGETARCH TARGETVARIANT
RUN mkdir -p /out/d && echo "for $TARGETARCH$TARGETVARIANT on $(uname -m)" > /out/d/file
FROM scratch
COPY common /
COPY --from=build /out /
ENV A=1
"""


def project(directory: Path, dockerfile: str = CROSS, **files: str) -> Path:
    """A build context."""
    directory.mkdir(exist_ok=True)
    for name, text in {"Dockerfile": dockerfile, "common": "same\n", **files}.items():
        (directory / name).write_text(text)
    return directory


def ran(lamina: Lamina, *arguments: str | Path, cwd: Path | None = None) -> list[str]:
    """Build; the steps that ran."""
    done = lamina("build", "--progress=rawjson", *arguments, cwd=cwd)
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith(b"{")]
    vertexes = {each["digest"]: each for line in lines for each in line.get("vertexes") or ()}
    started = [each for each in vertexes.values() if each.get("started") and not each.get("cached")]
    return [each["name"] for each in started if each["name"].startswith("[")]


def members(lamina: Lamina, name: str) -> dict[str, str]:
    """Platform → image id of the index in the store; every image is whole."""
    from builder.oci.references import Reference

    with Store.open(lamina.root) as store:
        digest = store.images._target(str(Reference.parse(name).tagged()))
        assert digest is not None
        found = {str(one.platform): str(one.image) for one in store.indexes.get(digest).members}
        for image in found.values():
            config = validate(store, image, full=True)  # type: ignore[arg-type]
            assert str(config.platform) in found
    return found


def test_shared_steps_run_once_and_each_image_is_that_of_its_platform_alone(busybox: Lamina, tmp_path: Path) -> None:
    directory = project(tmp_path / "p")
    names = ran(busybox, "--platform", ",".join(ALL), "-t", "multi", directory)
    makes = 'RUN mkdir -p /out/d && echo "for $TARGETARCH$TARGETVARIANT on $(uname -m)" > /out/d/file'
    assert sorted(names) == sorted(
        [
            "[linux/amd64 tools 2/2] RUN echo prepared > /prepared",
            *(f"[linux/amd64{arrow} build 1/1] {makes}" for arrow in ("", "->arm64", "->arm/v7")),
            "[linux/amd64 stage-2 1/2] COPY common /",
            *(f"[{platform} stage-2 2/2] COPY --from=build /out /" for platform in ALL),
        ]
    )
    found = members(busybox, "multi")
    assert tuple(found) == ALL and len(set(found.values())) == 3
    for platform in ALL:
        alone = busybox("build", "-q", "--platform", platform, directory).stdout.decode().strip()
        assert alone == found[platform]
    # again, in another order of saying it: nothing runs, the same index
    told = [
        busybox("build", "--progress=plain", *said, "-t", "multi", directory).stderr.decode()
        for said in (("--platform", ",".join(ALL)), ("--platform", ALL[0], "--platform", "arm64,linux/arm"))
    ]
    first, second = (text.split("exporting manifest list sha256:")[1].split()[0] for text in told)
    assert first == second and "naming to multi:latest done" in told[0]
    project(directory, common="other\n")
    names = ran(busybox, "--platform", ",".join(ALL), directory)
    assert sorted(name.partition("] ")[2] for name in names) == ["COPY --from=build /out /"] * 3 + ["COPY common /"]


def test_files_and_records_say_the_index(busybox: Lamina, tmp_path: Path) -> None:
    directory = project(tmp_path / "p")
    options = ("--iidfile", "iid", "--metadata-file", "meta.json", "-t", "a:1", "-t", "b:2")
    done = busybox("build", "-q", "--platform", "linux/arm64,linux/amd64", *options, directory, cwd=tmp_path)
    digest = done.stdout.decode().strip()
    assert (tmp_path / "iid").read_text() == digest
    document = json.loads((tmp_path / "meta.json").read_text())
    assert document["containerimage.digest"] == digest and "containerimage.config.digest" not in document
    described = document["containerimage.descriptor"]
    assert (described["digest"], described["mediaType"]) == (digest, "application/vnd.oci.image.index.v1+json")
    assert document["image.name"] == "a:1,b:2"
    assert tuple(members(busybox, "a:1")) == tuple(members(busybox, "b:2")) == ("linux/arm64", "linux/amd64")
    # what runs here is what the name means here
    architecture = busybox.text("inspect", "-f", "{{.Architecture}}", "a:1")
    assert architecture == "amd64"
    with Store.open(busybox.root) as store:
        (record,) = store.records.list()
        assert (record.image, record.facts["platforms"]) == (digest, "linux/arm64,linux/amd64")
        names = [step.name for step in store.records.steps(record.id)]
        assert len(names) == len(set(names)) and any(name.startswith("[linux/amd64->arm64 build") for name in names)


def test_an_oci_layout_has_the_index_and_files_have_a_directory_for_each(busybox: Lamina, tmp_path: Path) -> None:
    directory = project(tmp_path / "p")
    outputs = ("-o", "out", "-o", "type=tar,dest=x.tar", "-o", "type=oci,dest=y.tar,name=r.test/n:1", "--metadata-file")
    flags = ("--annotation", "index:i=1", "--annotation", "manifest[linux/arm64]:only=arm64")
    before = busybox.text("images", "-aq")
    platforms = ("--platform", ",".join(ALL))
    busybox("build", *platforms, *outputs, "m.json", *flags, directory, cwd=tmp_path)
    assert busybox.text("images", "-aq") == before
    for name, said in (("amd64", "amd64"), ("arm64", "arm64"), ("arm_v7", "armv7")):
        assert (tmp_path / "out" / f"linux_{name}" / "d" / "file").read_text().startswith(f"for {said} on ")
    with tarfile.open(tmp_path / "x.tar") as archive:
        assert [name for name in archive.getnames() if "/" not in name] == [
            "linux_amd64",
            "linux_arm64",
            "linux_arm_v7",
        ]
    with tarfile.open(tmp_path / "y.tar") as archive:
        files = {one.name: archive.extractfile(one).read() for one in archive if one.isfile()}  # type: ignore[union-attr]
    (top,) = Index.from_json(files["index.json"]).manifests
    assert top.annotations["org.opencontainers.image.ref.name"] == "1"
    assert json.loads((tmp_path / "m.json").read_text())["containerimage.digest"] == top.digest
    index = Index.from_json(files[f"blobs/sha256/{top.digest[7:]}"])
    assert [str(one.platform) for one in index.manifests] == list(ALL) and index.annotations == {"i": "1"}
    for one in index.manifests:
        manifest = Manifest.from_json(files[f"blobs/sha256/{one.digest[7:]}"])
        assert ("only" in manifest.annotations) == (str(one.platform) == "linux/arm64")
        config = json.loads(files[f"blobs/sha256/{manifest.config.digest[7:]}"])
        assert config["architecture"] == one.platform.architecture  # type: ignore[union-attr]
        assert all(f"blobs/sha256/{layer.digest[7:]}" in files for layer in manifest.layers)
    refused = busybox("build", *platforms, "-o", "type=docker,dest=z.tar", directory, cwd=tmp_path, code=1)
    assert "docker exporter does not currently support exporting manifest lists" in refused.stderr.decode()
    # one platform in a directory of its own, and several without, where nothing is in the way of anything
    busybox(
        "build", "--platform", "linux/arm64", "-o", "type=local,dest=one,platform-split=true", directory, cwd=tmp_path
    )
    assert os.listdir(tmp_path / "one") == ["linux_arm64"]
    clash = ("-o", "type=local,dest=none,platform-split=false")
    told = busybox("build", *platforms, *clash, directory, cwd=tmp_path, code=1).stderr.decode()
    assert "of another platform when split option is disabled" in told
    apart = project(
        tmp_path / "apart",
        "FROM --platform=$BUILDPLATFORM busybox AS b\nARG TARGETARCH\nRUN mkdir /o && touch /o/$TARGETARCH\n"
        "FROM scratch\nCOPY --from=b /o /\n",
    )
    busybox(
        "build",
        "--platform",
        "linux/amd64,linux/arm64",
        "-o",
        "type=local,dest=m,platform-split=false",
        apart,
        cwd=tmp_path,
    )
    assert sorted(os.listdir(tmp_path / "m")) == ["amd64", "arm64"]


def test_each_image_has_attestations_of_its_own_beside_it(busybox: Lamina, tmp_path: Path) -> None:
    directory = project(tmp_path / "p")
    command = ("build", "--platform", "linux/amd64,linux/arm64", "--provenance=mode=max", "--metadata-file", "m.json")
    busybox(*command, "-o", "type=oci,tar=false,dest=out", directory, cwd=tmp_path)

    def blob(digest: str) -> Any:
        return json.loads((tmp_path / "out/blobs/sha256" / digest[7:]).read_bytes())

    (top,) = json.loads((tmp_path / "out/index.json").read_bytes())["manifests"]
    first, second, *attached = blob(top["digest"])["manifests"]
    assert [one["annotations"]["vnd.docker.reference.digest"] for one in attached] == [
        first["digest"],
        second["digest"],
    ]
    names = []
    for image, one in zip((first, second), attached, strict=True):
        (layer,) = blob(one["digest"])["layers"]
        statement = blob(layer["digest"])
        assert statement["subject"][0]["digest"] == {"sha256": image["digest"][7:]}
        steps = json.dumps(statement["predicate"]["buildDefinition"]["internalParameters"]["buildConfig"])
        names.append([text in steps for text in ("for $TARGETARCH", "TARGETARCH=amd64", "TARGETARCH=arm64")])
    # the steps of the other platform are none of its own
    assert names == [[True, True, False], [True, False, True]]
    document = json.loads((tmp_path / "m.json").read_text())
    assert [key for key in document if "provenance" in key] == [
        "buildx.build.provenance/linux/amd64",
        "buildx.build.provenance/linux/arm64",
    ]


def test_a_base_is_the_image_for_the_platform_or_none(busybox: Lamina, tmp_path: Path) -> None:
    bases = project(tmp_path / "base", "FROM scratch\nARG TARGETARCH\nCOPY common /is-$TARGETARCH\n")
    busybox("build", "--platform", "linux/amd64,linux/arm64", "-t", "base", bases)
    stands = project(
        tmp_path / "p", "FROM base\nCOPY common /more\nFROM scratch\nCOPY --from=base / /\nCOPY --from=0 /more /\n"
    )
    busybox(
        "build",
        "--platform",
        "linux/arm64,linux/amd64",
        "-t",
        "on",
        "-o",
        "out",
        "-o",
        "type=image",
        stands,
        cwd=tmp_path,
    )
    for name in ("arm64", "amd64"):
        assert sorted(os.listdir(tmp_path / "out" / f"linux_{name}")) == [f"is-{name}", "more"]
    # again by what is remembered, and not when a name has moved
    command = ("--platform", "linux/arm64,linux/amd64", "-t", "on", stands)
    assert ran(busybox, *command) == []
    project(tmp_path / "base", common="new\n")
    busybox("build", "--platform", "linux/amd64,linux/arm64", "-t", "base", bases)
    assert ran(busybox, *command)
    lacking = busybox("build", "--platform", "linux/s390x", stands, code=1).stderr.decode()
    assert "base is here for linux/" in lacking and "not for linux/s390x" in lacking and "Dockerfile:1" in lacking
    only = busybox("build", "--platform", "linux/arm64", project(tmp_path / "q", "FROM busybox\nRUN true\n"), code=1)
    assert "busybox is here for linux/amd64, not for linux/arm64" in only.stderr.decode()


def test_a_name_of_one_image_is_taken_as_it_is_when_nobody_asks_for_a_platform(lamina: Lamina, tmp_path: Path) -> None:
    if os.uname().machine == "s390x" or binfmt.fitting("s390x", binfmt.handlers() or ()):
        pytest.skip("this machine runs programs for s390x")
    lamina(
        "build", "--platform", "linux/s390x", "-t", "far", project(tmp_path / "base", "FROM scratch\nCOPY common /\n")
    )
    directory = project(tmp_path / "p", "FROM far\nCOPY common /more\n")
    told = lamina("build", "-t", "on", directory).stderr.decode()
    assert 'InvalidBaseImagePlatform: Base image far was pulled with platform "linux/s390x"' in told
    assert lamina.text("image", "inspect", "-f", "{{.Os}}/{{.Architecture}}", "on") == "linux/s390x"
    identity = lamina.text("image", "inspect", "-f", "{{.Id}}", "far")
    for name in ("far", identity):
        project(directory, f'FROM {name}\nRUN ["/common"]\n')
        told = lamina("build", directory, code=1).stderr.decode()
        assert "cannot run programs for linux/s390x" in told and "Dockerfile:2" in told


def test_plan_check_and_verify_know_several_platforms(busybox: Lamina, tmp_path: Path) -> None:
    directory = project(tmp_path / "p")
    platforms = ("--platform", "linux/amd64,linux/arm64")

    def planned() -> dict[str, str]:
        rows = map(json.loads, busybox.text("plan", "--format=json", *platforms, directory).splitlines())
        return {row["Step"]: row["Cache"] for row in rows}

    before = planned()
    assert len(before) == 6 and sum("->arm64" in name for name in before) == 1 and "hit" not in before.values()
    busybox("build", *platforms, directory)
    after = planned()  # what only gave files that are there is not needed any more
    assert set(after) < set(before) and set(after.values()) == {"hit"}
    busybox("build", *platforms, "--check", directory)
    assert "reproducible: both builds gave sha256:" in busybox.text("verify", "-q", *platforms, directory)
    unsteady = CROSS.replace(
        "RUN mkdir", "RUN --network=none cat /proc/uptime > /u && mkdir -p /out && cp /u /out && mkdir"
    )
    text = busybox("verify", "-q", *platforms, project(tmp_path / "r", unsteady), code=1).stdout.decode()
    assert "linux/amd64 layer 2:" in text and "linux/arm64 layer 2:" in text


def test_bake_builds_the_platforms_of_a_target_and_of_those_it_stands_on(busybox: Lamina, tmp_path: Path) -> None:
    project(tmp_path, CROSS + "FROM base AS app\nARG TARGETARCH\nCOPY common /app-$TARGETARCH\n")
    (tmp_path / "docker-bake.hcl").write_text(
        'target "base" { platforms = ["linux/amd64", "linux/arm64"]\n target = "stage" }\n'
        'target "app" {\n platforms = ["linux/arm64", "linux/amd64"]\n target = "app"\n tags = ["app"]\n'
        ' contexts = { base = "target:base" }\n}\n'
    )
    text = (tmp_path / "Dockerfile").read_text()
    (tmp_path / "Dockerfile").write_text(text.replace("FROM scratch\n", "FROM scratch AS stage\n"))
    busybox("bake", "--metadata-file", "m.json", "--progress=plain", "app", cwd=tmp_path)
    assert tuple(members(busybox, "app")) == ("linux/arm64", "linux/amd64")
    busybox("bake", "--set", "app.output=type=local,dest=out", "app", cwd=tmp_path)
    for name in ("amd64", "arm64"):
        out = tmp_path / "out" / f"linux_{name}"
        assert sorted(os.listdir(out)) == [f"app-{name}", "common", "d"]
        assert (out / "d" / "file").read_text().startswith(f"for {name} on ")


def test_a_travelling_cache_has_all_platforms(machines: Callable[[], Lamina], tmp_path: Path) -> None:
    directory, cache = project(tmp_path / "p"), tmp_path / "cache"
    first, second = machines(), machines()
    command = ("--platform", ",".join(ALL), "-t", "multi")
    assert len(ran(first, *command, f"--cache-to=type=local,dest={cache}", directory)) == 8
    assert ran(second, *command, f"--cache-from=type=local,src={cache}", directory) == []
    layers = [
        [json.loads(machine.text("inspect", "-f", "{{json .RootFS.Layers}}", image)) for image in images.values()]
        for machine, images in ((machine, members(machine, "multi")) for machine in (first, second))
    ]
    assert layers[0] == layers[1] and len(layers[0]) == len(ALL)


def test_a_registry_gets_the_index_and_another_machine_has_it_from_there(
    machines: Callable[[], Lamina], tmp_path: Path
) -> None:
    directory, builder = project(tmp_path / "p"), machines()
    notes = ("index:i=1", "manifest:all=1", "manifest[linux/arm64]:only=1", "manifest-descriptor[linux/arm/v7]:d=1")
    with RegistryServer() as registry:
        name = f"{registry.host}/multi:1"
        command = ("build", "--push", "--platform", ",".join(ALL), "-t", name, "--metadata-file", "m.json")
        builder(*command, *(word for note in notes for word in ("--annotation", note)), directory, cwd=tmp_path)
        document = registry.manifests["multi", "1"][1]
        assert json.loads((tmp_path / "m.json").read_text())["containerimage.digest"] == digest(document)
        index = Index.from_json(document)
        assert index.annotations == {"i": "1"}
        assert [(str(one.platform), one.annotations) for one in index.manifests] == [
            *((platform, {}) for platform in ALL[:2]),
            (ALL[2], {"d": "1"}),
        ]
        manifests = [Manifest.from_json(registry.manifests["multi", one.digest][1]) for one in index.manifests]
        assert [sorted(one.annotations) for one in manifests] == [["all"], ["all", "only"], ["all"]]
        assert [one.config.digest for one in manifests] == list(members(builder, name).values())
        other = machines()
        other("pull", "-q", "--platform", "linux/arm64", name)
        stands = project(tmp_path / "q", f"FROM {name}\nCOPY common /more\n")
        # what is not here yet is fetched
        other("build", "--platform", ",".join(ALL), "-t", "on", "-o", "out", "-o", "type=image", stands, cwd=tmp_path)
        assert tuple(members(other, "on")) == ALL
        for each in ("amd64", "arm64", "arm_v7"):
            said = (tmp_path / "out" / f"linux_{each}" / "d" / "file").read_text()
            assert said.startswith(f"for {each.replace('_', '')} on ")


def test_the_caches_in_the_images_of_an_index_are_all_taken(machines: Callable[[], Lamina], tmp_path: Path) -> None:
    """Inline, each image says only what gave its own layers."""
    text = "FROM scratch\nARG TARGETARCH\nCOPY common /$TARGETARCH\nCOPY Dockerfile /$TARGETARCH.more\n"
    directory = project(tmp_path / "p", text)
    with RegistryServer() as registry:
        name = f"{registry.host}/multi:1"
        command = ("--platform", "linux/amd64,linux/arm64")
        machines()("build", "-q", *command, "--push", "-t", name, "--cache-to=type=inline", directory)
        other = machines()
        assert ran(other, *command, f"--cache-from={name}", directory) == []
        one = machines()
        assert ran(one, "--platform", "linux/arm64", f"--cache-from={name}", directory) == []


# programs for other machines


def program(architecture: str) -> bytes:
    """A program that makes the directory /made and ends well."""
    if architecture == "386":
        head, base = 52 + 32, 0x8048000
        path = base + head + 31
        code = b"\xb8\x27\0\0\0\xbb" + struct.pack("<I", path) + b"\xb9\xed\x01\0\0\xcd\x80"
        code = (code + b"\xb8\x01\0\0\0\x31\xdb\xcd\x80").ljust(31, b"\x90") + b"/made\0"
        size = head + len(code)
        elf = struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, base + head, 52, 0, 0, 52, 32, 1, 0, 0, 0)
        segment = struct.pack("<8I", 1, 0, base, base, size, size, 5, 0x1000)
        return binfmt.elf_head("386")[:16] + elf + segment + code
    words = (0x92800C60, 0x10000101, 0xD2803DA2, 0xD2800448, 0xD4000001, 0xD2800000, 0xD2800BA8, 0xD4000001, 0xD503201F)
    head, base = 64 + 56, 0x400000
    code = struct.pack("<9I", *words) + b"/made\0"
    size = head + len(code)
    elf = struct.pack("<HHIQQQIHHHHHH", 2, 183, 1, base + head, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000)
    return binfmt.elf_head("arm64")[:16] + elf + segment + code


def runs(directory: Path, architecture: str) -> Path:
    """A context whose only program is for that architecture."""
    project(directory, 'FROM scratch\nCOPY --chmod=755 program /\nRUN ["/program"]\n')
    (directory / "program").write_bytes(program(architecture))
    return directory


def test_a_step_for_another_machine_is_refused_with_what_to_do(busybox: Lamina, tmp_path: Path) -> None:
    if binfmt.fitting("s390x", binfmt.handlers() or ()):
        pytest.skip("this machine runs programs for s390x")
    text = 'FROM --platform=$BUILDPLATFORM busybox AS b\nRUN touch /x\nFROM scratch\nCOPY --from=b /x /\nRUN ["/x"]\n'
    done = busybox("build", "--progress=plain", "--platform", "linux/s390x", project(tmp_path / "p", text), code=1)
    told = done.stderr.decode()
    machine = os.uname().machine
    assert f"this machine ({machine}) cannot run programs for linux/s390x: its kernel has no emulator" in told
    assert "Dockerfile:5" in told and 'RUN ["/x"]' in told and "qemu-user-static" in told and "BUILDPLATFORM" in told
    rows = map(
        json.loads, busybox.text("plan", "--format=json", "--platform", "linux/s390x", tmp_path / "p").splitlines()
    )
    assert ["cannot run programs for linux/s390x" in row["Why"] for row in rows] == [False, False, True]
    # decided first: what would run here has not
    assert "RUN touch" not in told
    busybox("fsck")


def test_what_the_kernel_takes_for_no_program_is_said_in_plain_words(lamina: Lamina, tmp_path: Path) -> None:
    text = 'FROM scratch\nCOPY --chmod=755 common /\nCMD ["/common"]\n'
    lamina("build", "-t", "text", project(tmp_path / "p", text))
    words = f"it is no program for this machine ({os.uname().machine}), and no script that begins with #!"
    for command in (("run", "--rm", "--network", "none", "text"), ("build", tmp_path / "q")):
        project(tmp_path / "q", f'{text}RUN ["/common"]\n')
        told = lamina(*command, code=126 if command[0] == "run" else 1).stderr.decode()
        assert "exec /common: exec format error" in told and words in told and "qemu-user-static" in told


def test_32_bit_programs_of_the_machines_kin_run_by_themselves(lamina: Lamina, tmp_path: Path) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("this machine is no x86_64")
    probe = tmp_path / "probe"
    probe.write_bytes(program("386").replace(b"\xcd\x80", b"\x90\x90", 1))  # it only ends
    probe.chmod(0o755)
    try:
        subprocess.run([probe], check=True)
    except OSError as err:
        pytest.skip(f"this kernel runs no 32-bit programs: {err}")
    lamina(
        "build",
        "--platform",
        "linux/386,linux/amd64",
        "-t",
        "kin",
        "-o",
        "out",
        "-o",
        "type=image",
        runs(tmp_path / "p", "386"),
        cwd=tmp_path,
    )
    assert tuple(members(lamina, "kin")) == ("linux/386", "linux/amd64")
    assert os.path.isdir(tmp_path / "out" / "linux_386" / "made")


GUARD = """\
import os, sys
directory, name = sys.argv[1:]
sys.stdin.read()  # until the test ends, however it does
with open(f"{directory}/{name}", "w") as file:
    file.write("-1")
"""


@pytest.fixture(scope="module")
def qemu(run_directory: Path) -> Path:
    """Debian's emulator of arm64 as a static program."""
    for place in ("/usr/bin/qemu-aarch64-static", "/usr/libexec/qemu-binfmt/aarch64-binfmt-P"):
        if os.path.exists(place):
            return Path(place)
    target = run_directory / "qemu"
    with locked(run_directory / "qemu.lock"):
        if not target.exists():
            target.mkdir()
            fetched = subprocess.run(
                [
                    "apt-get",
                    "-o",
                    "Acquire::http::Timeout=20",
                    "-o",
                    "Acquire::Retries=0",
                    "download",
                    "qemu-user-static",
                ],
                cwd=target,
                capture_output=True,
            )
            if fetched.returncode == 0:
                (package,) = target.glob("*.deb")
                subprocess.run(["dpkg-deb", "-x", package, target], check=True)
                package.unlink()
    program = target / "usr/bin/qemu-aarch64-static"
    if not program.exists():
        pytest.skip("Debian's package qemu-user-static cannot be had here")
    return program


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def registered(interpreter: Path, flags: str, directory: Path) -> Iterator[None]:
    """A handler of binfmt_misc for arm64; it goes even when this process is killed. Skips where it cannot be made."""
    name = f"lamina-test-{os.getpid()}-{flags or 'none'}"
    mount = subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", directory], capture_output=True, text=True)
    if mount.returncode:
        pytest.skip(f"binfmt_misc cannot be mounted here: {mount.stderr.strip()}")
    try:
        magic = "".join(f"\\x{byte:02x}" for byte in binfmt.elf_head("arm64"))
        (directory / "register").write_text(f":{name}:M::{magic}::{interpreter}:{flags}")
        with subprocess.Popen([sys.executable, "-c", GUARD, directory, name], stdin=subprocess.PIPE) as guard:
            yield
            assert guard.stdin is not None
            guard.stdin.close()
        assert guard.returncode == 0 and not (directory / name).exists()
    finally:
        subprocess.run(["umount", directory], check=True)


@pytest.mark.parametrize("flags", ["F", ""], ids=["fixed", "found in the container"])
def test_an_emulator_runs_what_is_for_another_machine(lamina: Lamina, tmp_path: Path, qemu: Path, flags: str) -> None:
    machine = os.uname().machine
    if machine == "aarch64":
        pytest.skip("this machine is what the emulator emulates")
    (tmp_path / "binfmt").mkdir()
    directory = runs(tmp_path / "p", "arm64")
    command = ("--platform", "linux/arm64", "-t", "made", "-o", "out", "-o", "type=image")
    with registered(qemu, flags, tmp_path / "binfmt"):
        assert bool(flags) in [one.fixed for one in binfmt.fitting("arm64", binfmt.handlers() or ())]
        lamina("build", *command, directory, cwd=tmp_path)
    # the emulator is shown to the step, and is in no layer
    assert set(os.listdir(tmp_path / "out")) - {"dev", "proc", "sys", "etc"} == {"made", "program"}
    with Store.open(lamina.root) as store:
        validate(store, store.images.resolve("made"), full=True)
    # and what was made needs it no more
    assert ran(lamina, *command, directory, cwd=tmp_path) == []
    lamina("fsck", "--full")
