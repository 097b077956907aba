"""What becomes of a build's result: -o, --squash, --max-layers, files about it, and the same digest everywhere."""

import base64
import io
import json
import os
import shlex
import stat
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from registryserver import RegistryServer

pytestmark = pytest.mark.root

Lamina = Any  # the fixture's type lives in conftest, which tests do not import

STAGES = """\
FROM busybox AS made
RUN mkdir -p /out/d && echo text > /out/d/f && ln -s f /out/d/l && chown 7:8 /out/d/f && chmod 4751 /out/d/f
FROM scratch
COPY --from=made /out /
"""


def project(directory: Path, dockerfile: str, **files: str) -> Path:
    """A build context."""
    directory.mkdir(exist_ok=True)
    (directory / "Dockerfile").write_text(dockerfile)
    for name, text in files.items():
        (directory / name).write_text(text)
    return directory


def names(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return archive.getnames()


def layers(lamina: Lamina, image: str) -> list[str]:
    found: list[str] = json.loads(lamina.text("inspect", "-f", "{{json .RootFS.Layers}}", image))
    return found


def test_files_go_to_a_directory_a_tar_and_stdout_at_once(busybox: Lamina, tmp_path: Path) -> None:
    directory = project(tmp_path / "p", STAGES)
    before = busybox.text("images", "-aq")
    outputs = ("-o", "out", "-o", "type=tar,dest=x.tar", "-o", "-", "--metadata-file", "m.json")
    done = busybox("build", "-t", "not:tagged", *outputs, "p", cwd=tmp_path)
    assert "image.name" not in json.loads((tmp_path / "m.json").read_text())
    assert names(done.stdout) == names((tmp_path / "x.tar").read_bytes()) == ["d", "d/f", "d/l"]
    status = os.stat(tmp_path / "out" / "d" / "f")
    assert (tmp_path / "out" / "d" / "f").read_text() == "text\n" and stat.S_IMODE(status.st_mode) == 0o4751
    assert "exporting to client directory" in done.stderr.decode() and "writing image" not in done.stderr.decode()
    # none of them is an image, and a cached build writes the same
    assert busybox.text("images", "-aq") == before
    again = busybox("build", "-q", "-o", "-", directory)
    assert again.stdout == done.stdout
    busybox("build", "-q", "-o", "type=cacheonly", directory)
    assert busybox.text("images", "-aq") == before
    busybox("fsck")


def test_an_image_that_has_a_name_already_stays(busybox: Lamina, tmp_path: Path) -> None:
    directory = project(tmp_path / "p", STAGES)
    identity = busybox.text("build", "-q", "-t", "named", directory)
    busybox("build", "-q", "-o", "type=cacheonly", directory)
    assert busybox.text("images", "-q", "--no-trunc", "named") == identity
    image = ("-o", 'type=image,"name=a:1,b:2"', "-o", "type=local,dest=out")
    busybox("build", "-q", *image, directory, cwd=tmp_path)
    tags = busybox.text("images", "--format", "{{.Repository}}:{{.Tag}}").splitlines()
    assert {"a:1", "b:2", "named:latest"} < set(tags)
    busybox("build", "-q", "-t", "c:3", "-o", "type=image,name=d:4", directory)
    tags = busybox.text("images", "--format", "{{.Repository}}:{{.Tag}}").splitlines()
    assert "c:3" in tags and "d:4" not in tags  # as buildx has it, -t counts


def test_archives_load_again_and_metadata_names_what_was_written(busybox: Lamina, tmp_path: Path) -> None:
    directory = project(tmp_path / "p", STAGES)
    outputs = {
        "oci": ("type=oci,dest=oci.tar,compression=zstd,annotation.made=here", "archive.test/app:1"),
        "docker": ("type=docker,dest=docker.tar", "archive.test/app:1"),
        "named": ("type=docker,dest=named.tar,name=archive.test/other,compression=uncompressed", "archive.test/other"),
    }
    for name, (output, expected) in outputs.items():
        tag = ("-t", expected) if "name=" not in output else ()
        options = ("--metadata-file", f"{name}.json", "--iidfile", "iid", *tag, "-o", output)
        busybox("build", *options, directory, cwd=tmp_path)
        identity = (tmp_path / "iid").read_text()
        metadata = json.loads((tmp_path / f"{name}.json").read_text())
        described = metadata["containerimage.descriptor"]
        assert metadata["containerimage.config.digest"] == identity
        assert described["digest"] == metadata["containerimage.digest"] != identity
        assert metadata["image.name"] == (expected if ":" in expected else f"{expected}:latest")
        assert metadata["buildx.build.ref"].startswith("default/default/")
        with tarfile.open(tmp_path / f"{name}.tar") as archive:
            manifest = json.load(archive.extractfile(f"blobs/sha256/{described['digest'][7:]}"))  # type: ignore[arg-type]
        assert manifest.get("annotations") == ({"made": "here"} if name == "oci" else None)
        assert manifest["mediaType"] == described["mediaType"]
        assert ("docker" in described["mediaType"]) == (name != "oci")
        assert identity not in busybox.text("images", "-q", "--no-trunc")
        assert expected in busybox.text("load", "-i", tmp_path / f"{name}.tar")
        assert busybox.text("images", "-q", "--no-trunc", expected) == identity
        busybox("rmi", expected)
    busybox("fsck", "--full")


def test_metadata_has_warnings_when_asked(busybox_store: Lamina, tmp_path: Path) -> None:
    directory = project(tmp_path / "p", "FROM busybox\nMAINTAINER me\n")
    for value, expected in (("", False), ("1", True)):
        options = ("--metadata-file", tmp_path / "m.json")
        busybox_store("build", *options, directory, environment={"BUILDX_METADATA_WARNINGS": value})
        metadata = json.loads((tmp_path / "m.json").read_text())
        assert ("buildx.build.warnings" in metadata) == expected
    (warning,) = metadata["buildx.build.warnings"]
    assert b"MaintainerDeprecated" in base64.b64decode(warning["short"])
    assert warning["range"][0]["start"]["line"] == 2


def test_a_layout_in_a_directory_keeps_its_other_images(busybox: Lamina, tmp_path: Path) -> None:
    for version in ("1", "2", "2"):
        directory = project(tmp_path / "p", f"FROM scratch\nCOPY f /\nLABEL v={version}\n", f=version)
        busybox("build", "-q", "-t", f"lay:{version}", "-o", "type=oci,tar=false,dest=lay", directory, cwd=tmp_path)
    index = json.loads((tmp_path / "lay" / "index.json").read_text())
    refs = [one["annotations"]["org.opencontainers.image.ref.name"] for one in index["manifests"]]
    assert sorted(refs) == ["1", "2"]
    assert sorted(os.listdir(tmp_path / "lay")) == ["blobs", "index.json", "oci-layout"]


def test_squashing_leaves_one_layer_over_the_base(busybox: Lamina, tmp_path: Path) -> None:
    directory = project(
        tmp_path / "p",
        "FROM busybox\nRUN echo secret > /gone; echo kept > /kept\nRUN rm -r /gone /root && mkdir /root\n"
        'CMD ["sh", "-c", "cat /kept; ls -A /root; ls /gone"]\n',
    )
    whole = busybox.text("build", "-q", "-t", "whole", directory)
    busybox("build", "-q", "--squash", "-t", "one", directory)
    assert layers(busybox, "one")[:-1] == layers(busybox, "busybox") and len(layers(busybox, "whole")) == 3
    plain, squashed = (busybox("run", "--rm", "--network", "none", name, code=1) for name in ("whole", "one"))
    assert (squashed.stdout, squashed.stderr) == (plain.stdout, plain.stderr) and b"kept" in plain.stdout
    history = json.loads(busybox("history", "--no-trunc", "--format", "json", "one").stdout.splitlines()[0])
    assert history["Comment"].startswith(f"merge {whole} to sha256:") and "secret" not in "".join(
        names(busybox("save", "one").stdout)
    )
    assert busybox.text("build", "-q", "--squash", directory) == busybox.text("images", "-q", "--no-trunc", "one")
    busybox("fsck", "--full")


def test_a_deep_image_is_saved_and_built_in_fewer_layers(busybox: Lamina, tmp_path: Path) -> None:
    lines = "".join(f"WORKDIR /w{number}\n" for number in range(140))
    directory = project(tmp_path / "p", f'FROM busybox\n{lines}CMD ["sh", "-c", "ls -d /w* | wc -l"]\n')
    busybox("build", "-q", "-t", "deep", directory)
    assert len(layers(busybox, "deep")) == 141
    done = busybox("save", "-o", tmp_path / "deep.tar", "deep")
    assert "deep:latest: 141 layers merged to 125" in done.stderr.decode()
    assert busybox("save", "--max-layers", "0", "-o", tmp_path / "all.tar", "deep").stderr == b""
    busybox("load", "-i", tmp_path / "all.tar")
    assert len(layers(busybox, "deep")) == 141
    busybox("load", "-i", tmp_path / "deep.tar")
    busybox("build", "-q", "--max-layers", "4", "-t", "four", directory)
    assert len(layers(busybox, "deep")) == 125 and len(layers(busybox, "four")) == 4
    assert layers(busybox, "four")[0] == layers(busybox, "busybox")[0]
    for name in ("deep", "four"):
        assert busybox.text("run", "--rm", "--network", "none", name) == "140"
        assert len(busybox.text("history", "-q", name).splitlines()) == 142
    busybox("fsck", "--full")


@pytest.mark.parametrize("more", [(), ("--sbom=true",), ("--platform", "linux/amd64,linux/arm64")])
def test_an_image_may_be_pushed_without_any_tag(busybox: Lamina, tmp_path: Path, more: tuple[str, ...]) -> None:
    """As the runners of a matrix do, each for its platform, before somebody makes an index of what they pushed."""
    project(tmp_path, "FROM scratch\nCOPY Dockerfile /\n")
    with RegistryServer() as registry:
        output = f"type=image,name={registry.host}/app,push-by-digest=true,name-canonical=true,push=true"
        busybox("build", "-q", *more, "-o", output, "--metadata-file", "m.json", ".", cwd=tmp_path)
        said = json.loads((tmp_path / "m.json").read_text())
        digest = said["containerimage.digest"]
        assert said["image.name"] == f"{registry.host}/app"
        assert ("app", digest) in registry.manifests and all(
            name.startswith("sha256:") for _, name in registry.manifests
        )
        (row,) = busybox.text(
            "images", "--digests", "--format", "{{.Tag}} {{.Digest}}", f"{registry.host}/app"
        ).splitlines()
        assert row == f"<none> {digest}"
        busybox("pull", "-q", f"{registry.host}/app@{digest}")
    busybox("fsck", "--full")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("-o", "type=nothing"), "could not be found"),
        (("-o", "type=tar,dest=d"), "destination file d is a directory"),
        (("-o", "Dockerfile"), "destination directory Dockerfile is a file"),
        (("-o", "-", "-o", "type=oci"), "multiple outputs"),
        (("--push",), "tag is needed when pushing"),
        (("-o", "type=registry"), "tag is needed when pushing"),
        (("-o", "type=registry,name=a.test/b:1,push-by-digest=true"), "can't push tagged ref a.test/b:1 by digest"),
        (("--annotation", "a=b"), "annotations belong to a manifest"),
        (("--platform", "linux/amd64,linux/"), '"" is an invalid component of "linux/"'),
        (("--platform", "linux/amd64", "--annotation", "index:a=b", "-o", "type=oci,dest=x"), "single platform export"),
        (("--isolation", "hyperv"), "isolation"),
        (("--allow", "everything"), "unknown entitlement"),
        (("--policy", "filename=x.rego"), "polic"),
        (("--resource", "disk=1g"), "unknown resource disk"),
        (("--ssh", "default=Dockerfile"), "no agent's socket"),
        (("--build-arg", "SOURCE_DATE_EPOCH=yesterday"), "invalid SOURCE_DATE_EPOCH: yesterday"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_cannot_be_done_is_said_before_any_step(
    busybox_store: Lamina, tmp_path: Path, options: tuple[str, ...], text: str
) -> None:
    project(tmp_path, "FROM busybox\nRUN false\n")
    (tmp_path / "d").mkdir()
    done = busybox_store("build", *options, ".", cwd=tmp_path, code=None)
    told = done.stderr.decode()
    assert done.returncode and text in told and "RUN false" not in told and "internal error" not in told


def test_every_flag_of_buildx_and_docker_is_known(busybox_store: Lamina, tmp_path: Path) -> None:
    directory = project(tmp_path / "p", "FROM busybox\nLABEL a=b\n")
    flags = (
        "--add-host a:10.0.0.1 --allow network.host --attest type=sbom,disabled=true --build-arg A=1 --builder default "
        "--cache-from type=local,src=none --cache-to type=inline --cgroup-parent p --compress -D --force-rm "
        "--isolation default --label l=1 --load --no-cache-filter s --policy disabled=true --provenance=false "
        "--progress plain --quiet --resource memory=512m,cpu-shares=5 --rm --sbom=false --shm-size 64m "
        "--ulimit nofile=9:9 --network none"
    )
    busybox_store("build", *flags.split(), directory)
    told = busybox_store("build", "--help").stdout.decode()
    for name in ("--resource", "--policy", "--debug", "--metadata-file", "--no-cache-filter", "--call", "--squash"):
        assert name in told


def test_a_destination_that_cannot_be_written_is_an_error_and_the_steps_stay_cached(
    busybox: Lamina, tmp_path: Path
) -> None:
    directory = project(tmp_path / "p", STAGES)
    (tmp_path / "out" / "d" / "f").mkdir(parents=True)
    done = busybox("build", "-o", tmp_path / "out", directory, code=1)
    assert "out/d/f is a directory" in done.stderr.decode() and (tmp_path / "out" / "d" / "f").is_dir()
    done = busybox("build", "-o", "type=tar,dest=/proc/1/x.tar", directory, code=1)
    assert "ERROR: failed to build: failed to solve: failed to write /proc/1/x.tar: " in done.stderr.decode()
    assert b"CACHED" in busybox("build", "--progress", "plain", "-o", tmp_path / "fresh", directory).stderr
    busybox("fsck")


TIMES = """\
FROM busybox
ARG SOURCE_DATE_EPOCH
COPY f /f
RUN echo x > /made; mkdir /d; echo ${SOURCE_DATE_EPOCH:-none} > /d/epoch
RUN touch -d '2001-01-01 00:00:00' /old
"""


def test_the_same_source_gives_the_same_digest_at_another_time_place_and_store(
    busybox: Lamina, machines: Any, tmp_path: Path
) -> None:
    epoch = {"SOURCE_DATE_EPOCH": "1600000000"}
    first = busybox.text("build", "-q", "-t", "x", project(tmp_path / "p", TIMES, f="f"), environment=epoch)
    other = project(tmp_path / "elsewhere", TIMES, f="f")
    os.utime(other / "f", (1_700_000_000, 1_700_000_000))
    assert busybox.text("build", "-q", "--no-cache", other, environment=epoch) == first
    second = machines()
    options = ("--build-arg", "SOURCE_DATE_EPOCH=1600000000", "-o", "type=docker,rewrite-timestamp=true")
    assert second.text("build", "-q", *options, other) == first
    archives = [one("build", "-o", "type=oci", other, environment=epoch).stdout for one in (busybox, second)]
    assert archives[0] == archives[1]
    document = json.loads(busybox.text("inspect", "x"))[0]
    assert document["Created"] == "2020-09-13T12:26:40Z"
    busybox("build", "-q", "-o", tmp_path / "out", other, environment=epoch)
    assert os.stat(tmp_path / "out" / "made").st_mtime == 1_600_000_000
    assert os.stat(tmp_path / "out" / "old").st_mtime == 978_307_200
    assert (tmp_path / "out" / "d" / "epoch").read_text() == "1600000000\n"
    # without the files' times the config is fixed, but every run makes other layers
    kept = ("-o", "type=docker,rewrite-timestamp=false")
    assert busybox.text("build", "-q", *kept, other, environment=epoch) != first
    busybox("fsck", "--full")
    second("fsck", "--full")


def test_a_dockerfile_can_name_its_own_time(busybox: Lamina, tmp_path: Path) -> None:
    directory = project(tmp_path / "p", "ARG SOURCE_DATE_EPOCH=1600000000\n" + TIMES, f="f")
    built = busybox.text("build", "-q", "-t", "own", "--no-cache", directory)
    assert busybox.text("build", "-q", "--no-cache", directory) == built
    assert json.loads(busybox.text("inspect", "own"))[0]["Created"] == "2020-09-13T12:26:40Z"
    document = json.loads(busybox.text("verify", "-q", "--format", "json", directory))
    assert document["SourceDateEpoch"] == 1_600_000_000 and document["Images"] == [built, built]
    other = busybox.text("build", "-q", "--build-arg", "SOURCE_DATE_EPOCH=5", directory)
    assert json.loads(busybox.text("inspect", other))[0]["Created"] == "1970-01-01T00:00:05Z"
    for value, where in (("context", None), ("soon", "Dockerfile:1")):
        project(directory, f"ARG SOURCE_DATE_EPOCH={value}\n" + TIMES, f="f")
        done = busybox("build", directory, code=None)
        assert bool(done.returncode) == (where is not None)
        assert where is None or (where in done.stderr.decode() and "invalid SOURCE_DATE_EPOCH" in done.stderr.decode())


def test_verify_says_that_a_build_is_reproducible_and_leaves_nothing(busybox: Lamina, tmp_path: Path) -> None:
    directory = project(tmp_path / "p", TIMES, f="f")
    before = busybox.text("images", "-aq")
    done = busybox("verify", directory)
    text = done.stdout.decode().splitlines()
    assert text[0] == "SOURCE_DATE_EPOCH 315532800" and text[1].startswith("reproducible: both builds gave sha256:")
    assert "== second build" in done.stderr.decode() and busybox.text("images", "-aq") == before
    epoch = {"SOURCE_DATE_EPOCH": "1600000000"}
    built = busybox.text("build", "-q", "-t", "x", directory, environment=epoch)
    document = json.loads(busybox.text("verify", "-q", "--format", "json", directory, environment=epoch))
    assert document["Reproducible"] and document["Images"] == [built, built]
    assert busybox.text("images", "-q", "--no-trunc", "x") == built
    busybox("fsck", "--full")


def test_verify_takes_a_context_with_the_store_in_it(busybox: Lamina, tmp_path: Path) -> None:
    assert busybox.root.is_relative_to(tmp_path)
    (tmp_path / "Dockerfile").write_text("FROM busybox\nCOPY Dockerfile /\n")
    assert busybox.text("verify", "-q", tmp_path).splitlines()[-1].startswith("reproducible: ")


def test_verify_leaves_no_bridge_behind(busybox: Lamina, tmp_path: Path) -> None:
    directory = project(tmp_path / "p", "FROM busybox\nRUN echo 1 > /1\n")
    verify, prune = (
        shlex.join(busybox.command(*words)) for words in (("verify", directory), ("system", "prune", "-f"))
    )
    # In a network namespace of its own, where nobody else's bridges are; the last takes those of the usual store.
    script = f"{verify} && {prune} && cat /proc/self/net/dev"
    environment = busybox.variables(None)
    done = subprocess.run(["unshare", "--net", "sh", "-c", script], capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert b"reproducible: " in done.stdout and b" lo:" in done.stdout and b"lm-" not in done.stdout


def test_verify_names_what_differs_and_where_it_was_made(busybox: Lamina, tmp_path: Path) -> None:
    directory = project(
        tmp_path / "p",
        "FROM busybox\nCOPY f /f\nRUN cat /proc/sys/kernel/random/uuid > /uuid; chmod 755 /f\nRUN date +%s > /when\n",
        f="f",
    )
    done = busybox("verify", "--progress", "quiet", directory, code=1)
    text = done.stdout.decode()
    assert "not reproducible: sha256:" in text and "layer 3: Dockerfile:3 RUN cat" in text
    assert "  /uuid: content at byte 0: " in text and "/f:" not in text
    document = json.loads(busybox("verify", "-q", "--format", "json", directory, code=1).stdout)
    found = {(one["Layer"], one["Line"], one["Path"], one["Attribute"]) for one in document["Differences"]}
    assert {(3, 3, "/uuid", "sha256"), (4, 4, "/when", "sha256")} <= found
    assert all(one["First"] != one["Second"] for one in document["Differences"])
    # a build that fails is told as build tells it
    failing = project(tmp_path / "p", "FROM busybox\nRUN echo told; exit 3\n")
    done = busybox("verify", failing, code=1)
    assert "exit code: 3" in done.stderr.decode() and done.stdout == b""
    busybox("fsck", "--full")
