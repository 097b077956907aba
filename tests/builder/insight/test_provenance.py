"""The SLSA predicate of builds that were planned here, without a store."""

import json
from base64 import b64decode
from typing import Any

from builder.insight import provenance
from builder.oci.configs import ContainerConfig, ImageConfig
from builder.oci.descriptors import OCI_LAYER, Descriptor
from builder.oci.digests import Digest
from builder.oci.platforms import Platform
from builder.pipeline.plan import make_plan
from builder.pipeline.remote import Fetched
from builder.pipeline.request import BuildRequest, Observed, Secret
from builder.pipeline.steps import Base
from builder.pipeline.trees import Tree
from builder.store.snapshots import LayerID
from parser import parse
from runtime.values import replace

HOST = Platform("linux", "amd64")
HEX = "0" * 64
MANIFEST = Digest("sha256:" + "1" * 64)
HOW = provenance.Invocation("build1", 1_700_000_000_000_000_000, 1_700_000_001_500_000_000, HOST)
KNOWN = provenance.Known(
    lambda base: MANIFEST if base.reference == "base:1" else None,
    lambda layer: Descriptor(OCI_LAYER, Digest(f"sha256:{HEX}"), 7),
)
TEXT = """\
ARG BASE=base:1
FROM $BASE AS made
ARG TOKEN=none
RUN --mount=type=secret,id=key,required=true --mount=type=ssh --mount=type=cache,target=/c,sharing=locked make $TOKEN
RUN --mount=type=bind,from=other,target=/o --network=none true
FROM local
WORKDIR /w
COPY --from=made --chown=1:2 --chmod=755 /a /b /to/
COPY <<END /file
text
END
ADD https://me:pw@files.test/x.tar?token=t0ken&v=1 ./d /x/
RUN --mount=type=bind,from=made,target=/m true
"""
TREE = Tree(-1, "context", keeps_owner=False)


def base(reference: str) -> Base:
    config = ImageConfig("amd64", "linux", config=ContainerConfig(env=("PATH=/bin",)))
    return Base(f"sha256:{reference.encode().hex():0<64.64}", reference, config, (), ())


def made(how: provenance.Invocation = HOW, text: str = TEXT, **more: Any) -> dict[str, Any]:
    """The predicate as a reader gets it."""
    request = BuildRequest(text.encode(), **{"context": TREE, "contexts": {"other": TREE}, **more})
    plan = make_plan(parse(text), request, lambda name, platform: base(name), host=HOST)
    layers = tuple(LayerID("l") if step.parent else None for step in plan.steps)
    fetched = (Fetched("https://files.test/x.tar?token=t0ken&v=1", f"sha256:{HEX}"),)
    document = provenance.predicate(request, Observed(plan, layers, fetched), how, KNOWN)
    read: dict[str, Any] = json.loads(json.dumps(document))
    return read


def test_what_was_built_from_what_by_whom_and_when() -> None:
    document = made(target="", no_cache_filter=("a", "b"), network="none", add_hosts=("h:1.2.3.4",))
    definition, details = document["buildDefinition"], document["runDetails"]
    assert definition["buildType"].startswith("https://")
    assert definition["externalParameters"] == {
        "configSource": {"path": "Dockerfile"},
        "request": {
            "frontend": "dockerfile.v0",
            "args": {
                "add-hosts": "h:1.2.3.4",
                "context:other": "local:other",
                "force-network-mode": "none",
                "no-cache": "a,b",
            },
            "secrets": [{"id": "key"}],
            "ssh": [{"id": "default", "optional": True}],
            "locals": [{"name": "other"}, {"name": "context"}, {"name": "dockerfile"}],
        },
    }
    assert definition["resolvedDependencies"] == [
        {"uri": "pkg:docker/base@1?platform=linux%2Famd64", "digest": {"sha256": "1" * 64}},
        {
            "uri": "pkg:docker/local@latest?platform=linux%2Famd64",
            "digest": {"sha256": base("local").image_id[7:]},
            "mediaType": "application/vnd.oci.image.config.v1+json",
        },
        {"uri": "https://files.test/x.tar?token=xxxxx&v=1", "digest": {"sha256": HEX}},
    ]
    assert details["builder"]["id"].startswith("pkg:generic/lamina@")
    metadata = details["metadata"]
    assert metadata["invocationId"] == "build1"
    assert (metadata["startedOn"], metadata["finishedOn"]) == ("2023-11-14T22:13:20Z", "2023-11-14T22:13:21.5Z")
    assert metadata["buildkit_completeness"] == {"request": True, "resolvedDependencies": False}
    assert metadata["buildkit_hermetic"] is False and metadata["buildkit_reproducible"] is False


def test_a_build_from_elsewhere_names_it_and_may_be_complete() -> None:
    commit = Fetched("https://git.test/r.git#main:sub", f"sha1:{'a' * 40}")
    how = replace(HOW, source="https://git.test/r.git", builder_id="https://ci.test/run/1", reproducible=True)
    text = "FROM base:1\nCOPY . /\nRUN --network=none make\n"
    document = made(how, text, context=replace(TREE, origin=commit), contexts={"c": replace(TREE, origin=commit)})
    external = document["buildDefinition"]["externalParameters"]
    assert external["configSource"] == {"uri": commit.uri, "digest": {"sha1": "a" * 40}, "path": "Dockerfile"}
    assert external["request"]["locals"] == [] and external["request"]["args"] == {"context:c": commit.uri}
    found = document["buildDefinition"]["resolvedDependencies"]
    assert {"uri": commit.uri, "digest": {"sha1": "a" * 40}} in found and len(found) == 3
    metadata = document["runDetails"]["metadata"]
    assert metadata["buildkit_hermetic"] and metadata["buildkit_completeness"]["resolvedDependencies"]
    assert metadata["buildkit_reproducible"] and document["runDetails"]["builder"]["id"] == "https://ci.test/run/1"
    remote_file = made(HOW, text, dockerfile_origin=Fetched("https://x.test/D", f"sha256:{HEX}"))
    assert remote_file["buildDefinition"]["resolvedDependencies"][1]["uri"] == "https://x.test/D"
    assert {"name": "dockerfile"} not in remote_file["buildDefinition"]["externalParameters"]["request"]["locals"]


