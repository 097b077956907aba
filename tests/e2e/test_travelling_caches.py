"""--cache-to and --cache-from: a second machine (another store) takes over what the first one ran."""

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from registryserver import RegistryServer, Request

pytestmark = pytest.mark.root

Lamina = Any
STEPS = 20
DOCKERFILE = "\n".join(
    [
        "FROM busybox AS tools",
        "RUN echo tool > /made",
        "FROM busybox",
        "COPY src /src",
        "COPY --from=tools /made /tool",
        *(f"RUN echo {number} > /f{number}" for number in range(STEPS - 3)),
        "ENV A=1",
    ]
)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    made = tmp_path / "context"
    (made / "src").mkdir(parents=True)
    (made / "src" / "file").write_text("content")
    (made / "Dockerfile").write_text(DOCKERFILE)
    return made


def build(machine: Lamina, context: Path, *flags: str) -> tuple[list[str], list[str], str]:
    """(diff_ids, names of the steps that ran, the warnings)."""
    done = machine("build", "--progress", "rawjson", "-t", "app", *flags, context)
    machine("fsck")
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith(b"{")]
    vertexes = {each["digest"]: each for line in lines for each in line.get("vertexes") or ()}
    ran = [
        each["name"]
        for each in vertexes.values()
        if each.get("started") and not each.get("cached") and each["name"].startswith("[")
    ]
    (image,) = json.loads(machine.text("inspect", "app"))
    warnings = [base64.b64decode(each["short"]).decode() for line in lines for each in line.get("warnings") or ()]
    return image["RootFS"]["Layers"], ran, "\n".join(warnings)


