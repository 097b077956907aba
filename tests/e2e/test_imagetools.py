"""imagetools create and inspect: from registry to registry, nothing becomes an image here."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from registryserver import INDEX, MANIFEST, RegistryServer, digest

Lamina = Any  # the fixture's type lives in conftest, which tests do not import

pytestmark = pytest.mark.root


@pytest.fixture
def other() -> Iterator[RegistryServer]:
    with RegistryServer() as server:
        yield server


@pytest.fixture
def images(registry: RegistryServer) -> str:
    for architecture in ("amd64", "arm64", "s390x"):
        registry.put_image("app", architecture, [b"common", architecture.encode()], architecture=architecture)
    return f"{registry.host}/app"


def nothing_kept(lamina: Lamina) -> None:
    lamina("fsck")
    assert lamina.text("images", "-aq") == ""


def test_an_index_of_images_with_all_that_they_need(
    lamina: Lamina, registry: RegistryServer, other: RegistryServer, images: str
) -> None:
    sources = (f"{images}:amd64", f"{images}:arm64")
    shown = lamina.text("imagetools", "create", "--dry-run", *sources)
    listed = json.loads(shown)["manifests"]
    assert [each["platform"]["architecture"] for each in listed] == ["amd64", "arm64"] and not other.manifests
    tags = ("-t", f"{images}:all", "-t", f"{registry.host}/near:all", "-t", f"{other.host}/far:all")
    told = lamina("buildx", "imagetools", "create", *tags, *sources).stderr.decode()
    assert f"copying {listed[0]['digest']} from {images}:amd64 to {other.host}/far:all" in told
    for server, name in ((registry, "app"), (registry, "near"), (other, "far")):
        assert server.manifests[name, "all"] == (INDEX, shown.encode())
        for each in listed:
            manifest = json.loads(server.manifests[name, each["digest"]][1])
            blobs = {one["digest"] for one in (manifest["config"], *manifest["layers"])}
            assert blobs <= server.repositories[name]
    assert len(registry.seen("^POST /v2/near/blobs/uploads/.mount=")) == 5 == len(other.seen("^PUT /v2/far/blobs/"))
    assert "Mounted from app" in told and not registry.seen("^PUT /v2/near/blobs/")
    nothing_kept(lamina)


def test_more_can_be_added_and_noted(lamina: Lamina, registry: RegistryServer, images: str) -> None:
    create = ("imagetools", "create", "-t", f"{images}:all")
    lamina(*create, f"{images}:amd64")
    arm64 = digest(registry.manifests["app", "arm64"][1])
    notes = ("--annotation", "index:a=b", "--annotation", "manifest-descriptor[linux/arm64]:c=d")
    lamina(*create, "--append", *notes, arm64)
    index = json.loads(registry.manifests["app", "all"][1])
    assert index["annotations"] == {"a": "b"}
    assert [each.get("annotations") for each in index["manifests"]] == [None, {"c": "d"}]
    assert lamina.text("imagetools", "inspect", f"{images}:all").splitlines() == [
        f"Name:      {images}:all",
        f"MediaType: {INDEX}",
        f"Digest:    {digest(registry.manifests['app', 'all'][1])}",
        " " * 11,
        "Manifests: ",
        f"  Name:        {images}:all@{index['manifests'][0]['digest']}",
        f"  MediaType:   {index['manifests'][0]['mediaType']}",
        "  Platform:    linux/amd64",
        " " * 15,
        f"  Name:        {images}:all@{arm64}",
        f"  MediaType:   {index['manifests'][1]['mediaType']}",
        "  Platform:    linux/arm64",
        "  Annotations: ",
        "    c: d",
    ]
    format = '{{.Manifest.Annotations.a}} {{(index .Image "linux/arm64").Architecture}} {{json .Provenance}}'
    assert lamina.text("imagetools", "inspect", "--format", format, f"{images}:all") == "b arm64 {}"
    whole = json.loads(lamina.text("imagetools", "inspect", "--format", "{{json .}}", f"{images}:all"))
    assert (list(whole), whole["name"]) == (["name", "manifest", "image"], f"{images}:all")


def test_a_single_source_is_copied(
    lamina: Lamina, registry: RegistryServer, other: RegistryServer, images: str
) -> None:
    platforms = {"linux/amd64": [b"one"], "linux/s390x": [b"two"]}
    data = registry.put_index("app", "index", platforms, attested=True)
    target = f"{other.host}/copy"
    lamina("imagetools", "create", "-t", f"{target}:index", f"{images}:index")
    assert other.manifests["copy", "index"] == (INDEX, data)
    assert {each["digest"] for each in json.loads(data)["manifests"]} <= {name for _, name in other.manifests}
    assert other.blobs.keys() <= registry.blobs.keys() and len(other.blobs) == 8
    lamina("imagetools", "create", "--prefer-index=false", "-t", f"{target}:one", f"{images}:amd64")
    assert other.manifests["copy", "one"] == registry.manifests["app", "amd64"]
    raw = lamina("imagetools", "inspect", "--raw", f"{target}:one").stdout
    assert raw == registry.manifests["app", "amd64"][1]
    nothing_kept(lamina)


def test_what_an_index_lists_comes_before_it(
    lamina: Lamina, registry: RegistryServer, other: RegistryServer, images: str
) -> None:
    """Also a manifest that both it and an index in it list; registries refuse what names what they have not got."""
    inner = registry.put_index("app", "inner", {"linux/amd64": [b"one"], "linux/s390x": [b"two"]})
    shared = json.loads(inner)["manifests"][0]
    entries = [shared, {"mediaType": INDEX, "digest": digest(inner), "size": len(inner)}]
    registry.put_manifest("app", "outer", {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}, INDEX)
    lamina("imagetools", "create", "-t", f"{other.host}/copy:outer", f"{images}:outer")
    put = [path.rpartition("/")[2] for _, path, _ in other.seen("^PUT /v2/copy/manifests/")]
    assert put.index(shared["digest"]) < put.index(digest(inner)) < put.index("outer")
    nothing_kept(lamina)


@pytest.mark.parametrize("config", [b"no JSON", b"\xff", b'{"a":' * 100_000])
def test_a_config_that_cannot_be_read_is_an_error(lamina: Lamina, registry: RegistryServer, config: bytes) -> None:
    manifest = registry.put_image("app", "1", [b"data"])
    manifest["config"] |= registry.put_blob("app", config)
    name = registry.put_manifest("app", "1", manifest)
    described = {"mediaType": manifest["mediaType"], "digest": name, "size": len(json.dumps(manifest))}
    entry = {**described, "platform": {"os": "linux", "architecture": "amd64"}}
    registry.put_manifest("app", "all", {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}, INDEX)
    done = lamina("imagetools", "inspect", "--format", "{{json .Image}}", f"{registry.host}/app:all", code=1)
    assert "invalid image config" in done.stderr.decode()


def test_what_is_attested_can_be_shown(lamina: Lamina, registry: RegistryServer, images: str) -> None:
    image = registry.manifests["app", "amd64"][1]
    kind, name = "https://slsa.dev/provenance/v1", digest(image)
    statement = {"predicateType": kind, "subject": [{"digest": {"sha256": name[7:]}}], "predicate": {"who": "me"}}
    document = registry.put_image("app", "attestation", [])
    document["layers"] = [
        {
            "mediaType": "application/vnd.in-toto+json",
            **registry.put_blob("app", json.dumps(statement).encode()),
            "annotations": {"in-toto.io/predicate-type": kind},
        }
    ]
    data = json.dumps(document).encode()
    registry.put_manifest("app", "attestation", data)
    notes = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": name}
    unknown = {"os": "unknown", "architecture": "unknown"}
    entries = [
        {"digest": name, "size": len(image), "platform": {"os": "linux", "architecture": "amd64"}},
        {"digest": digest(data), "size": len(data), "platform": unknown, "annotations": notes},
    ]
    manifests = [{"mediaType": document["mediaType"], **each} for each in entries]
    registry.put_manifest("app", "all", {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}, INDEX)
    shown = lamina.text("imagetools", "inspect", "--format", "{{json .Provenance}}", f"{images}:all")
    assert shown == '{\n  "SLSA": {\n    "who": "me"\n  }\n}'
    assert lamina.text("imagetools", "inspect", "--format", "{{.Image.OS}} {{json .SBOM}}", f"{images}:all") == (
        "linux null"
    )


@pytest.mark.parametrize(
    "config, shown",
    [
        (b"[" * 200_000, "invalid image config: is nested deeper than"),
        (b"{}", "{}"),  # such as signatures have
    ],
)
def test_a_config_may_be_anything(
    lamina: Lamina, registry: RegistryServer, images: str, config: bytes, shown: str
) -> None:
    kind = {"mediaType": "application/vnd.oci.image.config.v1+json"}
    manifest = {"schemaVersion": 2, "config": registry.put_blob("app", config) | kind, "layers": []}
    data = json.dumps(manifest).encode()
    entry = {"mediaType": MANIFEST, "digest": registry.put_manifest("app", "odd", data), "size": len(data)}
    platform = {"platform": {"os": "linux", "architecture": "amd64"}}
    for name, entries in (("named", [entry | platform]), ("nameless", [entry])):
        registry.put_manifest("app", name, {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}, INDEX)
    for tag in ("odd", "named", "nameless"):
        call = ("imagetools", "inspect", "--format", "{{json .Image}}", f"{images}:{tag}")
        done = lamina(*call, code=0 if shown == "{}" else 1)
        assert shown in (done.stdout + done.stderr).decode()


def test_members_of_what_a_digest_names_are_named_by_their_own(
    lamina: Lamina, registry: RegistryServer, images: str
) -> None:
    lamina("imagetools", "create", "-t", f"{images}:all", f"{images}:amd64")
    kind, data = registry.manifests["app", "all"]
    member = json.loads(data)["manifests"][0]["digest"]
    assert kind == INDEX
    lines = lamina.text("imagetools", "inspect", f"{images}@{digest(data)}").splitlines()
    assert [line.split()[1] for line in lines if "Name:" in line] == [f"{images}@{digest(data)}", f"{images}@{member}"]


@pytest.mark.parametrize(
    "words, text",
    [
        ("-t {0}:x", "no sources specified"),
        ("{0}:amd64", "can't push with no tags specified, please set --tag or --dry-run"),
        ("-t {0}:x sha256:0", 'failed to parse source "sha256:0"'),
        ("-t {0}:x {0}2:1 sha256:" + 64 * "0", "multiple repositories specified, cannot infer repository for"),
        ("-t {0}:x --annotation a=b {0}:amd64", '"manifest" annotations are not supported yet'),
        ("-t {0}:x {0}:none", "manifest unknown"),
        ("-t {0}:x --append {0}:amd64", "manifest unknown"),
    ],
)
def test_what_cannot_be_made(lamina: Lamina, registry: RegistryServer, images: str, words: str, text: str) -> None:
    done = lamina("imagetools", "create", *words.format(images).split(), code=1)
    assert text in done.stderr.decode() and ("app", "x") not in registry.manifests


def test_progress_that_there_is_not(lamina: Lamina) -> None:
    assert b"invalid progress mode some" in lamina("imagetools", "create", "--progress=some", code=125).stderr