def test_the_steps_with_their_inputs_and_places() -> None:
    document = made()
    steps = document["buildDefinition"]["internalParameters"]["buildConfig"]["llbDefinition"]
    assert [step["id"] for step in steps] == [f"step{number}" for number in range(len(steps))]
    for number, step in enumerate(steps):
        assert all(int(one.removeprefix("step").removesuffix(":0")) < number for one in step.get("inputs", ()))
    by_kind: dict[str, list[Any]] = {}
    for step in steps:
        ((kind, body),) = step["op"]["Op"].items()
        by_kind.setdefault(kind, []).append((body, step.get("inputs", [])))
    assert sorted(body["identifier"] for body, _ in by_kind["source"]) == [
        f"docker-image://docker.io/library/base:1@{MANIFEST}",
        f"docker-image://docker.io/library/local:latest@{base('local').image_id}",
        "https://xxxxx:xxxxx@files.test/x.tar?token=xxxxx&v=1",
        "local://context",
        "local://other",
    ]
    first, second, third = (body for body, _ in by_kind["exec"])
    assert first["meta"]["args"] == ["/bin/sh", "-c", "make $TOKEN"] and "TOKEN=none" in first["meta"]["env"]
    mounts = {mount["dest"]: mount for mount in first["mounts"]}
    assert mounts["/"] == {"input": 0, "dest": "/", "output": 0}
    assert mounts["/run/secrets/key"]["secretOpt"] == {"ID": "key", "optional": False}
    assert mounts["/c"]["cacheOpt"] == {"ID": "/c", "sharing": 2}
    assert sorted(mount.get("mountType", 0) for mount in first["mounts"]) == [0, 1, 2, 3]
    assert second["network"] == 2 and second["mounts"][1]["input"] == third["mounts"][1]["input"] == 1
    copied = next(body for body, _ in by_kind["file"] if "copy" in body["actions"][0]["Action"])
    assert [action["output"] for action in copied["actions"]] == [-1, 0]
    assert copied["actions"][0]["Action"]["copy"]["owner"] == "1:2"
    metadata = document["runDetails"]["metadata"]["buildkit_metadata"]
    (info,) = metadata["source"]["infos"]
    assert b64decode(info["data"]).decode().startswith("ARG BASE=base:1\nFROM $BASE AS made\n")
    ranges = [one["locations"][0]["ranges"][0]["start"]["line"] for one in metadata["source"]["locations"].values()]
    assert sorted(ranges) == [2, 4, 5, 6, 7, 8, 9, 12, 13]
    assert metadata["layers"] and all(layers[0][0]["size"] == 7 for layers in metadata["layers"].values())


def test_min_has_no_value_of_an_argument_no_secret_and_no_step() -> None:
    whole = made(build_args={"TOKEN": "valuable"}, labels=(("l", "labelled"),), target="made")
    assert whole["buildDefinition"]["externalParameters"]["request"]["args"]["build-arg:TOKEN"] == "valuable"
    short = provenance.shortened(whole)
    text = json.dumps(short)
    assert "valuable" not in text and "labelled" not in text and "TOKEN" not in text and "step0" not in text
    request: Any = short["buildDefinition"]["externalParameters"]["request"]  # type: ignore[index]
    assert request["args"] == {"context:other": "local:other", "target": "made"}
    assert "secrets" not in request and "ssh" not in request
    details: Any = short["runDetails"]
    assert details["metadata"]["buildkit_metadata"] == {}
    assert details["metadata"]["buildkit_completeness"]["request"] is False
    assert details["metadata"]["startedOn"] and request["locals"]


def test_no_secret_is_in_it_wherever_it_was_written() -> None:
    secrets = ("s3cr3t-value", "tok")
    text = (
        "FROM base:1\nARG A\nARG B\n"
        "RUN curl https://user:hunter22@h.test/?api_key=qwertz1 https://gh0pat@h.test/x -H s3cr3t-value\n"
        "RUN --mount=type=secret,id=key git clone ssh://git@h.test/r && echo tok\n"
        "LABEL u=https://u:hunter22@h.test\n"
    )
    whole = made(
        replace(HOW, secrets=secrets),
        text,
        build_args={"A": "Bearer s3cr3t-value", "B": "https://gh0pat@h.test?X-Amz-Signature=deadbeef&x=1"},
        labels=(("u", "https://u:hunter22@h.test"),),
        secrets=(Secret("key", value=b"s3cr3t-value"),),
    )
    source = whole["runDetails"]["metadata"]["buildkit_metadata"]["source"]["infos"][0]
    told = json.dumps(whole) + b64decode(source["data"]).decode()
    for word in ("s3cr3t-value", "hunter22", "qwertz1", "gh0pat", "deadbeef"):
        assert word not in told, word
    # what only looks like one stays: a short word, the user that every git server has
    assert "echo tok" in told and "ssh://git@h.test/r" in told and "x=1" in told