def test_a_directory_takes_a_cache_to_another_machine_that_runs_no_step(
    machines: Callable[[], Lamina], context: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    first, ran, _ = build(machines(), context, f"--cache-to=type=local,dest={cache},mode=max")
    assert len(ran) == STEPS
    second = machines()
    assert build(second, context, f"--cache-from=type=local,src={cache}")[:2] == (first, [])
    # The stage that only gave a file was not needed: its layer was not fetched.
    layers = [each["Size"] for each in map(json.loads, second.text("builder", "du", "--format", "json").splitlines())]
    assert len(layers) == STEPS - 1


@pytest.mark.parametrize("compression", ["zstd,compression-level=3,force-compression=true", "uncompressed"])
def test_a_cache_may_be_packed_in_another_way(
    machines: Callable[[], Lamina], context: Path, registry: RegistryServer, tmp_path: Path, compression: str
) -> None:
    cache, name, first = tmp_path / "cache", f"{registry.host}/app:cache", machines()
    layers, _, told = build(
        first,
        context,
        f"--cache-to=type=local,dest={cache},compression={compression}",
        f"--cache-to=type=registry,ref={name},compression={compression}",
    )
    assert told == ""
    (_, document) = registry.manifests["app", "cache"]
    types = {each["mediaType"].rpartition(".")[2] for each in json.loads(document)["layers"]}
    assert types == {"tar+zstd" if "zstd" in compression else "tar"}
    for source in (f"type=local,src={cache}", name):
        assert build(machines(), context, f"--cache-from={source}")[:2] == (layers, [])


def test_what_lies_on_linked_files_comes_for_what_is_below_them(
    machines: Callable[[], Lamina], context: Path, tmp_path: Path
) -> None:
    cache, text = tmp_path / "cache", "FROM busybox\nRUN echo {} > /n\nCOPY --link src /src\nRUN cat /n > /out\n"
    for number, expected in (("1", 3), ("1", 0), ("2", 2)):
        (context / "Dockerfile").write_text(text.format(number))
        flags = (f"--cache-to=type=local,dest={cache}",) if expected == 3 else (f"--cache-from=type=local,src={cache}",)
        machine = machines()
        assert len(build(machine, context, *flags)[1]) == expected
        assert machine.text("run", "--rm", "--network", "none", "app", "cat", "/out") == number


def test_a_changed_file_runs_only_what_stands_on_it(
    machines: Callable[[], Lamina], context: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    (context / "Dockerfile").write_text("FROM busybox\nRUN echo 1 > /1\nCOPY src /src\nRUN cat /src/file > /2\n")
    build(machines(), context, f"--cache-to=type=local,dest={cache}")
    (context / "src" / "file").write_text("changed")
    _, ran, _ = build(machines(), context, f"--cache-from=type=local,src={cache}")
    assert [name.split("] ")[1] for name in ran] == ["COPY src /src", "RUN cat /src/file > /2"]


def test_what_stands_on_the_same_content_is_taken_though_its_definition_changed(
    machines: Callable[[], Lamina], context: Path, tmp_path: Path
) -> None:
    cache, dockerfile = tmp_path / "cache", context / "Dockerfile"
    random = "cat /proc/sys/kernel/random/uuid"
    text = (
        f"FROM busybox AS a\nRUN echo same > /f\nRUN {random} > /1\n"
        f"FROM busybox\nCOPY --from=a /1 /\nRUN {random} > /2\n"
    )
    dockerfile.write_text(text)
    first, _, _ = build(machines(), context, f"--cache-to=type=local,dest={cache},mode=max")
    dockerfile.write_text(text.replace("RUN echo same", "RUN true; echo same"))
    second = machines()
    assert build(second, context, f"--cache-from=type=local,src={cache}")[:2] == (
        first,
        ["[a 2/3] RUN true; echo same > /f"],
    )
    # From then on it is known by its new definition.
    assert build(second, context)[:2] == (first, [])
    # What it stands on has other content, or the instruction has never been run: it is run.
    dockerfile.write_text(text.replace("echo same", "echo other").replace("/2", "/3"))
    assert len(build(machines(), context, f"--cache-from=type=local,src={cache}")[1]) == 4


def test_mode_min_has_the_steps_of_the_image_alone_and_a_directory_collects_itself(
    machines: Callable[[], Lamina], context: Path, tmp_path: Path
) -> None:
    cache, machine = tmp_path / "cache", machines()
    build(machine, context, f"--cache-to=type=local,dest={cache},mode=max")
    everything = len(list((cache / "blobs" / "sha256").iterdir()))
    build(machine, context, f"--cache-to=type=local,dest={cache}")
    assert len(list((cache / "blobs" / "sha256").iterdir())) == everything - 1
    (context / "Dockerfile").write_text("FROM busybox\nRUN echo only > /only\n")
    build(machine, context, f"--cache-to=type=local,dest={cache},tag=other")
    build(machine, context, f"--cache-to=type=local,dest={cache}")
    assert len(list((cache / "blobs" / "sha256").iterdir())) == 3


def test_a_registry_takes_a_cache_to_another_machine(
    machines: Callable[[], Lamina], context: Path, registry: RegistryServer
) -> None:
    name, one, other = f"{registry.host}/app:cache", machines(), machines()
    first, _, _ = build(one, context, f"--cache-to=type=registry,ref={name},mode=max")
    assert build(other, context, f"--cache-from={name}")[:2] == (first, [])
    assert b"hint: it is a build cache, which lamina build --cache-from takes" in other("pull", name, code=1).stderr
    # With the times at which the first machine made them: it is the very same image.
    assert other.text("inspect", "-f", "{{.Id}}", "app") == one.text("inspect", "-f", "{{.Id}}", "app")


def test_what_goes_to_a_cache_and_comes_from_it_is_seen(
    machines: Callable[[], Lamina], context: Path, registry: RegistryServer, tmp_path: Path
) -> None:
    name, flags = f"{registry.host}/app:cache", f"--cache-to=type=local,dest={tmp_path / 'cache'},mode=max"
    mine = ("--progress=plain", f"--cache-to=type=registry,ref={name},mode=max", flags)
    told = machines()("build", *mine, context).stderr.decode()
    for word in ("pushing", "writing"):
        assert len(re.findall(rf"^#\d+ {word} [0-9a-f]{{12}} .*B done$", told, re.M)) == STEPS, told
    for source, words in (
        (name, ("downloading", "extracting")),
        (f"type=local,src={tmp_path / 'cache'}", ("extracting",)),
    ):
        told = machines()("build", "--progress=plain", f"--cache-from={source}", context).stderr.decode()
        for word in words:
            assert len(re.findall(rf"^#\d+ {word} [0-9a-f]{{12}} .*B done$", told, re.M)) == STEPS - 1, told


def test_a_registry_that_does_not_answer_is_asked_once_for_a_cache(
    machines: Callable[[], Lamina], context: Path, registry: RegistryServer
) -> None:
    def leave(request: Request) -> bool:
        request.cut()
        return True

    registry.intercept = leave
    _, ran, told = build(machines(), context, f"--cache-from={registry.host}/app:cache")
    assert len(ran) == STEPS and f"cannot reach registry {registry.host}" in told
    assert len(registry.requests) == 1


@pytest.mark.parametrize("flag", ["--pull=false", "--build-arg=SOURCE_DATE_EPOCH=1000000000"])
def test_an_inline_cache_travels_with_its_image(
    machines: Callable[[], Lamina], context: Path, registry: RegistryServer, flag: str
) -> None:
    name = f"{registry.host}/app:1"
    machine = machines()
    first, _, _ = build(machine, context, "--cache-to=type=inline", flag)
    machine("tag", "app", name)
    machine("push", "-q", name)
    second, ran, _ = build(machines(), context, f"--cache-from={name}", flag)
    assert (second, [each.split("] ")[1] for each in ran]) == (first, [])


@pytest.mark.parametrize("flag", ["--squash", "--build-arg=SOURCE_DATE_EPOCH=1000000000"])
def test_what_is_made_of_the_layers_of_an_image_is_no_matter_of_its_cache(
    machines: Callable[[], Lamina], context: Path, tmp_path: Path, flag: str
) -> None:
    cache, first = tmp_path / "cache", machines()
    layers, _, told = build(first, context, f"--cache-to=type=local,dest={cache}", flag)
    assert told == ""
    assert build(machines(), context, f"--cache-from=type=local,src={cache}", flag)[:2] == (layers, [])
    # A squashed layer is no step's; one with other times is as good.
    assert ("the inline cache is empty" in build(first, context, "--cache-to=type=inline", flag)[2]) is (
        "squash" in flag
    )


def test_an_image_without_a_cache_makes_no_hit_whatever_its_history_says(
    machines: Callable[[], Lamina], context: Path, registry: RegistryServer
) -> None:
    name = f"{registry.host}/app:1"
    machine = machines()
    build(machine, context)
    machine("tag", "app", name)
    machine("push", "-q", name)
    _, ran, told = build(machines(), context, f"--cache-from={name}")
    assert len(ran) == STEPS and "has no build cache" in told


def test_what_cannot_be_read_or_written_is_a_warning(
    machines: Callable[[], Lamina], context: Path, tmp_path: Path
) -> None:
    cache, machine = tmp_path / "cache", machines()
    build(machine, context, f"--cache-to=type=local,dest={cache}")
    for blob in (cache / "blobs" / "sha256").iterdir():
        if blob.stat().st_size < 1000:
            blob.write_bytes(b"damaged")
    _, ran, told = build(machines(), context, f"--cache-from=type=local,src={cache}")
    assert ran and "cache of directory" in told
    (tmp_path / "file").write_text("")
    _, _, told = build(machine, context, f"--cache-to=type=local,dest={tmp_path / 'file'}")
    assert "exporting cache to" in told
    shown = machine("build", "--progress=plain", f"--cache-to=type=local,dest={tmp_path / 'file'}", context)
    assert b"ERROR: exporting cache to" in shown.stderr and b"1 warning found" in shown.stderr
    _, ran, told = build(machines(), context, "--cache-from=type=local,src=/nowhere")
    assert len(ran) == STEPS and "no build cache in /nowhere" in told


def test_a_cache_never_takes_the_place_of_an_image(
    machines: Callable[[], Lamina], context: Path, tmp_path: Path
) -> None:
    place, machine = tmp_path / "layout", machines()
    to = f"--cache-to=type=local,dest={place}"
    machine("build", "-q", "-t", "app", "-o", f"type=oci,tar=false,dest={place}", context)
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    assert f"{place} has an image called latest" in build(machine, context, to)[2]
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before
    layers, _, told = build(machine, context, f"{to},tag=cache")
    assert told == "" and all(path.is_file() for path in before)
    assert build(machines(), context, f"--cache-from=type=local,src={place},tag=cache")[:2] == (layers, [])


def test_an_export_that_must_not_fail_fails_the_build(
    machines: Callable[[], Lamina], context: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    flag = f"--cache-to=type=local,dest={tmp_path / 'file'},ignore-error=false"
    assert b"exporting cache to" in machines()("build", flag, context, code=1).stderr


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("--cache-to=type=local", "type=local needs dest="),
        ("--cache-to=type=gha", "type=gha is not supported"),
        ("--cache-to=type=local,dest=x,mode=all", "invalid mode 'all'"),
        ("--cache-to=type=local,dest=x,compression=estargz", "compression estargz is not supported"),
        ("--cache-from=type=local,src=x,color=red", "has no option 'color'"),
        ("--cache-from=dest=x", "type required"),
        ("--cache-to=type=azblob,name=x", "type=azblob is not supported"),
        ("--cache-to=type=local,dest=x,ignore-error=perhaps", "invalid ignore-error 'perhaps'"),
        ("--cache-from=type=registry,ref=x,registry.insecure=perhaps", "invalid registry.insecure 'perhaps'"),
        ("--cache-to=bucket=b,secret_access_key=hush", "secret_access_key=xxxxx"),
    ],
)
def test_flags_that_mean_nothing_are_refused(busybox_store: Lamina, context: Path, flag: str, text: str) -> None:
    assert text in busybox_store("build", flag, context, code=None).stderr.decode()
