"""The notation of -o: what buildx reads, in its words, and its errors before the build begins."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from builder.engine.options.outputs import (
    Annotation,
    Output,
    OutputType,
    Place,
    check_destinations,
    check_indexed,
    parse_annotations,
    parse_output,
)
from builder.engine.outputs import Listener
from builder.errors import InvalidInput
from builder.pipeline.progress import Event, StepFailed
from builder.transfer.compression import Compression, Packing

GZIP = Packing(Compression.GZIP)


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ("out", Output(OutputType.LOCAL, "out")),
        ("-", Output(OutputType.TAR, "-")),
        ("type=local,dest=a", Output(OutputType.LOCAL, "a")),
        ("type=tar", Output(OutputType.TAR, "-")),
        ("type=tar,dest=x.tar", Output(OutputType.TAR, "x.tar")),
        ("type=oci", Output(OutputType.OCI, "-")),
        ("type=docker", Output(OutputType.DOCKER, packing=Packing(Compression.GZIP, docker=True))),
        ("type=image,name=a", Output(OutputType.IMAGE, names=("a",))),
        ('type=image,"name=a,b:2"', Output(OutputType.IMAGE, names=("a", "b:2"))),
        (
            "type=image,name=a,push=true,push-by-digest=true,registry.insecure=true",
            Output(OutputType.REGISTRY, names=("a",), by_digest=True, insecure=True),
        ),
        ("type=cacheonly", Output(OutputType.CACHE_ONLY)),
        ('"type=local","dest=with,comma"', Output(OutputType.LOCAL, "with,comma")),
        ("TYPE=oci,Dest=x,tar=false", Output(OutputType.OCI, "x", tar=False)),
        (
            "type=oci,compression=zstd,compression-level=22,force-compression=true",
            Output(OutputType.OCI, "-", packing=Packing(Compression.ZSTD, 22)),
        ),
        (
            "type=docker,dest=x,oci-mediatypes=true,max-layers=3",
            Output(OutputType.DOCKER, "x", packing=GZIP, most=3),
        ),
        ("type=docker,dest=x,compression=zstd", Output(OutputType.DOCKER, "x", packing=Packing(Compression.ZSTD))),
        (
            "type=oci,annotation.a=1,annotation-manifest-descriptor.b=2,annotation-manifest[linux/amd64].c=3",
            Output(
                OutputType.OCI,
                "-",
                annotations=(
                    Annotation(Place.MANIFEST, "a", "1"),
                    Annotation(Place.MANIFEST_DESCRIPTOR, "b", "2"),
                    Annotation(Place.MANIFEST, "c", "3", "linux/amd64"),
                ),
            ),
        ),
        ("type=oci,rewrite-timestamp=false", Output(OutputType.OCI, "-", rewrite=False)),
    ],
)
def test_what_is_asked_for(text: str, output: Output) -> None:
    assert parse_output(text) == output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("type=local", "dest is required for local exporter"),
        ("type=local,dest=-", "dest cannot be stdout for local exporter"),
        ("type=oci,tar=false", "dest is required for oci exporter"),
        ("type=docker,tar=false,dest=x", "docker exporter writes one tar only"),
        ("dest=x,tar=true", "type is required for output"),
        ("type=", "type is required for output"),
        ("type=nothing", 'exporter "nothing" could not be found'),
        ("type=tar,word", "invalid value word"),
        ("type=oci,compression=lzma", "unsupported compression type lzma"),
        ("type=oci,compression=gzip,compression-level=10", "invalid compression-level 10"),
        ("type=oci,tar=maybe", "non-bool value specified for tar: maybe"),
        ("type=oci,compresion=gzip", 'unknown attribute "compresion" of output oci'),
        ("type=oci,annotation-layer.a=1", 'unknown annotation type "layer"'),
        ("type=local,dest=x,annotation.a=1", "output local writes none"),
        ("type=local,dest=x,mode=delete", 'mode "delete"'),
        ("type=image,dest=x", "output x is not supported by image exporter"),
        ('type=tar,"dest=x', "invalid output"),
        ("", "type is required"),
    ],
)
def test_what_cannot_be_meant(text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message.replace("[", "\\[")):
        parse_output(text)


def test_annotation_flags_say_where_they_go() -> None:
    found = parse_annotations(
        ["a=1", "manifest[x86_64]:a=2", "manifest,manifest-descriptor:b=x=y", "index:c=", "index-descriptor:d=1"]
    )
    output = Output(OutputType.OCI, annotations=found)
    assert output.noted(Place.MANIFEST) == {"a": "1", "b": "x=y"}
    assert output.noted(Place.MANIFEST, "linux/amd64") == {"a": "2", "b": "x=y"}
    assert output.noted(Place.MANIFEST_DESCRIPTOR, "linux/arm64") == {"b": "x=y"}
    assert (output.noted(Place.INDEX), output.noted(Place.INDEX_DESCRIPTOR)) == ({"c": ""}, {"d": "1"})
    for text, message in (
        ("a", "expected key=value"),
        ("UP:a=1", "invalid annotation type"),
        ("layer:a=1", "unknown annotation type"),
    ):
        with pytest.raises(InvalidInput, match=message):
            parse_annotations([text])


def test_what_only_an_index_or_a_single_image_can_be_is_refused() -> None:
    for text, indexed, message in (
        ("type=oci,annotation-index.a=1", False, "index annotations not supported for single platform export"),
        ("type=oci,annotation-index-descriptor.a=1", False, "index descriptor annotations not supported for single"),
        ("type=docker,dest=x", True, "docker exporter does not currently support exporting manifest lists"),
    ):
        check_indexed([parse_output(text)], indexed=not indexed)
        with pytest.raises(InvalidInput, match=message):
            check_indexed([parse_output(text)], indexed=indexed)
    check_indexed([parse_output("type=docker")], indexed=True)


def test_destinations_are_looked_at_before_the_build(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "directory").mkdir()

    def check(*texts: str, terminal: bool = False) -> None:
        check_destinations([parse_output(text) for text in texts], tmp_path, terminal=terminal)

    check("directory", "new", "-", "type=oci,dest=new.tar", "type=docker", "type=oci,tar=false,dest=directory")
    for texts, message in (
        (("file",), "destination directory file is a file"),
        (("type=tar,dest=directory",), "destination file directory is a directory"),
        (("type=tar,dest=none/x.tar",), "no such directory"),
        (("-", "type=oci"), "multiple outputs configured to write to stdout"),
    ):
        with pytest.raises(InvalidInput, match=message):
            check(*texts)
    with pytest.raises(InvalidInput, match="refusing to write to console"):
        check("-", terminal=True)


def test_a_step_that_the_user_ends_has_not_failed() -> None:
    told: list[Event] = []
    with pytest.raises(KeyboardInterrupt), Listener(told.append).step("exporting", lambda: datetime.now(UTC)):
        raise KeyboardInterrupt
    assert isinstance(told[-1], StepFailed) and told[-1].cancelled
